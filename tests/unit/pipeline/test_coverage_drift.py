"""Intervals that miss too often are told of, and widened, however the candles are batched."""

from dataclasses import replace

import numpy as np
import pytest

from domain.drift.watch import block_minutes
from pipeline.coverage_drift import LAG_MINUTES, CoverageDrift, CoverageSettings
from pipeline.forecast_stage import ForecastStage
from schemas.frames import PredictionFrame

MINUTE = 60_000
DAY = 1440
START = 18_000 * DAY
HORIZONS = (5, 15)
SYMBOLS = ("BTC", "ETH", "XRP")
WIDEN = CoverageSettings(reactions=("warn", "widen"), threshold=1.0, every_minutes=720)


def market(days: float, seed: int = 1) -> PredictionFrame:
    """Random walks with moving volatility; one symbol halts, one comes minutes late, one begins late."""
    chance = np.random.default_rng(seed)
    minutes, n = int(days * DAY), len(SYMBOLS)
    calm = np.exp(np.repeat(chance.normal(size=minutes // 60 + 1), 60)[:minutes])
    step = 0.0005 * calm[:, None] * (chance.standard_t(4, (minutes, 1)) + chance.standard_t(4, (minutes, n)))
    close = np.exp(np.cumsum(step, axis=0))
    there = chance.random((minutes, n)) < 0.99
    there[int(0.6 * minutes) : int(0.65 * minutes), 0] = False
    there[: minutes // 4, 2] = False
    t, s = np.nonzero(there)
    order = np.lexsort((s, t + 7 * (s == 1)))
    t, s = t[order], s[order]
    price = close[t, s][:, None]
    rows = len(t)
    return PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=s.astype(np.int32),
        open_time_ms=(START + t) * MINUTE,
        ohlcv=np.concatenate([np.repeat(price, 4, axis=1), np.ones((rows, 1))], axis=1),
        origin=np.zeros(rows, np.int8),
        vector=np.zeros((rows, 1), np.float32),
        is_complete=np.ones(rows, bool),
        complete_to_ms=(START + minutes - 1) * MINUTE,
        schema_hash="h",
        horizons=(),
        predicted_pct=np.zeros((rows, 0), np.float32),
        probability_up=np.zeros((rows, 0), np.float32),
        model_index=np.zeros((rows, 0), np.int16),
        reason=np.zeros((rows, 0), np.int8),
        models=("last_value",),
    )


def stage(coverage: CoverageSettings | None = WIDEN) -> ForecastStage:
    return ForecastStage(symbols=SYMBOLS, horizons=HORIZONS, coverage=coverage)


def pieces(frame: PredictionFrame, ends: list[int]) -> list[PredictionFrame]:
    """Cut a frame before some rows; what a part calls complete stops before the rows of the next ones."""
    parts = []
    for first, end in zip([0, *ends], [*ends, len(frame)], strict=True):
        later = frame.open_time_ms[end:]
        complete = int(later.min()) - MINUTE if len(later) else frame.complete_to_ms
        parts.append(replace(frame.rows(slice(first, end)), complete_to_ms=complete))
    return parts


def tables(results) -> dict[str, dict]:
    """Gather rows by key, as the writer would."""
    keys = {
        "driftChecks": ("at", "symbol", "kind", "subject", "forecast_horizon", "statistic"),
        "persistentForecasts": ("symbol", "forecast_type", "forecast_horizon", "created_at"),
        "forecastScoreSums": ("symbol", "forecast_horizon", "day"),
    }
    found: dict[str, dict] = {}
    for result in results:
        for part in result.rows:
            for values in zip(*part.columns.values(), strict=True):
                row = {
                    name: None if value != value else value
                    for name, value in zip(part.columns, values, strict=True)
                }
                key = tuple(row[name] for name in keys[part.table])
                found.setdefault(part.table, {}).setdefault(key, {}).update(row)
    return found


def checks(results) -> list[dict]:
    return list(tables(results).get("driftChecks", {}).values())


def bounds(results, symbol: str, forecast_type: str, horizon: int) -> dict[int, tuple[float, float]]:
    """Give the widths of the 80 and the 95 % interval by minute."""
    return {
        key[3] // MINUTE - 1 - START: (row["upper_80"] - row["lower_80"], row["upper_95"] - row["lower_95"])
        for key, row in tables(results)["persistentForecasts"].items()
        if key[:3] == (symbol, forecast_type, horizon)
    }


@pytest.fixture(scope="module")
def frame() -> PredictionFrame:
    return market(1.75)


@pytest.fixture(scope="module")
def whole(frame):
    watched = stage()
    return watched, [watched.step(frame)]


@pytest.mark.slow
def test_drift_in_this_market_is_found_and_is_over_again(whole):
    told = {(row["subject"], row["drifted"]) for row in checks(whole[1])}
    assert ("price_direction 80%", True) in told
    assert any(not drifted for _, drifted in told)
    assert all(row["kind"] == "coverage" and row["symbol"] == "ALL" for row in checks(whole[1]))
    assert {row["reaction"] for row in checks(whole[1]) if row["drifted"]} == {"warn,widen"}


def test_log_tells_of_a_drift_and_of_its_end(whole):
    levels = [entry.level for entry in whole[1][0].logs]
    assert set(levels) == {"warning", "info"}
    assert all((entry.category, entry.subcategory) == ("drift", "coverage") for entry in whole[1][0].logs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_rows_and_state_are_the_same_however_batches_are_cut_and_whatever_is_restarted(frame, whole, seed):
    chance = np.random.default_rng(seed)
    ends = np.unique(chance.integers(1, len(frame), (3, 12, 60)[seed % 3])).tolist()
    watched, results = stage(), []
    for part in pieces(frame, ends):
        if chance.random() < 0.3:
            again = stage()
            again.restore(watched.snapshot())
            watched = again
        results.append(watched.step(part))
    assert tables(results) == tables(whole[1])
    assert watched.snapshot() == whole[0].snapshot()


@pytest.mark.slow
def test_drifted_interval_is_stated_more_widely_from_the_first_candle_behind_the_lag_on(frame, whole):
    quiet = [stage(replace(WIDEN, reactions=("warn",))).step(frame)]
    first = min((row for row in checks(quiet) if row["drifted"]), key=lambda row: row["at"])
    forecast_type, level = first["subject"].split()
    column = ("80%", "95%").index(level)
    since = first["at"] // MINUTE - START + LAG_MINUTES
    for symbol in ("BTC", "ETH"):
        of = (symbol, forecast_type, first["forecast_horizon"])
        plain, wide = bounds(quiet, *of), bounds(whole[1], *of)
        before = [minute for minute in plain if minute < since]
        start = min(minute for minute in plain if minute >= since)
        assert all(plain[minute] == wide[minute] for minute in before)
        ratio = wide[start][column] / plain[start][column]
        # bounds of a volatility are logarithms
        assert ratio == pytest.approx(1.5, rel=0.02) if forecast_type != "volatility" else ratio > 1.2


@pytest.mark.slow
def test_nothing_is_watched_or_changed_unless_asked_for(frame, whole):
    plain = tables([stage(None).step(frame)])
    assert "driftChecks" not in plain
    told_only = tables([stage(replace(WIDEN, reactions=())).step(frame)])
    assert told_only["persistentForecasts"] == plain["persistentForecasts"]
    assert tables(whole[1])["persistentForecasts"] != plain["persistentForecasts"]


def test_state_from_before_coverage_was_watched_is_taken_over(frame):
    before, watched = stage(None), stage()
    before.step(frame)
    watched.restore(before.snapshot())
    assert watched.summary() == before.summary()
    plain = stage(None)
    plain.restore(watched.snapshot())


def counted(*, missed_from: int, blocks: int) -> list:
    """Feed one symbol whose outcomes all miss from a block on."""
    horizon, length = 15, block_minutes(15)
    drift = CoverageDrift(symbols=1, horizons=(horizon,), settings=CoverageSettings())
    minute = START + np.arange(blocks * length)
    chance = np.random.default_rng(0)
    past = np.zeros((len(minute), 1, 3, 8))
    past[..., 1:5] = (-1.0, 1.0, -2.0, 2.0)
    far = np.where(chance.random(len(minute)) < 0.2, 1.5, 0.0)
    past[..., 5] = np.where(minute - START >= missed_from * length, 9.0, far)[:, None, None]
    found = []
    settles = np.ones((len(minute), 1), np.bool_)
    for piece, told, _ in drift.pieces(minute):
        drift.lift(np.zeros(len(minute[piece]), np.int64), minute[piece])
        drift.count(minute[piece], settles[piece], past[piece])
        found += told
    return [check for check in found if check.drifted]


def test_interval_that_breaks_is_found_within_a_few_blocks():
    first = counted(missed_from=100, blocks=120)[0]
    assert 100 < first.at_ms / MINUTE / 60 - START / 60 <= 108
    assert first.value > first.threshold
