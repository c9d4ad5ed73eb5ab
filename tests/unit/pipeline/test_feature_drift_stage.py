"""The features of a day against those that the models learned from."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.feature_drift_stage import FeatureDriftStage
from schemas.frames import NULL_MS, FeatureFrame

MINUTE = 60_000
DAY = 1440
SYMBOLS = ("BTC", "ETH")
NAMES = tuple(f"f{k}" for k in range(10))
#: A Monday, 00:00 UTC.
START = 18_001 * DAY


def market(days: float, seed: int = 1, *, changed_from: float = 1e9, changed: int = 3) -> FeatureFrame:
    """Draw features every 5 minutes, some of which move on a day."""
    chance = np.random.default_rng(seed)
    minute = np.repeat(np.arange(0, int(days * DAY), 5), len(SYMBOLS))
    vector = chance.normal(size=(len(minute), len(NAMES)))
    vector[minute >= changed_from * DAY, :changed] += 2.0
    return FeatureFrame(
        symbols=SYMBOLS,
        symbol_index=np.tile(np.arange(len(SYMBOLS), dtype=np.int32), len(minute) // len(SYMBOLS)),
        open_time_ms=(START + minute) * MINUTE,
        ohlcv=np.ones((len(minute), 5)),
        origin=np.zeros(len(minute), np.int8),
        vector=vector.astype(np.float32),
        is_complete=np.ones(len(minute), bool),
        complete_to_ms=(START + int(days * DAY) - 1) * MINUTE,
        schema_hash="h",
    )


def stage(**options) -> FeatureDriftStage:
    return FeatureDriftStage(symbols=SYMBOLS, feature_names=NAMES, **options)


def rows(result) -> list[dict]:
    return [
        dict(zip(part.columns, values, strict=True))
        for part in result.rows
        for values in zip(*part.columns.values(), strict=True)
    ]


def alarms(result) -> list[int]:
    """List the days whose end brings an alarm."""
    return [
        (row["at"] // MINUTE - START) // DAY
        for row in rows(result)
        if row["statistic"] == "share" and row["drifted"]
    ]


def test_days_are_compared_once_there_is_a_week_that_models_were_trained_on():
    result = stage().step(market(16))
    days = sorted({int((row["at"] // MINUTE - START) // DAY) for row in rows(result)})
    # Trained on Monday, day 7: the first day after that is over at the end of day 7.
    assert days == list(range(8, 17))
    assert len(rows(result)) == len(days) * (2 * len(NAMES) + 1)
    assert alarms(result) == []
    assert result.logs == []


def test_features_that_move_alarm_from_their_first_day_until_a_training_has_seen_them():
    result = stage().step(market(24, changed_from=9))
    assert alarms(result)[:5] == [10, 11, 12, 13, 14]
    # The training of day 14 has seen five such days: they are in the reference of what follows.
    assert all(day <= 14 for day in alarms(result))
    (entry,) = [log for log in result.logs if log.context["at_ms"] == (START + 10 * DAY) * MINUTE]
    assert (entry.level, entry.category, entry.subcategory) == ("warning", "drift", "features")
    assert entry.message.startswith("3 of 10 features are not what the models know: ")
    assert all(name in entry.message for name in NAMES[:3])


def test_feature_that_moves_alone_is_told_and_alarms_nobody():
    result = stage(share=0.2).step(market(12, changed_from=9, changed=1))
    told = {row["subject"] for row in rows(result) if row["drifted"]}
    assert told == {"f0"}
    assert alarms(result) == []


@pytest.mark.parametrize("reactions", [("warn",), ("warn", "retrain"), ("lower_weight", "retrain"), ()])
def test_training_is_asked_for_at_the_checkpoint_where_settings_say_so(reactions):
    result = stage(reactions=reactions).step(market(11, changed_from=9))
    whole = next(row for row in rows(result) if row["statistic"] == "share" and row["drifted"])
    asked = {row["train_at"] for row in rows(result)} - {NULL_MS}
    assert (whole["at"] in asked) == ("retrain" in reactions)
    assert whole["reaction"] == (",".join(name for name in ("warn", "retrain") if name in reactions) or None)
    assert bool(result.logs) == ("warn" in reactions)


def test_day_with_a_long_halt_is_neither_judged_nor_part_of_the_reference():
    frame = market(13)
    minute = frame.open_time_ms // MINUTE - START
    halted = (minute // DAY == 10) & (minute % DAY > 600)
    result = stage().step(frame.rows(~halted))
    assert 11 not in {(row["at"] // MINUTE - START) // DAY for row in rows(result)}
    assert alarms(result) == []


def test_state_stays_small_however_long_it_runs():
    one = stage()
    one.step(market(60))
    assert one.summary()["blocks"] <= 14 + 9
    assert len(one.snapshot()) < 40_000


@pytest.mark.parametrize("minutes", [700, 2000])
def test_result_does_not_depend_on_batches_or_restarts(minutes):
    frame = market(12, changed_from=9)
    whole = stage()
    expected = rows(whole.step(frame))
    number = (frame.open_time_ms // MINUTE - START) // minutes
    one, found = stage(), []
    for k in range(int(number.max()) + 1):
        piece = frame.rows(number == k)
        later = frame.open_time_ms[number > k]
        to = int(later.min()) - MINUTE if len(later) else frame.complete_to_ms
        found += rows(one.step(replace(piece, complete_to_ms=to)))
        again = stage()
        again.restore(one.snapshot())
        one = again
    assert found == expected
    assert one.snapshot() == whole.snapshot()


def test_block_is_judged_only_once_it_is_complete():
    frame = market(9)
    one = stage()
    assert one.step(replace(frame, complete_to_ms=(START + 8 * DAY - 2) * MINUTE)).rows == []
    nothing = replace(frame.rows(slice(0)), complete_to_ms=(START + 8 * DAY - 1) * MINUTE)
    assert len(one.step(nothing).rows) == 1


def test_vectors_of_another_version_are_refused():
    frame = market(1)
    with pytest.raises(ValueError, match="vectors of 9 features, expected 10"):
        stage().step(replace(frame, vector=frame.vector[:, 1:]))


def test_reference_that_can_never_be_is_named():
    with pytest.raises(ValueError, match="least_reference_blocks=9 must be at least 2"):
        stage(reference_blocks=8, least_reference_blocks=9)
