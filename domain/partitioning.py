"""Which partition a symbol belongs to, and which process owns a partition."""

from __future__ import annotations

import zlib
from collections.abc import Sequence


def partition_of(symbol: str, partitions: int) -> int:
    """Hash a symbol onto its partition; the same on every machine and for ever."""
    return zlib.crc32(symbol.encode()) % partitions


def owned_symbols(symbols: Sequence[str], partition: int, partitions: int) -> tuple[str, ...]:
    """List the symbols of one partition, in the order of the settings."""
    return tuple(symbol for symbol in symbols if partition_of(symbol, partitions) == partition)


def owned_partitions(symbols: Sequence[str], partitions: int, shard: int, shards: int) -> tuple[int, ...]:
    """List the partitions of one process; those without a symbol need no work.

    Parameters
    ----------
    shard, shards
        The process is number `shard` (from 0) of `shards`.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards}: the first number is at least 0 and below the second")
    inhabited = {partition_of(symbol, partitions) for symbol in symbols}
    return tuple(number for number in sorted(inhabited) if number % shards == shard)
