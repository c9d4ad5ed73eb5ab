"""What every worker process has: settings, folder, share of the symbols, servers, logs and metrics."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import asyncpg

from config.ml_config import Settings, load
from db.connect import connect as connect_postgres
from db.repositories import deployment, logs
from domain.partitioning import owned_partitions
from pipeline.stage import Stage
from runtime import process
from runtime.directory import Directory
from runtime.health import Health, Metrics, serve
from runtime.identity import identity_of
from runtime.lag import show_checkpoint, watch_lag
from runtime.logs import DatabaseLog, set_up, set_up_from
from runtime.observer import WorkerObserver
from runtime.servers import Servers, check_servers, servers_of
from runtime.sources import Source
from runtime.stage_runner import RunnerSettings, StageRunner
from runtime.stream_source import StreamSource
from schemas.frames import FeatureFrame
from streams import topics
from streams.connection import connect as connect_redis

#: A server that is away, starting, stopping or full may come back.
_PASSING = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
)

Tasks = Mapping[str, Coroutine[Any, Any, None]]


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(kw_only=True)
class Worker:
    """One process of the pipeline.

    Attributes
    ----------
    service
        Its name, also in `"recoveryState"`.
    partitions
        The partitions that this process owns.
    market_now_ms
        The market's clock; the feature calculator sets it to its exchange's.
    """

    service: str
    settings: Settings
    directory: Directory
    shard: int
    shards: int
    stop: asyncio.Event
    log: Any
    metrics: Metrics
    health: Health
    observer: WorkerObserver
    servers: Servers
    redis: Any
    prefix: str = "tidecast"
    market_now_ms: Callable[[], int] = _wall_clock_ms
    partitions: tuple[int, ...] = field(default=())

    async def connect(self) -> asyncpg.Connection:
        """Open a database connection, waiting for the server as long as it takes."""
        return await process.wait_for(
            "PostgreSQL",
            lambda: connect_postgres(self.servers.postgres_url, give_up_s=0),
            stop=self.stop,
            log=self.log,
            passing=_PASSING,
        )

    def key(self, topic: str, partition: int) -> str:
        """Name the Redis stream of a topic."""
        return topics.key(self.prefix, topic, partition)

    def source(self, topic: str, partition: int, frame_type: type[FeatureFrame]) -> StreamSource:
        """Read what another stage sends."""
        return StreamSource(
            topic=topic,
            partition=partition,
            key=self.key(topic, partition),
            frame_type=frame_type,
            client=self.redis,
            max_minutes=self.settings.pipeline.max_batch_minutes,
        )

    def runner(
        self,
        partition: int,
        make_stage: Callable[[], Stage[Any]],
        source: Source,
        *,
        out_topic: str | None = None,
        kind: Callable[..., StageRunner] = StageRunner,
        head_start_s: float = 0.0,
        max_batch_rows: int | None = None,
        **more: Any,
    ) -> StageRunner:
        """Make the runner of a partition, with this process' servers and limits.

        Parameters
        ----------
        kind
            Makes it of keyword arguments.
        head_start_s, max_batch_rows
            See `RunnerSettings`; the batch is no longer than the settings want in any case.
        more
            Further arguments of `StageRunner`.
        """
        pipeline = self.settings.pipeline
        values: dict[str, Any] = {
            "service": self.service,
            "partition": partition,
            "make_stage": make_stage,
            "source": source,
            "out_topic": out_topic,
            "out_key": None if out_topic is None else self.key(out_topic, partition),
            "connect": self.connect,
            "client": self.redis,
            "observer": self.observer,
            "settings": RunnerSettings(
                max_batch_rows=min(pipeline.max_batch_rows, max_batch_rows or pipeline.max_batch_rows),
                snapshot_minutes=pipeline.snapshot_minutes,
                recover=self.recovers,
                head_start_s=head_start_s,
            ),
        }
        return kind(**(values | more))

    @property
    def recovers(self) -> bool:
        """Tell whether a start goes on from the checkpoints; a replay always does, for the same rows."""
        return self.settings.system.enable_recovery or self.settings.pipeline.replay


Build = Callable[[Worker], Awaitable[Tasks]]


def main(service: str, build: Build) -> NoReturn:
    """Run a worker until it is asked to stop; the command line says which share of the symbols it takes."""
    arguments = _arguments(service)
    # Mistakes in the settings are logged in the same form as everything else.
    log = set_up(worker=service)

    async def life(stop: asyncio.Event) -> int:
        settings = load(arguments.config, os.environ)
        return await _live(service, build, settings, arguments, stop)

    process.run(life, log)


async def _live(
    service: str, build: Build, settings: Settings, arguments: argparse.Namespace, stop: asyncio.Event
) -> int:
    shard, shards = arguments.shard
    check_servers(settings.servers)
    directory = Directory.open(arguments.dir)
    database_log = DatabaseLog()
    own_secrets = (directory.postgres_password, directory.redis_password)
    log = set_up_from(settings, service, database=database_log, more_secrets=own_secrets)
    metrics, health = Metrics(service), Health.of(settings, service)
    servers = servers_of(directory, settings.servers)
    worker = Worker(
        service=service,
        settings=settings,
        directory=directory,
        shard=shard,
        shards=shards,
        stop=stop,
        log=log,
        metrics=metrics,
        health=health,
        observer=WorkerObserver(log=log, metrics=metrics, health=health),
        servers=servers,
        redis=connect_redis(servers.redis_url),
        partitions=owned_partitions(settings.symbols, settings.pipeline.partitions, shard, shards),
    )
    health.partitions = worker.partitions
    for notice in settings.notices():
        log.warning(notice, action="settings")
    beside = {
        "health": serve(health, metrics, port=_health_port(worker), stop=stop, log=log),
        "database log": _write_logs(worker, database_log),
    }
    return await process.main_loop(
        service, {**beside, "work": _work(worker, build)}, stop=stop, log=log, on_stop=worker.redis.aclose
    )


async def _work(worker: Worker, build: Build) -> None:
    """Wait for the servers, then run the worker's own tasks; the first that ends, ends them all."""
    try:
        worker.health.wait("start", "PostgreSQL")
        connection = await worker.connect()
        worker.health.wait("start", "the tables: `tidecast migrate` makes them")
        await _wait_for_tables(worker, connection)
        worker.prefix = await _claim(worker, connection)
        await show_checkpoint(worker, connection)
        await connection.close()
        worker.health.wait("start", None)
        tasks = {**await build(worker), "lag": watch_lag(worker)}
    except process.StoppedError:
        return
    async with asyncio.TaskGroup() as group:
        running = {group.create_task(task, name=name) for name, task in tasks.items()}
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if not worker.stop.is_set() and all(task.exception() is None for task in done):
            names = ", ".join(sorted(task.get_name() for task in done))
            raise RuntimeError(f"{names} ended although nothing asked it to")


