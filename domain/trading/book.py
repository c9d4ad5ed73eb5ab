"""The trades of one strategy: at most one at a time for each symbol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from domain.trading.costs import Costs
from domain.trading.signals import Signal
from domain.trading.trade import Candle, Exits, Trade, advance, enter


class TradeBook:
    """Opens, moves and ends trades, candle by candle.

    Parameters
    ----------
    costs
        Of every fill.
    exits
        Where stops and take-profits are put.
    """

    def __init__(self, *, costs: Costs, exits: Exits) -> None:
        self._costs = costs
        self._exits = exits
        self._active: dict[str, Trade] = {}
        self._waiting: dict[str, Signal] = {}

    def __len__(self) -> int:
        return len(self._active)

    def has(self, symbol: str) -> bool:
        """Whether a candle of the symbol has anything to move or to fill."""
        return symbol in self._active or symbol in self._waiting

    def on_candle(self, symbol: str, candle: Candle) -> Iterator[Trade]:
        """Move the symbol's trade by its next candle and fill a waiting signal at its open.

        A signal whose horizon passed before any candle came is dropped. Yields every trade that changed, the
        ended one before the new one.
        """
        signal = self._waiting.pop(symbol, None)
        if signal is not None and candle.open_time_ms >= signal.expires_at_ms:
            signal = None
        trade = self._active.get(symbol)
        if trade is not None:
            yield self._keep(symbol, advance(trade, candle, self._costs, opposite=signal is not None))
        if signal is not None:
            entered = enter(signal, candle, self._costs, self._exits)
            yield self._keep(symbol, advance(entered, candle, self._costs, opposite=False))

    def on_signal(self, symbol: str, signal: Signal) -> None:
        """Take in a signal made at the close of the symbol's last candle.

        With a trade active only an opposite signal counts: it ends that trade and opens its own.
        """
        trade = self._active.get(symbol)
        if trade is None or trade.signal.direction != signal.direction:
            self._waiting[symbol] = signal

    def _keep(self, symbol: str, trade: Trade) -> Trade:
        if trade.is_active:
            self._active[symbol] = trade
        else:
            self._active.pop(symbol, None)
        return trade

    def state(self) -> dict[str, Any]:
        """Write the state as plain values."""
        return {
            "active": {symbol: asdict(trade) for symbol, trade in sorted(self._active.items())},
            "waiting": {symbol: asdict(signal) for symbol, signal in sorted(self._waiting.items())},
        }

    def take(self, state: dict[str, Any]) -> None:
        """Go on from what `state` wrote."""
        self._active = {
            symbol: Trade(**{**values, "signal": Signal(**values["signal"])})
            for symbol, values in state["active"].items()
        }
        self._waiting = {symbol: Signal(**values) for symbol, values in state["waiting"].items()}
