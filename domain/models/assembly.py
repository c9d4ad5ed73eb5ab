"""Make a family's graph into one that serves: calibrated, and with a measure of how unlike a row is.

The family's own probability stays in the graph as `raw_probability_up`, for whoever wants to look.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from domain.models import calibration, graph
from domain.models.calibration import Calibration
from domain.models.model import DISSIMILARITY, INPUT, OUTPUTS, WINDOW_INPUT

RAW = "raw_probability_up"


def assemble(family_graph: bytes, *, calibrated_by: Calibration) -> bytes:
    """Add calibration and dissimilarity to a family's graph."""
    model = onnx.ModelProto.FromString(family_graph)
    inside = model.graph
    probability = OUTPUTS[1]
    _rename(inside, probability, RAW)
    nodes, constants = calibration.nodes(calibrated_by, raw=RAW, output=probability)
    inside.node.extend(nodes)
    inside.initializer.extend(constants)
    _add_dissimilarity(inside)
    horizons = len(calibrated_by.slopes)
    value = helper.make_tensor_value_info
    inside.output.append(value(probability, TensorProto.FLOAT, ["rows", horizons]))
    inside.output.append(value(DISSIMILARITY, TensorProto.FLOAT, ["rows"]))
    onnx.checker.check_model(model, full_check=True)
    return graph.to_bytes(model)


def _rename(inside: Any, old: str, new: str) -> None:
    for node in inside.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for port in inside.output:
        if port.name == old:
            port.name = new


def _add_dissimilarity(inside: Any) -> None:
    # nothing is unlike until a measure is given
    name = inside.input[0].name
    assert name in (INPUT, WINDOW_INPUT)
    zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    inside.node.extend(
        [
            helper.make_node("Shape", [name], ["dissimilarity_rows"], start=0, end=1),
            helper.make_node("ConstantOfShape", ["dissimilarity_rows"], [DISSIMILARITY], value=zero),
        ]
    )
