from __future__ import annotations

import numpy as np
import pytest

from domain.models import lstm_shrinkage
from schemas.frames import MINUTE_MS

ROWS = 4000
BLOCKS = lstm_shrinkage.blocks_of(np.arange(ROWS) * MINUTE_MS, overlap_ms=60 * MINUTE_MS)
ALL = np.ones(ROWS, np.bool_)


def _draw(seed: int, edge: float) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    hint = chance.normal(size=ROWS)
    return hint, edge * hint + chance.normal(size=ROWS)


def test_a_plain_signal_is_believed_as_far_as_it_goes() -> None:
    hint, came = _draw(0, 1.0)
    assert lstm_shrinkage.of_changes(hint, came, ALL, BLOCKS) > 0.97
    # twice too loud: half of it is right
    assert lstm_shrinkage.of_changes(2 * hint, came, ALL, BLOCKS) == pytest.approx(0.5, abs=0.03)
    assert lstm_shrinkage.of_rises(hint, came > 0, ALL, BLOCKS) > 0.95


def test_what_is_too_quiet_is_not_made_louder() -> None:
    hint, came = _draw(0, 1.0)
    assert lstm_shrinkage.of_changes(0.1 * hint, came, ALL, BLOCKS) <= 1.0


def test_the_opposite_of_a_signal_is_not_believed() -> None:
    hint, came = _draw(0, 1.0)
    assert lstm_shrinkage.of_changes(-hint, came, ALL, BLOCKS) == 0.0
    assert lstm_shrinkage.of_rises(-hint, came > 0, ALL, BLOCKS) == 0.0


def test_a_head_that_says_nothing_is_worth_nothing() -> None:
    _, came = _draw(0, 1.0)
    silence = np.zeros(ROWS)
    assert lstm_shrinkage.of_changes(silence, came, ALL, BLOCKS) == 0.0
    assert lstm_shrinkage.of_rises(silence, came > 0, ALL, BLOCKS) == 0.0


def test_noise_is_mostly_not_believed_at_all_and_never_much() -> None:
    drawn = [_draw(seed, 0.0) for seed in range(200)]
    changes = [lstm_shrinkage.of_changes(hint, came, ALL, BLOCKS) for hint, came in drawn]
    rises = [lstm_shrinkage.of_rises(hint, came > 0, ALL, BLOCKS) for hint, came in drawn]
    for factors in (changes, rises):
        assert np.mean([factor == 0 for factor in factors]) > 0.75
        assert np.mean(factors) < 0.02


def test_rows_that_are_not_known_do_not_count() -> None:
    hint, came = _draw(0, 1.0)
    known = np.arange(ROWS) % 2 == 0
    spoiled = np.where(known, came, 1e9)
    assert lstm_shrinkage.of_changes(hint, spoiled, known, BLOCKS) > 0.95


@pytest.mark.parametrize(("overlap_minutes", "count"), [(0, 24), (-5, 24), (60, 24), (390, 10), (3000, 4)])
def test_blocks_are_as_long_as_outcomes_overlap(overlap_minutes: int, count: int) -> None:
    times = np.arange(ROWS) * MINUTE_MS
    blocks = lstm_shrinkage.blocks_of(times, overlap_ms=overlap_minutes * MINUTE_MS)
    assert set(blocks) == set(range(count))
    assert (np.diff(blocks) >= 0).all()
