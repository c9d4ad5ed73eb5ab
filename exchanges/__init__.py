"""Market data in: real exchanges through ccxt, and a simulated one."""
