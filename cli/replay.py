"""`tidecast replay`: recorded candles through the whole pipeline, as fast as it goes or at a given speed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import psycopg
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.answer import give_json, progress
from cli.folder import ConfigOption, JsonOption, folder_named, settings_for_start
from cli.recording import chosen_symbols, market_of, recorded_at
from cli.replay_summary import show_summary, tables_told
from config.ml_config import Settings
from db.connect import LOST_ANSWER
from db.migrate import migrate
from db.repositories.checkpoints import moment
from db.repositories.overview import Summary, read_summary
from domain.partitioning import owned_partitions
from exchanges.recording import BadRecordingError
from runtime.directory import Directory
from runtime.drain import Progress as Drain
from runtime.drain import exchange_state, read_progress
from runtime.latency import read_latency
from runtime.servers import servers_of
from runtime.stack import Plan, Stack, StackError, occupied, programs

_LOOK_EVERY_S = 0.25
#: A replay in which nothing moves for so long has hung.
STUCK_AFTER_S = 300.0
#: A process that had to be started so often while nothing moved will not get on.
_MOST_STARTS = 12


class StoppedEarlyError(Exception):
    """The replay was asked to end before it was through; the same command goes on from here."""


@dataclass(slots=True)
class _Clock:
    """Seconds of this run, and how far it had come before."""

    started_s: float
    first_reached_ms: int | None = None
    moved_s: float = 0.0
    reached_ms: int = 0
    #: By name, the seconds at which a process was started since anything moved.
    starts: dict[str, set[int]] = field(default_factory=dict)


def replay(
    path: Annotated[Path, typer.Argument(help="Folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            parser=folder_named,
            metavar="DIRECTORY",
            help="Where the tables go; by default var/replay-NAME.",
        ),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option("--symbols", help="Only these, separated by commas or blanks.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First minute, ISO, UTC.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Minute to stop before, ISO, UTC.")] = None,
    speed: Annotated[str, typer.Option("--speed", help="max, or times real time.")] = "max",
    shards: Annotated[int, typer.Option("--shards", help="Processes per worker.", min=1, max=64)] = 1,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play recorded candles through the five workers; the same command goes on where it was cut."""
    try:
        chosen = chosen_symbols(path, symbols)
    except BadRecordingError as error:
        raise OSError(str(error)) from error
    settings = settings_for_start(config, {**recorded_at(path, chosen, from_, to), "market.speed": speed})
    _check_recording(settings)
    play_into(folder or Path("var") / f"replay-{path.resolve().name}", settings, shards, as_json)


def _check_recording(settings: Settings) -> None:
    """Read the recording once, so that a broken file is told of before a folder belongs to it.

    Raises
    ------
    OSError
        Naming the file, and what is wrong with it.
    """
    market = settings.market
    try:
        market_of(settings)
    except BadRecordingError as error:
        asked = [
            f"{option} {moment(ms):%Y-%m-%dT%H:%MZ}"
            for option, ms in (("--from", market.from_ms), ("--to", market.to_ms))
            if ms is not None
        ]
        raise OSError(f"{error}{' (' + ' '.join(asked) + ')' if asked else ''}") from error


