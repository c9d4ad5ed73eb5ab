"""Scores of forecasts by version, symbol, type, horizon and day: the sums of which every score is made.

The day is that of the event time at which the outcome was known, in UTC: the candle of 23:59 counts for the
day that begins when it closes. Sums are kept for the day that a symbol is in, and handed out whole (not as
increments) whenever they have grown; once the symbol's next day begins they are forgotten.

What counts, as in `domain.evaluation.metrics`:

- price_direction and trend: `moved` are the outcomes other than exactly zero, `hits` those of the stated
  sign; a forecast of exactly zero takes no side and counts as half a hit, with a Brier term of 0.25. "No
  change" is 0.
- volatility: `moved` are all, `hits` those within a quarter of the stated value (what its confidence speaks
  of). "No change" is the volatility over the last `h` minutes, or the stated one where that was not known.

A price forecast that was made too late to act on is in no score (its reason says `too old`).

The Brier term is (confidence - hit)^2. The interval score of [l, u] with level 1 - alpha is
u - l + 2 / alpha * (l - actual or 0) + 2 / alpha * (actual - u or 0) (Gneiting and Raftery 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from domain.forecasting.confidence import VOLATILITY_TOLERANCE
from domain.forecasting.conformal import MISSES
from domain.forecasting.stated import (
    ACTUAL,
    CONFIDENCE,
    LOWER_80,
    NOT_SCORED,
    PREDICTED,
    PRICE,
    REFERENCE,
    UPPER_80,
    VOLATILITY,
    Judged,
)
from schemas.frames import Bool, Float64, Int32, Int64

DAY_MINUTES = 1440
#: The sums, in this order. Counts are whole numbers in float64; hits may be halves.
SUMS = (
    "n",
    "moved",
    "hits",
    "squared_error",
    "absolute_error",
    "no_change_squared",
    "brier",
    "covered_80",
    "covered_95",
    "width_80",
    "width_95",
    "interval_score_80",
    "interval_score_95",
    "first_minute",
    "last_minute",
)
_N, _MOVED, _HITS, _SQUARED, _ABSOLUTE, _NO_CHANGE, _BRIER, _COVERED, _WIDTH, _INTERVAL = (
    *range(8),
    9,
    11,
)
_FIRST, _LAST = 13, 14
NO_DAY = -1
#: No version here.
FREE = -1
#: The rules for volatility and trend, in this order, have one version each: they need no number.
RULES = 2
_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums that have grown, one entry for each symbol, horizon and day.

    Attributes
    ----------
    symbol_index, horizon_index, day
        Which; days since the epoch.
    version
        Shape (entries, places): first `FREE` for each of the rules, then the numbers of the versions that
        forecast the price, `FREE` behind the last.
    sums
        Shape (entries, places, sums), in the order of `SUMS`: of the volatility's rule, the trend's rule, and
        each version. Minutes are event times since the epoch.
    """

    symbol_index: Int64
    horizon_index: Int64
    day: Int64
    version: Int32
    sums: Float64


