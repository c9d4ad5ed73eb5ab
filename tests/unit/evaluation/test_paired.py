from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.evaluation.paired import PairedTest, paired_test
from domain.forecasting.shadowing import shadow_minutes
from schemas.frames import MINUTE_MS
from training.promotion import decide_challenge

TIMES = np.arange(600) * MINUTE_MS


def found(ahead: float, noise: float = 0.1, margin: float = 0.0, seed: int = 1) -> PairedTest:
    chance = np.random.default_rng(seed)
    incumbent = 1.0 + chance.random(600)
    return paired_test(
        challenger=incumbent - ahead + noise * chance.normal(size=600),
        incumbent=incumbent,
        reference=np.full(600, 2.0),
        margin=margin,
        open_time_ms=TIMES,
        horizon_minutes=5,
    )


def test_the_lead_is_a_share_of_what_the_reference_loses() -> None:
    test = found(0.2, noise=0.0)
    assert test.lead == pytest.approx(0.1)
    assert test.p_value == pytest.approx(0.0, abs=1e-6)
    assert found(-0.2).p_value == pytest.approx(1.0, abs=1e-6)


@given(st.floats(0.0, 0.2))
def test_a_margin_is_the_same_as_a_challenger_that_is_better_by_it(margin: float) -> None:
    with_margin, better = found(0.01, margin=margin), found(0.01 + 2.0 * margin)
    assert with_margin.p_value == pytest.approx(better.p_value, abs=1e-9)
    assert with_margin.standard_error == pytest.approx(better.standard_error)


def test_with_too_few_blocks_nothing_is_known_and_nothing_promoted() -> None:
    few = paired_test(
        challenger=np.zeros(90),
        incumbent=np.ones(90),
        reference=np.ones(90),
        margin=0.0,
        open_time_ms=TIMES[:90],
        horizon_minutes=5,
    )
    assert (few.is_known, few.p_value) == (False, 1.0)
    decision = decide_challenge(error=few, brier=few, is_refresh=False, incumbent="old")
    assert not decision.promote
    assert "too few independent outcomes" in decision.reason


def test_no_rows_and_no_losses_tell_nothing() -> None:
    none = np.empty(0)
    empty = paired_test(
        challenger=none,
        incumbent=none,
        reference=none,
        margin=0.0,
        open_time_ms=np.empty(0, np.int64),
        horizon_minutes=5,
    )
    assert (empty.rows, empty.p_value, math.isnan(empty.lead)) == (0, 1.0, True)


def test_a_refresh_that_says_the_very_same_is_not_worse_but_no_new_recipe_that_is_better() -> None:
    same = found(0.0, noise=0.0, margin=0.01)
    fine = found(0.5, margin=0.02)
    assert decide_challenge(error=same, brier=fine, is_refresh=True, incumbent="old").promote
    assert not decide_challenge(
        error=found(0.0, noise=0.0), brier=fine, is_refresh=False, incumbent="old"
    ).promote


def test_the_margin_must_fit_the_kind_of_challenger() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        decide_challenge(error=found(0.1), brier=found(0.1), is_refresh=True, incumbent="old")
    with pytest.raises(ValueError, match="error_rate"):
        decide_challenge(
            error=found(0.1), brier=found(0.1), is_refresh=False, incumbent="old", error_rate=0.7
        )
    with pytest.raises(ValueError, match="margin"):
        found(0.1, margin=-0.1)


@pytest.mark.parametrize(
    ("horizon", "wanted", "every", "minutes"),
    [(15, 1440, 10_080, 1440), (15, 1440, 2000, 1000), (60, 1440, 180, 1440), (5, 10, 10_080, 120)],
)
def test_a_shadow_fits_between_two_trainings_but_is_never_too_short_to_tell(
    horizon: int, wanted: int, every: int, minutes: int
) -> None:
    assert shadow_minutes(horizon_minutes=horizon, wanted_minutes=wanted, every_minutes=every) == minutes
