"""The rows of a history in files, as trainings and comparisons read them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np

from schemas.frames import ALL_SYMBOLS
from training.evaluation.history import History
from training.rows import save_rows


class RowFolders:
    """Writes spans of a history into folders, each once; all are gone after the block.

    Parameters
    ----------
    history
        Where the rows are.
    scratch
        Where folders are made.
    """

    def __init__(self, history: History, scratch: Path) -> None:
        self._history = history
        self._scratch = scratch
        self._folders: dict[tuple[str, int, int], asyncio.Task[Path]] = {}

    async def __aenter__(self) -> RowFolders:
        return self

    async def __aexit__(self, *_: object) -> None:
        writing = list(self._folders.values())
        await asyncio.gather(*writing, return_exceptions=True)
        for number in range(len(writing)):
            shutil.rmtree(self._folder(number), ignore_errors=True)
        self._folders.clear()

    async def of(self, symbol: str, from_ms: int, to_ms: int) -> Path:
        """Give the folder with the rows of a symbol, or of all, whose open time lies in a span."""
        span = (symbol, from_ms, to_ms)
        if span not in self._folders:
            writing = asyncio.to_thread(
                _save, self._folder(len(self._folders)), self._history, symbol, from_ms, to_ms
            )
            self._folders[span] = asyncio.create_task(writing)
        # one writer serves many; a cancelled one of them must not end it for the others
        return await asyncio.shield(self._folders[span])

    def _folder(self, number: int) -> Path:
        return self._scratch / f"rows-{number}"


def _save(folder: Path, history: History, symbol: str, from_ms: int, to_ms: int) -> Path:
    """Write the rows that are known at the end of a span, and no others, as the trainer reads them."""
    frame = history.frame
    begin = int(np.searchsorted(frame.open_time_ms, from_ms, "left"))
    end = int(np.searchsorted(frame.open_time_ms, to_ms, "right"))
    known = frame.rows(slice(begin, end))
    index = known.symbol_index
    if symbol != ALL_SYMBOLS:
        known = known.rows(known.symbol_index == frame.symbols.index(symbol))
        index = np.zeros(len(known), np.int32)
    save_rows(
        folder,
        vectors=known.vector,
        symbol_index=index,
        open_time_ms=known.open_time_ms,
        close=known.ohlcv[:, 3],
        is_complete=known.is_complete,
    )
    return folder
