"""Whether there is evidence that a family of models beats no change, after everything that was tried.

For each family and horizon the gain in squared error over no change is tested the way of Diebold and Mariano
(1995), with the standard error of blocks of minutes in which labels may overlap and symbols move together,
and Student's t with one degree of freedom less than there are blocks. The p-values of all families and
horizons are then held against Holm's (1979) steps, which keep the chance of *any* false claim below the
family-wise error, however the tests depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from domain.evaluation.bootstrap import FEWEST_BLOCKS, minute_sums, standard_error_of_mean
from domain.evaluation.metrics import Numbers
from schemas.frames import Int64

#: Chance of any false claim in one report.
DEFAULT_FAMILY_WISE_ERROR = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillTest:
    """How far the forecasts of one family and horizon are better than no change.

    Attributes
    ----------
    family, horizon_minutes
        Whose forecasts.
    skill
        1 minus the squared error over that of no change; NaN if nothing ever changed.
    standard_error
        Of `skill`, were there none; NaN with too few independent blocks.
    blocks
        Independent blocks of minutes.
    """

    family: str
    horizon_minutes: int
    skill: float
    standard_error: float
    blocks: int

    @property
    def p_value(self) -> float:
        """Chance of a skill this high if there is none; 1 if that cannot be told."""
        if not (math.isfinite(self.skill) and math.isfinite(self.standard_error)):
            return 1.0
        if self.standard_error == 0.0:
            return 0.0 if self.skill > 0.0 else 1.0
        return float(stdtr(self.blocks - 1, -self.skill / self.standard_error))

    def lower_bound(self, error: float) -> float:
        """Give the one-sided lower bound of the skill that is wrong with this chance; NaN if unknown."""
        if not (math.isfinite(self.skill) and math.isfinite(self.standard_error)):
            return float("nan")
        return self.skill - float(stdtrit(self.blocks - 1, 1.0 - error)) * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be said of one family and horizon.

    Attributes
    ----------
    test
        What it rests on.
    evidence
        Whether there is evidence of skill.
    error
        The chance of error that this test was allowed: its step of Holm's ladder.
    lower_bound
        Of the skill, at that error; above 0 exactly if there is evidence. NaN if unknown.
    adjusted_p
        The p-value after all that was tried: evidence if it is at most the family-wise error.
    sentence
        The same in words.
    """

    test: SkillTest
    evidence: bool
    error: float
    lower_bound: float
    adjusted_p: float
    sentence: str


def measure_skill(
    *,
    family: str,
    horizon_minutes: int,
    actual: Numbers,
    predicted: Numbers,
    open_time_ms: Int64,
) -> SkillTest:
    """Measure the skill of forecasts against no change, and how sure it is.

    Parameters
    ----------
    family, horizon_minutes
        Whose forecasts, and how far they and the labels look.
    actual, predicted
        Percent changes; only rows that have both.
    open_time_ms
        Of each row, in any order, several symbols in one minute, gaps allowed.
    """
    outcome = np.asarray(actual, np.float64)
    if outcome.shape != np.shape(predicted):
        raise ValueError(f"{outcome.shape} actual values but {np.shape(predicted)} predicted ones")
    gain = outcome**2 - (outcome - np.asarray(predicted, np.float64)) ** 2
    sums = minute_sums(columns=gain, open_time_ms=open_time_ms, horizon_minutes=horizon_minutes)
    total = float(np.sum(outcome**2))
    defined = total > 0.0
    return SkillTest(
        family=family,
        horizon_minutes=horizon_minutes,
        skill=float(np.sum(gain)) / total if defined else float("nan"),
        standard_error=standard_error_of_mean(sums) * len(sums.grid) / total if defined else float("nan"),
        blocks=sums.blocks,
    )


def judge(
    tests: Sequence[SkillTest],
    *,
    family_wise_error: float = DEFAULT_FAMILY_WISE_ERROR,
    tried: int | None = None,
) -> tuple[Verdict, ...]:
    """Say of each test whether it is evidence of skill, in the order given.

    Parameters
    ----------
    tests
        All families and horizons of the report, those that cannot be told included.
    family_wise_error
        Chance of any false claim among them.
    tried
        Comparisons made, if more than these were looked at; None: these are all.

    Raises
    ------
    ValueError
        If the error is not inside 0..1, or fewer were tried than are given.
    """
    if not 0.0 < family_wise_error < 1.0:
        raise ValueError(f"family_wise_error must be inside 0..1, not {family_wise_error}")
    comparisons = len(tests) if tried is None else tried
    if comparisons < len(tests):
        raise ValueError(f"{len(tests)} tests are given but only {comparisons} are said to have been tried")
    verdicts: dict[int, Verdict] = {}
    adjusted, error, failed = 0.0, 0.0, False
    for step, place in enumerate(sorted(range(len(tests)), key=lambda at: tests[at].p_value)):
        test, left = tests[place], comparisons - step
        if not failed:
            error = family_wise_error / left
            failed = not test.p_value < error
        adjusted = min(1.0, max(adjusted, test.p_value * left))
        verdicts[place] = Verdict(
            test=test,
            evidence=not failed,
            error=error,
            lower_bound=test.lower_bound(error),
            adjusted_p=adjusted,
            sentence=_sentence(test, not failed, test.lower_bound(error), family_wise_error, comparisons),
        )
    return tuple(verdicts[place] for place in range(len(tests)))


def _sentence(test: SkillTest, evidence: bool, bound: float, family_wise_error: float, tried: int) -> str:
    if math.isnan(test.skill):
        return "no evidence of skill: no row to score ever changed"
    if math.isnan(bound):
        return (
            f"no evidence of skill: {test.blocks} independent blocks of minutes are too few to tell"
            f" (at least {FEWEST_BLOCKS})"
        )
    at = f"at {100 * family_wise_error:g} % chance of any false claim among {tried}"
    if not evidence:
        return f"no evidence of skill: it may be as low as {100 * bound:.2f} % {at}"
    return f"evidence of skill: {100 * test.skill:.2f} %, and no less than {100 * bound:.2f} % {at}"
