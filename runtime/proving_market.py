"""The market on which features are tried: a generated one, with every kind of trouble put into it."""

from __future__ import annotations

from functools import cache

import numpy as np

from domain.features.cuts import History, Market
from exchanges.generator import GeneratedMarket
from schemas.frames import MINUTE_MS, Bool, Float64

#: Two that trade every minute, one of another price level, and one with quiet minutes.
SYMBOLS = ("BTCUSDT", "ADAUSDT", "HBARUSDT", "ETHUSDT")
_SEED = 20_210_228
#: A Sunday's 14:00 UTC: the first midnight begins a day, a week and a month.
_FROM_MS = 1_614_520_800_000
#: Minutes without a candle, from and to: of all symbols, and of single ones.
_HALT = (180, 210)
_GAPS = {
    "BTCUSDT": ((423, 425), (1_611, 1_612), (2_350, 2_353)),
    "ADAUSDT": ((341, 342), (655, 659), (2_205, 2_208)),
    "HBARUSDT": ((700, 791), (1_240, 1_246), (1_900, 1_903)),
    "ETHUSDT": ((905, 910), (2_650, 2_651)),
}
_QUIET = (560, 576)
_NEW_REGIME = 520
_CRASH, _JUMP = 480, 860
_SURGES = {"BTCUSDT": (640, 2_400), "ADAUSDT": (777,), "HBARUSDT": (300, 1_950), "ETHUSDT": (1_111,)}


@cache
def proving_market(minutes: int, symbols: tuple[str, ...] = SYMBOLS) -> Market:
    """Make the market; the same for ever.

    Parameters
    ----------
    minutes
        Its length. 1,000 hold one midnight and most of the trouble, 3,000 let every feature of the vector
        warm up.
    symbols
        Which of `SYMBOLS` are in it.
    """
    generated = GeneratedMarket(SYMBOLS, seed=_SEED)
    return {
        symbol: _history(
            symbol, np.array(generated.candles(symbol, _FROM_MS, _FROM_MS + minutes * MINUTE_MS))
        )
        for symbol in symbols
    }


def _history(symbol: str, rows: Float64) -> History:
    number = np.arange(len(rows))
    prices, volume = rows[:, 1:5], rows[:, 5]
    # Powers and factors leave a candle a candle.
    calm = prices[min(_NEW_REGIME, len(rows) - 1), 3]
    prices[number >= _NEW_REGIME] = calm * (prices[number >= _NEW_REGIME] / calm) ** 2.0
    prices[number >= _JUMP] *= 1.15
    prices[number == _CRASH, 2] *= 0.7
    for minute in _SURGES[symbol]:
        volume[number == minute] *= 250.0
    if symbol == "HBARUSDT":
        still = (number >= _QUIET[0]) & (number < _QUIET[1])
        prices[still], volume[still] = prices[_QUIET[0], 3], 0.0
    there = _there(symbol, number)
    return History(
        open_time_ms=rows[there, 0].astype(np.int64),
        ohlcv=np.ascontiguousarray(rows[there, 1:]),
    )


def _there(symbol: str, number: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Bool:
    there = np.ones(len(number), np.bool_)
    for start, end in (_HALT, *_GAPS[symbol]):
        there[start:end] = False
    return there
