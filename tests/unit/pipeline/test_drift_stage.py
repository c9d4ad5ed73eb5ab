"""Models that become worse are found, and what they say is changed until another one serves."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.drift_stage import LAG_MINUTES, DriftStage
from schemas.frames import NULL_MS, FeatureFrame, PredictionFrame, Reason

MINUTE = 60_000
DAY = 1440
SYMBOLS = ("BTC", "ETH", "XRP")
HORIZONS = (5, 15)
#: A whole day since the epoch.
START = 18_000 * DAY


def market(days: float, seed: int, *, skill, model=lambda minute: "m1") -> PredictionFrame:
    """Random walks, and predictions that know `skill(minute)` of what comes.

    The prediction is the part of the coming change that it knows, so its R2 is the square of the skill; a
    negative skill is a prediction of the wrong sign.
    """
    chance = np.random.default_rng(seed)
    minutes, n = int(days * DAY), len(SYMBOLS)
    # Volatility moves as in a market: by the hour and by shocks.
    calm = np.exp(
        0.5 * np.sin(np.arange(minutes) / 200)
        + 0.3 * np.repeat(chance.normal(size=minutes // 60 + 1), 60)[:minutes]
    )
    common = chance.standard_t(4, minutes)[:, None]
    step = 0.0005 * calm[:, None] * (0.7 * common + 0.7 * chance.standard_t(4, (minutes, n)))
    log_price = np.cumsum(step, axis=0)
    # What a prediction does not know is wrong for as long as it looks ahead, as in real ones.
    elsewhere = np.cumsum(0.0005 * 1.4 * calm[:, None] * chance.normal(size=(minutes, n)), axis=0)
    knows = skill(np.arange(minutes))[:, None]
    said, up = [], []
    for h in HORIZONS:
        later = np.concatenate([log_price[h:], np.repeat(log_price[-1:], h, axis=0)])
        change = 100.0 * np.expm1(later - log_price)
        spread = 100.0 * 0.0005 * 1.4 * np.sqrt(h) * calm[:, None]
        noise = 100.0 * (np.concatenate([elsewhere[h:], np.repeat(elsewhere[-1:], h, axis=0)]) - elsewhere)
        guess = np.abs(knows) * (np.abs(knows) * change + np.sqrt(1 - knows**2) * noise)
        guess *= np.sign(knows) if np.any(knows) else 1.0
        weak = 0.02 * noise * (knows == 0)
        said.append(guess + weak)
        up.append(np.clip(0.5 + 0.4 * (guess + weak) / spread, 0.02, 0.98))
    minute = np.repeat(np.arange(minutes), n)
    versions = [model(k) for k in range(minutes)]
    names = ("last_value", *sorted(set(versions)))
    number = np.repeat([names.index(name) for name in versions], n)
    shape = (minutes * n, len(HORIZONS))
    close = np.exp(log_price).reshape(-1, 1)
    return PredictionFrame(
        symbols=SYMBOLS,
        symbol_index=np.tile(np.arange(n, dtype=np.int32), minutes),
        open_time_ms=(START + minute) * MINUTE,
        ohlcv=np.concatenate([np.repeat(close, 4, axis=1), np.ones((len(close), 1))], axis=1),
        origin=np.zeros(len(close), np.int8),
        vector=np.zeros((len(close), 1), np.float32),
        is_complete=np.ones(len(close), bool),
        complete_to_ms=int((START + minutes - 1) * MINUTE),
        schema_hash="h",
        horizons=HORIZONS,
        predicted_pct=np.stack(said, axis=2).reshape(shape).astype(np.float32),
        probability_up=np.stack(up, axis=2).reshape(shape).astype(np.float32),
        model_index=np.repeat(number[:, None], len(HORIZONS), axis=1).astype(np.int16),
        reason=np.zeros(shape, np.int8),
        models=names,
    )


def always(value: float):
    return lambda minute: np.full(len(minute), value)


def turns(at_day: float, before: float = 0.3, after: float = -0.3):
    return lambda minute: np.where(minute < at_day * DAY, before, after)


def stage(**options) -> DriftStage:
    return DriftStage(symbols=SYMBOLS, horizons=HORIZONS, **options)


def found(result) -> list[dict]:
    """List the rows in which a drift is first told."""
    rows = [
        dict(zip(part.columns, values, strict=True))
        for part in result.rows
        for values in zip(*part.columns.values(), strict=True)
    ]
    first = {}
    for row in rows:
        if row["drifted"]:
            first.setdefault((row["subject"], row["forecast_horizon"]), row)
    return list(first.values())


def pieces(frame: PredictionFrame, minutes: int) -> list[PredictionFrame]:
    """Cut a frame every so many minutes."""
    first = frame.open_time_ms[0]
    number = (frame.open_time_ms - first) // (minutes * MINUTE)
    return [
        replace(frame.rows(number == k), complete_to_ms=int(frame.open_time_ms[number == k].max()))
        for k in range(int(number.max()) + 1)
    ]


def test_model_that_turns_is_found_at_every_horizon_and_soon():
    (five, fifteen) = sorted(
        found(stage().step(market(8, 1, skill=turns(5)))), key=lambda r: r["forecast_horizon"]
    )
    for row in (five, fifteen):
        delay_hours = (row["at"] / MINUTE - START - 5 * DAY) / 60
        assert 0 < delay_hours <= 24
        assert row["value"] > row["threshold"]


def test_model_without_skill_and_one_with_skill_go_on_undisturbed():
    for skill in (0.0, 0.2):
        assert found(stage().step(market(7, 5, skill=always(skill)))) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "weeks", "most"),
    [
        # Measured over 320 weeks of a model and horizon: 7 with Page-Hinkley, none with ADWIN.
        ("page_hinkley", 6, 2),
        ("adwin", 6, 1),
        pytest.param("page_hinkley", 60, 8, marks=pytest.mark.slow),
    ],
)
def test_false_alarms_are_rare_where_volatility_moves_and_forecasts_overlap(detector, weeks, most):
    frames = (market(7, seed, skill=always(0.1 * (seed % 3))) for seed in range(weeks))
    assert sum(len(found(stage(detector=detector).step(frame))) for frame in frames) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "before", "after", "hours"),
    [
        ("page_hinkley", 0.3, -0.3, 16),
        ("page_hinkley", 0.2, -0.2, 24),
        ("page_hinkley", 0.0, -0.2, 20),
        ("adwin", 0.3, -0.3, 72),
    ],
)
def test_delay_of_a_detection_is_as_measured(detector, before, after, hours):
    rows = found(stage(detector=detector).step(market(9, 2001, skill=turns(5, before, after))))
    assert {row["forecast_horizon"] for row in rows} == set(HORIZONS)
    assert all(0 < row["at"] / MINUTE - START - 5 * DAY <= 60 * hours for row in rows)


def test_what_a_drifted_model_says_is_halved_towards_not_knowing_from_when_it_is_known():
    frame = market(8, 1, skill=turns(5))
    result = stage(reactions=("warn", "lower_weight"), weight_left=0.5).step(frame)
    (row,) = [row for row in found(result) if row["forecast_horizon"] == 5]
    acts = frame.open_time_ms >= row["at"] + LAG_MINUTES * MINUTE
    up, changed = frame.probability_up[:, 0], result.out.probability_up[:, 0]
    assert np.array_equal(changed[~acts], up[~acts])
    assert np.allclose(changed[acts] - 0.5, 0.5 * (up[acts] - 0.5), atol=1e-6)
    assert np.allclose(result.out.predicted_pct[acts, 0], 0.5 * frame.predicted_pct[acts, 0])
    assert np.array_equal(result.out.model_index, frame.model_index)
    assert [(log.level, log.subcategory) for log in result.logs] == [("warning", row["kind"])] * len(
        result.logs
    )


def test_intervals_of_a_drifted_model_are_asked_to_be_wider_and_what_it_says_stays():
    frame = market(8, 1, skill=turns(5))
    result = stage(reactions=("widen",), widen_by=2.0).step(frame)
    (row,) = [row for row in found(result) if row["forecast_horizon"] == 5]
    acts = frame.open_time_ms >= row["at"] + LAG_MINUTES * MINUTE
    assert np.array_equal(result.out.widened()[:, 0], np.where(acts, 2.0, 1.0))
    assert np.array_equal(result.out.predicted_pct, frame.predicted_pct)
    assert np.array_equal(result.out.probability_up, frame.probability_up)


def test_baseline_takes_the_place_of_a_drifted_model_until_a_newer_one_serves():
    frame = market(
        8,
        1,
        skill=lambda minute: np.where((minute >= 5 * DAY) & (minute < 7 * DAY), -0.3, 0.3),
        model=lambda minute: "m1" if minute < 7 * DAY else "m2",
    )
    result = stage(reactions=("baseline",)).step(frame)
    minute = frame.open_time_ms // MINUTE - START
    replaced = result.out.reason[:, 0] == Reason.DRIFT
    assert 5 * DAY < minute[replaced].min() < 6 * DAY
    assert minute[replaced].max() == 7 * DAY - 1
    assert (result.out.model_index[replaced, 0] == 0).all()
    assert (result.out.predicted_pct[replaced, 0] == 0.0).all()
    assert np.isnan(result.out.probability_up[replaced, 0]).all()
    assert np.array_equal(result.out.probability_up[~replaced, 0], frame.probability_up[~replaced, 0])


def test_detector_still_watches_what_the_model_itself_says_while_the_baseline_serves():
    frame = market(9, 1, skill=turns(5))
    rows = found(stage(reactions=("baseline",)).step(frame))
    assert rows == [dict(row, reaction="baseline", train_at=NULL_MS) for row in found(stage().step(frame))]


def test_training_is_asked_for_once_at_the_next_checkpoint():
    result = stage(reactions=("retrain",), every_minutes=DAY).step(market(9, 1, skill=turns(5)))
    asked = [
        (subject, horizon, at)
        for part in result.rows
        for subject, horizon, at in zip(
            part.columns["subject"], part.columns["forecast_horizon"], part.columns["train_at"], strict=True
        )
        if at != NULL_MS
    ]
    assert sorted(horizon for _, horizon, _ in asked) == [5, 15]
    for _, horizon, at in asked:
        (row,) = [row for row in found(result) if row["forecast_horizon"] == horizon]
        assert at % (DAY * MINUTE) == 0
        assert 0 < at - row["at"] - LAG_MINUTES * MINUTE <= DAY * MINUTE


def test_state_of_every_detector_is_written_at_each_checkpoint():
    (part,) = stage(every_minutes=DAY).step(market(2.1, 3, skill=always(0.1))).rows
    times = sorted(set(((np.asarray(part.columns["at"]) // MINUTE) - START).tolist()))
    assert times == [DAY, 2 * DAY]
    assert len(part) == 2 * len(HORIZONS) * 2
    assert set(part.columns["kind"]) == {"error", "brier"}


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [37, 1440])
def test_drift_is_found_alike_however_the_minutes_come_and_after_a_restart(minutes):
    frame = market(6.5, 1, skill=turns(4))
    whole = stage(reactions=("warn", "lower_weight", "retrain"))
    result = whole.step(frame)
    assert found(result)
    one = stage(reactions=("warn", "lower_weight", "retrain"))
    rows, out = [], []
    for k, piece in enumerate(pieces(frame, minutes)):
        part = one.step(piece)
        rows += part.rows
        out.append(part.out)
        if k % 5 == 2:
            state = one.snapshot()
            one = stage(reactions=("warn", "lower_weight", "retrain"))
            one.restore(state)
    joined = {
        name: [value for part in rows for value in part.columns[name]] for name in result.rows[0].columns
    }
    assert joined == {name: list(column) for name, column in result.rows[0].columns.items()}
    again = PredictionFrame.concat(out)
    assert again.probability_up.tobytes() == result.out.probability_up.tobytes()
    assert again.predicted_pct.tobytes() == result.out.predicted_pct.tobytes()
    assert one.snapshot() == whole.snapshot()


def test_versions_long_gone_are_forgotten():
    frame = market(20, 2, skill=always(0.1), model=lambda minute: f"m{minute // (2 * DAY)}")
    one = stage()
    one.step(frame)
    # A week of silence is 3.5 versions; of ten, the last five are still known.
    assert one.summary()["watched"] <= 6 * len(HORIZONS)
    assert len(one.snapshot()) < 60_000


def test_model_of_one_symbol_is_told_with_its_symbol():
    frame = market(8, 1, skill=turns(5)).rows(slice(1, None, 3))
    rows = found(stage(per_symbol=True).step(frame))
    assert {row["symbol"] for row in rows} == {"ETH"}


def test_minutes_of_halts_are_in_no_score():
    frame = market(8, 1, skill=turns(5))
    minute = frame.open_time_ms // MINUTE - START
    open_ = (minute % 100) < 70
    assert found(stage().step(frame.rows(open_)))


def test_frame_without_rows_or_with_other_horizons_is_taken_or_named():
    frame = market(0.1, 1, skill=always(0.0))
    one = stage()
    assert len(one.step(frame.rows(slice(0))).out) == 0
    with pytest.raises(ValueError, match=r"predictions for \(5, 60\) minutes, expected \(5, 15\)"):
        one.step(replace(frame, horizons=(5, 60)))


def test_unknown_reaction_is_named():
    with pytest.raises(ValueError, match="no reaction is called panic"):
        stage(reactions=("panic",))


def test_frames_stay_prediction_frames():
    assert isinstance(stage().step(market(0.1, 1, skill=always(0.0))).out, FeatureFrame)
