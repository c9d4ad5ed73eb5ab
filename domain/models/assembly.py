"""Make a family's graph into one that serves: calibrated, and with a measure of how unlike a row is.

What the family itself says of the odds stays in the graph as an output, for whoever wants to look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from domain.models import calibration, dissimilarity, graph
from domain.models.calibration import Calibration
from domain.models.dissimilarity import Dissimilarity
from domain.models.model import INPUT, OUTPUTS, SERVED_OUTPUTS

_, PROBABILITY, DISSIMILARITY = SERVED_OUTPUTS


def assemble(family_graph: bytes, *, calibrated_by: Calibration, unlike: Dissimilarity) -> bytes:
    """Add calibration and dissimilarity to a family's graph."""
    model = onnx.ModelProto.FromString(family_graph)
    inside = model.graph
    vectors = _vectors(inside)
    for nodes, constants in (
        calibration.nodes(calibrated_by, log_odds=OUTPUTS[1], output=PROBABILITY),
        dissimilarity.nodes(unlike, vectors=vectors, output=DISSIMILARITY),
    ):
        inside.node.extend(nodes)
        inside.initializer.extend(constants)
    value = helper.make_tensor_value_info
    inside.output.append(value(PROBABILITY, TensorProto.FLOAT, ["rows", len(calibrated_by.slopes)]))
    inside.output.append(value(DISSIMILARITY, TensorProto.FLOAT, ["rows"]))
    onnx.checker.check_model(model, full_check=True)
    return graph.to_bytes(model)


def _vectors(inside: Any) -> str:
    """Name the tensor of the rows' own vectors: the input, or the last minute of its windows."""
    name: str = inside.input[0].name
    if name == INPUT:
        return name
    inside.initializer.append(numpy_helper.from_array(np.array(-1, np.int64), "own_minute"))
    inside.node.append(helper.make_node("Gather", [name, "own_minute"], ["own_vectors"], axis=1))
    return "own_vectors"
