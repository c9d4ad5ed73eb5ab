"""Whether a new model goes into production: decided from evidence on rows that it has not seen.

Two decisions, each with one stated error rate:

- `decide` looks at the validation rows of the training. A model that is not better than the no-change
  forecast passes in at most that share of the cases.
- `decide_challenge` looks at the shadow of a model that passed and found another in production. A refresh of
  the same recipe that is worse by the margin, and a new recipe that is not better, are promoted in at most
  that share of the cases; so is, of either kind, a model whose probabilities are worse by their margin. Each
  of the two tests is made at the whole rate: a model must pass both, so the chance that a bad one does is no
  higher than in the test that it should fail (an intersection-union test, Berger 1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from domain.evaluation.metrics import Comparison
from domain.evaluation.paired import PairedTest

#: How often, at most, a model without any skill may pass for better than the no-change forecast.
DEFAULT_ERROR_RATE = 0.1
#: How much worse a refresh may be: a share of the squared error of the no-change forecast.
DEFAULT_MARGIN = 0.01
#: How much worse the Brier score of any challenger may be: a share of the 1/4 of knowing nothing.
BRIER_MARGIN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a new model.

    Attributes
    ----------
    promote
        Whether it goes into production.
    reason
        Why, for people.
    challenge
        Whether it runs in shadow beside what is in production, which decides later.
    """

    promote: bool
    reason: str
    challenge: bool = False


def decide(
    against_no_change: Comparison,
    *,
    incumbent: str | None = None,
    error_rate: float = DEFAULT_ERROR_RATE,
) -> Decision:
    """Decide whether a new model goes into production, into shadow, or nowhere.

    It must be better than the no-change forecast by more than chance explains. Then it serves at once where
    nothing else does, and else runs in shadow first.

    Parameters
    ----------
    against_no_change
        The model against the no-change forecast on its validation rows.
    incumbent
        Version of the model in production; None if there is none.
    error_rate
        How often a model without skill may pass, above 0 and below 1/2.
    """
    if not 0 < error_rate < 0.5:
        raise ValueError(f"error_rate must be between 0 and 0.5, is {error_rate}")
    refusal = _against_no_change(against_no_change, NormalDist().inv_cdf(1 - error_rate))
    if refusal is not None:
        return Decision(promote=False, reason=refusal)
    evidence = f"better than no change (z = {against_no_change.z:.2f})"
    if incumbent is None:
        return Decision(promote=True, reason=f"{evidence}; nothing to replace")
    return Decision(promote=False, challenge=True, reason=f"{evidence}; runs beside {incumbent} first")


def _against_no_change(found: Comparison, needed_z: float) -> str | None:
    if not found.minutes:
        return "no validation rows"
    if math.isnan(found.gain):
        return "its scores are not numbers"
    if found.gain <= 0:
        return "not better than the no-change forecast"
    if math.isnan(found.z):
        return f"{found.minutes} minutes hold too few independent outcomes to tell it from no change"
    if found.z < needed_z:
        return f"better than no change by no more than chance (z = {found.z:.2f}, needs {needed_z:.2f})"
    return None


def decide_challenge(
    *,
    error: PairedTest,
    brier: PairedTest,
    is_refresh: bool,
    incumbent: str,
    error_rate: float = DEFAULT_ERROR_RATE,
) -> Decision:
    """Decide whether a challenger replaces what is in production.

    Parameters
    ----------
    error
        Of squared errors in units of the recent volatility; with a margin for a refresh, without one for a
        new recipe.
    brier
        Of the Brier scores, with their margin.
    is_refresh
        Whether both are of the same recipe.
    incumbent
        What is in production, for the reason.
    error_rate
        How often a bad one may pass, above 0 and below 1/2.

    Raises
    ------
    ValueError
        If the error rate is not between, or the margin does not fit the kind of challenger.
    """
    if not 0 < error_rate < 0.5:
        raise ValueError(f"error_rate must be between 0 and 0.5, is {error_rate}")
    if is_refresh != (error.margin > 0.0):
        raise ValueError(f"a margin of {error.margin} does not fit is_refresh={is_refresh}")
    if not (error.is_known and brier.is_known):
        return Decision(
            promote=False,
            reason=f"{error.rows} rows of its shadow hold too few independent outcomes to compare it with"
            f" {incumbent}",
        )
    found = (
        f"squared error {100 * error.lead:+.2f} % (p = {error.p_value:.3f}),"
        f" Brier {100 * brier.lead:+.2f} % (p = {brier.p_value:.3f}), {error.blocks} blocks"
    )
    wanted = (
        f"not worse than {incumbent} by {100 * error.margin:g} %"
        if is_refresh
        else f"better than {incumbent}"
    )
    if not error.p_value < error_rate:
        return Decision(promote=False, reason=f"not shown to be {wanted}: {found}")
    if not brier.p_value < error_rate:
        return Decision(
            promote=False,
            reason=f"its probabilities are not shown to be as good as those of {incumbent}: {found}",
        )
    return Decision(promote=True, reason=f"{wanted}: {found}")
