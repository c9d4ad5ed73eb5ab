"""How far a model is worse live than in its walk-forward validation, and whether chance explains that.

Three scores are compared, those that do not rise and fall with the market: skill against no change,
directional accuracy and the Brier score. Every gap is above 0 where live is worse.

How sure a live score is comes from two sides, and the larger counts:

- what the validation says about so many rows: neighbouring outcomes overlap and symbols move together as
  much live as there, so a standard error `e` on `m` rows is `e * sqrt(m / n)` on `n`. For the skill, `n` is
  as many rows as would say as much if all days were equally wild (Kish 1965);
- the spread of the live days among themselves, from the third day on.

The gap over its standard error is held against Student's t with one degree of freedom less than there were
blocks in the validation. Three things keep the chance of a false alarm below the rate that is asked for:

- every day is a look. The k-th is given `1 / (k (k + 1))` of the rate, which adds up to 1 (Bonferroni);
- skill and Brier score are both looked at, with half of it each (accuracy is shown and alarms nobody: it says
  less than the Brier score about the same rows);
- a model serves because its validation was good, and luck is a part of that. A model that is no worse than no
  change passes the gate with at least the gate's error rate, so whatever would happen with a chance of `a`
  happens to those that pass with a chance of `a / rate` at most: the rate is multiplied by that of the gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr

from domain.evaluation.walk_forward_score import WalkForwardScore
from schemas.frames import Float64

#: Chance that a model which does as well live as in its validation is ever called worse.
DEFAULT_ERROR_RATE = 0.05
#: The spread of days says something from so many on.
SPREAD_DAYS = 3
#: The scores that alarm.
Alarming = Literal["skill", "brier"]
ALARMING: tuple[Alarming, ...] = ("skill", "brier")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayScore:
    """Sums over the outcomes of a model that were known in one day, all its symbols together.

    Attributes
    ----------
    day
        Days since the epoch, UTC.
    n, moved
        Forecasts with an outcome, and those whose price moved.
    hits
        Of the moved ones those of the stated sign, halves where no side was taken.
    squared_error, no_change_squared
        Of the model and of the no-change forecast, squared percent.
    brier
        Over the moved ones.
    """

    day: int
    n: float
    moved: float
    hits: float
    squared_error: float
    no_change_squared: float
    brier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreGap:
    """One score live and in the validation.

    Attributes
    ----------
    gap
        Above 0 where live is worse; NaN if either is not known.
    standard_error
        Of the gap; NaN if it cannot be told.
    """

    live: float
    walk_forward: float
    gap: float
    standard_error: float

    @property
    def z(self) -> float:
        """Standard errors by which live is worse; NaN if that cannot be told."""
        return self.gap / self.standard_error if self.standard_error > 0.0 else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGap:
    """A model's live scores up to the end of a day, beside those of its validation.

    Attributes
    ----------
    day
        The last day that counts.
    days, n
        Days with outcomes up to it, and outcomes.
    blocks
        Independent blocks of the validation.
    """

    day: int
    days: int
    n: int
    skill: ScoreGap
    accuracy: ScoreGap
    brier: ScoreGap
    blocks: int

    def p_value(self, score: Alarming) -> float:
        """Give the chance of a gap this wide if live is as good as the validation; 1 if it is not known."""
        z = (self.skill if score == "skill" else self.brier).z
        if not math.isfinite(z) or self.blocks < 2:
            return 1.0
        return float(stdtr(self.blocks - 1, -z))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A day at which a model began, or ceased, to be called worse than its validation.

    Attributes
    ----------
    worse
        Whether it is called worse from this day on.
    score
        The score that says so: the more surprising one.
    p_value, allowed
        What it was, and what it had to be below for an alarm.
    """

    gap: LiveGap
    worse: bool
    score: Alarming
    p_value: float
    allowed: float


