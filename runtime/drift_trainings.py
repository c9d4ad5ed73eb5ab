"""Trainings that drift asks for: put into the queue at fixed points of event time, once.

The stages that find drift write the point at which the training is due into `"driftChecks".train_at`, always
a multiple of `drift.check_every_minutes`. Whoever is about to serve the minutes behind such a point sees to
it that the trainings are in the queue: by then every row up to the point is committed, so a replay asks for
the same trainings at the same event times, whatever was killed in between. See `docs/decisions/drift.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from db.repositories import checkpoints, jobs, models
from db.repositories.checkpoints import Checkpoint, moment
from schemas.frames import MINUTE_MS

TRAINER, MONITOR, INFERENCE = "ml_trainer", "chart_monitor", "ml_inference"
PRODUCER, TOPIC = "feature_calculator", "features"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTrainings:
    """Asks for the trainings of one partition's models.

    Attributes
    ----------
    every_minutes
        Distance of the points.
    partition
        Whose inference this is.
    partitions
        All whose drift leads to a training of these models.
    trainer_partition
        See `runtime.model_guide.GuideSettings`.
    labels
        Values of `"driftChecks".symbol` that concern these models.
    trained
        What the trainings are of: `ALL`, or the partition's own symbols.
    trainings
        Horizons and family of every training of one of them.
    """

    every_minutes: int
    partition: int
    partitions: tuple[int, ...]
    trainer_partition: int
    labels: tuple[str, ...]
    trained: tuple[str, ...]
    trainings: tuple[tuple[tuple[int, ...], str], ...]

    def points(self, begun_ms: int, after_ms: int, to_ms: int) -> list[int]:
        """List the points in the span (`after_ms`, `to_ms`] behind the first minute."""
        every_ms = self.every_minutes * MINUTE_MS
        first = max(begun_ms, after_ms) // every_ms + 1
        return [number * every_ms for number in range(first, to_ms // every_ms + 1)]

    async def are_asked_for(self, connection: asyncpg.Connection, point_ms: int, begun_ms: int) -> bool:
        """Put the trainings that are due by a point into the queue; False if not all drift is known yet.

        Asking twice is asking once. What the schedule asks for at the same point comes first: the trainer is
        past the point when this looks.
        """
        points = self.points(begun_ms, begun_ms, point_ms)
        if not points:
            return True
        if not await self._has_come(connection, points[-1]):
            return False
        rows = await connection.fetch(
            """
            SELECT DISTINCT train_at, kind, subject, forecast_horizon FROM "driftChecks"
            WHERE train_at <= $1 AND train_at > $2 AND symbol = ANY($3)
            ORDER BY train_at, kind, subject, forecast_horizon
            """,
            moment(points[-1]),
            moment(begun_ms),
            list(self.labels),
        )
        for row in rows:
            due_ms = checkpoints.milliseconds(row["train_at"])
            for symbol, horizons, family in await self._wanted(connection, row):
                request = jobs.TrainRequest(
                    symbol=symbol,
                    forecast_horizon=max(horizons),
                    model_type=family,
                    train_at_ms=due_ms,
                    train_start_ms=begun_ms,
                    train_end_ms=due_ms,
                    settings={"horizons": list(horizons)} if len(horizons) > 1 else {},
                )
                await jobs.enqueue(connection, request)
        return True

    async def _has_come(self, connection: asyncpg.Connection, point_ms: int) -> bool:
        """Tell whether all drift that can ask for a training at a point is committed."""
        places = await checkpoints.progress(connection, [TRAINER, MONITOR, INFERENCE, PRODUCER])
        if not _is_past(places.get((TRAINER, self.trainer_partition)), point_ms):
            return False
        # A checkpoint's event time is the last open minute that is complete. Models ask for a point at which
        # they have seen only what lies before its last candle; what is asked for here is committed anyhow.
        wanted = [(MONITOR, partition, point_ms - MINUTE_MS) for partition in self.partitions]
        others = [partition for partition in self.partitions if partition != self.partition]
        wanted += [(INFERENCE, partition, point_ms - 2 * MINUTE_MS) for partition in others]
        for service, partition, ms in wanted:
            place = places.get((service, partition), Checkpoint())
            if _is_past(place, ms):
                continue
            # It may be that there is nothing to come to: the symbols of that partition begin later.
            produced = _is_past(places.get((PRODUCER, partition)), point_ms)
            if not produced or await _has_input(connection, partition, place, ms):
                return False
        return True

    async def _wanted(
        self, connection: asyncpg.Connection, row: asyncpg.Record
    ) -> list[tuple[str, tuple[int, ...], str]]:
        """List what is to be trained: all where features drifted, else the like of the model that did."""
        if row["kind"] == "features":
            return [(symbol, *training) for symbol in self.trained for training in self.trainings]
        model = await models.by_version(connection, row["subject"])
        if model is None:
            return []
        return [
            (model.symbol, horizons, family)
            for horizons, family in self.trainings
            if family == model.model_type and row["forecast_horizon"] in horizons
        ]


def _is_past(place: Checkpoint | None, ms: int) -> bool:
    return place is not None and place.event_time_ms is not None and place.event_time_ms >= ms


async def _has_input(connection: asyncpg.Connection, partition: int, place: Checkpoint, ms: int) -> bool:
    """Tell whether a reader has messages before it that begin by an open minute."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM outbox WHERE topic = $1 AND partition = $2 AND sequence >= $3
                       AND event_from <= $4)
        """,
        TOPIC,
        partition,
        place.position.sequence,
        moment(ms),
    )
    return found
