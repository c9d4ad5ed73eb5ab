"""The newest prediction of every symbol and horizon, in Redis, for readers outside the pipeline.

One hash a symbol, `PREFIX:prediction:SYMBOL`, field `h<minutes>`, JSON. It is a copy for convenience: losing
it loses nothing, and nothing in the pipeline reads it.
"""

from __future__ import annotations

import math
from typing import Any

import orjson
from redis.exceptions import RedisError

from pipeline.stage import StepResult
from runtime.stage_runner import StageRunner
from schemas.frames import MINUTE_MS, REASON_TEXT, PredictionFrame, Reason


class CachingRunner(StageRunner):
    """A runner that keeps the newest predictions where others can look them up.

    Parameters
    ----------
    cache
        Whether to.
    prefix
        Of the deployment's keys.
    """

    def __init__(self, *, cache: bool, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self._cache = cache
        self._prefix = prefix

    async def committed(self, result: StepResult) -> None:
        """Copy the last row of each symbol."""
        if self._cache and isinstance(result.out, PredictionFrame) and len(result.out):
            await self._copy(result.out)

    async def _copy(self, frame: PredictionFrame) -> None:
        newest = {int(index): row for row, index in enumerate(frame.symbol_index)}
        try:
            pipe = self._client.pipeline(transaction=False)
            for index, row in newest.items():
                key = f"{self._prefix}:prediction:{frame.symbols[index]}"
                pipe.hset(key, mapping=cached(frame, row))
            await pipe.execute()
        except (RedisError, OSError):
            return  # a copy for convenience; the next minute brings another


def cached(frame: PredictionFrame, row: int) -> dict[str, bytes]:
    """Describe one row of a frame, one field a horizon."""
    fields = {}
    for column, horizon in enumerate(frame.horizons):
        probability = float(frame.probability_up[row, column])
        fields[f"h{horizon}"] = orjson.dumps(
            {
                "event_time_ms": int(frame.open_time_ms[row]) + MINUTE_MS,
                "predicted_pct": float(frame.predicted_pct[row, column]),
                "probability_up": None if math.isnan(probability) else probability,
                "model_version": frame.models[int(frame.model_index[row, column])],
                "reason": REASON_TEXT[Reason(int(frame.reason[row, column]))],
            }
        )
    return fields
