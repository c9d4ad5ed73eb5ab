"""What a training learns from: vectors as they were served, read in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

from db.binary import HEADER, TRAILER
from db.repositories.checkpoints import moment

_POSTGRES_EPOCH_US = 946_684_800_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Vectors of several symbols, sorted by open time, and within a minute by the order of `symbols`.

    Attributes
    ----------
    vector
        Shape (rows, features), float32; NaN where a feature was not warm.
    """

    symbols: tuple[str, ...]
    open_time_ms: NDArray[np.int64]
    symbol_index: NDArray[np.int32]
    close: NDArray[np.float64]
    is_complete: NDArray[np.bool_]
    vector: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.open_time_ms)


async def read(
    connection: asyncpg.Connection,
    symbols: Sequence[str],
    from_ms: int,
    to_ms: int,
    *,
    schema_hash: str,
    features: int,
) -> TrainingRows:
    """Read the rows of a feature schema whose open time lies in a span, both ends included.

    The rows come as fixed-width binary, in whatever order costs the server least, and are sorted here.
    """
    pieces: list[bytes] = []

    async def take(piece: bytes) -> None:
        pieces.append(piece)

    await connection.copy_from_query(
        """
        SELECT "timestamp", array_position($1::varchar[], symbol) - 1, close, is_complete, vector
        FROM ml_features
        WHERE symbol = ANY($1::varchar[]) AND "timestamp" BETWEEN $2 AND $3
          AND schema_hash = $4 AND array_length(vector, 1) = $5
        """,
        list(symbols),
        moment(from_ms),
        moment(to_ms),
        schema_hash,
        features,
        output=take,
        format="binary",
    )
    return _parsed(b"".join(pieces), tuple(symbols), features)


def _parsed(stream: bytes, symbols: tuple[str, ...], features: int) -> TrainingRows:
    # Every value has its length in front; an array five words more, and each element its length again.
    row = np.dtype(
        [
            ("columns", ">i2"),
            ("_1", ">i4"),
            ("timestamp", ">i8"),
            ("_2", ">i4"),
            ("symbol", ">i4"),
            ("_3", ">i4"),
            ("close", ">f8"),
            ("_4", ">i4"),
            ("is_complete", "?"),
            ("_5", ">i4"),
            ("array", ">i4", 5),
            ("vector", [("_", ">i4"), ("value", ">f4")], features),
        ]
    )
    rows = np.frombuffer(stream[len(HEADER) : -len(TRAILER)], row)
    order = np.lexsort((rows["symbol"], rows["timestamp"]))
    return TrainingRows(
        symbols=symbols,
        open_time_ms=((rows["timestamp"][order].astype(np.int64) + _POSTGRES_EPOCH_US) // 1000),
        symbol_index=rows["symbol"][order].astype(np.int32),
        close=rows["close"][order].astype(np.float64),
        is_complete=rows["is_complete"][order],
        vector=rows["vector"]["value"][order].astype(np.float32),
    )
