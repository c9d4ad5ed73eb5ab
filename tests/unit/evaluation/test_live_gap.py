"""Live against validation: chance is allowed for, and a model that is broken is found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.special import ndtr

from domain.evaluation.live_gap import DEFAULT_ERROR_RATE, DayScore, LiveGap, live_gaps, verdicts
from domain.evaluation.metrics import compare, directional_accuracy, skill
from domain.evaluation.walk_forward_score import WalkForwardScore, walk_forward_score
from schemas.frames import MINUTE_MS, Float64

HORIZON, SYMBOLS = 15, 2
VALIDATION_DAYS, LIVE_DAYS, DAY = 2, 5, 1440
GATE = 0.1
#: What the gate asks for at that rate.
NEEDED_Z = 1.2816
NAN = float("nan")

KNOWN = WalkForwardScore(
    rows=8640,
    moved=8600,
    skill=0.02,
    skill_error=0.005,
    accuracy=0.55,
    accuracy_error=0.01,
    brier=0.245,
    brier_error=0.001,
    blocks=60,
)


def a_day(
    day: int, *, skill: float = 0.02, brier: float = 0.245, n: int = 1440, wild: float = 1.0
) -> DayScore:
    return DayScore(
        day=day,
        n=n,
        moved=n,
        hits=0.55 * n,
        squared_error=(1 - skill) * wild * n,
        no_change_squared=wild * n,
        brier=brier * n,
    )


days_of_any_kind = st.lists(
    st.tuples(
        st.floats(-0.5, 0.5, allow_subnormal=False),
        st.floats(0.1, 0.4),
        st.integers(1, 9000),
        st.floats(1e-3, 1e3),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda drawn: [
        a_day(day, skill=said, brier=brier, n=n, wild=wild)
        for day, (said, brier, n, wild) in enumerate(drawn)
    ]
)


def z_of(gaps: list[LiveGap]) -> list[float]:
    return [z for gap in gaps for z in (gap.skill.z, gap.accuracy.z, gap.brier.z)]


@given(days_of_any_kind, st.floats(0.01, 100))
def test_a_market_that_is_wilder_throughout_changes_no_gap(days: list[DayScore], factor: float) -> None:
    wilder = [
        replace(
            day, squared_error=day.squared_error * factor, no_change_squared=day.no_change_squared * factor
        )
        for day in days
    ]
    assert z_of(live_gaps(wilder, KNOWN)) == pytest.approx(z_of(live_gaps(days, KNOWN)), rel=1e-6, abs=1e-9)


@given(days_of_any_kind)
def test_what_comes_later_changes_no_earlier_verdict(days: list[DayScore]) -> None:
    whole = verdicts(live_gaps(days, KNOWN), gate_error_rate=GATE)
    for known in range(len(days) + 1):
        early = verdicts(live_gaps(days[:known], KNOWN), gate_error_rate=GATE)
        assert early == [verdict for verdict in whole if verdict.gap.days <= known]


@given(days_of_any_kind)
def test_a_gap_is_never_surer_than_the_validation_itself(days: list[DayScore]) -> None:
    for gap in live_gaps(days, KNOWN):
        assert gap.skill.standard_error > KNOWN.skill_error
        assert gap.brier.standard_error > KNOWN.brier_error


def test_one_wild_day_counts_for_less_than_its_rows() -> None:
    calm = live_gaps([a_day(1), a_day(2)], KNOWN)[-1]
    wild = live_gaps([a_day(1), a_day(2, wild=20.0)], KNOWN)[-1]
    assert wild.skill.standard_error > 1.2 * calm.skill.standard_error
    assert wild.brier.standard_error == calm.brier.standard_error


def test_days_that_differ_make_a_gap_less_sure() -> None:
    alike = live_gaps([a_day(day) for day in range(4)], KNOWN)[-1]
    apart = live_gaps([a_day(day, skill=0.02 + 0.1 * (-1) ** day) for day in range(4)], KNOWN)[-1]
    assert apart.skill.gap == pytest.approx(alike.skill.gap)
    assert apart.skill.standard_error > 2 * alike.skill.standard_error


def test_a_model_is_called_worse_once_and_no_longer_once_it_is_not() -> None:
    days = [a_day(day, brier=0.27 if day < 3 else 0.225) for day in range(12)]
    found = verdicts(live_gaps(days, KNOWN), gate_error_rate=GATE)
    assert [verdict.worse for verdict in found] == [True, False]
    assert found[0].gap.days == 1
    assert found[0].score == "brier"
    assert found[0].p_value < found[0].allowed
    assert found[1].p_value >= DEFAULT_ERROR_RATE


def test_better_than_the_validation_is_no_alarm() -> None:
    days = [a_day(day, skill=0.3, brier=0.2) for day in range(9)]
    assert verdicts(live_gaps(days, KNOWN), gate_error_rate=GATE) == []


def test_where_the_validation_was_too_short_nobody_is_called_worse() -> None:
    unknown = replace(KNOWN, skill_error=NAN, brier_error=NAN, accuracy_error=NAN, blocks=3)
    gaps = live_gaps([a_day(day, skill=-3.0, brier=0.9) for day in range(9)], unknown)
    assert gaps[-1].skill.gap == pytest.approx(3.02)
    assert math.isnan(gaps[-1].skill.z)
    assert verdicts(gaps, gate_error_rate=GATE) == []


def test_no_live_outcome_is_no_gap() -> None:
    assert live_gaps([], KNOWN) == []
    assert live_gaps([a_day(1, n=0)], KNOWN) == []
    still = replace(a_day(1), moved=0, hits=0, brier=0, squared_error=0, no_change_squared=0)
    assert verdicts(live_gaps([still], KNOWN), gate_error_rate=GATE) == []


@pytest.mark.parametrize("rates", [{"error_rate": 0.0}, {"error_rate": 1.0}, {"gate_error_rate": 0.0}])
def test_a_rate_that_is_none_is_refused_by_name(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(rates))):
        verdicts([], **{"error_rate": 0.05, "gate_error_rate": GATE} | rates)


def test_the_score_of_a_validation_is_that_of_the_metrics() -> None:
    chance = np.random.default_rng(0)
    actual = np.round(chance.normal(size=2000), 1)  # some did not move
    predicted = np.where(chance.random(2000) < 0.1, 0.0, 0.3 * actual + chance.normal(size=2000))
    up = chance.random(2000)
    found = walk_forward_score(
        actual=actual,
        predicted=predicted,
        probability_up=up,
        open_time_ms=np.arange(2000) * MINUTE_MS,
        horizon_minutes=5,
    )
    moved = actual != 0
    assert (found.rows, found.moved) == (2000, int(moved.sum()))
    assert found.skill == pytest.approx(skill(actual=actual, predicted=predicted))
    assert found.accuracy == pytest.approx(directional_accuracy(actual=actual, predicted=predicted))
    terms = np.where(predicted == 0, 0.25, (up - (actual > 0)) ** 2)
    assert found.brier == pytest.approx(terms[moved].mean())
    assert found.blocks >= 10
    # rows that do not overlap: the standard error of a mean
    assert found.brier_error == pytest.approx(terms[moved].std() / math.sqrt(moved.sum()), rel=0.4)


def test_a_forecast_that_is_no_number_has_no_score() -> None:
    found = walk_forward_score(
        actual=np.ones(3),
        predicted=np.array([1.0, NAN, 1.0]),
        probability_up=np.full(3, 0.5),
        open_time_ms=np.arange(3) * MINUTE_MS,
        horizon_minutes=5,
    )
    assert math.isnan(found.skill)
    assert math.isnan(found.brier_error)


# --- simulated markets ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A model that passed the gate, and what became of it."""

    validated: WalkForwardScore
    gaps: list[LiveGap]

    @property
    def found_on_day(self) -> int | None:
        found = verdicts(self.gaps, gate_error_rate=GATE)
        return found[0].gap.days if found else None


