"""What was stated about every open forecast, its intervals, and what an outcome is judged against.

The places are those of `domain.forecasting.outcomes`: a forecast of `h` minutes made at minute `m` lies at
`m % h`. A place holds the values as float32 and, for its bounds, by how many 1/1024 of the expected error
they lie off; neighbouring minutes share those, so that a snapshot of thousands of places stays small. Bounds
are always made from these numbers, and judged as the table shows them, at eight decimals: scores can be
computed again from the tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from domain.forecasting.conformal import (
    MISSES,
    REACH_HORIZONS,
    STEPS,
    expected_errors,
    largest_excess,
    starting_quantiles,
)
from schemas.frames import Bool, Float32, Float64, Int16, Int32, Int64

UInt16 = NDArray[np.uint16]


#: Types of forecasts, as positions.
PRICE, VOLATILITY, TREND = 0, 1, 2
#: Positions in what was stated.
PREDICTED, LOWER_80, UPPER_80, LOWER_95, UPPER_95 = 0, 1, 2, 3, 4
#: Positions in what is judged, behind the five that were stated. The reference is what "no change" says.
ACTUAL, CONFIDENCE, REFERENCE = 5, 6, 7
_JUDGED = 8
#: In place of a version's number.
NOT_SCORED = -1
#: One, in the last decimal of the columns that hold values.
_UNIT = 1e8
#: One expected error, in units of a stated reach; and the largest reach.
_REACH = 1024.0
_MOST = 63.0
#: The largest logarithm by which a volatility's bound lies off: 3,000 times as much still fits its column.
_MOST_LOG = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was stated where an outcome has come, and the new intervals.

    Attributes
    ----------
    said
        Shape (rows, horizons, types, 5): what is stated at each row, in the order of `PREDICTED`, `LOWER_80`,
        ... `UPPER_95`; NaN where no forecast is made.
    past
        Shape (rows, horizons, types, 8): what was stated about the outcome that the row brings, then the
        outcome, the confidence as a probability, and the no-change value; NaN where it brings none.
    past_version
        Shape (rows, horizons): number of the version that made the price forecast; `NOT_SCORED` where there
        is none, or where it is in no score.
    """

    said: Float64
    past: Float64
    past_version: Int32

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """Put rows behind one another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            said=np.concatenate([part.said for part in parts]),
            past=np.concatenate([part.past for part in parts]),
            past_version=np.concatenate([part.past_version for part in parts]),
        )


class StatedForecasts:
    """What was stated of every open forecast, and the quantiles of the intervals.

    Parameters
    ----------
    symbols
        How many.
    horizons
        Minutes ahead.
    """

    def __init__(self, *, symbols: int, horizons: tuple[int, ...]) -> None:
        self._horizons = np.array(horizons, np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(self._horizons)[:-1]]).astype(np.int64)
        self._errors = expected_errors(horizons)
        self._starts = starting_quantiles(horizons)
        # Constants go into compiled rules as arguments: what is compiled is kept, and would keep old ones.
        self._learning = np.stack([np.array(STEPS), np.full(3, REACH_HORIZONS), largest_excess()], axis=1)
        self._misses = np.array(MISSES)
        places = int(self._horizons.sum())
        self.predicted = np.zeros((symbols, places, 3), np.float32)
        self.reach = np.zeros((symbols, places, 3, 4), np.uint16)
        self.reference = np.zeros((symbols, places), np.float32)
        self.confidence = np.zeros((symbols, places, 3), np.int16)
        self.version = np.zeros((symbols, places), np.int32)
        #: (symbol, horizon, type, [lower 80, upper 80, lower 95, upper 95]), in units of the expected error
        self.quantile = np.broadcast_to(self._starts, (symbols, *self._starts.shape)).copy()
        self.excess = np.zeros_like(self.quantile)

    def advance(
        self,
        *,
        symbol_index: Int64,
        minute: Int64,
        issued: Bool,
        settles: Bool,
        actual: Float64,
        predicted: Float32,
        reference_pct: Float64,
        confidence: Float64,
        widen: Float64,
        version: Int32,
        lift: Float64 | None = None,
    ) -> Judged:
        """Judge what falls due, let the quantiles learn from it, and state the intervals of each row.

        Parameters
        ----------
        symbol_index, minute
            The candles, in order per symbol.
        issued, settles
            As `OpenForecasts.advance` found them.
        actual
            Shape (rows, horizons, types): what happened over the horizon that ends with the row, or NaN.
        predicted
            Shape (rows, horizons, types): what is forecast at the row.
        reference_pct
            Shape (rows, horizons): the volatility that was seen over the last span of the horizon's length;
            NaN where it is not known, and then the stated one is the reference.
        confidence
            Shape (rows, horizons, types), 0 to 100.
        widen
            Shape (rows, horizons): factor on the interval of the price. Misses count against the interval as
            it was stated, so where the factor was not needed the quantiles take it back in time.
        version
            Shape (rows, horizons): number of the version that makes the price forecast; `NOT_SCORED` leaves
            the price forecast out of all scores.
        lift
            Shape (rows, horizons, types, levels): factor by which the quantiles are moved at the row, behind
            what they learn from it. Later outcomes move them on from there.
        """
        rows, n = len(minute), len(self._horizons)
        said = np.full((rows, n, 3, 5), np.nan)
        past = np.full((rows, n, 3, _JUDGED), np.nan)
        past_version = np.full((rows, n), NOT_SCORED, np.int32)
        _advance(
            symbol_index,
            minute,
            issued,
            settles,
            actual,
            predicted,
            np.where(np.isnan(reference_pct), predicted[:, :, VOLATILITY], reference_pct),
            hundredths(confidence),
            widen,
            np.ones((rows, n, 3, 2)) if lift is None else lift,
            version,
            self._horizons,
            self._offsets,
            self._errors,
            self._starts,
            self._learning,
            self._misses,
            self.predicted,
            self.reach,
            self.reference,
            self.confidence,
            self.version,
            self.quantile,
            self.excess,
            said,
            past,
            past_version,
        )
        return Judged(said=said, past=past, past_version=past_version)

    def arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        """Hand out the state."""
        return {name: getattr(self, name) for name in _STATE}

    def take(self, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> None:
        """Go on from the state of `arrays`."""
        for name in _STATE:
            getattr(self, name)[...] = arrays[name]


def hundredths(confidence: Float64) -> Int16:
    """Round a confidence of 0 to 100 as its column does, to hundredths of a percent."""
    whole = np.floor(confidence)
    rounded: Int16 = (100.0 * whole + np.rint(100.0 * (confidence - whole))).astype(np.int16)
    return rounded


# A value as its column shows it.
def _as_stored_rule(value: float) -> float:
    size = abs(value)
    if not size < math.inf:
        return value
    whole = math.floor(size)
    size = whole + float(np.rint((size - whole) * _UNIT)) / _UNIT
    return -size if value < 0.0 else size


_as_stored = njit(cache=True)(_as_stored_rule)


# Writes a prediction and its bounds.
def _bounds_rule(predicted: Float32, reach: UInt16, error: Float64, forecast_type: int, out: Float64) -> None:
    middle = float(predicted[forecast_type])
    out[PREDICTED] = middle
    for k in range(4):
        away = reach[k] / _REACH if k % 2 else -(reach[k] / _REACH)
        if forecast_type == VOLATILITY:
            out[k + 1] = middle * math.exp(away)
        else:
            out[k + 1] = middle + away * error[forecast_type] * float(predicted[VOLATILITY])


_bounds = njit(cache=True)(_bounds_rule)


# Moves the quantiles of one type after an outcome.
def _learn_rule(
    past: Float64,
    forecast_type: int,
    horizon: int,
    start: Float64,
    learning: Float64,
    misses: Float64,
    q: Float64,
    excess: Float64,
) -> None:
    step, reach, most = learning
    for level in range(2):
        below = past[ACTUAL] < past[LOWER_80 + 2 * level]
        above = past[ACTUAL] > past[UPPER_80 + 2 * level]
        share = misses[level] / 2.0 if forecast_type == VOLATILITY else misses[level]
        for side in range(2):
            k = 2 * level + side
            if forecast_type == VOLATILITY:
                missed = above if side else below
            elif side:  # both sides of a price or a trend are one
                excess[k], q[k] = excess[k - 1], q[k - 1]
                continue
            else:
                missed = below or above
            excess[k] = min(max(excess[k] + ((1.0 if missed else 0.0) - share) / horizon, -most), most)
            q[k] = start[k] * math.exp(step * reach * math.sinh(excess[k] / reach))


_learn = njit(cache=True)(_learn_rule)


# Multiplies a quantile, within its bounds, as if outcomes had moved it there.
def _lift_rule(factor: float, k: int, start: Float64, learning: Float64, q: Float64, excess: Float64) -> None:
    step, reach, most = learning
    wanted = reach * math.asinh(math.log(q[k] * factor / start[k]) / (step * reach))
    excess[k] = min(max(wanted, -most), most)
    q[k] = start[k] * math.exp(step * reach * math.sinh(excess[k] / reach))


_lift = njit(cache=True)(_lift_rule)


# Row by row: what falls due is read from its place and moves the quantiles, then the row's own forecasts are
# stated with them and take the place.
def _advance_rule(
    symbol_index: Int64,
    minute: Int64,
    issued: Bool,
    settles: Bool,
    actual: Float64,
    predicted: Float32,
    reference: Float64,
    confidence: Int16,
    widen: Float64,
    lift: Float64,
    version: Int32,
    horizons: Int64,
    offsets: Int64,
    errors: Float64,
    starts: Float64,
    learning: Float64,
    misses: Float64,
    ring_predicted: Float32,
    ring_reach: UInt16,
    ring_reference: Float32,
    ring_confidence: Int16,
    ring_version: Int32,
    quantile: Float64,
    excess: Float64,
    out_said: Float64,
    out_past: Float64,
    out_version: Int32,
) -> None:
    for i in range(len(minute)):
        s = symbol_index[i]
        for j in range(len(horizons)):
            place = offsets[j] + minute[i] % horizons[j]
            if settles[i, j]:
                out_version[i, j] = ring_version[s, place]
                for t in range(3):
                    past = out_past[i, j, t]
                    _bounds(ring_predicted[s, place], ring_reach[s, place, t], errors[j], t, past)
                    past[ACTUAL] = actual[i, j, t]
                    for k in range(ACTUAL + 1):
                        past[k] = _as_stored(past[k])
                    past[CONFIDENCE] = ring_confidence[s, place, t] / 10000.0
                    past[REFERENCE] = ring_reference[s, place] if t == VOLATILITY else 0.0
                    if not math.isnan(past[ACTUAL]):
                        _learn(
                            past,
                            t,
                            horizons[j],
                            starts[j, t],
                            learning[t],
                            misses,
                            quantile[s, j, t],
                            excess[s, j, t],
                        )
            for t in range(3):
                for k in range(4):
                    if lift[i, j, t, k // 2] != 1.0:
                        _lift(
                            lift[i, j, t, k // 2],
                            k,
                            starts[j, t],
                            learning[t],
                            quantile[s, j, t],
                            excess[s, j, t],
                        )
            if not issued[i]:
                continue
            ring_predicted[s, place] = predicted[i, j]
            ring_reference[s, place] = reference[i, j]
            ring_version[s, place] = version[i, j]
            for t in range(3):
                ring_confidence[s, place, t] = confidence[i, j, t]
                q, reach = quantile[s, j, t], ring_reach[s, place, t]
                most = _MOST_LOG if t == VOLATILITY else _MOST
                factor = widen[i, j] if t == PRICE else 1.0
                for k in range(4):
                    # The wider level is never the narrower one.
                    wide = max(q[k], q[k - 2]) if k >= 2 else q[k]
                    reach[k] = np.uint16(np.rint(min(wide * factor, most) * _REACH))
                _bounds(predicted[i, j], reach, errors[j], t, out_said[i, j, t])


_advance = njit(cache=True)(_advance_rule)

_STATE = ("predicted", "reach", "reference", "confidence", "version", "quantile", "excess")
