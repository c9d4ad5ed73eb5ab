"""Forecast rows and their outcomes, worked out by hand."""

import itertools
import math
import statistics

import numpy as np
import pytest

from pipeline.forecast_stage import ForecastStage
from schemas.frames import NULL_MS, PredictionFrame, Reason

MINUTE = 60_000
#: Enough candles for every short window: predictions begin after them.
WARM = [100.0 + (k % 4) for k in range(40)]


def frame(
    closes: dict[int, float],
    *,
    complete_to: int | None = None,
    complete: bool = True,
    predicted: float = 0.0,
    up: float = math.nan,
    model: int = 0,
    reason: Reason = Reason.NO_MODEL,
) -> PredictionFrame:
    """Candles of one symbol by minute; the same prediction for 5 minutes at each."""
    n = len(closes)
    minute = np.array(list(closes), np.int64)
    close = np.array(list(closes.values()), float)
    return PredictionFrame(
        symbols=("BTC",),
        symbol_index=np.zeros(n, np.int32),
        open_time_ms=minute * MINUTE,
        ohlcv=np.stack([close, close, close, close, np.ones(n)], axis=1).reshape(n, 5),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 2), np.float32),
        is_complete=np.full(n, complete),
        complete_to_ms=(max(closes) if complete_to is None else complete_to) * MINUTE,
        schema_hash="h",
        horizons=(5,),
        predicted_pct=np.full((n, 1), predicted, np.float32),
        probability_up=np.full((n, 1), up, np.float32),
        model_index=np.full((n, 1), model, np.int16),
        reason=np.full((n, 1), reason, np.int8),
        models=("last_value", "m1"),
    )


def minutes(first: int, closes: list[float]) -> dict[int, float]:
    return {first + k: close for k, close in enumerate(closes)}


def warmed(**options) -> ForecastStage:
    """A stage that has seen minutes 0 to 39 and has made no forecast."""
    stage = ForecastStage(symbols=("BTC",), **{"horizons": (5, 15), **options})
    assert stage.step(frame(minutes(0, WARM), complete=False)).rows == []
    return stage


def rows(result, op: str, kind: str, horizon: int) -> list[dict]:
    found = []
    for part in result.rows:
        if part.op == op:
            every = [
                dict(zip(part.columns, values, strict=True))
                for values in zip(*part.columns.values(), strict=True)
            ]
            found += [r for r in every if (r["forecast_type"], r["forecast_horizon"]) == (kind, horizon)]
    return found


def test_every_candle_has_three_rows_for_each_horizon_from_the_first_complete_minute():
    result = warmed().step(frame(minutes(40, [101.0, 102.0])))
    (inserts,) = result.rows
    assert len(inserts) == 2 * 2 * 3
    assert set(inserts.columns["created_at"].tolist()) == {41 * MINUTE, 42 * MINUTE}


def test_no_change_baseline_speaks_where_there_is_no_model():
    (row,) = rows(warmed().step(frame({40: 101.0})), "insert", "price_direction", 5)
    assert row["predicted_value"] == 0.0
    assert (row["model_version"], row["reason"]) == ("last_value", "no model")
    assert row["expires_at"] == row["created_at"] + 5 * MINUTE == 46 * MINUTE
    assert np.isnan(row["actual_value"])
    assert row["scored_at"] == NULL_MS
    assert row["missing_reason"] is None


def test_horizon_without_a_model_column_has_the_baseline_too():
    said = {"predicted": 0.2, "up": 0.7, "model": 1, "reason": Reason.NONE}
    (row,) = rows(warmed().step(frame({40: 101.0}, **said)), "insert", "price_direction", 15)
    assert (row["model_version"], row["reason"], row["predicted_value"]) == ("last_value", "no model", 0.0)


