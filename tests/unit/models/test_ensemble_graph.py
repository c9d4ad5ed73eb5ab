from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from domain.models import ensemble_graph, graph, serving
from domain.models.ensemble_graph import MEMBER_OUTPUTS, Part
from domain.models.model import OUTPUTS, WINDOW_INPUT


def _window_graph(minutes: int, features: int, value: float) -> bytes:
    """Make a graph that says the mean of each feature over its window, and a number."""
    nodes = [
        helper.make_node("ReduceMean", [WINDOW_INPUT], [OUTPUTS[0]], axes=[1], keepdims=0),
        helper.make_node("Mul", [OUTPUTS[0], "factor"], [OUTPUTS[1]]),
        helper.make_node("Neg", [OUTPUTS[0]], ["read_by_nobody"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), "factor"),
        numpy_helper.from_array(np.zeros(1000, np.float32), "used_by_nobody"),
    ]
    return graph.build(
        nodes=nodes, initializers=constants, features=features, horizons=features, window=minutes
    )


def test_members_of_several_windows_share_the_longest() -> None:
    weights = np.array([[0.5, 0.25], [1.0, 0.0]])
    parts = [
        Part(name="short", graph=_window_graph(2, 2, 3.0), window=2, weights=weights),
        Part(name="long", graph=_window_graph(5, 2, -1.0), window=5, weights=weights),
    ]
    merged = ensemble_graph.merge(parts, features=2)
    session = serving.open_session(merged)
    windows = np.random.default_rng(0).normal(size=(16, 5, 2)).astype(np.float32)
    short, long = windows[:, -2:].mean(axis=1), windows.mean(axis=1)
    said = serving.run(session, windows)
    np.testing.assert_allclose(said.predicted_pct, (short + long) * weights[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.log_odds_up, (3 * short - long) * weights[1], rtol=1e-5, atol=1e-6)
    changes, odds = session.run(list(MEMBER_OUTPUTS), {WINDOW_INPUT: windows})
    np.testing.assert_allclose(changes, np.stack([short, long], axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(odds, np.stack([3 * short, -long], axis=1), rtol=1e-5, atol=1e-6)


def test_what_leads_to_nothing_is_left_out_and_names_are_the_members_own() -> None:
    part = Part(name="only", graph=_window_graph(3, 2, 1.0), window=3, weights=np.ones((2, 2)))
    merged = onnx.ModelProto.FromString(ensemble_graph.merge([part], features=2))
    names = [name for node in merged.graph.node for name in node.output]
    assert not any("nobody" in name for name in names)
    assert [constant.name for constant in merged.graph.initializer if "nobody" in constant.name] == []
    assert len(names) == len(set(names))
