from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.benches import load
from cli.benches.base import bare_network, bare_trees, made_up, tree_training
from cli.benches.base.bench import Sizes
from cli.benches.base.turns import in_turn
from domain.models import families
from domain.models.xgboost_settings import XGBoostSettings
from training.fitting import FitRequest
from training.parts import Parts, parts_of

SETTINGS = {"rounds": 10, "chunk_rounds": 10, "subsample": 1.0, "colsample_bytree": 1.0}
NETWORK = {"max_epochs": 8, "lookback_minutes": 4, "batch_size": 50, "hidden_size": 8, "device": "cpu"}


def _request(tmp_path: Path, *, family: str = "xgboost", settings: dict[str, Any] = SETTINGS) -> FitRequest:
    return made_up.request(
        tmp_path / "rows", *made_up.market(1_500, 6), family=family, settings=settings, horizons=(5, 15)
    )


def test_pieces_of_work_are_done_in_turn() -> None:
    done: list[str] = []

    spent = in_turn({"one": lambda: done.append("one"), "other": lambda: done.append("other")}, 3)

    assert done == ["one", "other"] * 3
    assert [len(each.wall) for each in spent.values()] == [3, 3]
    assert spent["one"].wall_s == sorted(spent["one"].wall)[1]


def test_the_same_market_is_made_up_every_time(tmp_path: Path) -> None:
    for turn in ("a", "b"):
        _request(tmp_path / turn)

    one, other = (np.load(tmp_path / turn / "rows" / "vectors.npy") for turn in ("a", "b"))
    np.testing.assert_array_equal(one, other)
    assert 0.01 < np.isnan(one).mean() < 0.03
    quiet = one[:, -1][np.isfinite(one[:, -1])]
    assert np.abs(quiet).max() > 8 * np.median(np.abs(quiet)), "its tails are heavy"


def test_the_bare_library_grows_the_very_trees_of_the_training(tmp_path: Path) -> None:
    asked = _request(tmp_path)
    parts = parts_of(asked)
    chosen = XGBoostSettings.of(SETTINGS)
    fitted = families.load("xgboost").fit(
        train=parts.learn,
        validation=parts.stop,
        settings=SETTINGS,
        seed=1,
        progress=lambda done, text: None,
        cancelled=lambda: False,
    )
    heads = json.loads(fitted.native)["heads"].values()
    ours = [head["learner"]["gradient_booster"]["model"]["trees"] for head in heads]

    boosters = bare_trees.fit(
        parts.learn,
        settings=chosen,
        trees=[len(trees) for trees in ours],
        leaf_rows=bare_trees.leaf_rows(parts.learn, chosen),
    )

    for booster, trees in zip(boosters, ours, strict=True):
        model = json.loads(booster.save_raw("json"))
        bare = model["learner"]["gradient_booster"]["model"]["trees"]
        # its first tree begins with what the library itself estimates of nothing: the same zero
        assert [tree["split_conditions"] for tree in bare] == [tree["split_conditions"] for tree in trees]


def test_a_training_of_trees_is_measured_beside_the_library(tmp_path: Path) -> None:
    found = tree_training.measure(minutes=1_500, features=6, horizons=(5,), settings=SETTINGS, turns=1)

    assert found.whole.wall_s > 0
    assert found.bare.wall_s > 0
    assert found.more["rows_learned_from"] < found.more["rows"] < 1_500
    assert 2 <= found.more["trees"] <= 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("xgboost_training", {"xgboost_training": (1.5, True), "xgboost_training_seconds": (30.0, False)}),
        ("xgboost_small", {"xgboost_small": (1.3, True), "xgboost_small_seconds": (0.92, False)}),
    ],
)
def test_trainings_of_trees_promise_a_share_of_the_library_and_seconds(
    name: str, bounds: dict[str, tuple[float, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = load(name)
    # as often as it must be to see what is said
    monkeypatch.setattr(bench, "_TURNS", 1)

    figures = list(bench.run(Sizes(folder=Path("unused"), candles=1_200), bench.GIVES))

    assert {figure.name: (figure.bound, figure.bound_of_ratio) for figure in figures} == bounds
    assert all(figure.reference for figure in figures)


def _parts(asked: FitRequest) -> Parts:
    pytest.importorskip("torch")
    return parts_of(asked)


@pytest.mark.slow
def test_the_bare_network_learns(tmp_path: Path) -> None:
    from domain.models.lstm_settings import LSTMSettings

    parts = _parts(_request(tmp_path, family="lstm", settings=NETWORK))
    vectors = np.load(tmp_path / "rows" / "vectors.npy")

    losses = bare_network.fit(vectors, parts.learn, parts.stop, settings=LSTMSettings.of(NETWORK))

    assert len(losses) == 8
    assert min(losses) < losses[0]


@pytest.mark.slow
def test_the_networks_training_promises_a_share_of_an_ordinary_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    bench = load("lstm_training")
    monkeypatch.setattr(bench, "_TURNS", 1)
    monkeypatch.setattr(bench, "_SETTINGS", NETWORK)

    (figure,) = bench.run(Sizes(folder=Path("unused"), candles=1_200), bench.GIVES)

    assert (figure.name, figure.bound, figure.bound_of_ratio) == ("lstm_training", 1.3, True)
    assert figure.reference
    assert figure.more["epochs"] == 8