@pytest.mark.parametrize(
    ("predicted", "up", "confidence", "reason"),
    [
        (0.2, 0.7, 70.0, None),
        (-0.2, 0.3, 70.0, None),
        (0.2, 0.55, 55.0, "below threshold"),
        (-0.2, 0.7, 30.0, "below threshold"),
    ],
)
def test_models_confidence_is_the_probability_of_its_stated_sign(predicted, up, confidence, reason):
    said = frame({40: 101.0}, predicted=predicted, up=up, model=1, reason=Reason.NONE)
    (row,) = rows(warmed().step(said), "insert", "price_direction", 5)
    assert row["predicted_value"] == pytest.approx(predicted)
    assert row["confidence"] == pytest.approx(confidence, abs=1e-4)
    assert (row["model_version"], row["reason"]) == ("m1", reason)


def test_reason_that_came_with_the_prediction_goes_before_the_threshold():
    said = frame({40: 101.0}, predicted=0.2, up=0.55, model=1, reason=Reason.TOO_OLD)
    (row,) = rows(warmed().step(said), "insert", "price_direction", 5)
    assert row["reason"] == "too old"


def test_rows_go_on_while_indicators_warm_again_and_say_so():
    stage = warmed()
    stage.step(frame({40: 101.0}))
    result = stage.step(frame({41: 101.0}, complete=False))
    for kind in ("price_direction", "volatility", "trend"):
        (row,) = rows(result, "insert", kind, 5)
        assert row["reason"] == "warming"


def test_price_outcome_is_the_percent_change_to_the_target_close():
    stage = warmed()
    stage.step(frame({40: 100.0}))
    result = stage.step(frame(minutes(41, [101.0, 102.0, 101.0, 102.0, 103.0])))
    (row,) = rows(result, "update", "price_direction", 5)
    assert row["created_at"] == 41 * MINUTE
    assert row["actual_value"] == pytest.approx(3.0)
    assert row["scored_at"] == 46 * MINUTE
    assert row["missing_reason"] is None


def test_volatility_outcome_is_the_deviation_of_the_returns_that_followed():
    stage = warmed()
    stage.step(frame({40: 100.0}))
    after = [101.0, 100.0, 102.0, 101.0, 103.0]
    (row,) = rows(stage.step(frame(minutes(41, after))), "update", "volatility", 5)
    path = [100.0, *after]
    returns = [math.log(b / a) for a, b in itertools.pairwise(path)]
    assert row["actual_value"] == pytest.approx(100 * statistics.stdev(returns))


def test_trend_outcome_is_the_slope_of_the_closes_that_followed():
    stage = warmed()
    stage.step(frame({40: 500.0}))
    after = [100.0 * math.exp(0.0001 * k) for k in range(5)]
    (row,) = rows(stage.step(frame(minutes(41, after))), "update", "trend", 5)
    assert row["actual_value"] == pytest.approx(0.6)


def test_trend_gives_back_two_percent_of_the_slope_in_a_range():
    # The last hour is not there yet, so the slope is that of the last 30 minutes.
    last = [*WARM[-29:], 101.0]
    slope = 6000 * np.polyfit(range(30), np.log(last), 1)[0]
    (row,) = rows(warmed().step(frame({40: 101.0})), "insert", "trend", 15)
    assert row["regime"] == "ranging"
    assert row["predicted_value"] == pytest.approx(-0.02 * slope)


def test_forecast_resolved_in_the_same_batch_is_inserted_with_its_outcome():
    closes = [100.0, 101.0, 102.0, 101.0, 102.0, 103.0]
    result = warmed().step(frame(minutes(40, closes)))
    first, *later = rows(result, "insert", "price_direction", 5)
    assert first["actual_value"] == pytest.approx(3.0)
    assert first["scored_at"] == 46 * MINUTE
    assert all(np.isnan(row["actual_value"]) for row in later)
    assert rows(result, "update", "price_direction", 5) == []


