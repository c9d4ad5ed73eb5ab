"""How many candles a second go through the whole pipeline, every row of every table written."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from cli.benches.base.bench import Sizes
from cli.benches.base.copying import Cost, copied_again
from cli.benches.base.figure import Figure
from cli.benches.base.pipeline import folder_for_a_while
from cli.benches.base.processes import CpuWatch
from cli.benches.base.replaying import names, record_market, replay
from config.ml_config import Settings
from runtime.directory import Directory
from runtime.servers import postgres_for

GIVES = ("replay",)
TAKES = "3 minutes"
ON_REQUEST = False

_SYMBOLS = 6
_CANDLES = 120_000
_SAYS = "the same rows of all tables once more, by bare binary COPY from one client, with keys and indexes"


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Replay a generated recording; seconds of training are not counted."""
    with folder_for_a_while("replay", sizes) as folder:
        yield asyncio.run(_measure(sizes, folder))


async def _measure(sizes: Sizes, folder: Path) -> Figure:
    symbols = names(sizes.symbols or _SYMBOLS)
    candles = sizes.candles or _CANDLES
    record_market(folder / "recording", symbols, max(1, candles // len(symbols)))
    spent = CpuWatch()

    async def look(processes: list[psutil.Process]) -> None:
        spent.look(processes)

    summary = await replay(folder / "recording", folder / "var", look=look)
    directory = Directory.open(folder / "var")
    with postgres_for(directory, Settings().servers, "bench") as url:
        connection = await asyncpg.connect(url)
        try:
            costs = await copied_again(connection)
        finally:
            await connection.close()
    return Figure(
        name="replay",
        value=summary["candles_per_s_without_training"],
        unit="candles/s",
        reference=summary["candles"] / sum(cost.seconds for cost in costs.values()),
        bound=1_500,
        at_least=True,
        says=_SAYS,
        more=_more(summary, costs, spent.seconds_by_part(), len(symbols)),
    )


def _more(
    summary: dict[str, Any], costs: dict[str, Cost], spent: dict[str, float], symbols: int
) -> dict[str, Any]:
    candles = summary["candles"]
    return {
        "symbols": symbols,
        "candles": candles,
        "seconds": summary["seconds"],
        "training_seconds": summary["training_seconds"],
        "candles_per_s_with_training": summary["candles_per_s"],
        "models_trained": summary["models_trained"],
        "rows": summary["rows"],
        # Measured every second, so a little of the end is missing.
        "cpu_us_per_candle": {part: 1e6 * seconds / candles for part, seconds in spent.items()},
        "copy_us_per_row": {
            table: 1e6 * cost.seconds / cost.rows for table, cost in costs.items() if cost.rows
        },
        "copy_us_per_candle": {table: 1e6 * cost.seconds / candles for table, cost in costs.items()},
    }