def live_gaps(days: Sequence[DayScore], walk_forward: WalkForwardScore) -> list[LiveGap]:
    """Compare the live scores with those of the validation, once for the end of every day.

    Parameters
    ----------
    days
        In the order of time; days without outcomes are left out.
    walk_forward
        Of the same model.
    """
    told = sorted((day for day in days if day.n > 0), key=lambda day: day.day)
    rows, moved, hits, error, no_change, brier = (
        np.array([getattr(day, name) for day in told], np.float64)
        for name in ("n", "moved", "hits", "squared_error", "no_change_squared", "brier")
    )
    known = walk_forward
    found = []
    for k in range(1, len(told) + 1):
        gain = no_change[:k] - error[:k]
        as_rows = _equally_wild(rows[:k], no_change[:k])
        moves = float(moved[:k].sum())
        skill = _live(gain, no_change[:k], known.skill_error, known.rows, as_rows)
        accuracy = _live(hits[:k], moved[:k], known.accuracy_error, known.moved, moves)
        probability = _live(brier[:k], moved[:k], known.brier_error, known.moved, moves)
        found.append(
            LiveGap(
                day=told[k - 1].day,
                days=k,
                n=int(rows[:k].sum()),
                skill=_gap(skill, known.skill, known.skill_error, sign=-1.0),
                accuracy=_gap(accuracy, known.accuracy, known.accuracy_error, sign=-1.0),
                brier=_gap(probability, known.brier, known.brier_error, sign=1.0),
                blocks=known.blocks,
            )
        )
    return found


def verdicts(
    gaps: Sequence[LiveGap], *, error_rate: float = DEFAULT_ERROR_RATE, gate_error_rate: float
) -> list[Verdict]:
    """Say at which days a model began, and ceased, to be worse than chance allows.

    It ceases where neither gap would be remarkable at `error_rate`, were it the only one ever looked at.

    Parameters
    ----------
    gaps
        One for the end of every day, as `live_gaps` makes them.
    error_rate
        Chance that there is any alarm, however long it serves, for a model that is as good live as in its
        validation and no worse than no change.
    gate_error_rate
        How often a model without skill was let into production.

    Raises
    ------
    ValueError
        If a rate is not inside 0..1.
    """
    for name, rate in (("error_rate", error_rate), ("gate_error_rate", gate_error_rate)):
        if not 0.0 < rate < 1.0:
            raise ValueError(f"{name} must be inside 0..1, not {rate}")
    found: list[Verdict] = []
    worse = False
    for look, gap in enumerate(gaps, start=1):
        allowed = error_rate * gate_error_rate / len(ALARMING) / (look * (look + 1))
        score = min(ALARMING, key=gap.p_value)
        p = gap.p_value(score)
        if worse == (p < (error_rate if worse else allowed)):
            continue
        worse = not worse
        found.append(Verdict(gap=gap, worse=worse, score=score, p_value=p, allowed=allowed))
    return found


def _equally_wild(rows: Float64, no_change: Float64) -> float:
    """Give the rows that would tell as much about the skill if the market had been alike on all days."""
    squares = float(np.sum(no_change**2 / rows))
    return float(no_change.sum()) ** 2 / squares if squares > 0.0 else 0.0


def _live(
    numerator: Float64, denominator: Float64, error: float, error_rows: float, rows: float
) -> tuple[float, float]:
    """Give a live ratio and its standard error."""
    total, days = float(denominator.sum()), len(denominator)
    if not (total > 0.0 and rows > 0.0):
        return float("nan"), float("nan")
    ratio = float(numerator.sum()) / total
    expected = error * math.sqrt(error_rows / rows)
    if days < SPREAD_DAYS:
        return ratio, expected
    residual = numerator - ratio * denominator
    seen = math.sqrt(days / (days - 1) * float(residual @ residual)) / total
    return ratio, max(expected, seen) if math.isfinite(expected) else expected


def _gap(live: tuple[float, float], walk_forward: float, error: float, *, sign: float) -> ScoreGap:
    return ScoreGap(
        live=live[0],
        walk_forward=walk_forward,
        gap=sign * (live[0] - walk_forward),
        standard_error=math.hypot(live[1], error),
    )
