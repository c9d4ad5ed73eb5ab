"""Tell how far a replay is, and when all of it has been processed."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
import asyncpg

from db.repositories import checkpoints, jobs
from schemas.frames import MINUTE_MS
from streams.topics import CONSUMERS, PRODUCER

SERVICES = ["feature_calculator", "ml_trainer", "ml_inference", "forecaster", "chart_monitor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a replay stands.

    Attributes
    ----------
    first_ms, last_ms
        The minutes that are played.
    reached_ms
        What every stage has processed.
    unfinished_trainings
        Jobs that wait or run, and whose time has come.
    is_drained
        Whether nothing is left to do.
    """

    first_ms: int
    last_ms: int
    reached_ms: int
    unfinished_trainings: int
    is_drained: bool

    @property
    def share(self) -> float:
        """How much of the time has been processed, 0 to 1."""
        minutes = (self.last_ms - self.first_ms) // MINUTE_MS + 1
        return min(1.0, max(0.0, ((self.reached_ms - self.first_ms) // MINUTE_MS + 1) / minutes))


async def exchange_state(url: str, timeout_s: float = 5.0) -> dict[str, int | bool | None]:
    """Ask the simulated exchange where it stands.

    Raises
    ------
    OSError
        If it does not answer.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/sim/state") as answer,
        ):
            state: dict[str, int | bool | None] = await answer.json()
            return state
    except (aiohttp.ClientError, ValueError) as error:
        raise OSError(f"the simulated exchange does not answer: {error}") from error


async def read_progress(
    connection: asyncpg.Connection, state: dict[str, int | bool | None], partitions: list[int]
) -> Progress:
    """Compare what the exchange has played with what the stages have committed."""
    first_ms, last_ms = state["first_ms"], state["last_ms"]
    assert isinstance(first_ms, int)
    assert isinstance(last_ms, int)
    places = await checkpoints.progress(connection, SERVICES)
    reached = [
        _reached(places, service, partition, first_ms) for service in SERVICES for partition in partitions
    ]
    unfinished = await jobs.unfinished(
        connection, reached_ms=min(_reached(places, "feature_calculator", p, first_ms) for p in partitions)
    )
    behind = any(
        _is_behind(places, topic, service, partition)
        for topic in ("features", "predictions")
        for service in CONSUMERS[topic]
        for partition in partitions
    )
    fed = all(
        (place := places.get(("feature_calculator", partition))) is not None
        and place.event_time_ms is not None
        and place.event_time_ms >= last_ms
        for partition in partitions
    )
    return Progress(
        first_ms=first_ms,
        last_ms=last_ms,
        reached_ms=min(reached),
        unfinished_trainings=unfinished,
        is_drained=fed and not behind and not unfinished,
    )


def _reached(
    places: dict[tuple[str, int], checkpoints.Checkpoint], service: str, partition: int, first_ms: int
) -> int:
    place = places.get((service, partition))
    return first_ms - MINUTE_MS if place is None or place.event_time_ms is None else place.event_time_ms


def _is_behind(
    places: dict[tuple[str, int], checkpoints.Checkpoint], topic: str, service: str, partition: int
) -> bool:
    sent, read = places.get((PRODUCER[topic], partition)), places.get((service, partition))
    if sent is None or read is None:
        return True
    return read.position.sequence <= sent.outbox_sequence
