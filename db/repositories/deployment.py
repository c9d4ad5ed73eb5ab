"""Whose rows a database holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

import asyncpg

_MIGRATIONS = Path(__file__).parents[1] / "migrations"


class Identity(Protocol):
    """What must not change between two runs on the same database."""

    @property
    def exchange(self) -> str:
        """Name of the exchange."""
        ...

    @property
    def market(self) -> str:
        """What is played: `generated`, `live`, or a recording."""
        ...

    @property
    def seed(self) -> int:
        """Seed of a generated market."""
        ...

    @property
    def partitions(self) -> int:
        """Number of partitions onto which symbols hash."""
        ...


class OtherMarketError(RuntimeError):
    """The database holds the rows of another market, which must not mix with ours."""


async def is_migrated(connection: asyncpg.Connection) -> bool:
    """Tell whether the tables are as this program wants them, or newer."""
    if await connection.fetchval("SELECT to_regclass('_yoyo_migration')") is None:
        return False
    newest = max(path.stem for path in _MIGRATIONS.glob("*.sql"))
    known: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM _yoyo_migration WHERE migration_id = $1)", newest
    )
    return known


async def claim(connection: asyncpg.Connection, identity: Identity) -> datetime:
    """Write down whose database this is, or check that it is ours; returns when it was born.

    Raises
    ------
    OtherMarketError
        If it belongs to another exchange, market, seed or number of partitions.
    """
    ours = (identity.exchange, identity.market, identity.seed, identity.partitions)
    await connection.execute(
        """
        INSERT INTO deployment (exchange, market, seed, partitions) VALUES ($1, $2, $3, $4)
        ON CONFLICT (is_only) DO NOTHING
        """,
        *ours,
    )
    row = await connection.fetchrow("SELECT exchange, market, seed, partitions, created_at FROM deployment")
    assert row is not None
    theirs = tuple(row)[:4]
    if theirs != ours:
        names = ("exchange", "market", "seed", "partitions")
        differences = ", ".join(
            f"{name} {there!r}, not {here!r}"
            for name, there, here in zip(names, theirs, ours, strict=True)
            if there != here
        )
        raise OtherMarketError(f"this database holds {differences}: use another folder or database")
    born: datetime = row["created_at"]
    return born


async def set_confidence_decay(connection: asyncpg.Connection, decay: float) -> None:
    """Leave for readers of `"persistentForecastsNow"` how fast the confidence of a forecast decays.

    Parameters
    ----------
    connection
        To a database that is claimed.
    decay
        Share of the confidence left after each minute, above 0 and at most 1.
    """
    await connection.execute(
        "UPDATE deployment SET confidence_decay = $1 WHERE confidence_decay <> $1", decay
    )
