"""Put the graphs of several members into one: a shared input, and one weighted sum for each thing they say.

A member's names get its own as a prefix, and what leads to nothing is left out. Where any member looks back,
the input is the window, and those that do not are given its last minute. Sums are element-wise, so no row's
bits depend on the rows beside it. What each member says stays in the graph as two more outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from domain.models import ensemble_regimes, graph
from domain.models.model import INPUT, OUTPUTS, WINDOW_INPUT, ModelError
from schemas.frames import Float64

#: Shape (rows, members, horizons), members in the order of the native file.
MEMBER_OUTPUTS = ("members_pct", "members_log_odds")
_OPSETS = {"": graph.OPSET, "ai.onnx.ml": graph.ML_OPSET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A member on its way into the graph.

    Attributes
    ----------
    name
        Of its family.
    graph
        Its own graph.
    window
        Minutes that it looks at; 0 for single vectors.
    weights
        Shape (2, horizons), or (2, regimes, horizons).
    """

    name: str
    graph: bytes
    window: int
    weights: Float64


def merge(parts: Sequence[Part], *, features: int) -> bytes:
    """Make one graph of several.

    Raises
    ------
    ModelError
        If a member's graph is of another kind than this program makes.
    """
    window = max(part.window for part in parts)
    horizons = parts[0].weights.shape[-1]
    by_regime = parts[0].weights.ndim == 3
    nodes, constants = _inputs({part.window for part in parts} | ({0} if by_regime else set()), window)
    if by_regime:
        for mine, more in zip((nodes, constants), ensemble_regimes.rule(_input(0, window)), strict=True):
            mine.extend(more)
    for part in parts:
        inside = _prefixed(part)
        nodes.append(
            helper.make_node("Identity", [_input(part.window, window)], [f"{part.name}_{_port(part)}"])
        )
        nodes.extend(inside.node)
        constants.extend(inside.initializer)
    for kind, output in enumerate(OUTPUTS):
        for part in parts:
            more_nodes, more_constants = _weights(part, kind, output)
            nodes.extend(more_nodes)
            constants.extend(more_constants)
        nodes.extend(_weighted(parts, kind, output))
        nodes.extend(_beside_each_other(parts, output, MEMBER_OUTPUTS[kind]))
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "members_axis"))
    model = onnx.ModelProto.FromString(
        graph.build(nodes=nodes, initializers=constants, features=features, horizons=horizons, window=window)
    )
    shape = ["rows", len(parts), horizons]
    for name in MEMBER_OUTPUTS:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return graph.to_bytes(model)


def _port(part: Part) -> str:
    return WINDOW_INPUT if part.window else INPUT


def _input(minutes: int, window: int) -> str:
    """Name the tensor that a member looking at so many minutes is given."""
    if minutes == window:
        return WINDOW_INPUT if window else INPUT
    return f"last_{minutes}_minutes" if minutes else "last_minute"


def _inputs(wanted: set[int], window: int) -> tuple[list[Any], list[Any]]:
    nodes, constants = [], []
    for minutes in sorted(wanted - {window}):
        name = _input(minutes, window)
        if not minutes:
            constants.append(numpy_helper.from_array(np.array(-1, np.int64), f"{name}_place"))
            nodes.append(helper.make_node("Gather", [WINDOW_INPUT, f"{name}_place"], [name], axis=1))
            continue
        ends = {"begin": [-minutes], "end": [window], "axis": [1]}
        constants += [
            numpy_helper.from_array(np.array(value, np.int64), f"{name}_{end}") for end, value in ends.items()
        ]
        nodes.append(helper.make_node("Slice", [WINDOW_INPUT, *(f"{name}_{end}" for end in ends)], [name]))
    return nodes, constants


def _prefixed(part: Part) -> Any:
    model = onnx.ModelProto.FromString(part.graph)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    ports = [port.name for port in model.graph.input]
    if opsets != _OPSETS or ports != [_port(part)] or model.functions:
        raise ModelError(
            f"the graph of {part.name} has inputs {ports} and versions {opsets}, expected {[_port(part)]} and"
            f" {_OPSETS}, without functions"
        )
    _drop_dead(model.graph)
    return onnx.compose.add_prefix(model, f"{part.name}_").graph


def _drop_dead(inside: Any) -> None:
    live = set(OUTPUTS)
    for node in reversed(list(inside.node)):
        if live.intersection(node.output):
            live.update(_read_by(node))
        else:
            inside.node.remove(node)
    for constant in [each for each in inside.initializer if each.name not in live]:
        inside.initializer.remove(constant)


def _read_by(node: Any) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for each in inner.node:
                names |= _read_by(each)
    return names


def _weights(part: Part, kind: int, output: str) -> tuple[list[Any], list[Any]]:
    name, weights = f"{part.name}_weight_{output}", part.weights[kind]
    if weights.ndim == 2:
        return ensemble_regimes.choice(weights, name)
    return [], [numpy_helper.from_array(weights.astype(np.float32), name)]


def _weighted(parts: Sequence[Part], kind: int, output: str) -> list[Any]:
    terms = [f"{part.name}_weighted_{output}" for part in parts]
    nodes = [
        helper.make_node("Mul", [f"{part.name}_{output}", f"{part.name}_weight_{output}"], [term])
        for part, term in zip(parts, terms, strict=True)
    ]
    if len(terms) == 1:
        return [*nodes, helper.make_node("Identity", terms, [output])]
    so_far = terms[0]
    for number, term in enumerate(terms[1:], 1):
        total = output if number == len(terms) - 1 else f"sum{number}_{output}"
        nodes.append(helper.make_node("Add", [so_far, term], [total]))
        so_far = total
    return nodes


def _beside_each_other(parts: Sequence[Part], output: str, name: str) -> list[Any]:
    columns = [f"{part.name}_column_{output}" for part in parts]
    nodes = [
        helper.make_node("Unsqueeze", [f"{part.name}_{output}", "members_axis"], [column])
        for part, column in zip(parts, columns, strict=True)
    ]
    return [*nodes, helper.make_node("Concat", columns, [name], axis=1)]
