"""Names of markets: BTCUSDT is BTC against USDT, BTC-USDT where an exchange wants a dash."""

from __future__ import annotations

QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")


def split_symbol(symbol: str) -> tuple[str, str]:
    """Split an id into base and quote; raise ValueError for a quote that is not known."""
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol.removesuffix(quote), quote
    raise ValueError(f"symbol {symbol!r} does not end with a known quote: {', '.join(QUOTES)}")


def dashed(symbol: str) -> str:
    """Write an id with a dash."""
    return "-".join(split_symbol(symbol))
