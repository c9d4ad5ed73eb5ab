"""Make a family's graph into one that serves: calibrated, and with a measure of how unlike a row is.

What the family itself says of the odds stays in the graph as an output, for whoever wants to look.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

from domain.models import calibration, graph
from domain.models.calibration import Calibration
from domain.models.model import OUTPUTS, SERVED_OUTPUTS

_, PROBABILITY, DISSIMILARITY = SERVED_OUTPUTS


def assemble(family_graph: bytes, *, calibrated_by: Calibration) -> bytes:
    """Add calibration and dissimilarity to a family's graph."""
    model = onnx.ModelProto.FromString(family_graph)
    inside = model.graph
    nodes, constants = calibration.nodes(calibrated_by, log_odds=OUTPUTS[1], output=PROBABILITY)
    inside.node.extend(nodes)
    inside.initializer.extend(constants)
    _add_dissimilarity(inside)
    value = helper.make_tensor_value_info
    inside.output.append(value(PROBABILITY, TensorProto.FLOAT, ["rows", len(calibrated_by.slopes)]))
    inside.output.append(value(DISSIMILARITY, TensorProto.FLOAT, ["rows"]))
    onnx.checker.check_model(model, full_check=True)
    return graph.to_bytes(model)


def _add_dissimilarity(inside: Any) -> None:
    # nothing is unlike until a measure is given
    zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    rows = helper.make_node("Shape", [inside.input[0].name], ["dissimilarity_rows"], start=0, end=1)
    none = helper.make_node("ConstantOfShape", ["dissimilarity_rows"], [DISSIMILARITY], value=zero)
    inside.node.extend([rows, none])
