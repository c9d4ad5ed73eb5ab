"""Members that count by regime: the rule in the graph, the weights, and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import helper, numpy_helper

from domain.features.engine import FeatureEngine
from domain.features.schema import NAMES
from domain.forecasting.realised import CloseHistory
from domain.forecasting.regime import RANGING, REGIMES, TRENDING, VOLATILE, classify
from domain.models import ensemble_graph, ensemble_regimes, ensemble_weights, graph, parity, serving
from domain.models.ensemble import FAMILY
from domain.models.ensemble_graph import Part
from domain.models.ensemble_weights import FRESH, STOPPED_BY, Judged
from domain.models.model import (
    INPUT,
    OUTPUTS,
    WINDOW_INPUT,
    BadTrainingDataError,
    Fitted,
    NoSignalError,
    Predictions,
    TrainingRows,
)
from schemas.frames import MINUTE_MS

FEATURES = len(NAMES)
TREES = {"rounds": 40, "chunk_rounds": 10, "learning_rate": 0.2, "max_depth": 2, "colsample_bytree": 1.0}
SETTINGS: dict[str, Any] = {"members": ["xgboost", "ridge"], "xgboost": TREES}
#: Features that plant a signal; none of them tells the regime.
LINE = [NAMES.index(name) for name in NAMES if name.endswith("_slope")]
BEND = NAMES.index("candle_body")


def _vectors(rows: int, chance: np.random.Generator) -> tuple[Any, Any]:
    """Make vectors, and the regime that each is in: stretches of a few hours."""
    regime = np.repeat(chance.choice(3, rows // 100 + 1, p=(0.4, 0.45, 0.15)), 100)[:rows]
    vectors = chance.normal(size=(rows, FEATURES)).astype(np.float32)
    vectors[:, NAMES.index("volatility_60")] = np.where(regime == VOLATILE, 3.0, 1.0)
    vectors[:, NAMES.index("atr_60m")] = 11.0
    vectors[:, NAMES.index("return_60")] = np.where(regime == TRENDING, 20.0, 3.0) * chance.choice(
        [-1, 1], rows
    )
    return vectors, regime


def _rows(*, minutes: int, seed: int, first: int = 0, size: float = 0.45, apart: bool = True) -> TrainingRows:
    """Make a market in which a line says something where it trends, and a bend where it ranges.

    With `apart` false both say something everywhere.
    """
    chance = np.random.default_rng(seed)
    vectors, regime = _vectors(minutes, chance)
    line = vectors[:, LINE].sum(axis=1) / np.sqrt(len(LINE))
    bend = np.sign(np.abs(vectors[:, BEND]) - 0.6745)  # no line sees it
    mixed = (line + bend) / np.sqrt(2)
    signal = np.select([regime == TRENDING, regime == RANGING], [line, bend]) if apart else mixed
    noise = chance.normal(size=(minutes, 2))
    return TrainingRows(
        vectors=vectors,
        target_pct=np.stack([size * signal + noise[:, 0], size * signal + 1.2 * noise[:, 1]], axis=1),
        open_time_ms=(first + np.arange(minutes)) * MINUTE_MS,
        symbol_index=np.zeros(minutes, np.int32),
    )


def _parts(*, minutes: int = 4000, seed: int = 0, **planted: Any) -> tuple[TrainingRows, TrainingRows]:
    train = _rows(minutes=minutes, seed=2 * seed, **planted)
    return train, _rows(minutes=minutes, seed=2 * seed + 1, first=minutes + 5, **planted)


def _fit(parts: Any, weighting: str = "regime", **options: Any) -> Fitted:
    return FAMILY.fit(
        train=parts[0],
        validation=parts[1],
        settings={**SETTINGS, **options.pop("settings", {}), "weighting": weighting},
        seed=3,
        progress=lambda done, text: None,
        cancelled=lambda: False,
        **options,
    )


def _skill(fitted: Fitted | None, rows: TrainingRows) -> float:
    if fitted is None:
        return 0.0
    said = serving.run(serving.open_session(fitted.graph), rows.vectors).predicted_pct
    return float(1 - np.mean((rows.target_pct - said) ** 2) / np.mean(rows.target_pct**2))


def _weights(fitted: Fitted) -> dict[str, Any]:
    return {m["family"]: np.array(m["weights"]["change"]) for m in json.loads(fitted.native)["members"]}


@pytest.fixture(scope="module")
def parts() -> tuple[TrainingRows, TrainingRows]:
    return _parts()


@pytest.fixture(scope="module")
def fitted(parts: Any) -> Fitted:
    return _fit(parts)


# The rule


def _in_the_graph(vectors: Any, *, batch: int | None = None, window: int = 0) -> Any:
    """Ask a graph that says 1, 2 or 3, by regime."""
    one = np.ones(1, np.float32)
    port = WINDOW_INPUT if window else INPUT
    nodes = [helper.make_node("ReduceMax", [port], ["most"], axes=[1, 2] if window else [1], keepdims=0)]
    nodes += [
        helper.make_node("IsNaN", ["most"], ["unknown"]),
        helper.make_node("Where", ["unknown", "one", "one"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "last"], [OUTPUTS[0]]),
        helper.make_node("Identity", [OUTPUTS[0]], [OUTPUTS[1]]),
    ]
    constants = [
        numpy_helper.from_array(one, "one"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
    ]
    always_one = graph.build(
        nodes=nodes, initializers=constants, features=FEATURES, horizons=1, window=window
    )
    weights = np.tile(np.array([1.0, 2.0, 3.0])[None, :, None], (2, 1, 1))
    merged = ensemble_graph.merge(
        [Part(name="one", graph=always_one, window=window, weights=weights)], features=FEATURES
    )
    session = serving.open_session(merged)
    size = batch or len(vectors)
    pieces = [serving.run(session, vectors[k : k + size]).predicted_pct for k in range(0, len(vectors), size)]
    return np.concatenate(pieces)[:, 0] - 1


def _awkward(rows: int) -> Any:
    chance = np.random.default_rng(5)
    vectors = (10.0 ** chance.uniform(-3, 2, (rows, FEATURES))).astype(np.float32)
    vectors *= chance.choice([-1, 1], vectors.shape)
    for value, share in ((np.nan, 0.15), (0.0, 0.1), (np.inf, 0.03)):
        vectors[chance.random(vectors.shape) < share] = value
    # right at the limits, and one unit in the last place beside them
    hour, day, move = (NAMES.index(name) for name in ("volatility_60", "atr_60m", "return_60"))
    near = np.arange(0, rows, 3)
    vectors[near, hour] = np.float32(1.5) * (vectors[near, day] / np.float32(11.0))
    vectors[near, move] = np.float32(0.2) * (np.float32(45.0) * vectors[near, hour])
    for column in (hour, move):
        toward = chance.choice([-np.inf, np.inf], len(near)).astype(np.float32)
        beside = np.nextafter(vectors[near, column], toward)
        vectors[near, column] = np.where(chance.random(len(near)) < 0.33, vectors[near, column], beside)
    return vectors


@pytest.mark.parametrize("batch", [1, 7, None])
def test_graph_tells_the_regime_as_the_rule_does_whatever_the_vector_holds(batch: int | None) -> None:
    vectors = _awkward(3000)
    told = _in_the_graph(vectors, batch=batch)
    assert np.array_equal(told, ensemble_regimes.of(vectors))
    assert set(np.unique(told)) == {TRENDING, RANGING, VOLATILE}


def test_graph_that_looks_back_tells_the_regime_of_the_last_minute() -> None:
    windows = _awkward(3000).reshape(600, 5, FEATURES)
    assert np.array_equal(_in_the_graph(windows, window=5), ensemble_regimes.of(windows[:, -1]))


def test_vector_without_any_number_is_ranging_and_one_of_half_a_day_knows_the_last_hours() -> None:
    vectors = np.full((2, FEATURES), np.nan, np.float32)
    vectors[1, NAMES.index("volatility_60")] = 1.0
    vectors[1, NAMES.index("atr_15m")] = 1.0
    assert ensemble_regimes.of(vectors).tolist() == [RANGING, VOLATILE]


@pytest.fixture(scope="module")
def real(recorded: Path) -> tuple[Any, Any]:
    """Give the vectors of some recorded days, and the regime that the forecaster names from their closes."""
    files = sorted((recorded / "six-2021-04").glob("*-1m.parquet"))
    symbols = tuple(file.name.split("-")[0] for file in files)
    columns = ["open", "high", "low", "close", "volume"]
    tables = [pq.read_table(file, columns=["timestamp", *columns]).slice(0, 6 * 1440) for file in files]
    times = np.concatenate([table["timestamp"].cast("int64").to_numpy() for table in tables])
    candles = np.concatenate([np.stack([table[c].to_numpy() for c in columns], axis=1) for table in tables])
    symbol = np.repeat(np.arange(len(files), dtype=np.int32), [len(table) for table in tables])
    order = np.lexsort((symbol, times))
    symbol, times, candles = symbol[order], times[order], candles[order].astype(np.float64)
    leader = next(name for name in symbols if name.startswith("BTC"))
    engine = FeatureEngine(symbols=symbols, references=symbols, leader=leader)
    vectors = engine.advance(
        symbol_index=symbol, open_time_ms=times, ohlcv=candles, closed_to_ms=int(times[-1])
    ).vector
    history = CloseHistory(symbols=len(files), windows=(60, 240, 1440), horizons=(5,))
    seen = history.advance(symbol.astype(np.int64), times // MINUTE_MS, np.ascontiguousarray(candles[:, 3]))
    known = seen.known_volatility_pct
    regime = classify(
        hour_volatility_pct=known[:, 0],
        four_hour_volatility_pct=known[:, 1],
        day_volatility_pct=known[:, 2],
        efficiency=seen.efficiency,
    )
    return vectors, regime


@pytest.mark.slow
def test_on_recorded_candles_the_graph_and_the_rule_never_differ(real: Any) -> None:
    vectors, _ = real
    assert np.isnan(vectors).any()
    assert np.array_equal(_in_the_graph(vectors), ensemble_regimes.of(vectors))


def test_regime_from_the_features_is_mostly_that_of_the_forecaster(real: Any) -> None:
    vectors, regime = real
    told = ensemble_regimes.of(vectors)
    assert np.mean(told == regime) > 0.9
    for number in range(len(REGIMES)):
        assert np.mean(told[regime == number] == number) > 0.6
        assert np.mean(regime[told == number] == number) > 0.6


def test_rows_that_are_not_this_programs_vectors_are_refused_before_anything_is_trained() -> None:
    rows = _rows(minutes=600, seed=1)
    short = replace(rows, vectors=rows.vectors[:, :12])
    with pytest.raises(BadTrainingDataError, match="72 features; these rows have 12"):
        FAMILY.fit(
            train=short,
            validation=short,
            settings={**SETTINGS, "weighting": "regime"},
            seed=1,
            progress=lambda done, text: pytest.fail("nothing is to be trained"),
            cancelled=lambda: False,
        )


# The weights


def _judged(said: Mapping[str, Any], target: Any, vectors: Any) -> Judged:
    rows = TrainingRows(
        vectors=vectors,
        target_pct=np.asarray(target, np.float64)[:, None],
        open_time_ms=np.arange(len(target)) * MINUTE_MS,
        symbol_index=np.zeros(len(target), np.int32),
    )
    columns = {name: np.asarray(values, np.float32)[:, None] for name, values in said.items()}
    return Judged(
        rows=rows, said={n: Predictions(column, column) for n, column in columns.items()}, overlap=(1,)
    )


def test_each_regime_gets_the_weights_of_who_is_good_there() -> None:
    chance = np.random.default_rng(1)
    vectors, regime = _vectors(6000, chance)
    a, b = 0.5 * chance.normal(size=(2, 6000))
    target = np.select([regime == TRENDING, regime == RANGING], [a, b]) + chance.normal(size=6000)
    found = ensemble_regimes.by_regime(_judged({"a": a, "b": b}, target, vectors), doubt=FRESH)
    change = {name: weights[0, :, 0] for name, weights in found.items()}
    assert change["a"][TRENDING] > 0.8 > 0.1 > change["a"][RANGING]
    assert change["b"][RANGING] > 0.8 > 0.1 > change["b"][TRENDING]
    assert max(change["a"][VOLATILE], change["b"][VOLATILE]) < 0.6


def test_a_regime_of_few_rows_has_the_weights_of_all() -> None:
    chance = np.random.default_rng(2)
    vectors, _ = _vectors(3000, chance)
    vectors[:, NAMES.index("volatility_60")] = 1.0
    vectors[:40, NAMES.index("volatility_60")] = 3.0
    a, b = 0.5 * chance.normal(size=(2, 3000))
    target = a + 0.5 * chance.normal(size=3000)
    target[:40] = b[:40]
    judged = _judged({"a": a, "b": b}, target, vectors)
    overall = ensemble_weights.by_skill(judged, doubt=FRESH)
    found = ensemble_regimes.by_regime(judged, doubt=FRESH)
    assert found["a"][:, VOLATILE] == pytest.approx(overall["a"])


@pytest.mark.parametrize("doubt", [FRESH, STOPPED_BY])
def test_weights_are_never_negative_and_add_up_to_at_most_one(doubt: float) -> None:
    for seed in range(10):
        chance = np.random.default_rng(seed)
        vectors, _ = _vectors(900, chance)
        hints = chance.normal(size=(900, 3)) * chance.uniform(0, 0.6, size=3)
        target = hints.sum(axis=1) + chance.normal(size=900)
        said = {f"m{k}": hints[:, k] * chance.uniform(-1, 3) for k in range(3)}
        found = ensemble_regimes.by_regime(_judged(said, target, vectors), doubt=doubt)
        assert all((weights >= 0).all() for weights in found.values())
        assert (sum(found.values(), np.zeros((2, len(REGIMES), 1))) <= 1).all()


@pytest.mark.slow
def test_regimes_add_hardly_anything_to_what_noise_weighs() -> None:
    total = {"overall": 0.0, "by regime": 0.0}
    for seed in range(100):
        chance = np.random.default_rng(seed)
        vectors, _ = _vectors(600, chance)
        judged = _judged({"a": chance.normal(size=600)}, chance.normal(size=600), vectors)
        overall = ensemble_weights.by_skill(judged, doubt=FRESH)
        found = ensemble_regimes.by_regime(judged, doubt=FRESH)
        total["overall"] += float(sum(w.mean() for w in overall.values())) / 100
        total["by regime"] += float(sum(w.mean() for w in found.values())) / 100
    assert total["by regime"] < total["overall"] + 0.01


# The ensemble


@pytest.mark.slow
def test_where_the_best_member_changes_with_the_regime_it_beats_one_weight_for_all() -> None:
    gains = []
    for seed in range(3):
        parts = _parts(seed=20 + seed)
        fresh = _rows(minutes=20_000, seed=900 + seed)
        by_regime, by_skill = (_skill(_fit(parts, weighting), fresh) for weighting in ("regime", "skill"))
        assert by_skill > 0.01
        gains.append(by_regime / by_skill)
    assert min(gains) > 1.0
    assert np.mean(gains) > 1.15


@pytest.mark.slow
def test_where_regimes_say_nothing_it_is_no_worse() -> None:
    for seed in range(2):
        parts = _parts(seed=40 + seed, apart=False)
        fresh = _rows(minutes=20_000, seed=940 + seed, apart=False)
        by_regime, by_skill = (_skill(_fit(parts, weighting), fresh) for weighting in ("regime", "skill"))
        assert by_regime > 0.97 * by_skill


@pytest.mark.slow
def test_on_noise_it_is_no_worse() -> None:
    for seed in range(3):
        parts = _parts(minutes=1500, seed=60 + seed, size=0.0)
        fresh = _rows(minutes=20_000, seed=960 + seed, size=0.0)
        found = []
        for weighting in ("regime", "skill"):
            try:
                found.append(_skill(_fit(parts, weighting), fresh))
            except NoSignalError:
                found.append(0.0)
        assert found[0] >= found[1] - 0.001
        assert found[0] > -0.002


def test_the_weights_differ_by_regime_and_are_told(fitted: Fitted) -> None:
    weights = _weights(fitted)
    assert all(each.shape == (len(REGIMES), 2) for each in weights.values())
    assert weights["ridge"][TRENDING, 0] > weights["ridge"][RANGING, 0]
    assert weights["xgboost"][RANGING, 0] > weights["xgboost"][TRENDING, 0]
    assert fitted.metrics["weight_ridge_change0_trending"] == weights["ridge"][TRENDING, 0]


def test_the_graph_says_what_the_members_libraries_say(parts: Any, fitted: Fitted) -> None:
    probes = parity.probes_of(parts[0], window=0, seed=0)
    said = serving.run(serving.open_session(fitted.graph), probes)
    for one, other in zip(said, FAMILY.predict(native=fitted.native, inputs=probes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_in_the_same_bytes(parts: Any, fitted: Fitted, memory: Any) -> None:
    whole = _fit(parts, checkpoints=memory)
    assert (whole.native, whole.graph) == (fitted.native, fitted.graph)
    for kept in (1, len(memory.states) // 2, len(memory.states) - 1):
        resumed = type(memory)()
        resumed.states = memory.states[:kept]
        again = _fit(parts, checkpoints=resumed)
        assert (again.native, again.graph) == (whole.native, whole.graph)


def test_given_weights_decide_in_every_regime(parts: Any) -> None:
    found = _fit(parts, settings={"weights": {"ridge": 1.0}})
    assert _weights(found)["ridge"].tolist() == [1.0, 1.0]
