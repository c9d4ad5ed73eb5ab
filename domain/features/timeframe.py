"""Time frames: RSI, trend and true range of 5-, 15- and 60-minute candles, aligned to the clock."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, HIGH, LOW
from domain.indicators.base.window import push, total
from schemas.frames import Float64

FRAME_MINUTES = (5, 15, 60)
PERIOD = 14
TREND_BARS = 10

FEATURES = tuple(
    feature
    for minutes in FRAME_MINUTES
    for feature in (
        Feature(
            name=f"rsi_{minutes}m",
            unit="points, 0 to 100",
            formula=f"100·Σ rises/Σ moves over {PERIOD} changes of the {minutes}-minute close, the last "
            "to the newest close; 50 where nothing moved (a plain mean, so that no older bar matters)",
            source="David M. Cutler's RSI, after J. Welles Wilder (1978)",
            warm_up=(PERIOD + 1) * minutes + 1,
        ),
        Feature(
            name=f"trend_{minutes}m",
            unit="percent of the close per bar",
            formula=f"100/close · least-squares slope of the last {TREND_BARS} closes of {minutes}-minute "
            "bars, the newest close among them",
            source="definition",
            warm_up=(PERIOD + 1) * minutes + 1,
        ),
        Feature(
            name=f"atr_{minutes}m",
            unit="percent of the close",
            formula=f"100/close · mean true range of the last {PERIOD} closed {minutes}-minute bars",
            source="J. Welles Wilder (1978), with a plain mean",
            warm_up=(PERIOD + 1) * minutes + 1,
        ),
    )
)

# state: bars closed; the forming bar's number, high, low and newest close; what the closed bars contribute
# to each feature; the closes of the last 14 bars and the true ranges of as many. The bar in which history
# starts counts with its close only: its high and low may be missing.
_BARS, _NUMBER, _HIGH, _LOW, _CLOSE, _RISES, _MOVES, _LEAN, _RANGE, _CLOSES = range(10)
_RANGES = _CLOSES + PERIOD
FRAME_STATE = _RANGES + PERIOD
TIMEFRAMES_STATE = len(FRAME_MINUTES) * FRAME_STATE
_MIDDLE = 0.5 * (TREND_BARS - 1)
_SPREAD = TREND_BARS * (TREND_BARS * TREND_BARS - 1.0) / 12.0


@compiled
def _close_bar(state: Float64) -> None:
    closes = state[_CLOSES : _CLOSES + PERIOD]
    ranges = state[_RANGES : _RANGES + PERIOD]
    previous = closes[PERIOD - 1]
    push(closes, state[_CLOSE])
    if state[_BARS] > 0.0:
        push(ranges, max(state[_HIGH], previous) - min(state[_LOW], previous))
    state[_BARS] += 1.0
    rises = moves = lean = 0.0
    for i in range(1, PERIOD):
        step = closes[i] - closes[i - 1]
        rises += max(step, 0.0)
        moves += abs(step)
    first = PERIOD + 1 - TREND_BARS
    for i in range(TREND_BARS - 1):
        lean += (i - _MIDDLE) * (closes[first + i] - state[_CLOSE])
    state[_RISES] = rises
    state[_MOVES] = moves
    state[_LEAN] = lean
    state[_RANGE] = total(ranges) / PERIOD


@compiled
def update_frame(
    state: Float64, candle: Float64, candles: int, minute: int, frame_minutes: int, out: Float64
) -> None:
    """Take in one candle of one time frame, the `candles`-th; `minute` counts since 1970."""
    number = minute // frame_minutes
    close = candle[CLOSE]
    if candles > 1 and state[_NUMBER] == number:
        state[_HIGH] = max(state[_HIGH], candle[HIGH])
        state[_LOW] = min(state[_LOW], candle[LOW])
    else:
        if candles > 1:
            _close_bar(state)
        state[_NUMBER] = number
        state[_HIGH] = candle[HIGH]
        state[_LOW] = candle[LOW]
    state[_CLOSE] = close
    if state[_BARS] <= PERIOD:
        out[0] = math.nan
        out[1] = math.nan
        out[2] = math.nan
        return
    step = close - state[_CLOSES + PERIOD - 1]
    moves = state[_MOVES] + abs(step)
    out[0] = 100.0 * (state[_RISES] + max(step, 0.0)) / moves if moves > 0.0 else 50.0
    out[1] = 100.0 * (state[_LEAN] + _MIDDLE * step) / (_SPREAD * close)
    out[2] = 100.0 * state[_RANGE] / close


@compiled
def update(state: Float64, candle: Float64, candles: int, minute: int, out: Float64) -> None:
    """Take in one candle; `out` is three features of each time frame."""
    for i in range(len(FRAME_MINUTES)):
        update_frame(
            state[i * FRAME_STATE : (i + 1) * FRAME_STATE],
            candle,
            candles,
            minute,
            FRAME_MINUTES[i],
            out[3 * i : 3 * i + 3],
        )
