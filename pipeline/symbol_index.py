"""Where a stage keeps each of the symbols that a frame speaks of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.frames import CandleFrame, Int64


class SymbolIndex:
    """Maps the rows of frames onto a stage's own order of symbols.

    Parameters
    ----------
    symbols
        The stage's symbols. A frame may name others too, as long as no row is of them.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"symbols {tuple(symbols)} name one twice")
        self.symbols = tuple(symbols)
        self._named: tuple[str, ...] | None = None
        self._positions: Int64 = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.symbols)

    def positions(self, frame: CandleFrame) -> Int64:
        """Give each row of the frame its symbol's position in the stage.

        Raises
        ------
        ValueError
            If a row is of a symbol that the stage does not have.
        """
        if frame.symbols != self._named:
            own = {symbol: position for position, symbol in enumerate(self.symbols)}
            self._positions = np.array([own.get(symbol, -1) for symbol in frame.symbols], np.int64)
            self._named = frame.symbols
        found: Int64 = self._positions[frame.symbol_index]
        if len(found) and found.min() < 0:
            stranger = frame.symbols[int(frame.symbol_index[int(found.argmin())])]
            raise ValueError(
                f"a candle of {stranger!r}, which is not among this stage's symbols {self.symbols}: "
                "check that every worker reads the same settings"
            )
        return found


def require_new_minutes(index: SymbolIndex, position: Int64, minute: Int64, last_minute: Int64) -> None:
    """Check that minutes ascend for each symbol and are later than the last ones seen.

    Parameters
    ----------
    index
        Names for the message.
    position, minute
        The rows.
    last_minute
        One entry a symbol: minutes up to here are done.

    Raises
    ------
    ValueError
        Naming the first candle that comes twice or late.
    """
    order = np.argsort(position, kind="stable")
    s, m = position[order], minute[order]
    before = last_minute[s]
    before[1:] = np.where(s[1:] == s[:-1], m[:-1], before[1:])
    wrong = np.flatnonzero(m <= before)
    if len(wrong):
        k = int(wrong[0])
        raise ValueError(
            f"candle {np.datetime64(int(m[k]), 'm')} of {index.symbols[int(s[k])]} comes after minute "
            f"{np.datetime64(int(before[k]), 'm')} of the same symbol was done"
        )
