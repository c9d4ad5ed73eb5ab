"""A paired test of two forecasts on the same rows: whether one is better, or at least hardly worse.

Diebold and Mariano (1995) look at the differences of the losses, row by row. What is asked here is

    E[loss of the incumbent - loss of the challenger] + margin * E[loss of the reference] > 0

for one side only. With a margin of 0 that is superiority; with more, non-inferiority: the challenger is
allowed to be worse by less than that share of the reference's loss. The margin is inside the test, so that
the chance of a wrong "yes" is the error rate right at the margin, and less beyond it.

Losses of overlapping forecasts are correlated over the horizon, volatility comes in clusters, and symbols
move together: the standard error is that of blocks of minutes (`domain/evaluation/bootstrap.py`), held
against Student's t with one degree of freedom less than there are blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from domain.evaluation.bootstrap import minute_sums, standard_error_of_mean
from domain.evaluation.metrics import Numbers
from schemas.frames import Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """What a paired test found.

    Attributes
    ----------
    lead
        How much less the challenger loses than the incumbent, as a share of the reference's loss; below 0 it
        loses more. NaN if it cannot be told.
    standard_error
        Of `lead + margin`; NaN with too few independent blocks.
    margin
        What the lead may be below 0.
    blocks
        Independent blocks of minutes.
    rows
        Rows compared.
    """

    lead: float
    standard_error: float
    margin: float
    blocks: int
    rows: int

    @property
    def p_value(self) -> float:
        """Chance of a lead this high if the challenger is worse by exactly the margin; 1 if unknown."""
        if not (math.isfinite(self.lead) and math.isfinite(self.standard_error)):
            return 1.0
        if self.standard_error == 0.0:
            return 0.0 if self.lead + self.margin > 0.0 else 1.0
        return float(stdtr(self.blocks - 1, -(self.lead + self.margin) / self.standard_error))

    @property
    def is_known(self) -> bool:
        """Whether there was enough to tell anything."""
        return math.isfinite(self.standard_error)


def paired_test(
    *,
    challenger: Numbers,
    incumbent: Numbers,
    reference: Numbers,
    margin: float,
    open_time_ms: Int64,
    horizon_minutes: int,
) -> PairedTest:
    """Test whether a challenger is better than an incumbent, or worse by less than a margin.

    Parameters
    ----------
    challenger, incumbent, reference
        Losses of each row, finite; the reference's is what the margin is a share of.
    margin
        A share of the reference's loss, 0 or more.
    open_time_ms
        Of each row, in any order, several symbols in one minute, gaps allowed.
    horizon_minutes
        How far ahead the forecasts look.

    Raises
    ------
    ValueError
        If lengths differ, a loss is not finite, or the margin is negative.
    """
    if margin < 0.0:
        raise ValueError(f"margin must be 0 or more, not {margin}")
    losses = [np.asarray(values, np.float64) for values in (challenger, incumbent, reference)]
    if len({len(values) for values in losses}) != 1:
        raise ValueError(f"{[len(values) for values in losses]} losses of the same rows")
    ahead = losses[1] - losses[0]
    scale = float(np.mean(losses[2])) if len(ahead) else float("nan")
    if not scale > 0.0:
        return PairedTest(
            lead=float("nan"), standard_error=float("nan"), margin=margin, blocks=0, rows=len(ahead)
        )
    sums = minute_sums(
        columns=ahead + margin * losses[2], open_time_ms=open_time_ms, horizon_minutes=horizon_minutes
    )
    # from minutes of the grid to rows, and from losses to shares of the reference's
    unit = len(sums.grid) / len(ahead) / scale
    return PairedTest(
        lead=float(np.mean(ahead)) / scale,
        standard_error=standard_error_of_mean(sums) * unit,
        margin=margin,
        blocks=sums.blocks,
        rows=len(ahead),
    )
