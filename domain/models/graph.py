"""Put ONNX graphs together, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from domain.models.card import ModelCard
from domain.models.model import INPUT, OUTPUTS

#: Versions that the pinned runtime executes; newer ones are refused by it.
OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


def build(*, nodes: Sequence[Any], initializers: Sequence[Any], features: int) -> bytes:
    """Make a graph from `INPUT` (rows, features) to `OUTPUTS` (rows,)."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "tidecast",
        [value(INPUT, TensorProto.FLOAT, ["rows", features])],
        [value(name, TensorProto.FLOAT, ["rows"]) for name in OUTPUTS],
        list(initializers),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="tidecast",
    )
    onnx.checker.check_model(model, full_check=True)
    return _to_bytes(model)


def with_card(graph: bytes, card: ModelCard) -> bytes:
    """Write a model's description into its graph."""
    model = onnx.ModelProto.FromString(graph)
    del model.metadata_props[:]
    helper.set_model_props(model, card.to_metadata())
    return _to_bytes(model)


def _to_bytes(model: Any) -> bytes:
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload
