"""What every stage promises: the same rows however its input is cut, and after any restart.

The input is a small market that misbehaves: minutes are absent, one symbol halts, one ends early, and candles
of different symbols arrive out of step.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.tables import TABLES
from domain.features.engine import FeatureEngine
from domain.features.schema import NAMES, SCHEMA_HASH
from domain.models.serving import Answers
from domain.quality.check import Limits
from domain.trading.costs import Costs
from pipeline.beside import Beside
from pipeline.chain import Chain
from pipeline.coverage_drift import CoverageSettings
from pipeline.drift_stage import DriftStage
from pipeline.feature_drift_stage import FeatureDriftStage
from pipeline.feature_stage import FeatureStage
from pipeline.forecast_stage import ForecastStage
from pipeline.inference_stage import InferenceStage, ServingModel
from pipeline.quality_stage import QualityStage
from pipeline.sample_stage import Retraining, SampleStage
from pipeline.stage import Rows, StateVersionError, StepResult
from pipeline.trade_stage import Strategy, TradeStage
from schemas.frames import (
    MINUTE_MS,
    NULL_MS,
    CandleFrame,
    FeatureFrame,
    FeedBatch,
    Origin,
    PredictionFrame,
    Reason,
)

#: Every stage walks through a market again and again.
pytestmark = pytest.mark.slow

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
MINUTES = 150
START_MS = 1_617_321_600_000
HORIZONS = (5, 15, 60)
MODELS = ("last_value", "m1", "m2")

Batch = Any
Table = dict[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Market:
    """Candles in the order in which they arrive, and when."""

    symbol: np.ndarray
    open_time_ms: np.ndarray
    ohlcv: np.ndarray
    origin: np.ndarray
    #: The message that brings each row.
    arrival: np.ndarray
    #: Shape (messages, symbols).
    known_to_ms: np.ndarray


def market(seed: int) -> Market:
    chance = np.random.default_rng(seed)
    there = chance.random((MINUTES, len(SYMBOLS))) < 0.97
    there[60:75, 1] = False  # a halt of one symbol
    there[100:108] = False  # and one of all
    there[120:, 2] = False  # this one ends early
    there[0] = chance.random(len(SYMBOLS)) < 0.7
    there[1, 0] = True
    moves = chance.standard_t(3, there.shape) * 0.001 * (chance.random(there.shape) < 0.8)
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    open_ = np.concatenate([close[:1], close[:-1]])
    reach = 1.0 + 0.001 * chance.random(there.shape)
    high, low = np.maximum(open_, close) * reach, np.minimum(open_, close) / reach
    ohlcv = np.stack([open_, high, low, close, chance.random(there.shape)], axis=2)
    delay = chance.integers(0, 3, there.shape) * (chance.random(there.shape) < 0.3)
    minute = np.arange(MINUTES)
    arrival = np.maximum.accumulate(np.where(there, minute[:, None] + delay, 0), axis=0)

    messages = MINUTES + 4
    known = np.empty((messages, len(SYMBOLS)), np.int64)
    for k, s in itertools.product(range(messages), range(len(SYMBOLS))):
        still_out = minute[there[:, s] & (arrival[:, s] > k)]
        known[k, s] = min(int(still_out[0]) - 1 if len(still_out) else k, k)
    t, s = np.nonzero(there)
    order = np.lexsort((s, t, arrival[t, s]))
    t, s = t[order], s[order]
    return Market(
        symbol=s.astype(np.int32),
        open_time_ms=START_MS + t * MINUTE_MS,
        ohlcv=ohlcv[t, s],
        origin=np.where(chance.random(len(t)) < 0.1, Origin.SYNTHETIC, Origin.TRADED).astype(np.int8),
        arrival=arrival[t, s],
        known_to_ms=START_MS + known * MINUTE_MS,
    )


def candles(m: Market, chosen: np.ndarray) -> CandleFrame:
    return CandleFrame(
        symbols=SYMBOLS,
        symbol_index=m.symbol[chosen],
        open_time_ms=m.open_time_ms[chosen],
        ohlcv=m.ohlcv[chosen],
        origin=m.origin[chosen],
    )


def feed_batches(seed: int) -> list[FeedBatch]:
    m = market(seed)
    return [
        FeedBatch(candles=candles(m, m.arrival == k), known_to_ms=known, revisions=CandleFrame.empty(SYMBOLS))
        for k, known in enumerate(m.known_to_ms)
    ]


def prediction_frames(seed: int) -> list[PredictionFrame]:
    m = market(seed)
    chance = np.random.default_rng(seed + 1)
    rows, columns = len(m.symbol), 2
    vector = chance.normal(size=(rows, len(NAMES))).astype(np.float32)
    vector[chance.random(vector.shape) < 0.02] = np.nan
    model = chance.integers(0, len(MODELS), (rows, columns)).astype(np.int16)
    up = chance.random((rows, columns)).astype(np.float32)
    said = (up - 0.5) * (chance.random(up.shape) < 0.9)
    reason = np.where(model > 0, Reason.NONE, Reason.NO_MODEL)
    reason[chance.random(reason.shape) < 0.05] = Reason.TOO_OLD
    age = (m.open_time_ms - START_MS) // MINUTE_MS
    whole = PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=m.symbol,
        open_time_ms=m.open_time_ms,
        ohlcv=m.ohlcv,
        origin=m.origin,
        vector=vector,
        is_complete=(age >= 20) & (chance.random(rows) < 0.95),
        complete_to_ms=0,
        schema_hash=SCHEMA_HASH,
        horizons=(5, 15),
        predicted_pct=np.where(model > 0, said, 0.0).astype(np.float32),
        probability_up=np.where(model > 0, up, np.nan).astype(np.float32),
        model_index=model,
        reason=reason.astype(np.int8),
        models=MODELS,
    )
    return [
        replace(whole.rows(m.arrival == k), complete_to_ms=int(known.min()))
        for k, known in enumerate(m.known_to_ms)
    ]


def feature_frames(seed: int) -> list[FeatureFrame]:
    names = [field.name for field in fields(FeatureFrame)]
    return [
        FeatureFrame(**{name: getattr(frame, name) for name in names}) for frame in prediction_frames(seed)
    ]


def cut(batch: Batch, at: int) -> list[Batch]:
    """Divide a message before a row; what the first part calls complete stops before the second's rows."""
    rows = batch.candles if isinstance(batch, FeedBatch) else batch
    if not 0 < at < len(rows):
        return [batch]
    rest = slice(at, None)
    if isinstance(batch, FeedBatch):
        known = batch.known_to_ms.copy()
        np.minimum.at(known, rows.symbol_index[rest], rows.open_time_ms[rest] - MINUTE_MS)
        first = replace(batch, candles=rows.rows(slice(at)), known_to_ms=known)
        return [first, replace(batch, candles=rows.rows(rest))]
    complete_to = min(batch.complete_to_ms, int(rows.open_time_ms[rest].min()) - MINUTE_MS)
    return [replace(batch.rows(slice(at)), complete_to_ms=complete_to), batch.rows(rest)]


