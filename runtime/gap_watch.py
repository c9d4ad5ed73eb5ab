"""Tells when a model is worse live than in its walk-forward validation, and when that is over.

What is told follows from committed rows and event time alone: after every day that is over (by the event time
of the forecaster) the whole history of verdicts is made again from `"forecastScores"` and `ml_models`. So it
is the same whatever was killed, and no table has to remember it. What was told already stands in
`"systemLogs"`, and is not told again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from db.connect import LOST_ANSWER, connect
from db.repositories import checkpoints, live_gaps
from db.repositories.live_gaps import LiveModel, ToldVerdict
from domain.evaluation.live_gap import Verdict, verdicts
from domain.evaluation.live_gap import live_gaps as gaps_of
from pipeline.drift_rows import CATEGORY
from pipeline.stage import LogEntry
from schemas.frames import MINUTE_MS

if TYPE_CHECKING:
    from runtime.alerts import AlertObserver
    from runtime.worker import Worker

SUBCATEGORY = "walk_forward_gap"
FORECASTER = "forecaster"
EVERY_S, EVERY_S_IN_REPLAY = 60.0, 1.0
_LAST_LOOK_S = 2.0
_DAY_MS = 86_400_000


@dataclass(kw_only=True)
class GapWatch:
    """Makes the log entries that are due.

    Attributes
    ----------
    error_rate, gate_error_rate
        See `domain.evaluation.live_gap.verdicts`.
    remember_days
        What ended, or began, longer ago is no news.
    """

    error_rate: float
    gate_error_rate: float
    remember_days: int
    #: The last day that was over at the last look; None before the first.
    looked_at: int | None = None
    #: What is worse at the moment, in words, by version and horizon.
    worse: dict[str, str] = field(default_factory=dict)
    _told: set[ToldVerdict] = field(default_factory=set)

    async def look(self, connection: asyncpg.Connection) -> list[LogEntry]:
        """Make the entries that were not made before; none while no further day is over."""
        last = await last_day_over(connection)
        if last is None or last == self.looked_at:
            return []
        if self.looked_at is None:
            self._told |= await live_gaps.told_verdicts(
                connection, category=CATEGORY, subcategory=SUBCATEGORY
            )
        models = await live_gaps.live_models(connection)
        self.worse = {}
        entries = [entry for model in models for entry in self._of(model, last)]
        self.looked_at = last
        return entries

    def _of(self, model: LiveModel, last: int) -> Iterable[LogEntry]:
        found = judge(model, last, self.error_rate, self.gate_error_rate)
        for verdict in found:
            yield from self._news(model, verdict, verdict.gap.day, last)
        if not found or not found[-1].worse:
            return
        verdict = found[-1]
        if model.serves((last + 1) * _DAY_MS):
            self.worse[f"{model.model_version}, {model.horizon_minutes} min"] = _sentence(model, verdict)
        else:
            ended = _retired(model, last)
            yield from self._news(model, verdict, ended, last, is_retired=True)

    def _news(
        self, model: LiveModel, verdict: Verdict, day: int, last: int, *, is_retired: bool = False
    ) -> Iterable[LogEntry]:
        worse = verdict.worse and not is_retired
        key = ToldVerdict(model.model_version, model.horizon_minutes, day, worse)
        if key in self._told or last - day > self.remember_days:
            return
        self._told.add(key)
        yield _entry(model, verdict, day, worse=worse, is_retired=is_retired)


def judge(model: LiveModel, last: int, error_rate: float, gate_error_rate: float) -> list[Verdict]:
    """Give a model's verdicts up to the end of a day, oldest first."""
    over = [day for day in model.days if day.day <= last]
    return verdicts(gaps_of(over, model.walk_forward), error_rate=error_rate, gate_error_rate=gate_error_rate)


