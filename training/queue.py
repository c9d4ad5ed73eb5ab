"""The queue of trainings and comparisons: claim a job, do it, take the next.

One process at a time works on the queue, held by a lock in the database. What a dead one left running is put
back at the start; a killed training goes on from its last chunk. A clean stop puts unfinished jobs back.
Trainings of different symbols and horizons run side by side; those of one symbol, horizon and type run in
the order of their time, so that what is promoted does not depend on which of them ends first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from db.connect import LOST_ANSWER, is_passing
from db.repositories import jobs
from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import ModelError, Progress, TrainingCancelledError
from training.comparing import CompareHandler, CompareOutcome
from training.handler import WRITING, TrainHandler, TrainOutcome
from training.task import BadJobError

#: Names the lock; any number that nothing else in the database takes.
_LOCK = 0x71DECA57
#: Told what happened to a job: an event name, the job, and values for the log.
OnEvent = Callable[[str, jobs.Job, dict[str, Any]], None]
#: What is the job's own fault, and would be so the next time.
_HOPELESS = (ModelError, TooFewRowsError, BadJobError)


class TrainingQueue:
    """Works off the queue.

    Parameters
    ----------
    pool
        Database connections, at least one more than `max_concurrent`.
    handler
        Does the trainings.
    comparisons
        Does the comparisons; None leaves them to others.
    max_concurrent
        Trainings at the same time.
    poll_s
        How often an idle place looks for work by itself.
    heartbeat_s
        How often a running job says that it is alive.
    on_event
        For logs and metrics: `started`, `completed`, `failed`, `requeued`, `lost`.
    partitions
        Those whose vectors a training over all symbols needs.
    """

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        handler: TrainHandler,
        comparisons: CompareHandler | None = None,
        max_concurrent: int = 2,
        poll_s: float = 1.0,
        heartbeat_s: float = 5.0,
        on_event: OnEvent | None = None,
        partitions: Sequence[int] = (),
    ) -> None:
        self._pool = pool
        self._handler = handler
        self._comparisons = comparisons
        self._job_types = ("TRAIN",) if comparisons is None else ("TRAIN", "COMPARE")
        self._max_concurrent = max_concurrent
        self._partitions = tuple(partitions)
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._tell: OnEvent = on_event if on_event is not None else _silent
        self._worker = f"{os.uname().nodename[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._places = [f"{self._worker}/{number}" for number in range(max_concurrent)]
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be new jobs."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; a database that goes away is waited for."""
        while True:
            try:
                async with self._owned() as lock:
                    await self._serve(lock)
            except* Exception as group:
                _, other = group.split(is_passing)
                if other is not None:
                    raise
            await asyncio.sleep(self._poll_s)

    @asynccontextmanager
    async def _owned(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._pool.acquire() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            try:
                yield connection
            finally:
                with contextlib.suppress(*LOST_ANSWER):
                    await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)

    async def _serve(self, lock: asyncpg.Connection) -> None:
        # nobody else works on the queue now: whatever is running belongs to a dead process
        await jobs.requeue_lost(lock, [])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hold(lock), name="hold the queue")
                for place in self._places:
                    group.create_task(self._work(place), name=f"train {place}")
        finally:
            with contextlib.suppress(*LOST_ANSWER):
                await asyncio.shield(jobs.requeue_lost(lock, []))

    async def _hold(self, lock: asyncpg.Connection) -> None:
        # the lock is as alive as its connection
        while True:
            await lock.execute("SELECT 1")
            await asyncio.sleep(self._heartbeat_s)

    async def _work(self, place: str) -> None:
        while True:
            self._woken.clear()
            async with self._pool.acquire() as connection:
                job = await jobs.claim(connection, place, self._job_types, self._partitions)
            if job is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._woken.wait()
                continue
            await self._do(job)
            # the end of this job may have freed the next one of its kind
            self._woken.set()

    async def _do(self, job: jobs.Job) -> None:
        self._tell("started", job, {"attempts": job.attempts})
        try:
            outcome = await self._watched(job)
        except jobs.LostJobError as error:
            self._tell("lost", job, {"error": str(error)})
        except _HOPELESS as error:
            await self._fail(job, str(error), error)
        except TrainingCancelledError:
            await self._put_back(job, "it was stopped")
        except Exception as error:
            if is_passing(error):
                raise
            if _is_death(error):
                await self._put_back(job, str(error))
            else:
                await self._fail(job, f"{type(error).__name__}: {error}", error)
        else:
            self._tell("completed", job, outcome.told())

    async def _watched(self, job: jobs.Job) -> TrainOutcome | CompareOutcome:
        """Run a job while telling the database how far it is; stop it if it is no longer ours."""
        news: list[tuple[float, str]] = []
        training = asyncio.ensure_future(self._run(job, lambda *done: news.append(done)))
        try:
            while not (await asyncio.wait([training], timeout=self._heartbeat_s))[0]:
                fraction, message = news[-1] if news else (0.0, "waiting")
                async with self._pool.acquire() as connection:
                    ours = await jobs.heartbeat(connection, job, progress=fraction, message=message)
                # once it writes, its own transaction ends the job, or finds that it is no longer ours
                if not ours and (not news or news[-1][0] < WRITING):
                    raise jobs.LostJobError(f"job {job.id} was cancelled")
            return training.result()
        finally:
            if not training.done():
                training.cancel()
                await asyncio.wait([training])

    async def _run(self, job: jobs.Job, progress: Progress) -> TrainOutcome | CompareOutcome:
        if job.job_type == "COMPARE":
            assert self._comparisons is not None, "none is claimed without"
            return await self._comparisons.run(job, progress)
        return await self._handler.run(job, progress)

    async def _fail(self, job: jobs.Job, message: str, error: Exception) -> None:
        with contextlib.suppress(jobs.LostJobError):
            async with self._pool.acquire() as connection:
                await jobs.fail(connection, job, message)
        with contextlib.suppress(BadJobError, ModelError):
            # of a comparison there is none
            self._handler.checkpoint_path(job).unlink(missing_ok=True)
        self._tell("failed", job, {"error": message, "exception": error})

    async def _put_back(self, job: jobs.Job, message: str) -> None:
        others = [place for place in self._places if place != job.worker_id]
        async with self._pool.acquire() as connection:
            await jobs.requeue_lost(connection, others)
        self._tell("requeued", job, {"error": message})


def _is_death(error: Exception) -> bool:
    # raised by the pool above this layer; a killed process says nothing about the job
    return getattr(error, "process_died", False) is True


def _silent(event: str, job: jobs.Job, values: dict[str, Any]) -> None:
    """Tell nobody."""