def join(batches: Sequence[Batch]) -> Batch:
    if isinstance(batches[0], FeedBatch):
        parts = [batch.candles for batch in batches]
        return replace(batches[-1], candles=CandleFrame.concat(parts))
    return type(batches[0]).concat(batches)


def regroup(stream: list[Batch], bounds: list[int], cuts: list[int]) -> list[Batch]:
    """Divide some messages, and join those between the bounds."""
    pieces = [part for k, batch in enumerate(stream) for part in cut(batch, cuts[k % len(cuts)])]
    edges = [0, *sorted({b % len(pieces) for b in bounds} - {0}), len(pieces)]
    return [join(pieces[a:b]) for a, b in itertools.pairwise(edges)]


def doubled_sum(inputs: np.ndarray) -> Answers:
    """Stand in for a model: any computation that treats each vector or window alone."""
    first = np.nan_to_num(inputs[..., 0])
    first = first if first.ndim == 1 else first[:, ::7].sum(axis=1)
    return Answers(
        (2 * first).astype(np.float32)[:, None],
        (1 / (1 + np.exp2(-first))).astype(np.float32)[:, None],
        np.abs(first).astype(np.float32),
    )


def inference() -> InferenceStage:
    stage = InferenceStage(horizons=(5, 15), max_prediction_age_s=300, window_minutes=15)
    stage.serve(
        [
            ServingModel(
                version=f"m{minutes}",
                symbol="ALL",
                horizon_minutes=15,
                effective_from_ms=START_MS + minutes * MINUTE_MS,
                schema_hash=SCHEMA_HASH,
                artifact=f"m{minutes}",
                window=window,
                ask=doubled_sum,
            )
            for minutes, window in ((30, 0), (90, 15))
        ]
    )
    return stage


def trade() -> TradeStage:
    strategies = (Strategy(confidence_threshold=55), Strategy(name="quick", horizon_minutes=5))
    return TradeStage(symbols=SYMBOLS, strategies=strategies, costs=Costs(fee_bps=1, slippage_bps=1))


def drift() -> DriftStage:
    return DriftStage(
        symbols=SYMBOLS, horizons=(5, 15), reactions=("warn", "lower_weight", "retrain"), every_minutes=60
    )


def feature_drift() -> FeatureDriftStage:
    return FeatureDriftStage(
        symbols=SYMBOLS,
        feature_names=NAMES,
        retraining_window_minutes=60,
        retraining_every_minutes=60,
        every_minutes=30,
        reference_blocks=4,
        least_reference_blocks=2,
        thinning_minutes=1,
    )


