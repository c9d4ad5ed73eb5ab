"""Forecasts whose target never comes, halts, midnights and many versions a day: any split gives the same.

The market here is worse than the one of `test_stages.py`: a third of the minutes may be absent, whole
stretches of every symbol too, and a day ends in the middle of it.
"""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.forecast_stage import ForecastStage
from schemas.frames import MINUTE_MS, PredictionFrame, Reason

SYMBOLS = ("AAA", "BBB")
MINUTES = 100
#: 2021-04-01 23:20 UTC, so that a day ends in minute 40.
START = 26_955_320
HORIZONS = (1, 5, 20)
VERSIONS = 50
Tables = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
KEYS = {
    "persistentForecasts": ("symbol", "forecast_type", "forecast_horizon", "created_at"),
    "forecastScoreSums": ("symbol", "forecast_horizon", "day"),
}


def stage() -> ForecastStage:
    return ForecastStage(symbols=SYMBOLS, horizons=HORIZONS)


def whole(seed: int, absent: float, halts: list[tuple[int, int, int]]) -> PredictionFrame:
    chance = np.random.default_rng(seed)
    there = chance.random((MINUTES, len(SYMBOLS))) >= absent
    for symbol, first, length in halts:
        there[first : first + length, symbol] = False
    there[0] = True
    minute, symbol = np.nonzero(there)
    n = len(minute)
    moves = 0.001 * chance.standard_t(3, there.shape) * (chance.random(there.shape) < 0.9)
    close = (100.0 * np.exp(np.cumsum(moves, axis=0)))[minute, symbol]
    said = chance.normal(scale=0.1, size=(n, 2)).astype(np.float32) * (chance.random((n, 2)) < 0.9)
    # Models follow one another every few minutes, more of them than a day has places for at first.
    model = np.where(chance.random((n, 2)) < 0.8, 1 + minute[:, None] * VERSIONS // MINUTES, 0)
    return PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=symbol.astype(np.int32),
        open_time_ms=(START + minute) * MINUTE_MS,
        ohlcv=np.stack([close] * 4 + [np.ones(n)], axis=1),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 1), np.float32),
        is_complete=minute >= 10,
        complete_to_ms=0,
        schema_hash="none",
        horizons=(5, 20),
        predicted_pct=np.where(model > 0, said, 0).astype(np.float32),
        probability_up=np.where(model > 0, chance.random((n, 2)), np.nan).astype(np.float32),
        model_index=model.astype(np.int16),
        reason=np.where(
            model > 0, chance.choice([Reason.NONE, Reason.TOO_OLD], (n, 2), p=[0.9, 0.1]), Reason.NO_MODEL
        ).astype(np.int8),
        models=("last_value", *(f"m{k:03}" for k in range(VERSIONS))),
    )


def split(frame: PredictionFrame, edges: list[int]) -> list[PredictionFrame]:
    """Cut a frame between minutes; each piece is complete up to where the next one begins."""
    bounds = sorted({0, MINUTES, *edges})
    minute = frame.open_time_ms // MINUTE_MS - START
    return [
        replace(frame.rows((minute >= first) & (minute < end)), complete_to_ms=(START + end - 1) * MINUTE_MS)
        for first, end in itertools.pairwise(bounds)
    ]


def write(tables: Tables, parts: Any) -> None:
    for part in parts:
        table = tables.setdefault(part.table, {})
        for values in zip(*part.columns.values(), strict=True):
            row = {
                name: None if isinstance(value, float) and np.isnan(value) else value
                for name, value in zip(part.columns, values, strict=True)
            }
            key = tuple(row[name] for name in KEYS[part.table])
            assert part.op != "insert" or key not in table
            assert part.op != "update" or key in table
            table[key] = table.get(key, {}) | row


def run(forecaster: ForecastStage, frames: list[PredictionFrame], before: Tables | None = None) -> Tables:
    tables: Tables = {name: dict(table) for name, table in (before or {}).items()}
    for frame in frames:
        write(tables, forecaster.step(frame).rows)
    return tables


seeds = st.integers(0, 2**20)
shares = st.sampled_from([0.0, 0.05, 0.35])
halts_of = st.lists(st.tuples(st.integers(0, 1), st.integers(1, MINUTES - 1), st.integers(1, 40)), max_size=3)
edges_of = st.lists(st.integers(1, MINUTES - 1), max_size=8)
EVERY = list(range(MINUTES))
few = settings(max_examples=5, deadline=None)


@pytest.mark.slow
@few
@given(seed=seeds, absent=shares, halts=halts_of, edges=edges_of)
def test_rows_and_state_do_not_depend_on_the_split(seed, absent, halts, edges):
    frame = whole(seed, absent, halts)
    minutely, grouped = stage(), stage()
    tables = run(minutely, split(frame, EVERY))
    assert run(grouped, split(frame, edges)) == tables
    assert grouped.snapshot() == minutely.snapshot()


@pytest.mark.slow
@few
@given(seed=seeds, absent=shares, halts=halts_of, edges=edges_of, stop=st.integers(1, MINUTES - 1))
def test_restored_stage_goes_on_identically_through_gaps(seed, absent, halts, edges, stop):
    frame = whole(seed, absent, halts)
    pieces = split(frame, [*edges, stop])
    at = sorted({0, *edges, stop}).index(stop)
    unbroken, broken = stage(), stage()
    before = run(unbroken, pieces[:at])
    assert run(broken, split(frame, EVERY)[:stop]) == before
    again = stage()
    again.restore(broken.snapshot())
    assert run(again, pieces[at:], before) == run(unbroken, pieces[at:], before)
    assert again.snapshot() == unbroken.snapshot()


def test_this_market_has_what_it_is_for():
    frame = whole(5, 0.35, [(0, 50, 20)])
    tables = run(stage(), split(frame, EVERY))
    forecasts = tables["persistentForecasts"].values()
    assert {row["missing_reason"] for row in forecasts} == {None, "no candle"}
    sums = tables["forecastScoreSums"]
    assert len({day for _, _, day in sums}) == 2
    assert max(len(row["sums"]) for row in sums.values()) > 2 * 4 + 2
