"""What a check is, how much is allowed, and where the checks are found."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol

from domain.quality.grid import QualityGrid
from schemas.frames import Bool, Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How bad it may get before an alert.

    Attributes
    ----------
    completeness_threshold
        Fraction of rows with warm indicators that is wanted.
    missing_data
        Fraction of the expected minutes that may be missing.
    stale_data_s
        Seconds of event time without a candle.
    invalid_values
        Fraction of the rows that may hold values that cannot be.
    frozen_minutes
        Minutes for which a traded price may stand still to the last digit.
    window_minutes
        Over how many minutes fractions are taken.
    """

    completeness_threshold: float = 0.95
    missing_data: float = 0.1
    stale_data_s: float = 300.0
    invalid_values: float = 0.05
    frozen_minutes: int = 60
    window_minutes: int = 60


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check found; tables of judged minutes by symbols.

    Attributes
    ----------
    value
        What was measured; NaN where there is nothing to measure.
    is_bad
        Whether it is beyond the limit; never where the value is NaN.
    """

    value: Float64
    is_bad: Bool


class Check(Protocol):
    """One question about the data.

    Attributes
    ----------
    level
        Of the alert.
    message
        What is wrong while it is bad.
    limit
        For the alert's context.
    """

    level: Literal["warning", "error"]
    message: str
    limit: float

    def judge(self, grid: QualityGrid) -> Judgement:
        """Judge every minute after the grid's lookback; looks at `Limits.window_minutes` at most."""
        ...


#: A check is the file of this name in this package, with a function `build(limits) -> Check`.
CHECKS = ("completeness", "frozen_price", "invalid_values", "missing_data", "staleness")


def build_checks(limits: Limits, names: tuple[str, ...] = CHECKS) -> dict[str, Check]:
    """Build the named checks.

    Raises
    ------
    ValueError
        If there is no check of a name.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise ValueError(f"no check is called {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    return {name: import_module(f"domain.quality.{name}").build(limits) for name in names}
