"""Put ONNX graphs together, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from domain.models.card import ModelCard
from domain.models.model import INPUT, OUTPUTS, WINDOW_INPUT

#: Versions that the pinned runtime executes; newer ones are refused by it.
OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


def build(
    *, nodes: Sequence[Any], initializers: Sequence[Any], features: int, horizons: int, window: int = 0
) -> bytes:
    """Make a graph from `INPUT` (rows, features) to `OUTPUTS` (rows, horizons).

    With a `window` of so many minutes, from `WINDOW_INPUT` (rows, minutes, features).
    """
    value = helper.make_tensor_value_info
    shape = ["rows", window, features] if window else ["rows", features]
    graph = helper.make_graph(
        list(nodes),
        "tidecast",
        [value(WINDOW_INPUT if window else INPUT, TensorProto.FLOAT, shape)],
        [value(name, TensorProto.FLOAT, ["rows", horizons]) for name in OUTPUTS],
        list(initializers),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="tidecast",
    )
    onnx.checker.check_model(model, full_check=True)
    return to_bytes(model)


def with_card(graph: bytes, card: ModelCard) -> bytes:
    """Write a model's description into its graph."""
    model = onnx.ModelProto.FromString(graph)
    del model.metadata_props[:]
    helper.set_model_props(model, card.to_metadata())
    return to_bytes(model)


def to_bytes(model: Any) -> bytes:
    """Write a graph, the same bytes for the same content."""
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload
