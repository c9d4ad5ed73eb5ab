"""A whole pipeline that runs for as long as a bench needs it, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import psycopg

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.processes import descendants
from config.ml_config import Settings, load
from db.connect import LOST_ANSWER
from db.migrate import migrate
from db.repositories import deployment
from runtime.directory import Directory
from runtime.drain import exchange_state
from runtime.stack import Plan, Stack, occupied, programs, supervisor_pid

_LOOK_EVERY_S = 0.25
_SAY_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What runs: servers, simulated exchange, five workers."""

    stack: Stack
    directory: Directory
    settings: Settings

    @property
    def postgres_url(self) -> str:
        """Where the tables are."""
        return self.directory.postgres_url

    @property
    def exchange_url(self) -> str:
        """Where the simulated exchange listens."""
        return f"http://127.0.0.1:{self.directory.port('exchange')}"

    def processes(self) -> list[psutil.Process]:
        """List all processes of it."""
        pid = supervisor_pid(self.directory)
        return [] if pid is None else [psutil.Process(pid), *descendants(pid)]

    async def until(
        self,
        holds: Callable[[], Awaitable[bool]],
        *,
        what: str,
        at_most_s: float,
        every_s: float = _LOOK_EVERY_S,
    ) -> float:
        """Wait until something holds; gives the seconds it took.

        Raises
        ------
        NotMeasuredError
            If it takes too long.
        """
        began = said = time.monotonic()
        while True:
            self.stack.check()
            with contextlib.suppress(*LOST_ANSWER):
                if await holds():
                    return time.monotonic() - began
            now = time.monotonic()
            if now - began > at_most_s:
                raise NotMeasuredError(f"waited {at_most_s:g} s for {what}: see {self.directory.log}")
            if now - said > _SAY_EVERY_S:
                said = now
                progress.print(f"waiting for {what}, {now - began:.0f} s", markup=False)
            await asyncio.sleep(every_s)

    async def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Talk to the exchange's control side.

        Raises
        ------
        OSError
            If it does not answer, or refuses.
        """
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.request(
                    "GET" if body is None else "POST", f"{self.exchange_url}{path}", json=body
                ) as answer,
            ):
                answer.raise_for_status()
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OSError(f"the simulated exchange does not answer: {error}") from error


@contextlib.contextmanager
def folder_for_a_while(name: str, sizes: Sizes) -> Iterator[Path]:
    """Have an empty folder, gone afterwards with what servers keep for it elsewhere."""
    sizes.folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=sizes.folder)).absolute()
    path.chmod(0o755)
    try:
        yield path
    finally:
        if sizes.keep:
            progress.print(f"{path} is left as it is", markup=False)
        else:
            _remove(path)


def _remove(path: Path) -> None:
    # Inside the folder of folders there is one of a pipeline, or the path is one itself.
    for home in {each.parent for each in path.rglob("tidecast.json")}:
        shutil.rmtree(Directory.open(home).server_home, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


@contextlib.asynccontextmanager
async def running(name: str, sizes: Sizes, overrides: Mapping[str, str]) -> AsyncIterator[Pipeline]:
    """Run a pipeline on the simulated market for the length of a block.

    Parameters
    ----------
    name
        Of the bench.
    sizes
        Says where.
    overrides
        Settings that differ from the defaults, by dotted key; the environment is not asked. XGBoost alone is
        trained: what else is installed must not change a figure.
    """
    settings = load(None, {}, {"training.model_types": "xgboost", **overrides})
    with folder_for_a_while(name, sizes) as path, occupied(path / "var", settings, "up") as directory:
        stack = Stack(Plan(directory=directory, settings=settings))
        stack.start()
        pipeline = Pipeline(stack=stack, directory=directory, settings=settings)
        try:
            await pipeline.until(lambda: _migrated(pipeline), what="the servers", at_most_s=120, every_s=0.05)
            yield pipeline
        finally:
            # Waits for seconds and must not be cut short: whatever it leaves would go on running.
            stack.stop()


async def _migrated(pipeline: Pipeline) -> bool:
    # supervisord starts its programs a second after its own start, or when somebody talks to it.
    programs(pipeline.directory)
    try:
        await asyncio.to_thread(migrate, pipeline.postgres_url)
    except psycopg.OperationalError as error:
        raise OSError(str(error)) from error
    connection = await asyncpg.connect(pipeline.postgres_url)
    try:
        assert pipeline.directory.identity is not None
        await deployment.claim(connection, pipeline.directory.identity)
    finally:
        await connection.close()
    return True


async def caught_up(
    pipeline: Pipeline, connection: asyncpg.Connection, *, models: int, lag_minutes: int = 2
) -> bool:
    """Tell whether forecasts keep up with the exchange's clock and the first models serve."""
    state = await exchange_state(pipeline.exchange_url)
    row = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM ml_models WHERE effective_from IS NOT NULL) AS models,
               (SELECT count(*) FROM ml_jobs WHERE job_type = 'TRAIN' AND status IN ('COMPLETED', 'FAILED'))
                   AS ended,
               (SELECT count(*) FROM ml_jobs WHERE job_type = 'TRAIN' AND status IN ('PENDING', 'RUNNING'))
                   AS unfinished,
               (SELECT max(created_at) FROM "persistentForecasts") AS newest
        """
    )
    assert row is not None
    if row["newest"] is None or row["unfinished"] or row["ended"] < models:
        return False
    now_ms = state["now_ms"]
    assert isinstance(now_ms, int)
    return bool(now_ms / 1000 - row["newest"].timestamp() < 60 * lag_minutes)
