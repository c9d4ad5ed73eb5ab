"""The memory of the whole pipeline, while it serves six symbols."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection, Iterator

from cli.answer import progress
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import caught_up, running
from cli.benches.base.processes import pss_by_part
from cli.benches.base.replaying import names
from db.connect import connect

GIVES = ("memory",)
TAKES = "3 minutes"
ON_REQUEST = False

_SYMBOLS = 6
_MINUTES = 1.0
_MB = 1e6
#: Parts that are no program of ours.
_SERVERS = ("postgres", "redis")
_SAYS = "PostgreSQL and the Redis-compatible server alone, at the same moments"


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Add up the proportional set sizes of all processes once models serve, every second."""
    yield asyncio.run(_measure(sizes))


async def _measure(sizes: Sizes) -> Figure:
    symbols = names(sizes.symbols or _SYMBOLS)
    settings = {"market.speed": "60", "data.history_days": "0.5", "symbols": ",".join(symbols)}
    async with running("memory", sizes, settings) as pipeline:
        connection = await connect(pipeline.postgres_url)
        models = len(pipeline.settings.training.forecast_horizons)
        await pipeline.until(
            lambda: caught_up(pipeline, connection, models=models), what="the first models", at_most_s=300
        )
        await connection.close()
        progress.print("models serve; measuring", markup=False)
        looks: list[dict[str, int]] = []
        until = time.monotonic() + 60 * (sizes.minutes or _MINUTES)
        while time.monotonic() < until:
            pipeline.stack.check()
            looks.append(pss_by_part(pipeline.processes()))
            await asyncio.sleep(1)
    if not any(looks):
        raise NotMeasuredError(
            "this system does not tell proportional set sizes: it has no /proc/PID/smaps_rollup"
        )
    sums = [sum(look.values()) for look in looks]
    parts = sorted({part for look in looks for part in look})
    return Figure(
        name="memory",
        value=statistics.median(sums) / _MB,
        unit="MB",
        reference=statistics.median(sum(look.get(part, 0) for part in _SERVERS) for look in looks) / _MB,
        bound=2_000,
        says=_SAYS,
        more={
            "symbols": len(symbols),
            "most_mb": max(sums) / _MB,
            "parts_mb": {
                part: statistics.median(look.get(part, 0) for look in looks) / _MB for part in parts
            },
        },
    )