async def _claim(worker: Worker, connection: asyncpg.Connection) -> str:
    """Make sure that the tables hold this market's rows; returns the prefix of the deployment's streams."""
    born = await deployment.claim(connection, identity_of(worker.settings))
    return f"tidecast:{born.strftime('%Y%m%dT%H%M%S%f')}"


def _arguments(service: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m workers.{service}", description=f"Tidecast's {service}."
    )
    parser.add_argument("--config", type=Path, default=None, help="TOML file with settings")
    parser.add_argument("--dir", type=Path, default=Path("var"), help="the pipeline's folder (default ./var)")
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="take share I (from 0) of N of the symbols",
    )
    return parser.parse_args()


def _shard(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    try:
        shard, shards = int(first), int(second)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: write I/N, such as 0/2") from None
    if not 0 <= shard < shards:
        raise argparse.ArgumentTypeError(f"{text!r}: I is at least 0 and below N")
    return shard, shards


def _health_port(worker: Worker) -> int:
    base = worker.settings.pipeline.health_port_base
    if base is None:
        return worker.directory.port(worker.service, worker.shard)
    names = ["feature_calculator", "ml_trainer", "ml_inference", "forecaster", "chart_monitor"]
    return base + worker.shard * len(names) + names.index(worker.service)


async def _wait_for_tables(worker: Worker, connection: asyncpg.Connection) -> None:
    """Wait until the database is migrated; the launcher, or `tidecast migrate`, does that."""

    async def attempt() -> None:
        if not await deployment.is_migrated(connection):
            raise OSError("the tables are not there yet, or older: `tidecast migrate` mends that")

    await process.wait_for("the tables", attempt, stop=worker.stop, log=worker.log)


async def _write_logs(worker: Worker, database_log: DatabaseLog) -> None:
    """Move log records into `"systemLogs"` beside the work."""
    connection: asyncpg.Connection | None = None

    async def flush(records: list[Any]) -> None:
        nonlocal connection
        if connection is None or connection.is_closed():
            connection = await connect_postgres(worker.servers.postgres_url)
        await logs.insert(connection, records)

    await database_log.run(flush, worker.stop)
    if connection is not None:
        await connection.close(timeout=1)
