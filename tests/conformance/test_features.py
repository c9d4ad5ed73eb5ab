"""The promises of a feature, kept by every one of the 72."""

from __future__ import annotations

import numpy as np
import pytest

from domain.features.benchmarks import random_walk
from domain.features.built_in_subjects import vector_and_chart
from domain.features.causality import check
from domain.features.cuts import Market
from domain.features.engine import FeatureEngine
from domain.features.history import compute_history
from domain.features.schema import FEATURES, INDICATOR_COLUMNS, NAMES
from domain.features.verdict import Verdict
from runtime import proving_market
from schemas.frames import MINUTE_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "ADAUSDT", "XRPUSDT")
MINUTES = 2_400
CUT = 1_900
LATE = 800
FIRST_MS = 27_000_017 * MINUTE_MS
EVERY = pytest.mark.parametrize("name", NAMES)
#: What an exponential average still knows of its start when the vector first shows it, for both runs.
SETTLED = 2e-6
EXPONENTIAL = {
    *("rsi", "macd", "macd_histogram", "atr", "adx", "di_spread", "ema_distance"),
    *("rsi_slope", "macd_histogram_slope", "atr_slope", "adx_slope", "ema_slope"),
}
#: Sizes of features that cross zero, in their units: what a difference is measured against.
SIZE = {"rsi": 100.0, "adx": 100.0, "di_spread": 100.0}


def walk(seed: int) -> np.ndarray:
    return random_walk(np.random.default_rng(seed), MINUTES, len(SYMBOLS))


def run(candles: np.ndarray, first: int = 0) -> dict[str, np.ndarray]:
    """Vectors of each symbol, from candles of shape (minutes, symbols, 5)."""
    engine = FeatureEngine(symbols=SYMBOLS, references=SYMBOLS[:3], leader="BTCUSDT")
    times = FIRST_MS + MINUTE_MS * np.arange(first, first + len(candles))
    rows = compute_history(
        engine,
        open_time_ms=dict.fromkeys(SYMBOLS, times),
        ohlcv={name: np.ascontiguousarray(candles[:, i]) for i, name in enumerate(SYMBOLS)},
    )
    return {name: part.vector for name, part in rows.items()}


@pytest.fixture(scope="module")
def candles() -> np.ndarray:
    return walk(seed=5)


@pytest.fixture(scope="module")
def whole(candles: np.ndarray) -> dict[str, np.ndarray]:
    return run(candles)


@pytest.fixture(scope="module")
def cut(candles: np.ndarray) -> dict[str, np.ndarray]:
    return run(candles[:CUT])


@pytest.fixture(scope="module")
def other_future(candles: np.ndarray) -> dict[str, np.ndarray]:
    changed = candles.copy()
    changed[CUT:] = walk(seed=6)[CUT:]
    return run(changed)


@pytest.fixture(scope="module")
def started_late(candles: np.ndarray) -> dict[str, np.ndarray]:
    return run(candles[LATE:], first=LATE)


@pytest.fixture(scope="module")
def other_scale(candles: np.ndarray) -> dict[str, np.ndarray]:
    # A power of two, so that prices and volumes keep their bits but for the exponent.
    return run(candles * np.array([2.0**-9] * 4 + [2.0**11]))


def engine_for_trouble() -> FeatureEngine:
    symbols = proving_market.SYMBOLS
    return FeatureEngine(symbols=symbols, references=symbols[:3], leader=symbols[0])


@pytest.fixture(scope="module")
def trouble() -> Market:
    """Gaps, halts, quiet minutes, crashes and surges."""
    return proving_market.proving_market(3_000)


@pytest.fixture(scope="module")
def verdicts(trouble: Market) -> dict[str, Verdict]:
    return {each.column: each for each in check(vector_and_chart(engine_for_trouble), trouble, cuts=24)}


@pytest.fixture(scope="module")
def troubled(trouble: Market) -> dict[str, np.ndarray]:
    rows = compute_history(
        engine_for_trouble(),
        open_time_ms={name: history.open_time_ms for name, history in trouble.items()},
        ohlcv={name: history.ohlcv for name, history in trouble.items()},
    )
    return {name: part.vector for name, part in rows.items()}


@pytest.fixture(scope="module")
def live(trouble: Market) -> dict[str, np.ndarray]:
    """Vectors of the same candles, given as they come: a minute at a time, through two restarts."""
    engine = engine_for_trouble()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in trouble}
    minutes = np.unique(np.concatenate([history.open_time_ms for history in trouble.values()]))
    for number, minute in enumerate(minutes):
        rows = {
            name: int(np.searchsorted(history.open_time_ms, minute))
            for name, history in trouble.items()
            if minute in history.open_time_ms
        }
        vectors = engine.advance(
            symbol_index=np.array([engine.symbols.index(name) for name in rows], np.int32),
            open_time_ms=np.full(len(rows), minute),
            ohlcv=np.array([trouble[name].ohlcv[row] for name, row in rows.items()]),
            closed_to_ms=int(minute),
        ).vector
        for name, vector in zip(rows, vectors, strict=True):
            parts[name].append(vector)
        if number in (700, 2_100):
            saved, engine = engine.snapshot(), engine_for_trouble()
            engine.restore(saved)
    return {name: np.array(part) for name, part in parts.items()}


