"""What a bench is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cli.benches.base.figure import Figure


class NotMeasuredError(Exception):
    """A bench could not come to a figure; the message says what stood in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much to measure; None leaves it to the bench.

    Attributes
    ----------
    folder
        Where pipelines for a while are made, on the disk that is to be measured.
    candles
        Of a market that is replayed, or rows of a table that grows.
    minutes
        Wall minutes of watching.
    symbols
        How many.
    full
        The size that the promise speaks of, where the usual one is smaller.
    keep
        Leave the folders of pipelines behind, to look into them.
    """

    folder: Path
    candles: int | None = None
    minutes: float | None = None
    symbols: int | None = None
    full: bool = False
    keep: bool = False


class Bench(Protocol):
    """What a file of the folder of benches holds.

    Attributes
    ----------
    GIVES
        The figures that come out of it; each may be asked for by name.
    TAKES
        About how long it takes on two cores.
    ON_REQUEST
        Left out unless it is named, because it takes long.
    """

    GIVES: tuple[str, ...]
    TAKES: str
    ON_REQUEST: bool

    def run(self, sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
        """Measure what is wanted of `GIVES`, and give each figure as soon as it is there."""
        ...
