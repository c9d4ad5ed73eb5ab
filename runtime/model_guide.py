"""Brings the right models to the inference stage, and holds it at the points where they may change.

When history is processed (a replay, the start, after an outage) inference waits at each retraining point
until the training that is due there has ended, well or badly, and where a shadow ends until the comparison
has; the same at the points at which drift may ask for a training. So the same history is always served by the
same models. Live, it never waits: before it serves a minute it announces that, and whatever is decided from
then on, a promotion or a rollback, begins behind it (`db.repositories.terms`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from artifacts.store import ArtifactStore
from db.repositories import challenges, checkpoints, jobs, models, terms
from db.repositories.checkpoints import Checkpoint
from db.repositories.models import Model
from db.repositories.terms import Key, Term
from domain.forecasting.retraining import retraining_points
from domain.models.model import ModelRefusedError
from domain.models.serving import ServedModel
from pipeline.inference_stage import ServingModel
from runtime.drift_trainings import DriftTrainings
from runtime.sources import Batch
from schemas.frames import MINUTE_MS, FeatureFrame

TRAINER = "ml_trainer"
#: A row older than this by the exchange's clock is history: models are waited for.
CATCHING_UP_MS = 30 * MINUTE_MS
#: Between two looks for a new model: while nothing else is to do, and at most before a candle is served.
_LOOK_EVERY_S, _LOOK_LATEST_S = 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideSettings:
    """What the guide has to know.

    Attributes
    ----------
    partition
        Of the stage.
    trainer_partition
        The partition in which the trainer asks for the models that serve here: pooled trainings are asked
        for once, by the first partition.
    trained
        What those trainings are of: `ALL`, or the partition's own symbols.
    replay
        Whether time stands still while a model is trained.
    window_minutes, every_minutes
        When trainings are due, see `retraining_points`.
    delay_minutes
        Event time from a training's last candle to its model's first use.
    feature_names
        Of the vectors that come.
    families
        Model types, the one that is asked first where several serve last.
    """

    partition: int
    trainer_partition: int
    trained: tuple[str, ...]
    replay: bool
    window_minutes: int
    every_minutes: int
    delay_minutes: int
    feature_names: tuple[str, ...]
    families: tuple[str, ...] = ()


class ModelGuide:
    """A guide for the inference runner.

    Parameters
    ----------
    settings
        See there.
    store
        Holds the model files.
    log
        A structlog logger.
    serve
        Hands models to the stage that is in use.
    shadow
        Hands challengers to it.
    drift
        Asks for the trainings that drift leads to; None where it leads to none.
    """

    def __init__(
        self,
        *,
        settings: GuideSettings,
        store: ArtifactStore,
        log: Any,
        serve: Callable[[list[ServingModel]], None],
        shadow: Callable[[list[ServingModel]], None] | None = None,
        drift: DriftTrainings | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._log = log
        self._serve = serve
        self._shadow = shadow
        self._drift = drift
        self._challengers: list[str] = []
        self._begun_ms: int | None = None
        self._loaded: dict[str, ServedModel | None] = {}
        self._served: list[ServingModel] | None = None
        self._settled_ms: int | None = None
        self._looked_s = float("-inf")
        self._terms: list[Term] | None = None
        self._announced_ms = 0
        self._is_live = False
        self._schema_hash = ""

    async def before_read(self, connection: asyncpg.Connection, at: Checkpoint) -> bool:
        """Read at any time; live, see first which models serve the next candle, so that it need not wait."""
        if self._is_live and at.event_time_ms is not None:
            next_ms = at.event_time_ms + 2 * MINUTE_MS
            await self._look(connection, next_ms, next_ms, _LOOK_EVERY_S)
        return True

    async def relive(self, connection: asyncpg.Connection, frame: FeatureFrame) -> None:
        """Bring the models that served a frame when it was processed."""
        if self._served is None:
            first_ms = int(frame.open_time_ms[0]) if len(frame) else frame.complete_to_ms
            await self._refresh(connection, frame.schema_hash, first_ms)

    async def allow(self, connection: asyncpg.Connection, batch: Batch) -> int:
        """Tell how many leading rows the models at hand may serve."""
        frame: FeatureFrame = batch.frame
        if not len(frame):
            return 1
        first_ms = int(frame.open_time_ms[0]) + MINUTE_MS
        if self._served is None:
            await self._refresh(connection, frame.schema_hash, first_ms)
        self._schema_hash = frame.schema_hash
        if not self._settings.replay and int(frame.age_ms()[0]) < CATCHING_UP_MS:
            self._is_live = True
            await self._look(connection, first_ms, _last_ms(frame), _LOOK_LATEST_S)
            return batch.rows
        self._is_live = False
        rows = await self._settled_rows(connection, frame, first_ms)
        if rows:
            # For a rollback while nothing runs: single symbols may be ahead of the checkpoint's time.
            await self._announce(connection, _last_ms(frame, rows))
            if not self._settings.replay:
                await self._follow(connection, first_ms)
        return rows

    # --- history ---

    async def _settled_rows(self, connection: asyncpg.Connection, frame: FeatureFrame, first_ms: int) -> int:
        """Count the leading rows before the next point at which a model may change."""
        begun = await self._first_minute(connection)
        if begun is None:
            return 0
        delay_ms = self._settings.delay_minutes * MINUTE_MS
        settled = self._settled_ms if self._settled_ms is not None else begun
        due = await self._points(connection, begun, settled, first_ms - delay_ms)
        if due:
            if self._drift is not None and not await self._drift.are_asked_for(connection, due[-1], begun):
                return 0
            if not await self._ended(connection, due[-1]):
                return 0
            self._settled_ms = due[-1]
            self._begun_ms = begun
            await self._refresh(connection, frame.schema_hash, first_ms)
        after = max(self._settled_ms or begun, first_ms - delay_ms)
        coming = await self._points(connection, begun, after, _last_ms(frame) - delay_ms)
        if not coming:
            return len(frame)
        barrier_ms = coming[0] + delay_ms
        later = frame.open_time_ms + MINUTE_MS >= barrier_ms
        return int(later.argmax()) if later.any() else len(frame)

    async def _points(
        self, connection: asyncpg.Connection, begun: int, after_ms: int, to_ms: int
    ) -> list[int]:
        """List the times at whose training or comparison a model may change, ascending.

        The end of a shadow is known as soon as the training has ended that began it, and that is waited for.
        """
        trainings = retraining_points(
            begun, after_ms, to_ms, self._settings.window_minutes, self._settings.every_minutes
        )
        shadows = await challenges.ends(connection, after_ms, to_ms, symbols=self._settings.trained)
        drift = [] if self._drift is None else self._drift.points(begun, after_ms, to_ms)
        return sorted({*trainings, *shadows, *drift})

    async def _ended(self, connection: asyncpg.Connection, point_ms: int) -> bool:
        """Tell whether the trainer has come to a point and its trainings have ended."""
        places = await checkpoints.progress(connection, [TRAINER])
        place = places.get((TRAINER, self._settings.trainer_partition))
        if place is None or place.event_time_ms is None or place.event_time_ms < point_ms:
            return False
        return await jobs.unfinished_up_to(connection, point_ms, symbols=self._settings.trained) == 0

    async def _first_minute(self, connection: asyncpg.Connection) -> int | None:
        """Read the first minute of the market as the trainer saw it, from which it counts; None before."""
        if self._begun_ms is not None:
            return self._begun_ms
        first: str | None = await connection.fetchval(
            """
            SELECT state_data->>'first_minute_ms' FROM "recoveryState"
            WHERE service_name = $1 AND partition = $2 AND checkpoint_type = 'intermediate'
            """,
            TRAINER,
            self._settings.trainer_partition,
        )
        return None if first is None else int(first)

    # --- live ---

    async def _look(self, connection: asyncpg.Connection, next_ms: int, to_ms: int, every_s: float) -> None:
        """Make sure of the models up to an event time, and see now and then what comes behind it."""
        is_announced = to_ms <= self._announced_ms
        if is_announced and time.monotonic() - self._looked_s < every_s:
            return
        self._looked_s = time.monotonic()
        begun = None if self._drift is None else await self._first_minute(connection)
        if self._drift is not None and begun is not None:
            await self._drift.are_asked_for(connection, next_ms - MINUTE_MS, begun)
        await self._announce(connection, to_ms)
        await self._follow(connection, next_ms)
        if await self._challenged(connection, next_ms) != self._challengers:
            await self._refresh(connection, self._schema_hash, next_ms)

    async def _announce(self, connection: asyncpg.Connection, to_ms: int) -> None:
        """Say how far rows will be served, before the models for them are looked up."""
        if to_ms > self._announced_ms:
            partition, trained = self._settings.partition, self._settings.trained
            await terms.announce(connection, partition, to_ms, trained=trained)
            self._announced_ms = to_ms

    async def _follow(self, connection: asyncpg.Connection, next_ms: int) -> None:
        """Take over what was decided since the last look."""
        before = self._terms
        if await terms.timeline(connection) == before:
            return
        await self._refresh(connection, self._schema_hash, next_ms)
        for term in self._terms or ():
            if self._is_live and term.name not in {each.name for each in before or ()}:
                self._log.info(
                    f"{term.name} counts from its minute on",
                    action="model_activated",
                    effective_from_ms=term.effective_from_ms,
                )

    # --- loading ---

    async def _refresh(self, connection: asyncpg.Connection, schema_hash: str, from_ms: int) -> None:
        """Load what is on the timeline, and hand it to the stage.

        What is refused leaves its predecessor, unless a person ended that one: then no model serves.
        """
        # Read first: what changes between this and the models is seen at the next look.
        self._terms = await terms.timeline(connection)
        by_hand = {(term.model_version, term.effective_from_ms) for term in self._terms if term.is_by_hand}
        serving: list[ServingModel] = []
        last: dict[Key, int] = {}
        for model in await models.timeline(connection):
            begin, end = model.effective_from_ms, model.superseded_at_ms
            if begin is None or begin == end:
                continue
            served = self._load(model, schema_hash)
            if served is not None:
                last[model.key] = len(serving)
                serving.append(self._serving(model, served, begin, end))
            elif (model.model_version, begin) in by_hand:
                continue
            elif model.key in last and serving[last[model.key]].until_ms == begin:
                serving[last[model.key]] = replace(serving[last[model.key]], until_ms=end)
        self._served = serving
        self._serve(serving)
        await self._refresh_shadows(connection, schema_hash, from_ms)

    async def _refresh_shadows(self, connection: asyncpg.Connection, schema_hash: str, from_ms: int) -> None:
        if self._shadow is None:
            return
        found = await challenges.shadows(connection, from_ms, symbols=self._settings.trained)
        self._challengers = [each.model.model_version for each in found]
        beside = [
            self._serving(each.model, served, each.from_ms, each.until_ms)
            for each in found
            if (served := self._load(each.model, schema_hash)) is not None
        ]
        self._shadow(beside)

    async def _challenged(self, connection: asyncpg.Connection, from_ms: int) -> list[str]:
        """Name the challengers; none of them where nobody asks them."""
        if self._shadow is None:
            return []
        return await challenges.in_shadow(connection, from_ms, symbols=self._settings.trained)

    def _serving(self, model: Model, served: ServedModel, begin_ms: int, end_ms: int | None) -> ServingModel:
        ranks = self._settings.families
        return ServingModel(
            version=model.model_version,
            symbol=model.symbol,
            horizon_minutes=model.forecast_horizon,
            effective_from_ms=begin_ms,
            until_ms=end_ms,
            schema_hash=model.schema_hash,
            rank=ranks.index(model.model_type) if model.model_type in ranks else -1,
            artifact=served.sha256,
            column=served.card.horizons.index(model.forecast_horizon),
            window=served.window,
            ask=served.predict,
        )

    def _load(self, model: Model, schema_hash: str) -> ServedModel | None:
        version = model.model_version
        if version not in self._loaded:
            try:
                payload = self._store.read(model.artifact_path, sha256=model.artifact_sha256)
                self._loaded[version] = ServedModel.from_bytes(
                    payload,
                    sha256=model.artifact_sha256,
                    feature_names=self._settings.feature_names,
                    schema_hash=schema_hash,
                )
                self._log.info(f"{version} is loaded", action="model_loaded", horizon=model.forecast_horizon)
            except ModelRefusedError as error:
                self._loaded[version] = None
                self._log.error(
                    f"{version} is refused, the version before it serves instead, or none where that was"
                    f" rolled back: {error}",
                    action="model_refused",
                )
        return self._loaded[version]


def _last_ms(frame: FeatureFrame, rows: int | None = None) -> int:
    """Give the last event time of the leading rows of a frame."""
    # Joined messages are not sorted by time: a late symbol may come last.
    return int(frame.open_time_ms[:rows].max()) + MINUTE_MS