async def last_day_over(connection: asyncpg.Connection) -> int | None:
    """Tell the last day whose scores do not change any more; None before any forecast."""
    places = await checkpoints.progress(connection, [FORECASTER])
    times = [place.event_time_ms for place in places.values() if place.event_time_ms is not None]
    if not times or len(times) < len(places):
        return None
    # the candle of 23:59 counts for the day that begins when it closes
    return (min(times) + MINUTE_MS) // _DAY_MS - 1


async def watch_gaps(worker: Worker, alerts: AlertObserver) -> None:
    """Look whether a day is over, until the process stops; a replay looks once more at its end."""
    settings = worker.settings
    watch = GapWatch(
        error_rate=settings.drift.gap_error_rate,
        gate_error_rate=settings.training.promotion_error_rate,
        remember_days=settings.data.retention_days,
    )
    is_replay, complained = settings.pipeline.replay, False
    while not worker.stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.stop.wait(), EVERY_S_IN_REPLAY if is_replay else EVERY_S)
        if worker.stop.is_set() and not is_replay:
            return
        try:
            async with asyncio.timeout(_LAST_LOOK_S if worker.stop.is_set() else None):
                connection = await connect(worker.servers.postgres_url, give_up_s=0)
                try:
                    for entry in await watch.look(connection):
                        alerts.log(entry)
                finally:
                    await connection.close(timeout=1)
            complained = False
        except LOST_ANSWER as error:
            if not complained:
                what = "holding live scores against the validation has to wait"
                worker.log.warning(what, action=SUBCATEGORY, problem=str(error))
            complained = True
        worker.health.details["worse_than_walk_forward"] = list(watch.worse.values())


def _retired(model: LiveModel, last: int) -> int:
    """Give the last day of which a model served a part."""
    ends = [until for _, until in model.terms if until is not None and until <= (last + 1) * _DAY_MS]
    return int(max(ends) - 1) // _DAY_MS if ends else model.days[-1].day


def _sentence(model: LiveModel, verdict: Verdict) -> str:
    gap = verdict.gap
    return (
        f"{model.model_version} ({model.symbol}, {model.horizon_minutes} min): live skill"
        f" {_percent(gap.skill.live)} and Brier score {gap.brier.live:.4f} over {gap.days} days,"
        f" in its walk-forward validation {_percent(gap.skill.walk_forward)} and {gap.brier.walk_forward:.4f}"
    )


def _entry(model: LiveModel, verdict: Verdict, day: int, *, worse: bool, is_retired: bool) -> LogEntry:
    if worse:
        remedy = (
            "`tidecast models` shows both; take it out of production with `tidecast rollback --symbol"
            f" {model.symbol} --horizon {model.horizon_minutes} --family {model.model_type}`, or let"
            " drift.reactions act on it, or wait for the next training"
        )
        message = f"worse live than its validation by more than chance: {_sentence(model, verdict)}. {remedy}"
    elif is_retired:
        message = f"{model.model_version} was worse live than in its validation, and serves no more"
    else:
        message = f"no longer worse live than its validation: {_sentence(model, verdict)}"
    gap = verdict.gap
    return LogEntry(
        level="warning" if worse else "info",
        category=CATEGORY,
        subcategory=SUBCATEGORY,
        message=message,
        context={
            "model_version": model.model_version,
            "horizon_minutes": model.horizon_minutes,
            "day": day,
            "at_ms": (day + 1) * _DAY_MS,
            "worse": worse,
            "days": gap.days,
            "n": gap.n,
            "live_skill": _rounded(gap.skill.live),
            "walk_forward_skill": _rounded(gap.skill.walk_forward),
            "skill_z": _rounded(gap.skill.z),
            "live_accuracy": _rounded(gap.accuracy.live),
            "walk_forward_accuracy": _rounded(gap.accuracy.walk_forward),
            "live_brier": _rounded(gap.brier.live),
            "walk_forward_brier": _rounded(gap.brier.walk_forward),
            "brier_z": _rounded(gap.brier.z),
            "score": verdict.score,
            "p_value": verdict.p_value,
            "allowed": verdict.allowed,
        },
        symbol=model.symbol,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
