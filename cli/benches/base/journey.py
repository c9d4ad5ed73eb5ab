"""Where the time of a live candle goes: when each stage's transaction began, from what they leave behind."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import asyncpg

from cli.benches.base.timing import quantile

_STEPS = ("to_features_ms", "to_predictions_ms", "to_forecasts_ms", "to_committed_ms")


async def steps_ms(
    connection: asyncpg.Connection,
    seen: Mapping[tuple[str, int], float],
    committed: Mapping[tuple[str, int], float],
) -> dict[str, Any]:
    """Give the median time between the beginnings of the stages' transactions, for minutes in the outbox.

    The first step begins when a minute's first candle is on the socket, the last one ends with the commit.
    """
    shift = time.time() - time.monotonic()
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for key, moment in seen.items():
        if key in committed:
            minute = key[1]
            first[minute] = min(first.get(minute, moment), moment)
            last[minute] = max(last.get(minute, 0.0), committed[key])
    rows = await connection.fetch(
        """
        SELECT (EXTRACT(EPOCH FROM made.event_to) * 1000)::bigint AS minute,
               EXTRACT(EPOCH FROM made.written_at)::float8 AS features,
               EXTRACT(EPOCH FROM said.written_at)::float8 AS predictions,
               EXTRACT(EPOCH FROM (SELECT max(written_at) FROM "persistentForecasts"
                                   WHERE created_at = made.event_to + interval '60 s'))::float8 AS forecasts
        FROM outbox AS made
        JOIN outbox AS said ON said.event_to = made.event_to AND said.partition = made.partition
        WHERE made.topic = 'features' AND said.topic = 'predictions' AND made.event_from = made.event_to
        """
    )
    found: list[list[float]] = []
    for row in rows:
        minute = row["minute"]
        if minute not in first or row["forecasts"] is None:
            continue
        moments = [row["features"], row["predictions"], row["forecasts"], last[minute] + shift]
        times = [first[minute] + shift, *moments]
        found.append([(later - earlier) * 1000 for earlier, later in pairwise(times)])
    if not found:
        return {}
    columns = list(zip(*found, strict=True))
    return {
        "minutes_looked_at": len(found),
        **{name: statistics.median(column) for name, column in zip(_STEPS, columns, strict=True)},
        **{f"{name}_p90": quantile(column, 0.9) for name, column in zip(_STEPS, columns, strict=True)},
    }
