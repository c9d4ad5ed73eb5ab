"""Write an LSTM as ONNX nodes, straight from its weights.

No exporter: those bring names of files and of moments into the graph, and another one with every version.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from domain.models import graph
from domain.models.lstm_model import INPUT_LIMIT, Model
from domain.models.model import OUTPUTS, WINDOW_INPUT
from schemas.frames import Float32

#: PyTorch keeps the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
_GATES = (0, 3, 1, 2)


def build(model: Model) -> bytes:
    """Make the graph of a model: standardise, run through the layers, read out."""
    draft = _Draft()
    standard = _standardise(draft, model)
    states = draft.node("Transpose", [standard], "by_minute", perm=[1, 0, 2])
    last = ""
    for layer in range(model.shape.layers):
        states, last = _layer(draft, model, layer, states)
    if model.shape.attention:
        last = _attend(draft, model, states, last)
    _read_out(draft, model, last)
    return graph.build(
        nodes=draft.nodes,
        initializers=draft.constants,
        features=model.shape.features,
        horizons=model.shape.horizons,
        window=model.shape.window,
    )


class _Draft:
    """Nodes and constants on their way into a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Any, kind: Any = np.float32) -> str:
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(values, kind).reshape(np.shape(values)), name)
        )
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"make_{output}", **attributes))
        return output


def _standardise(draft: _Draft, model: Model) -> str:
    scaling = model.scaling
    moved = draft.node("Sub", [WINDOW_INPUT, draft.constant("centre", scaling.centre)], "moved")
    scaled = draft.node("Mul", [moved, draft.constant("scale", scaling.scale)], "scaled")
    unknown = draft.node("IsNaN", [scaled], "unknown")
    filled = draft.node("Where", [unknown, draft.constant("nothing", 0.0), scaled], "filled")
    limits = [draft.constant("lowest", -INPUT_LIMIT), draft.constant("highest", INPUT_LIMIT)]
    standard = draft.node("Clip", [filled, *limits], "standard")
    if not model.shape.missing_share:
        return standard
    missing = draft.node("IsNaN", [WINDOW_INPUT], "missing")
    counted = draft.node("Cast", [missing], "missing_number", to=TensorProto.FLOAT)
    share = draft.node(
        "MatMul", [counted, draft.constant("shares", scaling.shares[:, None])], "missing_share"
    )
    return draft.node("Concat", [standard, share], "with_share", axis=2)


def _layer(draft: _Draft, model: Model, layer: int, states: str) -> tuple[str, str]:
    hidden = model.shape.hidden_size
    weights = {
        kind: _regated(model.weights[f"lstm.{kind}_l{layer}"], hidden)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    inputs = [
        states,
        draft.constant(f"input_weights_{layer}", weights["weight_ih"][None]),
        draft.constant(f"state_weights_{layer}", weights["weight_hh"][None]),
        draft.constant(f"bias_{layer}", np.concatenate([weights["bias_ih"], weights["bias_hh"]])[None]),
    ]
    both, final = f"directed_states_{layer}", f"directed_last_{layer}"
    draft.nodes.append(
        helper.make_node("LSTM", inputs, [both, final], name=f"layer_{layer}", hidden_size=hidden)
    )
    one, zero = f"direction_{layer}", f"direction_of_last_{layer}"
    return (
        draft.node("Squeeze", [both, draft.constant(one, [1], np.int64)], f"states_{layer}"),
        draft.node("Squeeze", [final, draft.constant(zero, [0], np.int64)], f"last_{layer}"),
    )


def _regated(values: Float32, hidden: int) -> Float32:
    gates = values.reshape(4, hidden, *values.shape[1:])
    ordered: Float32 = gates[list(_GATES)].reshape(values.shape)
    return ordered


def _attend(draft: _Draft, model: Model, states: str, last: str) -> str:
    query = model.weights["query.weight"].T / np.float32(math.sqrt(model.shape.hidden_size))
    asked = draft.node("MatMul", [last, draft.constant("query", query)], "asked")
    column = draft.node("Unsqueeze", [asked, draft.constant("as_column", [2], np.int64)], "asked_column")
    by_row = draft.node("Transpose", [states], "states_by_row", perm=[1, 0, 2])
    scores = draft.node("MatMul", [by_row, column], "scores")
    weights = draft.node("Softmax", [scores], "attention", axis=1)
    across = draft.node("Transpose", [weights], "attention_across", perm=[0, 2, 1])
    summed = draft.node("MatMul", [across, by_row], "recalled_across")
    recalled = draft.node("Squeeze", [summed, draft.constant("as_vector", [1], np.int64)], "recalled")
    return draft.node("Concat", [last, recalled], "readout", axis=1)


def _read_out(draft: _Draft, model: Model, last: str) -> None:
    heads = draft.constant("heads", model.weights["heads.weight"].T)
    said = draft.node("MatMul", [last, heads], "heads_said")
    biased = draft.node("Add", [said, draft.constant("heads_bias", model.weights["heads.bias"])], "biased")
    halves = draft.constant("halves", [model.shape.horizons] * 2, np.int64)
    draft.nodes.append(
        helper.make_node("Split", [biased, halves], ["change", OUTPUTS[1]], name="to_halves", axis=1)
    )
    draft.node("Mul", ["change", draft.constant("deviation", model.scaling.deviation)], OUTPUTS[0])