def test_absent_target_minute_leaves_no_outcome_and_says_why():
    stage = warmed()
    stage.step(frame({40: 100.0}))
    result = stage.step(frame({44: 100.0, 46: 100.0}))
    for kind in ("price_direction", "volatility", "trend"):
        (row,) = rows(result, "update", kind, 5)
        assert np.isnan(row["actual_value"])
        assert (row["scored_at"], row["missing_reason"]) == (NULL_MS, "no candle")


def test_target_is_absent_once_the_partition_is_complete_past_it_even_without_a_later_candle():
    stage = warmed()
    stage.step(frame({40: 100.0}))
    assert stage.step(frame({}, complete_to=44)).rows == []
    (row,) = rows(stage.step(frame({}, complete_to=45)), "update", "price_direction", 5)
    assert row["missing_reason"] == "no candle"
    assert stage.step(frame({}, complete_to=50)).rows == []


def test_window_with_too_many_holes_has_a_price_outcome_only():
    stage = warmed()
    stage.step(frame({40: 100.0}))
    result = stage.step(frame({41: 101.0, 45: 104.0}))
    (price,) = rows(result, "update", "price_direction", 5)
    (spread,) = rows(result, "update", "volatility", 5)
    assert price["actual_value"] == pytest.approx(4.0)
    assert spread["missing_reason"] == "no candle"


def test_confidence_of_a_trend_rises_with_each_hit_of_its_kind():
    stage = warmed()
    first = rows(stage.step(frame({40: 100.0})), "insert", "trend", 5)[0]
    assert first["confidence"] == pytest.approx(52.0)
    falls = first["predicted_value"] < 0
    closes = [100.0 + (-k if falls else k) for k in range(1, 6)]
    last = rows(stage.step(frame(minutes(41, closes))), "insert", "trend", 5)[-1]
    # One outcome, a hit, beside a prior that weighs 100: (52 + 1) / 101.
    assert last["regime"] == first["regime"]
    assert last["confidence"] == pytest.approx(100 * 53 / 101)


def test_confidence_of_no_change_is_the_share_of_closes_that_stayed_to_the_last_digit():
    stage = warmed()
    first = rows(stage.step(frame({40: 100.0})), "insert", "price_direction", 5)[0]
    assert first["confidence"] == pytest.approx(0.2)
    # Two forecasts fall due: the first close comes back to the last digit, the other all but.
    closes = [100.5, 100.2, 100.7, 100.3, 100.0, 100.5000001]
    every = rows(stage.step(frame(minutes(41, closes))), "insert", "price_direction", 5)
    assert [row["regime"] for row in every] == [first["regime"]] * len(every)
    # Beside a prior that weighs 100: (0.2 + 1) / 101, and (0.2 + 1) / 102.
    assert every[-2]["confidence"] == pytest.approx(100 * 1.2 / 101)
    assert every[-1]["confidence"] == pytest.approx(100 * 1.2 / 102)


def test_forecasts_come_as_often_as_the_settings_say():
    stage = warmed(update_frequency_s=300)
    result = stage.step(frame(minutes(40, [100.0] * 20)))
    made = [row["created_at"] // MINUTE for row in rows(result, "insert", "trend", 15)]
    assert made == [45, 50, 55, 60]


def test_horizon_of_one_minute_has_a_price_forecast_only():
    result = warmed(horizons=(1, 5)).step(frame(minutes(40, [100.0, 101.0])))
    (first, _) = rows(result, "insert", "price_direction", 1)
    assert first["actual_value"] == pytest.approx(1.0)
    assert rows(result, "insert", "volatility", 1) == rows(result, "insert", "trend", 1) == []


def test_candle_that_comes_twice_is_refused_by_name():
    stage = warmed()
    with pytest.raises(ValueError, match=r"candle 1970-01-01T00:39 of BTC comes after"):
        stage.step(frame({39: 1.0}, complete_to=40))


def test_candle_of_an_unknown_symbol_is_refused():
    with pytest.raises(ValueError, match="a candle of 'BTC', which is not among"):
        ForecastStage(symbols=("ETH",)).step(frame({0: 1.0}))
