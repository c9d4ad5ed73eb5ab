"""Wire protocols that the simulated exchange speaks, one file per exchange."""

from __future__ import annotations

from exchanges.simulation.protocols.base import WireProtocol
from exchanges.simulation.protocols.binance import BinanceProtocol
from exchanges.simulation.protocols.bybit import BybitProtocol
from exchanges.simulation.protocols.coinbase import CoinbaseProtocol

#: All that are spoken, side by side on one port.
PROTOCOLS: tuple[type[WireProtocol], ...] = (BinanceProtocol, BybitProtocol, CoinbaseProtocol)

__all__ = ["PROTOCOLS", "WireProtocol"]
