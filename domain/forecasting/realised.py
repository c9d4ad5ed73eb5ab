"""What the last minutes really did: volatility, slope and efficiency over several windows at once.

One definition serves twice. Over the `h` minutes that end now, these numbers are the *outcome* of a forecast
made `h` minutes ago, and the best *predictors* of the next `h` minutes.

The window of `h` minutes that ends with minute `m` holds the closes of `m-h+1 .. m` and the one-minute log
returns into those minutes; a return exists where both its minutes do. A window in which less than
`MIN_SHARE` of the closes (for the slope) or of the returns (for the volatility) exist has no value.

- volatility: sample standard deviation (n - 1) of the returns, in percent
- slope: least-squares slope of log close over the minute, in percent per hour
- efficiency: |sum of returns| / sum of |returns|, in 0..1; a straight line has 1, a walk of n steps about
  1/sqrt(n)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from schemas.frames import Bool, Float64, Int64

#: A window with a smaller share of its minutes has no value.
MIN_SHARE = 0.8
#: Minutes of the efficiency.
EFFICIENCY_MINUTES = 60
NEVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """Measurements after each of some candles.

    Attributes
    ----------
    volatility_pct, slope_pct_per_hour
        Shape (rows, windows): over the window that ends with the row; NaN where too much is missing.
    known_volatility_pct, known_slope_pct_per_hour
        The same, with the last value that there was where the present one is missing; NaN if there was none.
    efficiency
        Over the last hour, the last known value; NaN before the first.
    change_pct
        Shape (rows, horizons): percent change from the close `h` minutes ago; NaN if there was none.
    """

    volatility_pct: Float64
    slope_pct_per_hour: Float64
    known_volatility_pct: Float64
    known_slope_pct_per_hour: Float64
    efficiency: Float64
    change_pct: Float64


class CloseHistory:
    """The last closes of every symbol, as rings by minute.

    Parameters
    ----------
    symbols
        How many.
    windows
        Minutes of the windows to measure, ascending.
    horizons
        Minutes back to which changes are wanted.
    """

    def __init__(self, *, symbols: int, windows: tuple[int, ...], horizons: tuple[int, ...]) -> None:
        if list(windows) != sorted(set(windows)) or windows[0] < 2:
            raise ValueError(f"windows {windows} must ascend and have at least 2 minutes each")
        self.windows = np.array(windows, np.int64)
        self.horizons = np.array(horizons, np.int64)
        size = max(*windows, *horizons, EFFICIENCY_MINUTES) + 1
        self.last_minute = np.full(symbols, NEVER, np.int64)
        self.close = np.full((symbols, size), np.nan)
        self.log_close = np.full((symbols, size), np.nan)
        self.known = np.full((symbols, 2 * len(windows) + 1), np.nan)

    def advance(self, symbol_index: Int64, minute: Int64, close: Float64) -> Realised:
        """Take in candles, in order per symbol, and measure after each of them."""
        rows, windows = len(minute), len(self.windows)
        volatility, slope = np.empty((rows, windows)), np.empty((rows, windows))
        known = np.empty((rows, 2 * windows + 1))
        change = np.empty((rows, len(self.horizons)))
        _advance(
            symbol_index,
            minute,
            close,
            self.windows,
            self.horizons,
            self.last_minute,
            self.close,
            self.log_close,
            self.known,
            volatility,
            slope,
            known,
            change,
        )
        return Realised(
            volatility_pct=volatility,
            slope_pct_per_hour=slope,
            known_volatility_pct=known[:, :windows],
            known_slope_pct_per_hour=known[:, windows : 2 * windows],
            efficiency=known[:, -1],
            change_pct=change,
        )

    def arrays(self) -> dict[str, Float64 | Int64 | Bool]:
        """Hand out the state; what can be computed again is left out."""
        return {"last_minute": self.last_minute, "close": self.close, "known": self.known}

    def take(self, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> None:
        """Go on from the state of `arrays`."""
        for name in ("last_minute", "close", "known"):
            getattr(self, name)[...] = arrays[name]
        _take_logs(self.close, self.log_close)


def _take_logs_rule(close: Float64, log_close: Float64) -> None:
    for s in range(close.shape[0]):
        for k in range(close.shape[1]):
            value = close[s, k]
            log_close[s, k] = math.log(value) if value > 0.0 else np.nan


# The update rule: one pass backwards over the ring gathers the sums, and each window is read off as its
# length is reached. Nothing is carried from row to row but the closes themselves, so no error can build up
# and any split of the rows gives the same bits.
def _advance_rule(
    symbol_index: Int64,
    minute: Int64,
    close: Float64,
    windows: Int64,
    horizons: Int64,
    last_minute: Int64,
    ring_close: Float64,
    ring_log: Float64,
    known: Float64,
    out_volatility: Float64,
    out_slope: Float64,
    out_known: Float64,
    out_change: Float64,
) -> None:
    size = ring_close.shape[1]
    n_windows = len(windows)
    longest = windows[n_windows - 1]
    for i in range(len(minute)):
        s, m = symbol_index[i], minute[i]
        if last_minute[s] != NEVER:
            for k in range(min(m - last_minute[s] - 1, size)):
                gap = (m - 1 - k) % size
                ring_close[s, gap] = np.nan
                ring_log[s, gap] = np.nan
        last_minute[s] = m
        here = m % size
        ring_close[s, here] = close[i] if close[i] > 0.0 else np.nan
        ring_log[s, here] = math.log(close[i]) if close[i] > 0.0 else np.nan

        for j in range(len(horizons)):
            before = ring_close[s, (m - horizons[j]) % size]
            out_change[i, j] = 100.0 * (ring_close[s, here] / before - 1.0)

        base = ring_log[s, here]
        returns, r_sum, r_squares, r_path = 0, 0.0, 0.0, 0.0
        closes, x_sum, x_squares, y_sum, xy_sum = 0, 0.0, 0.0, 0.0, 0.0
        window = 0
        position = here
        value = ring_log[s, position]
        for k in range(max(longest, EFFICIENCY_MINUTES)):
            position = position - 1 if position > 0 else size - 1
            previous = ring_log[s, position]
            if not math.isnan(value):
                x, y = -float(k), value - base
                closes += 1
                x_sum += x
                x_squares += x * x
                y_sum += y
                xy_sum += x * y
                r = value - previous
                if not math.isnan(r):
                    returns += 1
                    r_sum += r
                    r_squares += r * r
                    r_path += abs(r)
            value = previous
            length = k + 1
            if length == EFFICIENCY_MINUTES and returns >= MIN_SHARE * length:
                known[s, 2 * n_windows] = abs(r_sum) / r_path if r_path > 0.0 else 0.0
            if window < n_windows and length == windows[window]:
                volatility, slope = np.nan, np.nan
                if returns >= 2 and returns >= MIN_SHARE * length:
                    variance = (r_squares - r_sum * r_sum / returns) / (returns - 1)
                    volatility = 100.0 * math.sqrt(max(variance, 0.0))
                    known[s, window] = volatility
                if closes >= 2 and closes >= MIN_SHARE * length and not math.isnan(base):
                    spread = closes * x_squares - x_sum * x_sum
                    slope = 6000.0 * (closes * xy_sum - x_sum * y_sum) / spread
                    known[s, n_windows + window] = slope
                out_volatility[i, window] = volatility
                out_slope[i, window] = slope
                window += 1
        for k in range(2 * n_windows + 1):
            out_known[i, k] = known[s, k]


_take_logs = njit(cache=True)(_take_logs_rule)
_advance = njit(cache=True)(_advance_rule)