def lives(count: int, *, live: float, seed: int, edge: float = 0.2) -> list[Life]:
    """Simulate models until so many have passed the gate; `live` is what is left of their edge."""
    chance = np.random.default_rng(seed)
    found: list[Life] = []
    while len(found) < count:
        life = one_life(chance, edge, live)
        if life is not None:
            found.append(life)
    return found


def one_life(chance: np.random.Generator, edge: float, live: float) -> Life | None:
    """Give symbols that move together heavy tails, and volatility that lasts hours and days."""
    cut = VALIDATION_DAYS * DAY
    minutes = cut + LIVE_DAYS * DAY
    length = minutes + HORIZON
    hint = (slow(chance, 1 - 1 / HORIZON, length, 1) + slow(chance, 1 - 1 / HORIZON, length)) / math.sqrt(2)
    volatility = np.exp(0.5 * slow(chance, 0.9995, length, 1) + 0.5 * slow(chance, 0.99, length, 1))
    tails = np.sqrt(3 / chance.chisquare(5, (length, SYMBOLS)))
    steps = tails * (
        math.sqrt(0.6) * chance.normal(size=(length, 1))
        + math.sqrt(0.4) * chance.normal(size=(length, SYMBOLS))
    )
    # what a hint is worth over the horizon, from its persistence
    worth = sum((1 - 1 / HORIZON) ** k for k in range(1, HORIZON + 1)) / math.sqrt(HORIZON)
    left = np.where(np.arange(length) < cut, 1.0, live)[:, None]
    steps[1:] += (left * edge / worth * hint)[:-1]
    path = np.concatenate([np.zeros((1, SYMBOLS)), np.cumsum(volatility * steps, axis=0)])
    actual = (path[HORIZON + 1 :] - path[1:-HORIZON])[:minutes]
    said = edge * hint[:minutes]
    predicted, up = said * volatility[:minutes] * math.sqrt(HORIZON), ndtr(said)
    known = slice(0, cut - HORIZON)
    rows = {"actual": actual[known].ravel(), "predicted": predicted[known].ravel()}
    times = np.repeat(np.arange(cut - HORIZON) * MINUTE_MS, SYMBOLS)
    gate = compare(**rows, reference=np.zeros(len(times)), open_time_ms=times, horizon_minutes=HORIZON)
    if not gate.z >= NEEDED_Z:
        return None
    validated = walk_forward_score(
        **rows, probability_up=up[known].ravel(), open_time_ms=times, horizon_minutes=HORIZON
    )
    return Life(validated=validated, gaps=live_gaps(days_of(actual, predicted, up, cut), validated))


