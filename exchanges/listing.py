"""Which of the wanted symbols an exchange lists, and under which names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from exchanges.alarms import Alarms


class UnknownSymbolError(ValueError):
    """None of the wanted symbols is listed on the exchange, or one is not fed."""


class Listing:
    """Maps ids such as BTCUSDT to ccxt's and the exchange's names.

    Parameters
    ----------
    exchange
        Its name, for messages.
    symbols
        The wanted ids.
    alarms
        Are told of symbols that are not listed.
    """

    def __init__(self, exchange: str, symbols: tuple[str, ...], alarms: Alarms) -> None:
        self._exchange = exchange
        self._symbols = symbols
        self._alarms = alarms
        self.pairs: dict[str, str] = {}
        self.by_market_id: dict[str, str] = {}

    def update(self, markets: Mapping[str, Any]) -> bool:
        """Take what is listed now, and tell whether a wanted symbol is new in it.

        Raises
        ------
        UnknownSymbolError
            If none is listed.
        """
        listed = {f"{each['base']}{each['quote']}": each for each in markets.values() if each.get("spot")}
        before = len(self.pairs)
        missing = []
        for symbol in self._symbols:
            market = listed.get(symbol)
            if market is not None:
                self.pairs[symbol] = market["symbol"]
                self.by_market_id[market["id"]] = symbol
            elif symbol not in self.pairs:
                near = difflib.get_close_matches(symbol, listed, n=3, cutoff=0.5)
                hint = f"; listed and nearest: {', '.join(near)}" if near else ""
                missing.append(f"{symbol} is not listed on {self._exchange}{hint}")
                self._alarms.raise_once("unknown_symbol", missing[-1], symbol)
        if not self.pairs:
            raise UnknownSymbolError("; ".join(missing))
        return len(self.pairs) > before