def feature() -> FeatureStage:
    engine = FeatureEngine(symbols=SYMBOLS, references=SYMBOLS[:2], leader=SYMBOLS[0])
    return FeatureStage(symbols=SYMBOLS, owned=SYMBOLS, references=SYMBOLS[:2], engine=engine)


@dataclass(frozen=True)
class Case:
    make: Callable[[], Any]
    stream: Callable[[int], list[Batch]]
    tables: tuple[str, ...] = ()


CASES = {
    "feature": Case(feature, feed_batches, ("rollingChartData", "ml_features")),
    "sample": Case(
        lambda: SampleStage(
            symbols=SYMBOLS,
            feature_names=NAMES,
            horizons=HORIZONS,
            retraining=Retraining(window_minutes=40, every_minutes=30, horizons=(5, 15)),
        ),
        feature_frames,
        ("mlTrainingSamples", "ml_jobs"),
    ),
    "inference": Case(inference, feature_frames),
    "inference and trade": Case(lambda: Chain(inference(), trade()), feature_frames, ("tradeSimulations",)),
    "trade": Case(trade, prediction_frames, ("tradeSimulations",)),
    "forecast": Case(
        lambda: ForecastStage(symbols=SYMBOLS, horizons=(1, *HORIZONS)),
        prediction_frames,
        ("forecastScoreSums", "persistentForecasts"),
    ),
    "forecast and coverage": Case(
        lambda: ForecastStage(
            symbols=SYMBOLS, horizons=(1, *HORIZONS), coverage=CoverageSettings(every_minutes=60)
        ),
        prediction_frames,
        ("driftChecks", "forecastScoreSums", "persistentForecasts"),
    ),
    "quality": Case(
        lambda: QualityStage(
            symbols=SYMBOLS,
            limits=Limits(window_minutes=20, frozen_minutes=3),
            hole_minutes=10,
            spike_score=2.0,
            burst_score=1.0,
        ),
        feature_frames,
        ("anomalies", "backfill_requests"),
    ),
    "feature drift": Case(feature_drift, feature_frames, ("driftChecks",)),
    "quality beside feature drift": Case(
        lambda: Beside(QualityStage(symbols=SYMBOLS), feature_drift()),
        feature_frames,
        ("backfill_requests", "driftChecks"),
    ),
    "drift": Case(drift, prediction_frames, ("driftChecks",)),
    "inference, drift and trade": Case(
        lambda: Chain(Chain(inference(), drift()), trade()),
        feature_frames,
        ("driftChecks", "tradeSimulations"),
    ),
}
SIMPLE = tuple(
    name
    for name in CASES
    if name in {"sample", "trade", "forecast", "forecast and coverage", "quality", "feature drift", "drift"}
)


