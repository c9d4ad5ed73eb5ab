"""`tidecast recover`: what checkpoints there are, and a new folder replayed from one of them.

Nothing is deleted or changed in place: the candles from the checkpoint on, as the chart holds them, are
written out as a recording into the new folder, and played there like any other recording.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from cli.answer import give_json, progress, show_table
from cli.folder import (
    DEFAULT_FOLDER,
    ConfigOption,
    JsonOption,
    database_of,
    existing_folder,
    folder_named,
    settings_for_start,
)
from cli.replay import play_into
from config.errors import ConfigurationError
from config.market import ServerSettings
from config.ml_config import Settings
from config.toml_writer import as_toml
from db.repositories import checkpoints, recovery
from runtime.atomic_file import write_atomically
from runtime.directory import Directory, DirectoryError
from runtime.embedded.session import ServerError
from runtime.stack import settings_file
from schemas.frames import MINUTE_MS

_DAY_MS = 1440 * MINUTE_MS
RECORDING = "recorded"
SETTINGS = "recover.toml"


class RecoverError(OSError):
    """The recovery that was asked for cannot be made; the message says what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written out of the source's chart."""

    recording: str
    warm_up_from: str
    to: str
    candles: dict[str, int]


def recover(
    list_: Annotated[bool, typer.Option("--list", help="Show the checkpoints of DIR.")] = False,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="OPERATION_ID", help="Replay from this checkpoint.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            parser=folder_named,
            metavar="DIRECTORY",
            help="With --list: where to look; with --from: a new folder.",
        ),
    ] = None,
    source: Annotated[
        Path,
        typer.Option(
            "--source",
            parser=folder_named,
            metavar="DIRECTORY",
            help="With --from: the folder that has the checkpoint.",
        ),
    ] = DEFAULT_FOLDER,
    warm_up_days: Annotated[
        float,
        typer.Option("--warm-up-days", min=0, help="Days of candles before the checkpoint, to warm up."),
    ] = 2.0,
    shards: Annotated[int, typer.Option("--shards", help="Processes per worker.", min=1, max=64)] = 1,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show checkpoints, or replay from one into a new folder; nothing is deleted in place."""
    if list_ == (from_ is not None):
        raise typer.BadParameter("say either --list or --from OPERATION_ID")
    if list_:
        _list(folder or source, config, as_json)
        return
    if folder is None:
        raise typer.BadParameter("--from needs --dir NEW, a folder that does not exist yet")
    assert from_ is not None
    _recover(from_, source, folder, config, warm_up_days, shards, as_json)


def _list(folder: Path, config: Path | None, as_json: bool) -> None:
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "recover") as url:
        found = asyncio.run(_read(url))
    if as_json:
        give_json({"dir": str(folder), "checkpoints": [asdict(each) for each in found]})
        return
    columns = ["operation id", "type", "event time", "position", "state version", "bytes", "parked"]
    show_table(
        columns,
        [
            (
                each.operation_id,
                each.checkpoint_type,
                None if each.event_time is None else f"{each.event_time:%Y-%m-%d %H:%M}Z",
                each.position,
                each.state_version,
                each.state_bytes,
                each.error if each.checkpoint_type == "error" else each.parked,
            )
            for each in found
        ],
    )


def _recover(
    operation_id: str,
    source: Path,
    folder: Path,
    config: Path | None,
    warm_up_days: float,
    shards: int,
    as_json: bool,
) -> None:
    try:
        directory, settings = existing_folder(source, config)
    except DirectoryError as error:
        _look_in_target(operation_id, source, folder, config, error)
        raise
    with database_of(directory, settings, "recover") as url:
        try:
            chosen = _chosen(asyncio.run(_read(url)), operation_id, source)
        except RecoverError as error:
            _look_in_target(operation_id, source, folder, config, error)
            raise
        if folder.exists() and any(folder.iterdir()):
            raise DirectoryError(f"{folder} is not empty: recover writes into a new --dir only")
        assert chosen.event_time is not None
        event_time_ms = checkpoints.milliseconds(chosen.event_time)
        from_ms = event_time_ms - round(warm_up_days * _DAY_MS)
        export = asyncio.run(_export(url, settings.symbols, from_ms, folder.absolute() / RECORDING))
    told = sum(export.candles.values())
    progress.print(
        f"{told} candles of {len(export.candles)} symbols, {export.warm_up_from} to {export.to}, are replayed"
        f" from {source} into {folder}: {operation_id}, and {warm_up_days:g} days before it to warm up",
        markup=False,
    )
    # The folder's own servers: those of the source hold the source's rows.
    for name in ("TIDECAST_POSTGRES_URL", "TIDECAST_REDIS_URL"):
        os.environ.pop(name, None)
    fresh = _settings(directory, config, tuple(export.candles), Path(export.recording))
    write_atomically(folder / SETTINGS, as_toml(fresh), mode=0o644)
    again = f"tidecast replay {export.recording} --dir {folder} --config {folder / SETTINGS}"
    progress.print(f"If it is cut off, this goes on: {again}", markup=False)
    recovered = {
        "checkpoint": asdict(chosen),
        "source": str(source),
        "event_time_ms": event_time_ms,
        **asdict(export),
    }
    play_into(folder, fresh, shards, as_json, {"recovered": recovered})


async def _read(url: str) -> list[recovery.Listed]:
    connection = await asyncpg.connect(url)
    try:
        return await recovery.listed(connection)
    finally:
        await connection.close()


def _chosen(found: list[recovery.Listed], operation_id: str, source: Path) -> recovery.Listed:
    usable = {each.operation_id: each for each in found if each.event_time is not None}
    if operation_id in usable:
        return usable[operation_id]
    near = difflib.get_close_matches(operation_id, usable, n=1, cutoff=0.0)
    hint = f"the nearest is {near[0]}" if near else "it has none yet"
    known = any(each.operation_id == operation_id for each in found)
    problem = "has no event time to replay from" if known else f"is no checkpoint of {source}"
    raise RecoverError(
        f"{operation_id!r} {problem}; {hint}. `tidecast recover --list --dir {source}` shows all"
    )


def _look_in_target(
    operation_id: str, source: Path, folder: Path, config: Path | None, error: Exception
) -> None:
    """Raise with a hint at `--source` if the checkpoint is one of the folder that --dir names.

    Raises
    ------
    RecoverError
        If it is.
    """
    if source.absolute() == folder.absolute() or not Directory.exists(folder):
        return
    try:
        directory, settings = existing_folder(folder, config)
        with database_of(directory, settings, "recover") as url:
            found = asyncio.run(_read(url))
    except (DirectoryError, ServerError, ConfigurationError, asyncpg.PostgresError, OSError):
        # What was wrong at first is told; this was only a look for a hint.
        return
    if any(each.operation_id == operation_id for each in found):
        raise RecoverError(
            f"{operation_id!r} is a checkpoint of {folder}, not of {source}: "
            f"say --source {folder}, and a new folder as --dir"
        ) from error


async def _export(url: str, symbols: tuple[str, ...], from_ms: int, target: Path) -> Export:
    """Write the chart's candles from a minute on as recordings.

    Raises
    ------
    RecoverError
        If there is none.
    """
    connection = await asyncpg.connect(url)
    counts: dict[str, int] = {}
    first_ms, last_ms = 2**62, 0
    try:
        for symbol in symbols:
            candles = await recovery.candles(connection, symbol, from_ms)
            if not len(candles):
                continue
            _write(target / f"{symbol}-1m.parquet", candles)
            counts[symbol] = len(candles)
            first_ms, last_ms = min(first_ms, int(candles[0, 0])), max(last_ms, int(candles[-1, 0]))
    finally:
        await connection.close()
    if not counts:
        raise RecoverError("the chart holds no candle from there on: nothing can be replayed")
    return Export(
        recording=str(target),
        warm_up_from=checkpoints.moment(first_ms).isoformat(),
        to=checkpoints.moment(last_ms).isoformat(),
        candles=counts,
    )


def _write(file: Path, candles: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    minutes = pa.array(candles[:, 0].astype(np.int64), pa.timestamp("ms", "UTC"))
    columns: dict[str, Any] = {"timestamp": minutes}
    for number, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        columns[name] = pa.array(candles[:, number])
    pq.write_table(pa.table(columns), file)


def _settings(source: Directory, config: Path | None, symbols: tuple[str, ...], recording: Path) -> Settings:
    """Take over the source's settings, but for where the candles come from."""
    last = settings_file(source)
    settings = settings_for_start(
        last if config is None and last.exists() else config,
        {
            "symbols": ",".join(symbols),
            "market.exchange": "simulated",
            "market.recorded_path": str(recording),
            "market.speed": "max",
            "market.faults": "false",
            "pipeline.replay": "true",
            "data.history_days": "0",
        },
    )
    # Addresses and times of the source mean nothing here.
    market = settings.market.model_copy(
        update={"base_url": None, "from_ms": None, "to_ms": None, "start_ms": None}
    )
    pipeline = settings.pipeline.model_copy(update={"health_port_base": None})
    return settings.model_copy(update={"market": market, "pipeline": pipeline, "servers": ServerSettings()})
