"""What may hold a runner back, and makes ready what a batch needs."""

from __future__ import annotations

from typing import Any, Protocol

import asyncpg

from db.repositories.checkpoints import Checkpoint
from runtime.sources import Batch


class Guide(Protocol):
    """Holds a runner back, and makes ready what a batch needs."""

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Tell whether to read now; waits a little where the answer is no."""
        ...

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Tell how many leading rows of the batch may be processed now; 0: ask again."""
        ...

    async def relive(self, connection: asyncpg.Connection, frame: Any) -> None:
        """Make ready what re-living a frame needs."""
        ...


class Free:
    """A guide that never holds back."""

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Allow."""
        return True

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Allow all of it."""
        return max(batch.rows, 1)

    async def relive(self, connection: asyncpg.Connection, frame: Any) -> None:
        """Need nothing."""
