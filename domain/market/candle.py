"""One minute of one symbol, and the tests that it must pass before anything may see it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from schemas.frames import MINUTE_MS

FaultKind = Literal[
    "malformed",  # not the shape or types of a candle
    "wrong_symbol",  # a symbol or interval that was not asked for
    "unaligned",  # open time is not a whole minute
    "future",  # the minute is not over by the exchange's clock
    "not_finite",  # NaN or infinite
    "price",  # zero or negative price
    "volume",  # negative volume
    "range",  # high below low
    "outside",  # open or close not within low..high
    "jump",  # too far from the last close; passes once the history has said it twice
]


#: By exact type, so that True is no number.
_NUMERIC = frozenset((str, int, float))


class Candle(NamedTuple):
    """One minute: open time in milliseconds UTC, prices in quote currency, volume in base currency."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing was traded: flat and without volume."""
        return self.volume == 0.0 and self.high == self.low == self.open == self.close

    @classmethod
    def flat(cls, open_time_ms: int, price: float) -> Candle:
        """Make the candle of a minute in which nothing was traded."""
        return cls(open_time_ms, price, price, price, price, 0.0)


def candle_of(open_time_ms: object, *fields: object) -> Candle:
    """Read a candle from what an exchange sent: numbers, or numbers as text.

    Raises
    ------
    ValueError
        If a field is missing or no number.
    """
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields, expected open, high, low, close, volume")
    if not _NUMERIC.issuperset(map(type, fields)):
        raise ValueError(f"{fields!r} are no numbers")
    return Candle(_whole(open_time_ms), *map(float, fields))  # type: ignore[arg-type] # just checked


def _whole(field: object) -> int:
    if type(field) is int:
        return field
    if isinstance(field, str):
        return int(field)
    if isinstance(field, float) and field.is_integer():
        return int(field)
    raise ValueError(f"{field!r} is no time in milliseconds")


def fault_of(candle: Candle) -> FaultKind | None:
    """Tell what makes a candle impossible by itself, or None."""
    t, opened, high, low, close, volume = candle
    if t % MINUTE_MS or t < 0:
        return "unaligned"
    # One pass for the common case: every comparison with NaN is false.
    if 0.0 < low <= opened <= high < math.inf and low <= close <= high and 0.0 <= volume < math.inf:
        return None
    if not all(map(math.isfinite, candle)):
        return "not_finite"
    if min(opened, high, low, close) <= 0.0:
        return "price"
    if volume < 0.0:
        return "volume"
    return "range" if high < low else "outside"


def is_ahead(candle: Candle, *, closed: bool, now_ms: int, tolerance_ms: int) -> bool:
    """Tell whether a candle speaks of a minute that the exchange's clock has not reached."""
    since_ms = candle.open_time_ms + (MINUTE_MS if closed else 0)
    return since_ms > now_ms + tolerance_ms


def jumps(candle: Candle, last_close: float | None, limit_pct: float) -> bool:
    """Tell whether a close lies absurdly far from the last one, as a ratio in either direction."""
    if last_close is None:
        return False
    factor = 1.0 + limit_pct / 100.0
    return not last_close / factor <= candle.close <= last_close * factor


def last_final_ms(now_ms: int, grace_ms: int) -> int:
    """Tell the last open minute whose end lies at least the grace behind the exchange's clock."""
    return (now_ms - grace_ms) // MINUTE_MS * MINUTE_MS - MINUTE_MS