def play_into(
    folder: Path, settings: Settings, shards: int, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    """Play what the settings name into a folder, and answer with the summary and what `more` tells.

    Raises
    ------
    runtime.directory.DirectoryError
        If the folder cannot be used, or belongs to another market.
    runtime.stack.StackError
        If processes end, or nothing moves any more.
    """
    with occupied(folder, settings, "replay", shards=shards) as directory:
        plan = Plan(directory=directory, settings=settings, shards=shards)
        for notice in settings.notices():
            progress.print(notice, markup=False)
        try:
            answer = asyncio.run(_play(plan))
        except StoppedEarlyError as error:
            told = f"{error}; the same command goes on from here"
            if as_json:
                give_json({"error": told, "exit_code": 130, "dir": str(folder)})
            progress.print(told, markup=False)
            raise typer.Exit(130) from None
    answer = {**answer, "dir": str(folder), **(more or {})}
    if as_json:
        give_json(answer)
    else:
        show_summary(answer)


async def _play(plan: Plan) -> dict[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    stack = Stack(plan)
    clock = _Clock(started_s=time.monotonic())
    stack.start()
    try:
        await _migrate(stack, stop)
        drained = await _watch(stack, stop, clock)
        return await _summary(stack, stop, drained, clock)
    finally:
        stack.stop()


async def _migrate(stack: Stack, stop: asyncio.Event) -> None:
    url = _postgres_url(stack.plan)
    while not stop.is_set():
        stack.check()
        # supervisord starts its programs a second after its own start, or when somebody talks to it.
        check_programs(stack.plan.directory)
        try:
            await asyncio.to_thread(migrate, url)
        except psycopg.OperationalError:
            await _pause(stop, 0.05)
        else:
            return
    raise StoppedEarlyError("stopped before it began")


async def _watch(stack: Stack, stop: asyncio.Event, clock: _Clock) -> Drain:
    """Show how far it is until everything is processed."""
    plan = stack.plan
    partitions = _partitions(plan)
    bar = Progress(
        TextColumn("SIMULATED replay"),
        BarColumn(),
        TextColumn("{task.percentage:5.1f}%  {task.fields[told]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=progress,
    )
    said_s = time.monotonic()
    with bar:
        task = bar.add_task("replay", total=1.0, told="starting")
        connection: asyncpg.Connection | None = None
        while not stop.is_set():
            stack.check()
            check_programs(plan.directory)
            _check_starts(plan.directory, clock)
            await _pause(stop, _LOOK_EVERY_S)
            try:
                if connection is None or connection.is_closed():
                    connection = await asyncpg.connect(
                        servers_of(plan.directory, plan.settings.servers).postgres_url
                    )
                url = plan.settled().market.base_url
                assert url is not None
                now = await read_progress(connection, await exchange_state(url), partitions)
            except LOST_ANSWER:
                continue
            told = _told(now, clock)
            bar.update(task, completed=now.share, told=told)
            if not progress.is_terminal and time.monotonic() - said_s > 10:
                said_s = time.monotonic()
                progress.print(f"SIMULATED replay {100 * now.share:5.1f}%  {told}", markup=False)
            if now.is_drained:
                await connection.close()
                return now
            _check_moving(now, clock)
    raise StoppedEarlyError("stopped")


def check_programs(directory: Directory) -> None:
    """Raise if a process has ended for good: nothing would ever move.

    Raises
    ------
    StackError
        Saying where the reason stands.
    """
    for program in programs(directory):
        if program.has_ended_for_good:
            log = directory.log / f"{program.name}.log"
            what = "the simulated exchange" if program.name == "exchange" else program.name
            how = f"ended with code {program.exit_code}" if program.state == "EXITED" else "cannot be started"
            raise StackError(f"{what} {how}: see {log}")


def _postgres_url(plan: Plan) -> str:
    return servers_of(plan.directory, plan.settings.servers).postgres_url


def _partitions(plan: Plan) -> list[int]:
    settings = plan.settings
    return list(owned_partitions(settings.symbols, settings.pipeline.partitions, 0, 1))


def _told(now: Drain, clock: _Clock) -> str:
    """Say the rate; minutes of all symbols count as candles."""
    if clock.first_reached_ms is None:
        clock.first_reached_ms = now.reached_ms
    minutes = (now.reached_ms - clock.first_reached_ms) / 60_000
    rate = minutes / max(time.monotonic() - clock.started_s, 0.001)
    training = f", {now.unfinished_trainings} trainings under way" if now.unfinished_trainings else ""
    return f"{rate:,.0f} minutes/s{training}"


def _check_moving(now: Drain, clock: _Clock) -> None:
    """Raise if nothing has moved for long, so that a defect does not look like patience.

    Raises
    ------
    StackError
        Saying where to look.
    """
    if now.reached_ms != clock.reached_ms or now.unfinished_trainings:
        clock.reached_ms, clock.moved_s = now.reached_ms, time.monotonic()
        clock.starts.clear()
    elif time.monotonic() - clock.moved_s > STUCK_AFTER_S:
        raise StackError(f"nothing has moved for {STUCK_AFTER_S:g} s: see the logs in DIR/log")


def _check_starts(directory: Directory, clock: _Clock) -> None:
    """Raise if a process is started again and again while nothing moves.

    Raises
    ------
    StackError
        Naming its log.
    """
    for program in programs(directory):
        seen = clock.starts.setdefault(program.name, set())
        # Its process id would be missed where it dies before it is looked at.
        if program.started_s:
            seen.add(program.started_s)
        if len(seen) > _MOST_STARTS:
            log = directory.log / f"{program.name}.log"
            raise StackError(f"{program.name} ended {len(seen) - 1} times and nothing moves: see {log}")


async def _read_tables(plan: Plan) -> tuple[Summary, float]:
    """Read what came of the replay, and the seconds in which a training was under way."""
    connection = await asyncpg.connect(_postgres_url(plan))
    try:
        summary = await read_summary(connection)
        spans = (
            await connection.fetchrow(
                """
            SELECT COALESCE(EXTRACT(EPOCH FROM sum(upper(span) - lower(span))), 0)::float8 AS busy_s
            FROM (SELECT unnest(range_agg(tstzrange(started_at, completed_at))) AS span FROM ml_jobs
                  WHERE completed_at > started_at) AS spans
            """
            )
            if connection.get_server_version().major >= 14
            else None
        )
    finally:
        await connection.close()
    return summary, spans["busy_s"] if spans is not None else summary.train_seconds


async def _summary(stack: Stack, stop: asyncio.Event, drained: Drain, clock: _Clock) -> dict[str, Any]:
    """Say what came of it; a server that dies just now is waited for."""
    plan = stack.plan
    seconds = time.monotonic() - clock.started_s
    while not stop.is_set():
        stack.check()
        check_programs(plan.directory)
        try:
            summary, training_s = await _read_tables(plan)
            break
        except LOST_ANSWER:
            await _pause(stop, _LOOK_EVERY_S)
    else:
        raise StoppedEarlyError("stopped before its summary")
    told = tables_told(summary, plan.settings, drained.first_ms, drained.last_ms)
    candles = told["candles"]
    p50_s, p99_s = await read_latency(plan.directory)
    return {
        "market": "SIMULATED",
        **told,
        "training_seconds": round(training_s, 1),
        "seconds": round(seconds, 1),
        "candles_per_s": round(candles / seconds, 1),
        "candles_per_s_without_training": round(candles / max(seconds - training_s, 0.001), 1),
        "latency_p50_ms": None if p50_s is None else round(p50_s * 1000, 2),
        "latency_p99_ms": None if p99_s is None else round(p99_s * 1000, 2),
        "first_ms": drained.first_ms,
        "last_ms": drained.last_ms,
    }


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
