"""Wire protocols that the simulated exchange speaks, one file per exchange."""

from __future__ import annotations

from exchanges.simulation.protocols.base import WireProtocol
from exchanges.simulation.protocols.binance import BinanceProtocol

#: All that are spoken, side by side on one port.
PROTOCOLS: tuple[type[WireProtocol], ...] = (BinanceProtocol,)

__all__ = ["PROTOCOLS", "WireProtocol"]
