"""Whether a new model goes into production: decided from evidence on rows that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from domain.evaluation.metrics import Comparison

#: How often, at most, a model without any skill may pass for better than the no-change forecast.
DEFAULT_ERROR_RATE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a new model.

    Attributes
    ----------
    promote
        Whether it goes into production.
    reason
        Why, for people.
    """

    promote: bool
    reason: str


def decide(
    *,
    against_no_change: Comparison,
    against_production: Comparison | None,
    error_rate: float = DEFAULT_ERROR_RATE,
) -> Decision:
    """Decide whether a model is promoted.

    It must be better than the no-change forecast by more than chance explains, and not worse than the model
    it replaces, each on the same rows.

    Parameters
    ----------
    against_no_change
        The model against the no-change forecast on its validation rows.
    against_production
        The model against the one in production, on validation rows that neither has seen; None if there is
        nothing to replace.
    error_rate
        How often a model without skill may pass, above 0 and below 1/2.
    """
    if not 0 < error_rate < 0.5:
        raise ValueError(f"error_rate must be between 0 and 0.5, is {error_rate}")
    refusal = _against_no_change(against_no_change, NormalDist().inv_cdf(1 - error_rate))
    if refusal is not None:
        return Decision(promote=False, reason=refusal)
    evidence = f"better than no change (z = {against_no_change.z:.2f})"
    if against_production is None:
        return Decision(promote=True, reason=f"{evidence}; nothing to replace")
    if not against_production.minutes:
        return Decision(promote=False, reason="no rows that neither it nor the model in production has seen")
    if not against_production.gain >= 0:
        return Decision(
            promote=False,
            reason=f"worse than the model in production (z = {against_production.z:.2f}) on the same rows",
        )
    return Decision(
        promote=True,
        reason=f"{evidence}; not worse than the model it replaces (z = {against_production.z:.2f})",
    )


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
