"""The rows of a training, read once into files and shared by the trainings of one point of time.

They are read in a process of the pool, so that the trainer stays small and its event loop free.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from db.connect import connect
from db.repositories import training_rows
from schemas.frames import Bool, Float32, Float64, Int32, Int64

_PREFIX = "rows-"
_KINDS: dict[str, Any] = {
    "vectors": np.float32,
    "symbol_index": np.int32,
    "open_time_ms": np.int64,
    "close": np.float64,
    "is_complete": np.bool_,
}


class Compute(Protocol):
    """Runs functions in other processes; see `runtime/compute.py`."""

    async def run(
        self, function: Callable[..., Any], *args: Any, progress: Callable[[float, str], None] | None = None
    ) -> Any:
        """Call `function(*args, progress=..., cancelled=...)` elsewhere and give its result."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which rows.

    Attributes
    ----------
    from_ms, to_ms
        Open times of the first and last row, both included.
    """

    symbols: tuple[str, ...]
    from_ms: int
    to_ms: int
    schema_hash: str
    features: int


@dataclass(slots=True)
class _Entry:
    folder: Path
    ready: asyncio.Task[int]
    users: int = 0


class RowFiles:
    """Reads spans into folders, and removes a folder when nobody needs it any more.

    Parameters
    ----------
    scratch
        A folder of this process alone; what an earlier one left there is removed.
    postgres_url
        Where the rows are.
    compute
        Where the reading is done.
    """

    def __init__(self, *, scratch: Path, postgres_url: str, compute: Compute) -> None:
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in scratch.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._scratch = scratch
        self._postgres_url = postgres_url
        self._compute = compute
        self._entries: dict[Span, _Entry] = {}
        self._number = 0

    @asynccontextmanager
    async def use(self, span: Span) -> AsyncIterator[Path]:
        """Give the folder with the rows of a span; it stays at least until the block ends.

        The folder used last is kept beyond that, as the other horizons of that point of time follow.
        """
        entry = self._entry(span)
        entry.users += 1
        try:
            # one reader serves many; a cancelled one of them must not end it for the others
            await asyncio.shield(entry.ready)
            yield entry.folder
        finally:
            entry.users -= 1
            self._remove_unused(keep=span)

    async def close(self) -> None:
        """Stop reading and remove all folders."""
        for entry in self._entries.values():
            entry.ready.cancel()
        await asyncio.gather(*(entry.ready for entry in self._entries.values()), return_exceptions=True)
        for entry in self._entries.values():
            shutil.rmtree(entry.folder, ignore_errors=True)
        self._entries.clear()

    def _entry(self, span: Span) -> _Entry:
        entry = self._entries.get(span)
        if entry is not None and not _failed(entry.ready):
            return entry
        self._number += 1
        folder = self._scratch / f"{_PREFIX}{self._number}"
        reading = self._compute.run(export_rows, self._postgres_url, str(folder), span)
        task = asyncio.get_running_loop().create_task(_count(reading), name=f"read {folder.name}")
        self._entries[span] = entry = _Entry(folder, task)
        return entry

    def _remove_unused(self, *, keep: Span) -> None:
        for span, entry in list(self._entries.items()):
            if entry.users or (span == keep and not _failed(entry.ready)):
                continue
            entry.ready.cancel()
            shutil.rmtree(entry.folder, ignore_errors=True)
            del self._entries[span]


async def _count(reading: Any) -> int:
    count: int = await reading
    return count


def _failed(task: asyncio.Task[int]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def save_rows(
    folder: Path,
    *,
    vectors: Float32,
    symbol_index: Int32,
    open_time_ms: Int64,
    close: Float64,
    is_complete: Bool,
) -> None:
    """Put the rows of a training into files that the process of the training maps into its memory."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    columns: dict[str, Any] = {
        "vectors": vectors,
        "symbol_index": symbol_index,
        "open_time_ms": open_time_ms,
        "close": close,
        "is_complete": is_complete,
    }
    for name, kind in _KINDS.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(columns[name], kind), allow_pickle=False)


def saved_rows(folder: Path) -> dict[str, Any]:
    """Map what `save_rows` wrote into memory, by column; not to be written to."""
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _KINDS}


def export_rows(postgres_url: str, folder: str, span: Span, *, progress: Any, cancelled: Any) -> int:
    """Read a span from the database into files; returns how many rows there are. Runs in a pool's process."""
    return asyncio.run(_export(postgres_url, Path(folder), span))


async def _export(postgres_url: str, folder: Path, span: Span) -> int:
    connection = await connect(postgres_url)
    try:
        rows = await training_rows.read(
            connection,
            span.symbols,
            span.from_ms,
            span.to_ms,
            schema_hash=span.schema_hash,
            features=span.features,
        )
    finally:
        await connection.close()
    save_rows(
        folder,
        vectors=rows.vector,
        symbol_index=rows.symbol_index,
        open_time_ms=rows.open_time_ms,
        close=rows.close,
        is_complete=rows.is_complete,
    )
    return len(rows)
