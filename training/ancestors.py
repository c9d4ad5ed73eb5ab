"""The earlier model that a training goes on from, where the training mode wants one.

`online`: the model in production for the same symbol and horizons, trained further on the rows since its own
training. `transfer`: where a symbol has none yet, another symbol's, trained further on the symbol's own rows:
the pooled model before the others, and those in the order of the settings. Only models that
served before the time of the training count, so that it does not matter which trainings end first. Where too
few rows have come since, `online` begins anew on all rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from artifacts.store import ArtifactStore
from db.repositories import jobs
from db.repositories.models import Model
from db.repositories.terms import Key
from domain.models.model import ModelRefusedError
from domain.models.serving import ServedModel
from schemas.frames import ALL_SYMBOLS
from training.incumbents import Incumbent, Incumbents
from training.settings import TrainingPlan
from training.task import TrainTask

#: Every family's native file is text of this kind.
_NATIVE_SUFFIX = "json"
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """An earlier model to go on from.

    Attributes
    ----------
    version
        Its `model_version`.
    native
        Its family's own file.
    train_at_ms
        Open time of the last candle that it knew.
    rows_from_ms
        Open time of the first row that it has not been trained on; None where all rows are new to it.
    settings
        What it was trained with.
    """

    version: str
    native: bytes
    train_at_ms: int
    rows_from_ms: int | None
    settings: Mapping[str, Any]


class Ancestors:
    """Finds what trainings go on from.

    Parameters
    ----------
    plan
        Says which mode.
    pool
        Database connections.
    store
        Holds the files.
    """

    def __init__(self, *, plan: TrainingPlan, pool: asyncpg.Pool, store: ArtifactStore) -> None:
        self._plan = plan
        self._pool = pool
        self._store = store
        self._incumbents = Incumbents(plan=plan, store=store)

    async def of(self, task: TrainTask, production: Mapping[int, Incumbent]) -> Ancestor | None:
        """Find the ancestor of a training; None if it begins anew."""
        if self._plan.mode == "online":
            return self._own(task, production)
        if self._plan.mode == "transfer" and not any(found.model for found in production.values()):
            return await self._borrowed(task)
        return None

    def _own(self, task: TrainTask, production: Mapping[int, Incumbent]) -> Ancestor | None:
        found = [production[horizon].model for horizon in task.horizons]
        known = [model for model in found if model is not None]
        if not known or not self._plan.can_go_on(known[-1].train_at_ms, task.train_at_ms, task.horizons):
            return None
        return self._of(task, known, is_new_to_rows=False)

    async def _borrowed(self, task: TrainTask) -> Ancestor | None:
        await self._earlier_have_ended(task)
        for symbol in (ALL_SYMBOLS, *self._plan.symbols):
            if symbol == task.symbol:
                continue
            found = []
            async with self._pool.acquire() as connection:
                for horizon in task.horizons:
                    key = Key(symbol=symbol, forecast_horizon=horizon, model_type=task.family)
                    found.append((await self._incumbents.read(connection, key)).model)
            served = [
                model
                for model in found
                if model is not None and (model.effective_from_ms or 0) <= task.train_at_ms
            ]
            ancestor = self._of(task, served, is_new_to_rows=True)
            if ancestor is not None:
                return ancestor
        return None

    async def _earlier_have_ended(self, task: TrainTask) -> None:
        while True:
            async with self._pool.acquire() as connection:
                if not await jobs.unfinished_up_to(connection, task.train_at_ms - 1):
                    return
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _of(self, task: TrainTask, found: list[Model], *, is_new_to_rows: bool) -> Ancestor | None:
        """Read the one file that answers for all horizons of the training; None if there is no such file."""
        files = {(model.artifact_path, model.artifact_sha256) for model in found}
        if len(found) != len(task.horizons) or len(files) != 1:
            return None
        model = found[-1]
        try:
            payload = self._store.read(model.artifact_path, sha256=model.artifact_sha256)
            served = ServedModel.from_bytes(
                payload,
                sha256=model.artifact_sha256,
                feature_names=self._plan.feature_names,
                schema_hash=self._plan.schema_hash,
            )
            if served.card.horizons != task.horizons:
                return None
            native = self._store.read(
                model.artifact_path.removesuffix("onnx") + _NATIVE_SUFFIX, sha256=served.card.native_sha256
            )
        except ModelRefusedError:
            # it will be told of where it is compared with; a training can always begin anew
            return None
        return Ancestor(
            version=model.model_version,
            native=native,
            train_at_ms=model.train_at_ms,
            rows_from_ms=None if is_new_to_rows else model.train_at_ms,
            settings=served.card.settings,
        )
