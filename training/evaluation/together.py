"""Pieces of work side by side, of which the first that fails ends the others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Do things side by side; the first that fails ends the others, and its error is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [each.result() for each in running]