def slow(chance: np.random.Generator, persistence: float, length: int, width: int = SYMBOLS) -> Float64:
    shocks = chance.normal(size=(length, width)) * math.sqrt(1 - persistence**2)
    shocks[0] /= math.sqrt(1 - persistence**2)
    found: Float64 = lfilter([1], [1, -persistence], shocks, axis=0)
    return found


def days_of(actual: Float64, predicted: Float64, up: Float64, cut: int) -> list[DayScore]:
    minute = np.arange(len(actual))
    day = (minute + HORIZON + 1) // DAY  # of the outcome
    found = []
    for number in range(VALIDATION_DAYS, VALIDATION_DAYS + LIVE_DAYS):
        part = (day == number) & (minute >= cut)
        came, said = actual[part], predicted[part]
        found.append(
            DayScore(
                day=number,
                n=came.size,
                moved=came.size,
                hits=float((np.sign(came) == np.sign(said)).sum()),
                squared_error=float(((came - said) ** 2).sum()),
                no_change_squared=float((came**2).sum()),
                brier=float(((up[part] - (came > 0)) ** 2).sum()),
            )
        )
    return found


@pytest.fixture(scope="module")
def unchanged() -> list[Life]:
    return lives(100, live=1.0, seed=3)


@pytest.mark.slow
def test_models_that_are_as_good_as_validated_are_called_worse_no_more_often_than_stated(
    unchanged: list[Life],
) -> None:
    assert sum(life.found_on_day is not None for life in unchanged) / len(unchanged) <= DEFAULT_ERROR_RATE


@pytest.mark.slow
def test_the_same_gaps_would_alarm_all_the_time_if_overlapping_rows_were_independent(
    unchanged: list[Life],
) -> None:
    z = np.array([life.gaps[-1].brier.z for life in unchanged])
    assert 0.6 < z.std() < 1.3
    last = [life.gaps[-1] for life in unchanged]
    naive = np.array(
        [
            gap.accuracy.gap / math.sqrt(0.25 / gap.n + 0.25 / life.validated.moved)
            for gap, life in zip(last, unchanged, strict=True)
        ]
    )
    assert np.mean(naive > NEEDED_Z) > 3 * np.mean(z > NEEDED_Z)


def test_models_whose_signal_has_turned_round_are_found_within_days() -> None:
    found = [life.found_on_day for life in lives(30, live=-1.0, seed=4)]
    assert sum(day is not None and day <= 2 for day in found) >= 27


def test_models_whose_signal_has_gone_are_mostly_found() -> None:
    found = [life.found_on_day for life in lives(30, live=0.0, seed=5)]
    assert sum(day is not None for day in found) >= 15
