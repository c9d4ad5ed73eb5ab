"""What the causality gate says about a feature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Reason(StrEnum):
    """Why a feature is refused."""

    CHANGES_PAST = "changes its past"
    SAME_MINUTE = "looks at another symbol's candle of the same minute, which may not be in yet"
    NOT_REPEATABLE = "gives other values for the same candles (random numbers, or the clock)"
    REMEMBERS = "gives other values when called again, so it remembers earlier calls"
    FAILS = "cannot be computed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The first value that was not the same.

    Attributes
    ----------
    symbol, minute_ms
        Whose value of which candle.
    end_ms
        Open time of the last candle that was in when `known` was computed.
    known, later
        The value then, and with later candles in.
    changed
        How many values of that symbol changed with it.
    reach
        Candles from the earliest changed value to the end, at most over all cuts.
    is_whole
        Whether more than half of a history changed.
    """

    symbol: str
    minute_ms: int
    end_ms: int
    known: float
    later: float
    changed: int
    reach: int
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came out for one column.

    Attributes
    ----------
    feature, column
        Name of the subject, and of its column if it has several.
    reason
        Why it is refused; None if it is not.
    evidence
        The first value that differed.
    detail
        What it said when it failed.
    has_values
        False where nothing but missing values came, so that nothing could be judged.
    """

    feature: str
    column: str = ""
    reason: Reason | None = None
    evidence: Evidence | None = None
    detail: str = ""
    has_values: bool = True

    @property
    def is_causal(self) -> bool:
        """Whether it may be used."""
        return self.reason is None

    @property
    def is_judged(self) -> bool:
        """Whether there was anything to judge: without a value, being well says nothing."""
        return self.has_values or not self.is_causal

    @property
    def name(self) -> str:
        """Name the feature, with its column."""
        return f"{self.feature} (column {self.column})" if self.column else self.feature

    @property
    def explanation(self) -> str:
        """Say what was seen, as the rest of a sentence that begins with the name; empty if all is well."""
        if self.reason is None:
            return ""
        seen = self.detail if self.evidence is None else _seen(self.reason, self.evidence)
        return f"{self.reason}: {seen}"

    @property
    def remedy(self) -> str:
        """Say what to do; empty where nothing was wrong."""
        if self.reason is None:
            return "" if self.has_values else _REMEDY_FOR_NOTHING
        if self.reason is Reason.CHANGES_PAST and self.evidence is not None:
            return _remedy_for_peeking(self.evidence)
        return _REMEDIES[self.reason]

    def __str__(self) -> str:
        if self.is_causal:
            return (
                f"{self.name} is causal"
                if self.has_values
                else f"{self.name} gives no values here. {self.remedy}"
            )
        return f"{self.name} {self.explanation}. {self.remedy}"


_REMEDIES = {
    Reason.SAME_MINUTE: "Take other symbols as of their previous minute (shift them by one)",
    Reason.NOT_REPEATABLE: "Compute it from the candles alone, with fixed seeds",
    Reason.REMEMBERS: "Compute it from the candles it is given, and keep nothing between calls",
    Reason.FAILS: "Give one number per candle, NaN where there are too few",
}
_REMEDY_FOR_NOTHING = (
    "Shorten its warm-up, so that it has values on the proving market; if it waits for candles further ahead "
    "than that, it looks ahead"
)


def _remedy_for_peeking(evidence: Evidence) -> str:
    if evidence.is_whole:
        return (
            "It is made with the whole history: take means, ranks, fits and filters over a rolling or "
            "expanding window that ends at the candle"
        )
    count = evidence.reach
    return (
        f"It looks up to {count} {'candle' if count == 1 else 'candles'} ahead: shift it by as many, let its "
        "windows end at the candle, or take longer bars only when they are over"
    )


def _seen(reason: Reason, evidence: Evidence) -> str:
    where = f"{evidence.symbol} at {_minute(evidence.minute_ms)}"
    known, later = _number(evidence.known), _number(evidence.later)
    if reason in (Reason.NOT_REPEATABLE, Reason.REMEMBERS):
        return f"{where} was {known}, then {later}"
    more = f", and {evidence.changed - 1} more values with it" if evidence.changed > 1 else ""
    difference = evidence.later - evidence.known
    by = f" (by {difference:.3g})" if math.isfinite(difference) else ""
    return (
        f"{where} was {known} when history ended at {_minute(evidence.end_ms)}, and is {later} with later "
        f"candles{by}{more}"
    )


def _minute(time_ms: int) -> str:
    return f"{np.datetime64(time_ms, 'ms').astype('datetime64[m]')}Z"


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.12g}"
