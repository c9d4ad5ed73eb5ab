"""The runner against real servers: nothing lost and nothing twice, whatever breaks."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from db.repositories import checkpoints
from db.repositories.checkpoints import Position
from pipeline.stage import StepResult
from runtime.poison import POISON_TRIES
from runtime.stage_runner import StageRunner
from runtime.stream_source import StreamSource
from schemas.frames import MINUTE_MS, FeatureFrame
from streams import stream
from streams.connection import connect as connect_redis

from .stage_stand import (
    IN,
    OUT,
    PATIENCE_S,
    RAISES,
    REFUSED,
    SERVICE,
    T0,
    Cutter,
    Seen,
    Stand,
    Sums,
    expected,
    frame_of,
    minute,
    running,
    until,
)


async def test_rows_message_and_position_commit_together(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    async with running(stand.runner(max_batch_rows=2)):
        await stand.send(*frames)
        await stand.done()
    assert await stand.rows() == expected(*frames)
    assert [(symbol, at) for symbol, at, _ in await stand.outgoing()] == [r[:2] for r in expected(*frames)]
    assert await stream.last_sequence(stand.client, OUT) == 5
    at = await checkpoints.load(stand.database, SERVICE, 0)
    assert (at.position, at.event_time_ms, at.outbox_sequence) == (Position(6, 0), T0 + 4 * MINUTE_MS, 5)
    assert at.written == {"ml_features": 10}


async def test_nothing_of_a_batch_is_there_while_its_transaction_is_open(stand: Stand) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(StageRunner):
        async def _save(self, *values: Any) -> None:
            await super()._save(*values)
            reached.set()
            await go_on.wait()

    runner = stand.runner()
    runner.__class__ = Slow
    async with running(runner):
        await stand.send(minute(0))
        await reached.wait()
        assert await stand.rows() == []
        assert await stand.position() == Position()
        assert await stream.last_sequence(stand.client, OUT) == 0
        go_on.set()
        await stand.done()
    assert await stand.rows() == expected(minute(0))


async def test_a_second_owner_waits_until_the_first_lets_go(stand: Stand) -> None:
    frames = [minute(k) for k in range(6)]
    second_saw = Seen()
    first_stop = asyncio.Event()
    first = asyncio.create_task(stand.runner().run(first_stop))
    await stand.send(*frames[:3])
    await stand.done()
    async with running(stand.runner(second_saw)):

        async def waits() -> bool:
            return ("waiting", "the partition's owner") in second_saw.statuses

        await until(waits)
        await stand.send(*frames[3:5])
        await stand.done()
        assert ("running", None) not in second_saw.statuses
        first_stop.set()
        await first
        await stand.send(frames[5])
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_a_runner_whose_position_was_moved_starts_over_and_writes_nothing_twice(stand: Stand) -> None:
    frames = [minute(k) for k in range(4)]
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(*frames[:2])
        await stand.done()
        # Somebody else processes the third message.
        at = await checkpoints.load(stand.database, SERVICE, 0)
        await stand.database.execute(
            "UPDATE \"recoveryState\" SET position_sequence = 4 WHERE checkpoint_type = 'intermediate'"
        )
        assert at.position == Position(3, 0)
        await stand.send(*frames[2:])
        await stand.done()
    # Its row is not ours to write, but what it added is in the sums.
    wanted = [row for row in expected(*frames) if row[1] != T0 + 2 * MINUTE_MS]
    assert await stand.rows() == wanted
    assert any("FencedError" in entry.message for entry in seen.logs)


async def test_a_killed_runner_relives_what_followed_its_snapshot_and_goes_on_identically(
    stand: Stand,
) -> None:
    frames = [minute(k) for k in range(40)]
    seen = Seen()
    for first in range(0, 40, 8):
        async with running(stand.runner(seen, max_batch_rows=3), kill=True):
            await stand.send(*frames[first : first + 8])
            await stand.done()
    assert await stand.rows() == expected(*frames)
    assert any(seen.relived)
    assert max(seen.relived) <= 12, "more than one snapshot's distance was re-lived"


async def test_a_clean_stop_leaves_nothing_to_relive(stand: Stand) -> None:
    seen = Seen()
    frames = [minute(k) for k in range(7)]
    async with running(stand.runner(seen)):
        await stand.send(*frames[:5])
        await stand.done()
    async with running(stand.runner(seen)):
        await stand.send(*frames[5:])
        await stand.done()
    assert seen.relived == [0]
    assert await stand.rows() == expected(*frames)


async def test_a_snapshot_of_another_state_is_replaced_by_reliving_everything(stand: Stand) -> None:
    frames = [minute(k) for k in range(5)]
    async with running(stand.runner()):
        await stand.send(*frames[:3])
        await stand.done()
    await stand.database.execute(
        "UPDATE \"recoveryState\" SET snapshot = '' WHERE checkpoint_type = 'success'"
    )
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(*frames[3:])
        await stand.done()
    assert seen.relived == [3]
    assert await stand.rows() == expected(*frames)


async def test_redis_flushed_while_running_loses_nothing(stand: Stand) -> None:
    frames = [minute(k) for k in range(30)]
    async with running(stand.runner()):
        for number, frame in enumerate(frames):
            await stand.send(frame)
            if number % 7 == 3:
                await stand.client.flushall()
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_a_hole_in_the_stream_is_read_from_the_outbox(stand: Stand) -> None:
    frames = [minute(k) for k in range(8)]
    await stand.send(*frames[:2])
    await stand.send(*frames[2:5], published=False)
    await stand.send(frames[5])
    await stand.send(*frames[6:], published=False)
    async with running(stand.runner()):
        await stand.done()
    assert await stand.rows() == expected(*frames)


async def test_without_redis_everything_arrives_through_the_outbox(stand: Stand) -> None:
    frames = [minute(k) for k in range(4)]
    dead = connect_redis("redis://127.0.0.1:1/0")
    stand_source = StreamSource(
        topic="features", partition=0, key=IN, frame_type=FeatureFrame, client=dead, max_minutes=60
    )
    async with running(stand.runner(source=stand_source, client=dead)):
        await stand.send(*frames, published=False)
        await stand.done()
    assert await stand.rows() == expected(*frames)
    await dead.aclose()


@pytest.mark.parametrize("bad", [RAISES, REFUSED])
@pytest.mark.parametrize("joined", [True, False])
async def test_an_event_that_always_fails_is_parked_and_the_rest_goes_on(
    stand: Stand, bad: float, joined: bool
) -> None:
    good = [minute(k) for k in range(12)]
    poisoned = minute(5, 6.0, bad)
    sent = [*good[:5], poisoned, *good[6:]]
    if joined:
        await stand.send(*sent)
    async with running(stand.runner(), kill=True):
        if not joined:
            await stand.send(*sent)
        await stand.done()
    wanted = expected(*good[:5], minute(5, 6.0), *good[6:])
    assert await stand.rows() == wanted
    letters = await stand.database.fetch("SELECT kind, exchange, error FROM dead_letters")
    assert [(row[0], row[1]) for row in letters] == [("poison", SERVICE)]
    errors = await stand.database.fetch(
        "SELECT operation_id FROM \"recoveryState\" WHERE checkpoint_type = 'error'"
    )
    assert [row[0] for row in errors] == [f"{SERVICE}/0/parked/6.1"]
    # Recovery steps over it, too.
    await stand.database.execute("DELETE FROM \"recoveryState\" WHERE checkpoint_type = 'success'")
    async with running(stand.runner()):
        await stand.send(minute(12))
        await stand.done()
    assert await stand.rows() == expected(*good[:5], minute(5, 6.0), *good[6:], minute(12))


async def test_an_event_is_tried_three_times_before_it_is_parked(stand: Stand) -> None:
    seen = Seen()
    async with running(stand.runner(seen)):
        await stand.send(minute(0, RAISES))
        await stand.done()
    assert sum(entry.subcategory == "step" for entry in seen.logs) == POISON_TRIES
    assert sum(entry.subcategory == "poison" for entry in seen.logs) == 1


async def test_a_message_without_rows_is_not_parked_with_its_neighbour(stand: Stand) -> None:
    nothing = frame_of([], [], [])
    await stand.send(nothing, minute(1, RAISES), nothing, minute(2))
    async with running(stand.runner()):
        await stand.done()
    async with running(stand.runner(), kill=True):
        await stand.send(minute(3))
        await stand.done()
    parked = await checkpoints.parked(stand.database, SERVICE, 0)
    assert parked == {Position(2, 0)}
    assert await stand.rows() == expected(minute(2), minute(3))


async def test_an_event_that_kills_the_process_again_and_again_is_parked(stand: Stand) -> None:
    class Deadly(Sums):
        def step(self, batch: FeatureFrame) -> StepResult:
            if (batch.ohlcv[:, 3] == RAISES).any():
                raise SystemExit(9)
            return super().step(batch)

    good = [minute(k) for k in range(8)]
    await stand.send(*good[:3], minute(3, 4.0, RAISES), *good[4:])
    deaths = 0
    for _ in range(60):
        task = asyncio.create_task(_until_dead(stand.runner(make_stage=Deadly), stand))
        if await asyncio.wait_for(task, PATIENCE_S):
            break
        deaths += 1
    assert await stand.rows() == expected(*good[:3], minute(3, 4.0), *good[4:])
    assert await checkpoints.parked(stand.database, SERVICE, 0) == {Position(4, 1)}
    assert deaths < 20


async def _until_dead(runner: StageRunner, stand: Stand) -> bool:
    """Tell whether everything got done before the runner died."""
    stop = asyncio.Event()
    done = asyncio.create_task(stand.done())

    async def work() -> bool:
        try:
            await runner.run(stop)
        except SystemExit:
            return False
        return True

    working = asyncio.create_task(work())
    await asyncio.wait({done, working}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    done.cancel()
    await asyncio.gather(done, return_exceptions=True)
    return await working


async def test_sessions_ended_at_any_moment_write_nothing_twice(stand: Stand) -> None:
    frames = [minute(k) for k in range(60)]
    await stand.send(*frames)
    chance = Random(3)
    ended = 0
    async with running(stand.runner(max_batch_rows=3)), asyncio.timeout(2 * PATIENCE_S):
        while not await stand.is_done():
            before = await stand.position()

            async def got_on(before: Position = before) -> bool:
                # It may have come to its end before it was looked at.
                return await stand.position() > before or await stand.is_done()

            await until(got_on)
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)  # so that it strikes here and there
            ended += await stand.database.fetchval(
                """
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                """
            )
    assert ended > 5
    assert await stand.rows() == expected(*frames)
    assert len(await stand.outgoing()) == 120


async def test_a_commit_whose_answer_is_lost_is_not_repeated(stand: Stand) -> None:
    frames = [minute(k) for k in range(24)]
    await stand.send(*frames)
    cutter = Cutter(stand.url, every=3)
    async with cutter.open() as url, running(stand.runner(url=url, max_batch_rows=4)):
        await stand.done()
    assert cutter.lost >= 3
    assert await stand.rows() == expected(*frames)
    assert len(await stand.outgoing()) == 48


async def test_messages_go_once_every_reader_has_a_snapshot_behind_them(stand: Stand) -> None:
    frames = [minute(k) for k in range(30)]
    async with running(stand.runner(max_batch_rows=2, snapshot_minutes=5)):
        await stand.send(*frames)
        await stand.done()
    count = "SELECT count(*) FROM outbox WHERE topic = 'predictions'"
    assert await stand.database.fetchval(count) == 30, "the forecaster has not been here: all is kept"
    await stand.database.execute(
        """
        INSERT INTO "recoveryState" (service_name, operation_id, partition, checkpoint_type, state_data,
            position_sequence, position_row, outbox_sequence, event_time, created_at)
        VALUES ('forecaster', 'forecaster/0/x', 0, 'success', '{}', 21, 0, 0, now(), now())
        """
    )
    async with running(stand.runner(max_batch_rows=2, snapshot_minutes=5)):
        await stand.send(*[minute(k) for k in range(30, 37)])
        await stand.done()
    first = await stand.database.fetchval("SELECT min(sequence) FROM outbox WHERE topic = 'predictions'")
    assert first == 21
