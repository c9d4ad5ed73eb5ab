"""The detectors against an independent implementation, and what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.drift.adwin import Adwin
from domain.drift.page_hinkley import PageHinkley

oracle = pytest.importorskip("river.drift", reason="the oracle river is not installed (extra 'oracles')")


def sequence(seed: int, length: int = 600) -> np.ndarray:
    """Draw values whose mean steps once."""
    chance = np.random.default_rng(seed)
    step = chance.choice([0.0, 0.3, -0.3]) * (np.arange(length) >= chance.integers(100, length))
    return np.clip(0.5 + step + 0.2 * chance.normal(size=length), 0.0, 1.0)


def first(update, values) -> int | None:
    return next((k for k, value in enumerate(values) if update(float(value))), None)


@pytest.mark.parametrize("seed", range(40))
def test_page_hinkley_alarms_at_the_value_at_which_river_does(seed):
    chance = np.random.default_rng(seed)
    options = {
        "tolerance": float(chance.choice([0.0, 0.005, 0.05])),
        "threshold": float(chance.choice([1.0, 5.0])),
    }
    theirs = oracle.PageHinkley(
        min_instances=30, delta=options["tolerance"], threshold=options["threshold"], alpha=0.9999, mode="up"
    )
    ours = PageHinkley(**options, warm_up=30, decay=0.9999)

    def update(value: float) -> bool:
        theirs.update(value)
        return theirs.drift_detected

    values = sequence(seed)
    assert first(ours.update, values) == first(update, values)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("every", [1, 8, 32])
def test_adwin_alarms_at_the_value_at_which_river_does_with_the_same_window(seed, every):
    theirs = oracle.ADWIN(delta=0.01, clock=every, grace_period=10)
    ours = Adwin(error_rate=0.01, every=every, warm_up=10)
    for value in sequence(seed):
        theirs.update(float(value))
        assert ours.update(float(value)) == theirs.drift_detected
        assert ours.width == theirs.width
        assert ours.mean == pytest.approx(theirs.estimation, abs=1e-9)
        if theirs.drift_detected:
            break


def test_adwin_tells_the_direction_of_a_change():
    for step in (0.4, -0.4):
        one = Adwin(every=1)
        values = 0.5 + 0.05 * np.random.default_rng(3).normal(size=200) + step * (np.arange(200) >= 100)
        assert first(one.update, values) is not None
        assert one.rose == (step > 0)


def test_page_hinkley_against_a_level_alarms_where_the_mean_is_above_it_from_the_first_value():
    own = PageHinkley(tolerance=0.25, threshold=5.0)
    level = PageHinkley(tolerance=0.25, threshold=5.0, against=0.0)
    assert first(own.update, [1.0] * 100) is None
    assert first(level.update, [1.0] * 100) == 6


@pytest.mark.parametrize("make", [lambda: PageHinkley(tolerance=0.01, threshold=3.0), lambda: Adwin(every=4)])
@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(0, 1), max_size=200), stop=st.integers(0, 200))
def test_detector_taken_up_from_its_state_goes_on_identically(make, values, stop):
    whole, again = make(), make()
    for value in values[:stop]:
        whole.update(value)
    again.take(np.frombuffer(whole.state().tobytes()))
    assert [again.update(v) for v in values[stop:]] == [whole.update(v) for v in values[stop:]]
    assert again.state().tobytes() == whole.state().tobytes()


def test_adwin_over_a_long_sequence_stays_small():
    one = Adwin()
    for value in np.random.default_rng(1).random(20_000):
        one.update(float(value))
    assert one.width > 10_000
    assert len(one.state()) < 5 + 3 * 6 * 16


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PageHinkley(tolerance=0.1, threshold=0.0), "threshold=0.0"),
        (lambda: PageHinkley(tolerance=-1.0, threshold=1.0), "tolerance=-1.0"),
        (lambda: Adwin(error_rate=1.5), "error_rate=1.5"),
        (lambda: PageHinkley(tolerance=0.1, threshold=1.0).take(np.zeros(3)), "5 numbers"),
    ],
)
def test_impossible_settings_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
