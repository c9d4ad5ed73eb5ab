"""The runner with recovery switched off: the first life begins anew, later ones recover."""

from __future__ import annotations

from typing import Any

import asyncpg

from runtime.stage_runner import RunnerSettings, StageRunner

from .stage_stand import ListedFeed, Seen, Stand, expected, feeding, minute, reached, running, until


def anew(stand: Stand, seen: Seen, **options: Any) -> StageRunner:
    """Make the runner of a process that may not recover."""
    return stand.runner(seen, settings=RunnerSettings(snapshot_minutes=10, recover=False), **options)


async def test_without_recovery_a_start_ignores_checkpoint_and_backlog(stand: Stand) -> None:
    frames = [minute(k) for k in range(9)]
    async with running(stand.runner(), kill=True):
        await stand.send(*frames[:4])
        await stand.done()
    await stand.send(*frames[4:6])
    seen, given_up = Seen(), []

    async def give_up(connection: asyncpg.Connection) -> None:
        given_up.append(connection.is_in_transaction())

    async with running(anew(stand, seen, give_up=give_up)):
        await stand.done()
        await stand.send(*frames[6:])
        await until(lambda: has_rows(stand, 14))
    assert await stand.rows() == [*expected(*frames[:4]), *expected(*frames[6:])]
    assert given_up == [True]
    told = [entry for entry in seen.logs if "switched off" in entry.message]
    assert [entry.context["left_out_messages"] for entry in told] == [2]


async def test_without_recovery_later_lives_of_the_process_recover_all_the_same(stand: Stand) -> None:
    frames = [minute(k) for k in range(12)]
    async with running(stand.runner()):
        await stand.send(*frames[:4])
        await stand.done()
    seen = Seen()
    async with running(anew(stand, seen), kill=True):
        await stand.send(*frames[4:8])
        await stand.done()
        await end_sessions(stand)
        await stand.send(*frames[8:10])
        await stand.done()
    rows = await stand.rows()
    began = len(expected(*frames[:4]))
    # However many messages were there before it began anew, it went on from them without a break.
    assert rows[began:] in [expected(*frames[k:10]) for k in range(4, 9)]
    assert len([entry for entry in seen.logs if "switched off" in entry.message]) == 1
    # A process that may recover finds the state of the one that might not.
    async with running(stand.runner()):
        await stand.send(*frames[10:])
        await stand.done()
    assert (await stand.rows())[began:] in [expected(*frames[k:]) for k in range(4, 9)]


async def test_without_recovery_a_birth_misses_nothing(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    await stand.send(*frames[:3])
    async with running(anew(stand, Seen())):
        await stand.send(*frames[3:])
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_without_recovery_the_feed_goes_on_from_its_now_and_the_journal_without_a_hole(
    stand: Stand,
) -> None:
    feed = ListedFeed(0)
    feed.allow(4)
    async with running(feeding(stand, feed), kill=True):
        await reached(stand, 4)
    later, seen = ListedFeed(0, resume=7), Seen()
    later.allow(9)
    settings = RunnerSettings(snapshot_minutes=10, recover=False)
    async with running(feeding(stand, later, seen=seen, settings=settings), kill=True):
        await reached(stand, 9)
    again = ListedFeed(0, resume=9)
    again.allow(10)
    async with running(feeding(stand, again)):
        await reached(stand, 10)
    wanted = [*expected(*[minute(k) for k in range(4)]), *expected(*[minute(k) for k in range(7, 10)])]
    assert await stand.rows() == wanted


async def has_rows(stand: Stand, count: int) -> bool:
    return len(await stand.rows()) == count


async def end_sessions(stand: Stand) -> None:
    """Cut every connection to this database but the test's own."""
    await stand.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
