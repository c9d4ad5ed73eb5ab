"""What may be tuned of a family: plain data, which each family states in its own file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One setting that may be tuned, and between which values; both ends count.

    Attributes
    ----------
    name
        Of the setting.
    low, high
        Of its value; both must be allowed by the family's `check_settings`.
    usual
        What it is where nobody sets it.
    log
        Look for it in equal ratios, not in equal steps.
    whole
        It is a whole number.
    """

    name: str
    low: float
    high: float
    usual: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Refuse an empty range, and ratios from 0."""
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.name}: nothing can be looked for from {self.low:g} to {self.high:g}")

    def holds(self, value: float) -> bool:
        """Tell whether a value lies in the range."""
        return self.low <= value <= self.high
