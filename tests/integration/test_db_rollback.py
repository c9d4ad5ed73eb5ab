"""A rollback counts from its minute on, whatever was about to begin, and stays on the record."""

from __future__ import annotations

import asyncpg
import pytest

from db.repositories import terms
from db.repositories.terms import Key, RolledBack
from schemas.frames import MINUTE_MS

from .test_db_models import T, promoted, versions

KEY = Key(symbol="ALL", forecast_horizon=5, model_type="xgboost")


def minute(number: int) -> int:
    return T + number * MINUTE_MS


async def rolled_back(connection: asyncpg.Connection, at: int, to: str | None) -> RolledBack:
    last = (await terms.of_key(connection, KEY))[-1]
    async with connection.transaction():
        return await terms.roll_back(
            connection, last, to=to, from_ms=minute(at), reason="odd", decided_by="ann"
        )


async def on_record(connection: asyncpg.Connection) -> list[tuple[str, int]]:
    """List what readers see: versions and the minutes from which on they serve."""
    rows = await connection.fetch('SELECT * FROM "modelTimeline" ORDER BY effective_from')
    return [
        (row["model_version"], round(row["effective_from"].timestamp() * 1000 - T) // MINUTE_MS)
        for row in rows
    ]


async def marked(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT name FROM ml_models WHERE rolled_back_at IS NOT NULL ORDER BY name")
    return [row["name"] for row in rows]


async def test_a_promotion_at_the_very_minute_of_a_rollback_leaves_it_that_minute(
    database: asyncpg.Connection,
) -> None:
    await promoted(database, "a", minute(0))
    await rolled_back(database, 60, None)
    await promoted(database, "b", minute(60))
    assert await on_record(database) == [("a", 0), ("last_value", 60), ("b", 61)]
    assert await versions(database, minute(60)) == []
    assert await versions(database, minute(61)) == ["b"]


async def test_a_rollback_does_not_wait_for_what_was_about_to_begin(database: asyncpg.Connection) -> None:
    await promoted(database, "a", minute(0))
    await promoted(database, "b", minute(65))
    done = await rolled_back(database, 60, None)
    assert (done.from_ms, done.ended, done.never_served) == (minute(60), ("a", "b"), ("b",))
    assert await on_record(database) == [("a", 0), ("last_value", 60)]
    assert await marked(database) == ["a", "b"]


async def test_what_was_about_to_begin_can_be_called_off_and_what_serves_goes_on(
    database: asyncpg.Connection,
) -> None:
    await promoted(database, "a", minute(0))
    await promoted(database, "b", minute(65))
    done = await rolled_back(database, 60, "a")
    assert (done.ended, done.never_served) == (("b",), ("b",))
    assert await versions(database, minute(59)) == await versions(database, minute(65)) == ["a"]
    assert await marked(database) == ["b"]


async def test_a_second_rollback_in_the_same_minute_takes_the_place_of_the_first(
    database: asyncpg.Connection,
) -> None:
    await promoted(database, "a", minute(0))
    await promoted(database, "b", minute(30))
    await rolled_back(database, 60, "a")
    again = await rolled_back(database, 60, None)
    assert (again.ended, again.never_served) == (("a",), ("a",))
    assert await on_record(database) == [("a", 0), ("b", 30), ("last_value", 60)]
    assert await marked(database) == ["a", "b"]


@pytest.mark.parametrize(
    ("served_to", "record"),
    [
        (60, [("a", 0), ("last_value", 61)]),
        (64, [("a", 0), ("last_value", 65)]),
        (69, [("a", 0), ("b", 65), ("last_value", 70)]),
    ],
)
async def test_a_rollback_changes_nothing_that_may_have_been_served(
    database: asyncpg.Connection, served_to: int, record: list[tuple[str, int]]
) -> None:
    await promoted(database, "a", minute(0))
    await promoted(database, "b", minute(65))
    await terms.announce(database, 0, minute(served_to))
    done = await rolled_back(database, 60, None)
    assert done.from_ms == minute(served_to + 1)
    assert await on_record(database) == record
