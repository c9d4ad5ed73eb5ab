"""An interval that misses too often is found, and so is the end of it."""

import numpy as np
import pytest

from domain.drift.coverage import OVER_BLOCKS, CoverageWatch, News
from domain.drift.watch import LEARNING_BLOCKS

ALPHA, OUTCOMES = 0.2, 30


def shares(blocks: int, seed: int, rate: float) -> list[float]:
    return (np.random.default_rng(seed).binomial(OUTCOMES, rate, blocks) / OUTCOMES).tolist()


def feed(watch: CoverageWatch, missed: list[float]) -> list[News]:
    return [watch.update(share, alpha=ALPHA, outcomes=OUTCOMES) for share in missed]


@pytest.mark.parametrize(("detector", "blocks"), [("page_hinkley", 12), ("adwin", 60)])
def test_interval_that_misses_twice_as_often_is_found(detector, blocks):
    watch = CoverageWatch(detector=detector)
    assert set(feed(watch, shares(100, 1, ALPHA))) == {News.NONE}
    news = feed(watch, shares(blocks, 2, 2 * ALPHA))
    assert news.index(News.DRIFTED) >= 2
    assert watch.drifted


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2])
def test_interval_that_misses_no_more_than_it_may_is_never_called_drifted(rate):
    for seed in range(20):
        watch = CoverageWatch()
        assert set(feed(watch, shares(200, seed, rate))) == {News.NONE}


def test_interval_that_comes_back_to_what_it_may_miss_is_no_drift():
    # A rise from 5 to 20 % misses is a rise, but 20 % is what an interval of 80 % says.
    watch = CoverageWatch()
    feed(watch, shares(60, 1, 0.05))
    assert set(feed(watch, shares(100, 2, ALPHA))) == {News.NONE}


def test_drift_is_told_again_as_long_as_it_lasts_and_its_end_is_told():
    watch = CoverageWatch()
    feed(watch, shares(60, 1, ALPHA))
    news = feed(watch, shares(60, 2, 0.6))
    told = [k for k, each in enumerate(news) if each == News.DRIFTED]
    assert len(told) >= 3
    assert set(np.diff(told)) == {OVER_BLOCKS}
    after = [each for each in feed(watch, shares(3 * OVER_BLOCKS, 3, ALPHA)) if each]
    assert after[-1] == News.OVER
    assert not watch.drifted
    assert News.DRIFTED in feed(watch, shares(60, 4, 0.6)), "it can be found anew"


def test_nothing_is_judged_before_the_usual_spread_is_known():
    watch = CoverageWatch(threshold=0.1)
    assert set(feed(watch, [1.0] * LEARNING_BLOCKS)) == {News.NONE}
    assert feed(watch, [1.0]) == [News.DRIFTED]


def test_first_misses_after_a_market_that_stood_still_are_no_alarm():
    watch = CoverageWatch()
    assert set(feed(watch, [0.0] * 100 + [0.21] * 100)) == {News.NONE}


@pytest.mark.parametrize("detector", ["page_hinkley", "adwin"])
@pytest.mark.parametrize("stop", [5, 70, 90, 130])
def test_state_is_all_there_is(detector, stop):
    missed = shares(60, 1, ALPHA) + shares(50, 2, 0.6) + shares(60, 3, ALPHA)
    watch, again = CoverageWatch(detector=detector), CoverageWatch(detector=detector)
    feed(watch, missed[:stop])
    again.take(watch.state())
    assert feed(again, missed[stop:]) == feed(watch, missed[stop:])
    assert np.array_equal(again.state(), watch.state())
