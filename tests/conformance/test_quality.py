"""What every check of data quality promises."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domain.quality
from domain.quality.check import CHECKS, Limits, build_checks
from domain.quality.grid import QualityGrid
from domain.quality.recent import RecentMinutes, Seen

LIMITS = Limits(window_minutes=10, frozen_minutes=4, stale_data_s=120)
SYMBOLS = 3


def random_candles(seed: int, minutes: int = 40) -> Seen:
    chance = np.random.default_rng(seed)
    minute, position = np.divmod(np.arange(minutes * SYMBOLS), SYMBOLS)
    there = chance.random(len(minute)) < 0.8
    flags = [chance.random(there.sum()) < share for share in (0.9, 0.1, 0.5)]
    return Seen(position[there], minute[there] + 100, *flags)


def grids(seen: Seen, ends: list[int]) -> list[QualityGrid]:
    """Hand over the candles up to each end, as they would come."""
    recent = RecentMinutes(symbols=SYMBOLS, lookback_minutes=LIMITS.window_minutes - 1)
    found, done = [], 0
    for end in ends:
        recent.add(seen.kept((seen.minute > done) & (seen.minute <= end)))
        while (grid := recent.next_grid(end)) is not None:
            found.append(grid)
        done = end
    return found


def test_every_file_that_builds_a_check_is_listed_and_the_other_way_round():
    folder = Path(domain.quality.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "\ndef build(" in path.read_text()}
    assert files == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_check_has_a_level_a_limit_and_a_sentence(name):
    check = build_checks(LIMITS)[name]
    assert check.level in {"warning", "error"}
    assert check.limit > 0
    assert check.message.endswith(".")


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), ends=st.lists(st.integers(100, 139), max_size=6).map(sorted))
def test_judgement_does_not_depend_on_how_minutes_are_divided(name, seed, ends):
    seen = random_candles(seed)
    check = build_checks(LIMITS)[name]
    whole = [check.judge(grid) for grid in grids(seen, [139])]
    parts = [check.judge(grid) for grid in grids(seen, [*ends, 139])]
    for field in ("value", "is_bad"):
        joined = [np.concatenate([getattr(j, field) for j in js]) for js in (whole, parts)]
        assert np.array_equal(*joined, equal_nan=True)


@pytest.mark.parametrize("name", CHECKS)
def test_judged_minutes_are_those_after_the_lookback_and_nothing_unmeasured_is_bad(name):
    for grid in grids(random_candles(1), [110, 125, 139]):
        judgement = build_checks(LIMITS)[name].judge(grid)
        shape = (len(grid.minute) - grid.lookback, SYMBOLS)
        assert judgement.value.shape == judgement.is_bad.shape == shape
        assert not judgement.is_bad[np.isnan(judgement.value)].any()


@pytest.mark.parametrize("name", CHECKS)
def test_perfect_data_raises_nothing(name):
    minute, position = np.divmod(np.arange(60 * SYMBOLS), SYMBOLS)
    yes, no = np.ones(len(minute), bool), np.zeros(len(minute), bool)
    for grid in grids(Seen(position, minute + 100, yes, no, yes), [159]):
        assert not build_checks(LIMITS)[name].judge(grid).is_bad.any()