class ScoreBook:
    """The sums of the day that each symbol is in.

    Parameters
    ----------
    symbols
        How many.
    horizons
        Minutes ahead.
    """

    def __init__(self, *, symbols: int, horizons: tuple[int, ...]) -> None:
        # What lies outside by one costs this much; an argument, since what is compiled would keep an old one.
        self._penalties = 2.0 / np.array(MISSES)
        self.day: Int64 = np.full(symbols, NO_DAY, np.int64)
        #: (symbol, horizon, [volatility, trend, then one place for each version that forecast the price])
        self.version: Int32 = np.full((symbols, len(horizons), RULES + _PLACES), FREE, np.int32)
        self.sums: Float64 = np.zeros((*self.version.shape, len(SUMS)))

    def advance(self, *, symbol_index: Int64, minute: Int64, settles: Bool, judged: Judged) -> Totals:
        """Add what falls due, and hand out every sum that has grown.

        Parameters
        ----------
        symbol_index, minute
            The candles, in order per symbol.
        settles
            Shape (rows, horizons): whether the row brings the outcome of a forecast.
        judged
            What was stated about it.
        """
        symbols, horizons, places = self.version.shape
        days = int(np.ptp((minute + 1) // DAY_MINUTES)) + 1 if len(minute) else 0
        room = min(int(np.count_nonzero(settles)), symbols * horizons * days)
        key = np.empty((room, 3), np.int64)
        version, sums = np.empty((room, places), np.int32), np.empty((room, places, len(SUMS)))
        grown = np.zeros((symbols, horizons), np.bool_)
        row, found = 0, 0
        while row < len(minute):
            row, found = _advance(
                row,
                found,
                symbol_index,
                minute,
                settles,
                judged.past,
                judged.past_version,
                self._penalties,
                VOLATILITY_TOLERANCE,
                self.day,
                self.version,
                self.sums,
                grown,
                key,
                version,
                sums,
            )
            if row < len(minute):
                self.version, self.sums = _wider(self.version, self.sums)
                version, sums = _wider(version, sums)
        found = _hand_out_all(self.day, self.version, self.sums, grown, key, version, sums, found)
        return Totals(
            symbol_index=key[:found, 0],
            horizon_index=key[:found, 1],
            day=key[:found, 2],
            version=version[:found],
            sums=sums[:found],
        )

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        """Hand out the state."""
        return {"day": self.day, "version": self.version, "sums": self.sums}

    def take(self, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> None:
        """Go on from the state of `arrays`."""
        self.day = arrays["day"].astype(np.int64)
        self.version = arrays["version"].astype(np.int32)
        self.sums = arrays["sums"].astype(np.float64)


def _wider(version: Int32, sums: Float64) -> tuple[Int32, Float64]:
    """Make room for twice as many versions that forecast one symbol and horizon on one day."""
    more = [(0, version.shape[-1] - RULES)]
    before = [(0, 0)] * (version.ndim - 1)
    return (
        np.pad(version, [*before, *more], constant_values=FREE),
        np.pad(sums, [*before, *more, (0, 0)]),
    )


# Hands out the sums of a symbol that have grown; returns how many entries there are then.
def _hand_out_rule(
    s: int,
    day: Int64,
    version: Int32,
    sums: Float64,
    grown: Bool,
    out_key: Int64,
    out_version: Int32,
    out_sums: Float64,
    found: int,
) -> int:
    for j in range(version.shape[1]):
        if grown[s, j]:
            grown[s, j] = False
            out_key[found, 0] = s
            out_key[found, 1] = j
            out_key[found, 2] = day[s]
            out_version[found] = version[s, j]
            out_sums[found] = sums[s, j]
            found += 1
    return found


_hand_out = njit(cache=True)(_hand_out_rule)


def _hand_out_all_rule(
    day: Int64,
    version: Int32,
    sums: Float64,
    grown: Bool,
    out_key: Int64,
    out_version: Int32,
    out_sums: Float64,
    found: int,
) -> int:
    for s in range(len(day)):
        found = _hand_out(s, day, version, sums, grown, out_key, out_version, out_sums, found)
    return found


# Finds the place of a version, taking a free one if it is new; -1 if there is none left.
def _place_rule(version: Int32, s: int, j: int, number: int) -> int:
    for place in range(RULES, version.shape[2]):
        if version[s, j, place] == number:
            return place
        if version[s, j, place] == FREE:
            version[s, j, place] = number
            return place
    return -1


_place = njit(cache=True)(_place_rule)


# Adds one judged forecast to its sums.
def _add_rule(
    past: Float64,
    forecast_type: int,
    known_minute: int,
    penalties: Float64,
    tolerance: float,
    sums: Float64,
) -> None:
    actual, predicted = past[ACTUAL], past[PREDICTED]
    error = actual - predicted
    hit, moved, brier = 0.0, 1.0, 0.0
    if forecast_type == VOLATILITY:
        hit = 1.0 if abs(error) <= tolerance * predicted else 0.0
        brier = (past[CONFIDENCE] - hit) ** 2
    elif actual == 0.0:
        moved = 0.0
    else:
        hit = (np.sign(actual) * np.sign(predicted) + 1.0) / 2.0
        brier = 0.25 if predicted == 0.0 else (past[CONFIDENCE] - hit) ** 2
    sums[_FIRST] = sums[_FIRST] if sums[_N] > 0.0 else known_minute
    sums[_LAST] = known_minute
    sums[_N] += 1.0
    sums[_MOVED] += moved
    sums[_HITS] += hit
    sums[_SQUARED] += error * error
    sums[_ABSOLUTE] += abs(error)
    sums[_NO_CHANGE] += (actual - past[REFERENCE]) ** 2
    sums[_BRIER] += brier
    for level in range(2):
        lower, upper = past[LOWER_80 + 2 * level], past[UPPER_80 + 2 * level]
        outside = max(lower - actual, 0.0) + max(actual - upper, 0.0)
        sums[_COVERED + level] += 1.0 if outside == 0.0 else 0.0
        sums[_WIDTH + level] += upper - lower
        sums[_INTERVAL + level] += upper - lower + penalties[level] * outside


_add = njit(cache=True)(_add_rule)


# Goes on from a row, and stops before one that needs a place where there is none. Returns the next row, and
# how many entries were handed out.
def _advance_rule(
    row: int,
    found: int,
    symbol_index: Int64,
    minute: Int64,
    settles: Bool,
    past: Float64,
    past_version: Int32,
    penalties: Float64,
    tolerance: float,
    day: Int64,
    version: Int32,
    sums: Float64,
    grown: Bool,
    out_key: Int64,
    out_version: Int32,
    out_sums: Float64,
) -> tuple[int, int]:
    for i in range(row, len(minute)):
        s = symbol_index[i]
        known_minute = minute[i] + 1
        today = known_minute // DAY_MINUTES
        if day[s] != today:
            found = _hand_out(s, day, version, sums, grown, out_key, out_version, out_sums, found)
            day[s] = today
            version[s] = FREE
            sums[s] = 0.0
        for j in range(version.shape[1]):
            number = past_version[i, j]
            if settles[i, j] and number != NOT_SCORED and _place(version, s, j, number) < 0:
                return i, found
        for j in range(version.shape[1]):
            if not settles[i, j]:
                continue
            for t in range(3):
                number = past_version[i, j]
                if math.isnan(past[i, j, t, ACTUAL]) or (t == PRICE and number == NOT_SCORED):
                    continue
                place = _place(version, s, j, number) if t == PRICE else t - 1
                _add(past[i, j, t], t, known_minute, penalties, tolerance, sums[s, j, place])
                grown[s, j] = True
    return len(minute), found


_advance = njit(cache=True)(_advance_rule)
_hand_out_all = njit(cache=True)(_hand_out_all_rule)
