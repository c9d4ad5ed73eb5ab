"""The ways in which a retraining can begin, side by side on the same rows and minutes.

At every point of a recording a model of each way is trained as production would: anew on all that is known
(`batch`), or from the model of the point before, on the rows since (`online`). And for each symbol, as if it
had been listed a week ago: anew on that week of its own, or from the pooled model of the *other* symbols that
has served since the point before (`transfer`). What is scored are the minutes from the second point on:
before it all ways are one.

Rows, split, calibration, export and the graph that answers are those of production; so is the rule that a
training begins anew where the model to go on from has seen the rows by which the new one is judged, and that
where a training gives no model the earlier one stays.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.models import families
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, Float32, Float64, Int64
from training.evaluation.history import History
from training.evaluation.modes_lessons import Learned, Lesson, Question, answers, learn
from training.evaluation.schedule import Due, TooShortError
from training.evaluation.scoring import outcomes_pct
from training.evaluation.together import together
from training.evaluation.weekly import (
    FIRST_MINUTES,
    Tell,
    check_step,
    kept_minutes,
    scored_rows,
    weekly_points,
)
from training.fitting import FitRequest
from training.request import request_of
from training.rows import Compute, save_rows
from training.settings import TrainingPlan

#: Pooled models: anew on all rows; the same with another seed, which shows the noise of training; gone on.
BATCH, RESEEDED, ONLINE = "batch", "batch, another seed", "online"
#: Models of one symbol: anew on its own rows; from the pooled model of the others.
OWN, TRANSFER = "own rows, anew", "transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What the trainings of one way took and came to, those of the first point left out.

    Attributes
    ----------
    trainings
        How many there were.
    went_on
        How many went on from an earlier model.
    had_been_seen
        How many were to, but began anew because that model saw the rows by which the new one is judged.
    found_nothing, failed
        How many found nothing to learn, and how many had rows, too few for the most part, that cannot be
        learned from. Neither gives a model.
    cpu_s
        Median of the seconds of processor time of one training.
    """

    trainings: int
    went_on: int
    had_been_seen: int
    found_nothing: int
    failed: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the models of all ways said over one recording.

    Attributes
    ----------
    recording, family, settings, symbols
        Of what.
    span_ms
        First and last minute that is scored.
    open_time_ms
        Shape (rows,): of each scored row.
    actual_pct
        Shape (rows, horizons): what became of it; NaN where that is not known.
    predicted_pct, probability_up
        By way, of the same shape.
    efforts
        By way.
    points
        At how many points of time models were trained, the first included.
    """

    recording: str
    family: str
    settings: Mapping[str, Any]
    symbols: tuple[str, ...]
    horizons: tuple[int, ...]
    span_ms: tuple[int, int]
    open_time_ms: Int64
    actual_pct: Float64
    predicted_pct: Mapping[str, Float64] = field(repr=False)
    probability_up: Mapping[str, Float64] = field(repr=False)
    efforts: Mapping[str, Effort]
    points: int
    seconds: float


@dataclass(slots=True)
class _Said:
    """What a way said of the rows that are scored, and the trainings behind it."""

    predicted_pct: Float64
    probability_up: Float64
    learned: list[Learned] = field(default_factory=list)

    @classmethod
    def nothing(cls, rows: int, horizons: int) -> _Said:
        """Begin with no change and one half: what stands where there is no model."""
        return cls(np.zeros((rows, horizons)), np.full((rows, horizons), 0.5))

    def effort(self) -> Effort:
        return Effort(
            trainings=len(self.learned),
            went_on=sum(each.began == "further" and not each.failed for each in self.learned),
            had_been_seen=sum(each.began == "anew after all" for each in self.learned),
            found_nothing=sum(each.model is None and not each.failed for each in self.learned),
            failed=sum(each.failed for each in self.learned),
            cpu_s=float(np.median([each.cpu_s for each in self.learned if not each.failed] or [0.0])),
        )


async def try_modes(
    history: History,
    *,
    recording: str,
    family: str,
    plan: TrainingPlan,
    horizons: tuple[int, ...],
    step_minutes: int,
    compute: Compute,
    scratch: Path,
    tell: Tell,
) -> Tried:
    """Train and ask the models of every way, point by point.

    Parameters
    ----------
    history
        All vectors of a recording.
    recording
        Its name, for the report.
    family
        Whose models.
    plan
        What all trainings have in common.
    horizons
        Minutes ahead; one training learns them all.
    step_minutes
        Of so many minutes one is learned from and scored; divides every horizon.
    compute, scratch
        Where trainings are done, and an empty folder for their rows.

    Raises
    ------
    TooShortError
        If the recording is over before there was a second training.
    BadSettingsError
        If the family does not know a setting.
    ValueError
        If the step does not divide a horizon.
    """
    check_step(step_minutes, horizons)
    families.load(family).check_settings(plan.family_settings.get(family, {}))
    begun_s = time.monotonic()
    points = weekly_points(history, recording)
    actual = outcomes_pct(history, horizons)
    scored = scored_rows(history, actual, points, plan, step_minutes)[1:]
    if not sum(map(len, scored)):
        raise TooShortError(
            f"{recording}: no forecast fell due after its second training: take a longer recording"
        )
    folder = scratch / f"{recording}-{family}"
    trial = _Trial(
        history=history,
        family=family,
        plan=plan,
        horizons=horizons,
        points=points,
        scored=scored,
        folder=folder,
        compute=compute,
        tell=lambda done, text: tell(done, f"{recording}, {family}: {text}"),
    )
    try:
        await asyncio.to_thread(_save, folder, history, step_minutes)
        await trial.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = np.concatenate(scored)
    times = history.frame.open_time_ms[rows]
    return Tried(
        recording=recording,
        family=family,
        settings=plan.family_settings.get(family, {}),
        symbols=history.frame.symbols,
        horizons=horizons,
        span_ms=(int(times[0]), int(times[-1])),
        open_time_ms=times,
        actual_pct=actual[rows],
        predicted_pct={way: said.predicted_pct for way, said in trial.said.items()},
        probability_up={way: said.probability_up for way, said in trial.said.items()},
        efforts={way: said.effort() for way, said in trial.said.items()},
        points=len(points),
        seconds=time.monotonic() - begun_s,
    )


def _save(folder: Path, history: History, step_minutes: int) -> None:
    """Write the recording once; a minute that is not learned from still stands in the windows of others."""
    frame = history.frame
    save_rows(
        folder,
        vectors=frame.vector,
        symbol_index=frame.symbol_index,
        open_time_ms=frame.open_time_ms,
        close=frame.ohlcv[:, 3],
        is_complete=frame.is_complete & kept_minutes(frame.open_time_ms, step_minutes),
    )


@dataclass(slots=True, kw_only=True)
class _Trial:
    """All trainings of one recording and family, and what their models said.

    Attributes
    ----------
    scored
        Positions in the history of the rows that the models of each point but the first are asked about.
    folder
        Where the rows of the history are.
    """

    history: History
    family: str
    plan: TrainingPlan
    horizons: tuple[int, ...]
    points: Sequence[Due]
    scored: Sequence[Int64]
    folder: Path
    compute: Compute
    tell: Tell
    said: dict[str, _Said] = field(default_factory=dict)
    _ended: int = 0

    async def run(self) -> None:
        """Train and ask; what was said is in `said` afterwards."""
        rows = sum(map(len, self.scored))
        ways = (BATCH, RESEEDED, ONLINE, OWN, TRANSFER) if self._others(0) else (BATCH, RESEEDED, ONLINE)
        self.said = {way: _Said.nothing(rows, len(self.horizons)) for way in ways}
        first = await self._learn(self.points[0])
        work = [self._pooled(BATCH, first), self._pooled(RESEEDED, first), self._online(first)]
        if TRANSFER in ways:
            places = range(1, len(self.points))
            symbols = range(len(self.history.frame.symbols))
            work += [self._own(place, symbol) for place in places for symbol in symbols]
        await together(work)

    async def _pooled(self, way: str, first: Learned) -> None:
        """Begin anew at every point."""
        made = await together([self._learn(due, more_seed=int(way == RESEEDED)) for due in self.points[1:]])
        stands = first
        for place, learned in enumerate(made, start=1):
            stands = await self._speaks(way, place, learned, stands)

    async def _online(self, first: Learned) -> None:
        """Go on from the model of the point before, on the rows since its training."""
        stands, seen_to_ms = first, self.points[0].train_at_ms
        for place, due in enumerate(self.points[1:], start=1):
            goes_on = stands.model is not None
            learned = await self._learn(
                due, from_ms=seen_to_ms if goes_on else 0, start=stands, start_seen_to_ms=seen_to_ms
            )
            stands = await self._speaks(ONLINE, place, learned, stands)
            if learned.model is not None:
                seen_to_ms = due.train_at_ms

    async def _own(self, place: int, symbol: int) -> None:
        """Train a symbol on a week of its own, anew, and from a model of the others."""
        due, before = self.points[place], self.points[place - 1]
        mine, week_ms = (symbol,), due.train_at_ms - FIRST_MINUTES * MINUTE_MS
        anew = await self._learn(due, symbols=mine, from_ms=week_ms)
        await self._speaks(OWN, place, anew, None, symbol)
        donor = await self._learn(before, symbols=self._others(symbol))
        further = await self._learn(
            due, symbols=mine, from_ms=week_ms, start=donor, start_seen_to_ms=before.train_at_ms
        )
        await self._speaks(TRANSFER, place, further, None, symbol)

    def _others(self, symbol: int) -> tuple[int, ...]:
        return tuple(each for each in range(len(self.history.frame.symbols)) if each != symbol)

    async def _learn(
        self,
        due: Due,
        *,
        symbols: tuple[int, ...] = (),
        from_ms: int = 0,
        start: Learned | None = None,
        start_seen_to_ms: int = 0,
        more_seed: int = 0,
    ) -> Learned:
        """Train on the rows of some symbols (none named: all) from a minute on."""
        names = self.history.frame.symbols
        symbol = names[symbols[0]] if len(symbols) == 1 else ALL_SYMBOLS
        request = self._request(due, symbol, more_seed)
        if start is not None and start.model is not None:
            request = replace(request, start_from=start.model.native, start_seen_to_ms=start_seen_to_ms)
        lesson = Lesson(request=request, symbols=symbols or tuple(range(len(names))), from_ms=from_ms)
        learned: Learned = await self.compute.run(learn, lesson)
        self._ended += 1
        self.tell(self._ended / self._total, f"{self._ended} of {self._total} trainings")
        return learned

    @property
    def _total(self) -> int:
        later = len(self.points) - 1
        of_symbols = 3 * later * len(self.history.frame.symbols) if self._others(0) else 0
        return 1 + 3 * later + of_symbols

    def _request(self, due: Due, symbol: str, more_seed: int) -> FitRequest:
        return request_of(
            self.plan,
            folder=self.folder,
            family=self.family,
            symbol=symbol,
            horizons=self.horizons,
            train_at_ms=due.train_at_ms,
            more_seed=more_seed,
        )

    async def _speaks(
        self, way: str, place: int, learned: Learned, stands: Learned | None, symbol: int | None = None
    ) -> Learned:
        """Let the model of a point speak until the next one, or the one before where there is none."""
        said = self.said[way]
        said.learned.append(learned)
        speaker = learned if learned.model is not None or stands is None else stands
        if speaker.model is None:
            return speaker
        rows = self.scored[place - 1]
        mine = np.arange(len(rows))
        if symbol is not None:
            mine = np.flatnonzero(self.history.frame.symbol_index[rows] == symbol)
        if not len(mine):
            return speaker
        question = Question(
            folder=str(self.folder),
            rows=rows[mine],
            feature_names=self.plan.feature_names,
            schema_hash=self.plan.schema_hash,
        )
        answered: tuple[Float32, Float32] = await self.compute.run(answers, question, speaker.model)
        places = mine + sum(map(len, self.scored[: place - 1]))
        said.predicted_pct[places], said.probability_up[places] = answered
        return speaker
