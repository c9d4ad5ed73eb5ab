"""The sums of the scores, computed again from the forecasts themselves with the metrics of the evaluation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from domain.evaluation.calibration_scores import interval_coverage, mean_width, winkler_score
from domain.evaluation.metrics import directional_accuracy, mae, rmse, skill
from domain.forecasting.scores import SUMS
from pipeline.forecast_stage import ForecastStage
from pipeline.stage import Rows
from schemas.frames import MINUTE_MS, NULL_MS, PredictionFrame, Reason

SYMBOLS = ("AAA", "BBB")
HORIZONS = (1, 5, 15)
MODELLED = (5, 15)
MODELS = ("last_value", "m1", "m2")
DAY_MS = 86_400_000
#: 2021-04-01 22:00 UTC.
START = 26_955_240
MINUTES = 300


def prediction_frame(seed: int = 3) -> PredictionFrame:
    chance = np.random.default_rng(seed)
    there = chance.random((MINUTES, 2)) < 0.95
    there[100:130, 1] = False
    minute, symbol = np.nonzero(there)
    n = len(minute)
    moves = 0.001 * chance.standard_t(3, there.shape) * (chance.random(there.shape) < 0.6)
    close = np.round(100.0 * np.exp(np.cumsum(moves, axis=0)), 1)[minute, symbol]
    up = chance.random((n, 2)).astype(np.float32)
    model = chance.integers(0, 3, (n, 2))
    said = ((up - 0.5) * 0.2 * (chance.random((n, 2)) < 0.9)).astype(np.float32)
    return PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=symbol.astype(np.int32),
        open_time_ms=(START + minute) * MINUTE_MS,
        ohlcv=np.stack([close] * 4 + [np.ones(n)], axis=1),
        origin=np.zeros(n, np.int8),
        vector=np.zeros((n, 1), np.float32),
        is_complete=minute >= 20,
        complete_to_ms=(START + MINUTES - 1) * MINUTE_MS,
        schema_hash="none",
        horizons=MODELLED,
        predicted_pct=np.where(model > 0, said, 0).astype(np.float32),
        probability_up=np.where(model > 0, up, np.nan).astype(np.float32),
        model_index=model.astype(np.int16),
        reason=np.where(model > 0, Reason.NONE, Reason.NO_MODEL).astype(np.int8),
        models=MODELS,
    )


def stage_rows(frame: PredictionFrame) -> Sequence[Rows]:
    return ForecastStage(symbols=SYMBOLS, horizons=HORIZONS).step(frame).rows


@pytest.fixture(scope="module")
def written() -> tuple[dict[str, np.ndarray], dict[tuple, dict[str, float]]]:
    """The forecasts as the table shows them, by column, and the sums by natural key."""
    forecasts, sums = stage_rows(prediction_frame())
    assert (forecasts.table, forecasts.op, sums.table) == (
        "persistentForecasts",
        "insert",
        "forecastScoreSums",
    )
    table = dict(forecasts.columns)
    for name in ("predicted_value", "actual_value", "lower_80", "upper_80", "lower_95", "upper_95"):
        table[name] = np.round(table[name], 8)
    table["confidence"] = np.round(table["confidence"], 2)
    told = {}
    columns = sums.columns
    for symbol, horizon, day, entries in zip(
        columns["symbol"], columns["forecast_horizon"], columns["day"], columns["sums"], strict=True
    ):
        for kind, version, numbers in entries:
            told[version, symbol, kind, int(horizon), int(day)] = dict(zip(SUMS, numbers, strict=True))
    return table, told


def scored_rows(table: dict[str, np.ndarray]) -> dict[tuple, np.ndarray]:
    """Which rows make up each score."""
    groups: dict[tuple, list[int]] = {}
    for k in np.flatnonzero(table["scored_at"] != NULL_MS):
        key = (
            table["model_version"][k],
            table["symbol"][k],
            table["forecast_type"][k],
            int(table["forecast_horizon"][k]),
            int(table["scored_at"][k] // DAY_MS * DAY_MS),
        )
        groups.setdefault(key, []).append(int(k))
    return {key: np.array(rows) for key, rows in groups.items()}


def test_every_outcome_is_in_the_score_of_its_version_and_of_the_day_it_was_known(written):
    table, told = written
    groups = scored_rows(table)
    assert set(told) == set(groups)
    assert {key[0] for key in told} == {*MODELS, "har_v1", "regime_v1"}
    assert len({key[4] for key in told}) == 2
    for key, rows in groups.items():
        assert told[key]["n"] == len(rows)
        assert told[key]["first_minute"] * MINUTE_MS == table["scored_at"][rows].min()
        assert told[key]["last_minute"] * MINUTE_MS == table["scored_at"][rows].max()


def test_errors_skill_and_direction_are_those_of_the_evaluation(written):
    table, told = written
    for key, rows in scored_rows(table).items():
        sums = told[key]
        both = {"actual": table["actual_value"][rows], "predicted": table["predicted_value"][rows]}
        assert np.sqrt(sums["squared_error"] / sums["n"]) == pytest.approx(rmse(**both), rel=1e-9)
        assert sums["absolute_error"] / sums["n"] == pytest.approx(mae(**both), rel=1e-9)
        if key[2] == "volatility":
            near = np.abs(both["actual"] - both["predicted"]) <= 0.25 * both["predicted"]
            assert (sums["moved"], sums["hits"]) == (len(rows), near.sum())
            continue
        assert 1 - sums["squared_error"] / sums["no_change_squared"] == pytest.approx(skill(**both), abs=1e-9)
        assert sums["moved"] == np.count_nonzero(both["actual"])
        assert sums["hits"] / sums["moved"] == pytest.approx(directional_accuracy(**both))


def test_no_change_of_a_volatility_is_the_volatility_before_it(written):
    table, told = written
    seen = {}
    chosen = (table["forecast_type"] == "volatility") & (table["forecast_horizon"] == 5)
    for k in np.flatnonzero(chosen & (table["scored_at"] != NULL_MS)):
        seen[table["symbol"][k], int(table["scored_at"][k])] = table["actual_value"][k]
    # Where the forecast's own minute brought no outcome, the last known one stands: those are left out.
    (key,) = [
        k for k in told if k[1:4] == ("AAA", "volatility", 5) and k[4] == START * MINUTE_MS // DAY_MS * DAY_MS
    ]
    rows = scored_rows(table)[key]
    late = [k for k in rows if (table["symbol"][k], int(table["created_at"][k])) in seen]
    assert len(late) > 0.7 * len(rows)
    exact = sum((table["actual_value"][k] - seen["AAA", int(table["created_at"][k])]) ** 2 for k in late)
    assert 0 < exact <= told[key]["no_change_squared"] * (1 + 1e-6)


def test_brier_terms_are_of_the_stated_confidence_and_a_quarter_where_no_side_was_taken(written):
    table, told = written
    for key, rows in scored_rows(table).items():
        actual, predicted = table["actual_value"][rows], table["predicted_value"][rows]
        stated = table["confidence"][rows] / 100
        if key[2] == "volatility":
            expected = np.sum((stated - (np.abs(actual - predicted) <= 0.25 * predicted)) ** 2)
        else:
            terms = np.where(predicted == 0, 0.25, (stated - (np.sign(actual) == np.sign(predicted))) ** 2)
            expected = np.sum(terms[actual != 0])
        assert told[key]["brier"] == pytest.approx(expected, rel=1e-9)


def test_intervals_are_scored_as_in_the_evaluation(written):
    table, told = written
    for key, rows in scored_rows(table).items():
        sums, n = told[key], len(rows)
        for level in (80, 95):
            bounds = {"low": table[f"lower_{level}"][rows], "high": table[f"upper_{level}"][rows]}
            actual = table["actual_value"][rows]
            assert sums[f"covered_{level}"] / n == interval_coverage(actual=actual, **bounds)
            assert sums[f"width_{level}"] / n == pytest.approx(mean_width(**bounds), rel=1e-9)
            assert sums[f"interval_score_{level}"] / n == pytest.approx(
                winkler_score(actual=actual, level=level / 100, **bounds), rel=1e-9
            )


def test_every_forecast_has_its_interval_from_the_first_one_on(written):
    table, _ = written
    for name in ("lower_80", "upper_80", "lower_95", "upper_95"):
        assert np.isfinite(table[name]).all()
    assert (table["lower_95"] <= table["lower_80"]).all()
    assert (table["lower_80"] < table["upper_80"]).all()
    assert (table["upper_80"] <= table["upper_95"]).all()


def test_price_forecast_that_came_too_late_is_in_no_score():
    frame = prediction_frame()
    late = replace(frame, reason=np.full_like(frame.reason, Reason.TOO_OLD))
    (sums,) = [part for part in stage_rows(late) if part.table == "forecastScoreSums"]
    versions = {(kind, version) for entries in sums.columns["sums"] for kind, version, _ in entries}
    assert versions == {
        ("volatility", "har_v1"),
        ("trend", "regime_v1"),
        ("price_direction", "last_value"),
    }


def test_midnight_candle_counts_for_the_day_that_begins_when_it_closes():
    frame = prediction_frame()
    minute = frame.open_time_ms // MINUTE_MS
    stage = ForecastStage(symbols=SYMBOLS, horizons=HORIZONS)
    midnight = START + 120
    before = frame.rows(minute < midnight - 1)
    stage.step(replace(before, complete_to_ms=(midnight - 2) * MINUTE_MS))
    last = frame.rows((minute >= midnight - 1) & (minute < midnight))
    (sums,) = [part for part in stage.step(last).rows if part.table == "forecastScoreSums"]
    assert len(last) > 0
    assert set(sums.columns["day"].tolist()) == {midnight * MINUTE_MS}
    assert {numbers[0] for entries in sums.columns["sums"] for _, _, numbers in entries} == {1.0}
