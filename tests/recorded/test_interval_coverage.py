"""The intervals hold what they say on recorded candles of three years and three exchanges' markets."""

from pathlib import Path

import pytest

from . import interval_coverage

#: Up to this horizon a recording holds enough independent outcomes for a bound of its own.
SHORT_MINUTES = 30
BOUNDS = {80: (0.77, 0.83), 95: (0.93, 0.97)}


@pytest.mark.slow
@pytest.mark.parametrize("name", interval_coverage.RECORDINGS)
def test_intervals_cover_what_they_say(recorded: Path, name: str) -> None:
    wrong = []
    for each in interval_coverage.coverages(recorded / name):
        if each.horizon <= SHORT_MINUTES:
            low, high = BOUNDS[each.level]
            holds = low <= each.worst_symbol and each.best_symbol <= high
        else:
            holds = each.share.low <= each.level / 100 <= each.share.high
        if not holds:
            wrong.append(each)
    assert not wrong, interval_coverage.markdown(wrong)
