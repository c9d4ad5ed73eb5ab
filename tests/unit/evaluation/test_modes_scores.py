from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from cli.report_modes_page import as_markdown
from schemas.frames import MINUTE_MS, Float64
from training.evaluation.contrasts import HELPS, HURTS, POOLED, UNKNOWN
from training.evaluation.modes import BATCH, ONLINE, OWN, RESEEDED, TRANSFER, Effort, Tried
from training.evaluation.modes_scores import Gain, gains, standings

ROWS = 6000
EFFORT = Effort(trainings=4, went_on=2, had_been_seen=1, found_nothing=0, failed=1, cpu_s=1.5)


def tried(recording: str = "one", family: str = "xgboost", *, seed: int = 1, single: bool = False) -> Tried:
    """Online knows what comes better than batch; transfer is worse than the symbols' own models."""
    chance = np.random.default_rng(seed)
    signal, noise = chance.normal(size=(2, ROWS, 1))
    said = {
        BATCH: 0.1 * signal,
        RESEEDED: 0.1 * signal + 0.01 * chance.normal(size=signal.shape),
        ONLINE: 0.3 * signal,
        OWN: 0.3 * signal,
        TRANSFER: -0.1 * signal,
    }
    if single:
        said = {way: said[way] for way in (BATCH, RESEEDED, ONLINE)}
    return Tried(
        recording=recording,
        family=family,
        settings={"rounds": 200},
        symbols=("AUSDT", "BUSDT"),
        horizons=(5,),
        span_ms=(0, (ROWS - 1) * 5 * MINUTE_MS),
        open_time_ms=(np.arange(ROWS, dtype=np.int64) + seed * 10_000) * 5 * MINUTE_MS,
        actual_pct=0.3 * signal + noise,
        predicted_pct=said,
        probability_up={way: sure(values) for way, values in said.items()},
        efforts=dict.fromkeys(said, EFFORT),
        points=5,
        seconds=1.0,
    )


def sure(predicted: Float64) -> Float64:
    up: Float64 = 1.0 / (1.0 + np.exp(-1.7 * predicted))
    return up


def by_way(found: list[Gain], recording: str = "one") -> Mapping[tuple[str, str], Gain]:
    return {(each.way, each.loss): each for each in found if each.recording == recording}


@pytest.mark.parametrize("loss", ["squared error", "log loss"])
def test_each_way_is_held_against_the_one_that_begins_anew_on_the_same_rows(loss: str) -> None:
    found = by_way(gains([tried()], seed=1))
    assert (found[ONLINE, loss].verdict, found[ONLINE, loss].against) == (HELPS, BATCH)
    assert (found[TRANSFER, loss].verdict, found[TRANSFER, loss].against) == (HURTS, OWN)
    assert found[RESEEDED, loss].verdict == UNKNOWN


def test_a_gain_is_the_difference_of_two_skills() -> None:
    found = tried()
    skill = {each.way: each.level.squared_error.estimate for each in standings([found], seed=1)}
    online = by_way(gains([found], seed=1))[ONLINE, "squared error"]
    assert online.worth.estimate == pytest.approx(skill[ONLINE] - skill[BATCH])
    # 0.09 of 1.09 against 0.05 of 1.09
    assert online.worth.low < 100 * 0.04 / 1.09 < online.worth.high


def test_verdicts_of_all_families_and_recordings_are_given_together() -> None:
    runs = [
        tried(name, family, seed=seed)
        for seed, (name, family) in enumerate(
            [("one", "xgboost"), ("one", "lstm"), ("two", "xgboost"), ("two", "lstm")], start=1
        )
    ]
    found = gains(runs, seed=1)
    # by family: three ways, two losses, two recordings and both together
    assert len(found) == 2 * 3 * 2 * 3
    assert {each.recording for each in found} == {"one", "two", POOLED}
    least = min(found, key=lambda each: each.p_value)
    assert least.adjusted_p == pytest.approx(min(1.0, least.p_value * len(found)))


def test_a_recording_of_one_symbol_has_nobody_to_borrow_from() -> None:
    found = gains([tried(single=True), tried("two", seed=2)], seed=1)
    assert (TRANSFER, "log loss") not in by_way(found)
    assert (TRANSFER, "log loss") in by_way(found, "two")
    # what all recordings together say of it rests on the one that has it, and is not said twice
    assert (TRANSFER, "log loss") not in by_way(found, POOLED)


def test_the_page_says_what_was_begun_anew_and_every_verdict() -> None:
    runs = [tried(), tried("two", seed=2)]
    gained = gains(runs, seed=1)
    page = as_markdown(runs, standings(runs, seed=1), gained, step_minutes=5, seconds=120.0)
    assert "| `one` | xgboost | online | 4 | 2 | 1 | 0 | 1 | 1.5 |" in page
    assert "xgboost, online, 5 minutes ahead, squared error, two: **helps**" in page
    assert "- xgboost: rounds 200" in page
    assert "### xgboost, all recordings together" in page
    assert page.count(f"| {TRANSFER} | {OWN} | 5 |") == 3