def column(vectors: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.concatenate([vectors[symbol][:, NAMES.index(name)] for symbol in SYMBOLS])


def columns(vectors: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.stack([vectors[symbol][:, NAMES.index(name)] for symbol in SYMBOLS], axis=1)


@EVERY
def test_it_says_what_it_is(name: str) -> None:
    feature = FEATURES[NAMES.index(name)]

    assert all((feature.unit, feature.formula, feature.source))
    assert feature.warm_up >= 1


@EVERY
def test_a_cut_history_gives_the_same_bits_up_to_the_cut(
    name: str, whole: dict[str, np.ndarray], cut: dict[str, np.ndarray]
) -> None:
    assert columns(whole, name)[:CUT].tobytes() == columns(cut, name).tobytes()


@EVERY
def test_another_future_changes_nothing_before_it(
    name: str, whole: dict[str, np.ndarray], other_future: dict[str, np.ndarray]
) -> None:
    assert columns(whole, name)[:CUT].tobytes() == columns(other_future, name)[:CUT].tobytes()


@EVERY
def test_the_causality_gate_lets_it_through(name: str, verdicts: dict[str, Verdict]) -> None:
    assert str(verdicts[name]) == f"vector and chart (column {name}) is causal"


@pytest.mark.parametrize("name", INDICATOR_COLUMNS)
def test_the_causality_gate_lets_the_charts_column_through(name: str, verdicts: dict[str, Verdict]) -> None:
    assert verdicts[f"chart.{name}"].is_causal
    assert verdicts[f"chart.{name}"].has_values


@pytest.mark.slow
@EVERY
def test_minute_by_minute_it_has_the_bits_of_the_whole_history(
    name: str, troubled: dict[str, np.ndarray], live: dict[str, np.ndarray]
) -> None:
    number = NAMES.index(name)

    for symbol, vectors in troubled.items():
        assert live[symbol][:, number].tobytes() == vectors[:, number].tobytes()


@EVERY
def test_it_is_a_number_from_its_warm_up_on(name: str, whole: dict[str, np.ndarray]) -> None:
    values = columns(whole, name)

    assert np.isfinite(values[FEATURES[NAMES.index(name)].warm_up - 1 :]).all()
    assert not np.isinf(values).any()


@EVERY
def test_it_is_nan_at_first_unless_one_candle_tells_it(name: str, whole: dict[str, np.ndarray]) -> None:
    first = columns(whole, name)[0]

    assert np.isnan(first).all() == (FEATURES[NAMES.index(name)].warm_up > 1)


@EVERY
def test_it_comes_from_nan_and_never_goes_back(name: str, whole: dict[str, np.ndarray]) -> None:
    missing = np.isnan(columns(whole, name))

    assert (missing[1:] <= missing[:-1]).all()


@EVERY
def test_where_history_starts_does_not_matter(
    name: str, whole: dict[str, np.ndarray], started_late: dict[str, np.ndarray]
) -> None:
    late = columns(started_late, name)
    early = columns(whole, name)[LATE:]
    there = ~np.isnan(late)

    assert there.any()
    if name in EXPONENTIAL:
        size = max(SIZE.get(name.removesuffix("_slope"), 0.0), float(np.abs(early[there]).max()))
        np.testing.assert_allclose(late[there], early[there], rtol=0, atol=SETTLED * size)
    else:
        assert late[there].tobytes() == early[there].tobytes()


@EVERY
def test_neither_price_nor_volume_scale_matters(
    name: str, whole: dict[str, np.ndarray], other_scale: dict[str, np.ndarray]
) -> None:
    size = max(1e-3, float(np.nanmax(np.abs(columns(whole, name)))))
    np.testing.assert_allclose(columns(other_scale, name), columns(whole, name), rtol=1e-5, atol=1e-6 * size)


@EVERY
def test_it_fits_into_float32_with_room(name: str, whole: dict[str, np.ndarray]) -> None:
    assert np.nanmax(np.abs(columns(whole, name))) < 1e4


@EVERY
def test_it_stays_finite_in_a_market_that_stands_still(name: str) -> None:
    flat = np.tile([50.0, 50.0, 50.0, 50.0, 0.0], (MINUTES, len(SYMBOLS), 1))

    values = columns(_once("flat", flat), name)[FEATURES[NAMES.index(name)].warm_up - 1 :]

    assert np.isfinite(values).all()


_runs: dict[str, dict[str, np.ndarray]] = {}


def _once(key: str, candles: np.ndarray) -> dict[str, np.ndarray]:
    if key not in _runs:
        _runs[key] = run(candles)
    return _runs[key]
