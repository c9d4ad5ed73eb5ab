"""One measured number beside its reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a bench found.

    Attributes
    ----------
    name
        As on the command line.
    value, unit
        None where it could not be measured; `error` says why.
    reference
        Measured in the same run; None where it could not be.
    says
        One sentence: what the reference is.
    bound
        What the value shall keep to, where there is such a promise.
    at_least
        Whether the value shall be the bound or more; otherwise the bound or less.
    bound_of_ratio
        The promise is about the ratio, not about the value.
    more
        Further numbers worth keeping.
    error
        Why there is no value.
    """

    name: str
    value: float | None
    unit: str
    says: str
    reference: float | None = None
    bound: float | None = None
    at_least: bool = False
    bound_of_ratio: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def ratio(self) -> float | None:
        """The value over the reference."""
        if self.value is None or not self.reference:
            return None
        return self.value / self.reference

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; None where there is none, or nothing was measured."""
        judged = self.ratio if self.bound_of_ratio else self.value
        if judged is None or self.bound is None:
            return None
        return judged >= self.bound if self.at_least else judged <= self.bound

    @property
    def promise(self) -> str | None:
        """The bound in words."""
        if self.bound is None:
            return None
        what = " times the reference" if self.bound_of_ratio else ""
        return f"at {'least' if self.at_least else 'most'} {self.bound:,g}{what}"

    def as_json(self) -> dict[str, Any]:
        """Write the answer; what does not apply is left out."""
        answer: dict[str, Any] = {
            "value": rounded(self.value),
            "unit": self.unit,
            "reference": rounded(self.reference),
            "ratio": rounded(self.ratio),
            "says": self.says,
        }
        if self.bound is not None:
            answer |= {"bound": self.bound, "promise": self.promise, "holds": self.holds}
        if self.error is not None:
            answer["error"] = self.error
        return {**answer, **{name: rounded(value) for name, value in self.more.items()}}


def rounded(value: Any) -> Any:
    """Cut numbers to four digits, also inside lists and dictionaries; whole ones stay whole."""
    if isinstance(value, Mapping):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(inner) for inner in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    if value == 0 or abs(value) >= 10**_DIGITS:
        return round(value)
    return round(value, _DIGITS - 1 - math.floor(math.log10(abs(value))))