def plain(value: Any) -> Any:
    """Make values comparable: NaN is NULL, arrays are their bytes."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def write(tables: dict[str, Table], parts: Sequence[Rows]) -> None:
    """Do to dictionaries what the writer does to tables."""
    for part in parts:
        known = TABLES[part.table]
        assert set(part.columns) <= set(known.columns)
        assert len({len(column) for column in part.columns.values()}) == 1
        table = tables.setdefault(part.table, {})
        for values in zip(*part.columns.values(), strict=True):
            row = {name: plain(value) for name, value in zip(part.columns, values, strict=True)}
            key = tuple(row[name] for name in known.key)
            if part.op == "insert":
                assert key not in table, f"{part.table} {key} is inserted twice"
                table[key] = row
            elif part.op == "upsert":
                table[key] = row
            elif key in table:
                table[key] |= row


def outgoing(results: Sequence[StepResult]) -> Table:
    found: Table = {}
    for result in results:
        frame = result.out
        if frame is None:
            continue
        for k in range(len(frame)):
            key = (frame.symbols[frame.symbol_index[k]], int(frame.open_time_ms[k]))
            assert key not in found, f"{key} goes out twice"
            found[key] = {
                field.name: plain(getattr(frame, field.name)[k])
                for field in fields(frame)
                if isinstance(getattr(frame, field.name), np.ndarray) and field.name != "model_index"
            }
            if isinstance(frame, PredictionFrame):
                found[key]["model"] = [frame.models[number] for number in frame.model_index[k]]
    return found


def run(stage: Any, batches: Sequence[Batch]) -> tuple[dict[str, Table], Table, list[Any]]:
    results = [stage.step(batch) for batch in batches]
    tables: dict[str, Table] = {}
    for result in results:
        write(tables, result.rows)
    return tables, outgoing(results), [entry for result in results for entry in result.logs]


anything = settings(max_examples=6, deadline=None)
seeds = st.integers(0, 2**20)
bounds_of = st.lists(st.integers(0, 400), max_size=12)
cuts_of = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@pytest.mark.parametrize("name", CASES)
def test_stage_makes_rows_for_each_of_its_tables_in_this_market(name):
    tables, _, _ = run(CASES[name].make(), CASES[name].stream(7))
    assert set(tables) == set(CASES[name].tables)
    assert all(tables.values())


@pytest.mark.parametrize("name", CASES)
@anything
@given(seed=seeds, bounds=bounds_of, cuts=cuts_of)
def test_step_of_a_batch_equals_the_fold_of_single_steps_for_any_split(name, seed, bounds, cuts):
    case = CASES[name]
    stream = case.stream(seed)
    single, grouped = case.make(), case.make()
    tables, out, _ = run(single, stream)
    tables_grouped, out_grouped, _ = run(grouped, regroup(stream, bounds, cuts))
    assert tables_grouped == tables
    assert out_grouped == out


@pytest.mark.parametrize("name", SIMPLE)
@anything
@given(seed=seeds, bounds=bounds_of, cuts=cuts_of)
def test_state_does_not_depend_on_the_split_either(name, seed, bounds, cuts):
    case = CASES[name]
    stream = case.stream(seed)
    single, grouped = case.make(), case.make()
    run(single, stream)
    run(grouped, regroup(stream, bounds, cuts))
    assert grouped.snapshot() == single.snapshot()


@pytest.mark.parametrize("name", CASES)
@anything
@given(seed=seeds, stop=st.integers(0, MINUTES + 3))
def test_stage_restored_in_the_middle_goes_on_identically(name, seed, stop):
    case = CASES[name]
    stream = case.stream(seed)
    whole = case.make()
    for batch in stream[:stop]:
        whole.step(batch)
    again = case.make()
    again.restore(whole.snapshot())
    assert again.summary() == whole.summary() or "quality" in name  # its last measurements are not kept
    assert run(again, stream[stop:]) == run(whole, stream[stop:])
    assert again.snapshot() == whole.snapshot()


@pytest.mark.parametrize("name", CASES)
def test_same_input_gives_the_same_results_and_is_left_as_it_was(name):
    case = CASES[name]
    stream = case.stream(3)
    for batch in stream:
        frame = batch.candles if isinstance(batch, FeedBatch) else batch
        for field in fields(frame):
            column = getattr(frame, field.name)
            if isinstance(column, np.ndarray):
                column.flags.writeable = False  # as it is when it comes off the wire
    assert run(case.make(), stream) == run(case.make(), stream)


@pytest.mark.parametrize("name", CASES)
def test_event_time_never_runs_ahead_of_what_is_complete(name):
    case = CASES[name]
    stage = case.make()
    for batch in case.stream(5):
        known = int(batch.known_to_ms.min()) if isinstance(batch, FeedBatch) else batch.complete_to_ms
        assert stage.step(batch).event_time_ms <= known


@pytest.mark.parametrize("name", SIMPLE)
def test_step_that_raises_leaves_the_state_as_it_was(name):
    case = CASES[name]
    stream = case.stream(11)
    stage = case.make()
    for batch in stream[:80]:
        stage.step(batch)
    before = stage.snapshot()
    with pytest.raises(ValueError, match="comes after minute"):
        stage.step(join([stream[80], stream[40]]))
    assert stage.snapshot() == before


@pytest.mark.parametrize("name", CASES)
def test_step_without_rows_before_anything_is_known_is_harmless(name):
    case = CASES[name]
    stream = case.stream(2)
    first = stream[0]
    if isinstance(first, FeedBatch):
        nothing = replace(
            first, candles=CandleFrame.empty(SYMBOLS), known_to_ms=np.full(len(SYMBOLS), NULL_MS)
        )
    else:
        nothing = replace(first.rows(slice(0)), complete_to_ms=NULL_MS)
    plain_run, late_run = case.make(), case.make()
    assert late_run.step(nothing).rows in ([], ())
    assert run(late_run, stream)[0] == run(plain_run, stream)[0]


@pytest.mark.parametrize("name", SIMPLE)
@pytest.mark.parametrize("state", [b"", b"garbage", b"x\x9c"])
def test_damaged_snapshot_is_refused(name, state):
    with pytest.raises(StateVersionError):
        CASES[name].make().restore(state)


@pytest.mark.parametrize("name", SIMPLE)
def test_snapshot_of_another_stage_is_refused(name):
    other = "trade" if name != "trade" else "forecast"
    with pytest.raises(StateVersionError):
        CASES[name].make().restore(CASES[other].make().snapshot())


@pytest.mark.parametrize("name", CASES)
def test_summary_is_plain_json(name):
    case = CASES[name]
    stage = case.make()
    json.dumps(stage.summary(), allow_nan=False)
    for batch in case.stream(1)[:60]:
        stage.step(batch)
    json.dumps(stage.summary(), allow_nan=False)
