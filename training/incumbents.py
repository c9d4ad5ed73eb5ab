"""What is in production, and whether a new model can be compared with it."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from artifacts.store import ArtifactStore
from db.repositories import models
from db.repositories.models import Model
from db.repositories.terms import Key
from domain.models.model import ModelRefusedError
from domain.models.serving import ServedModel
from training.fitting import ServedBefore
from training.settings import TrainingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """What serves a key.

    Attributes
    ----------
    model
        What is in production; None if nothing is.
    served
        Its graph; None where nothing can be compared with.
    note
        What has to be said of a model that cannot be compared with; empty otherwise.
    """

    model: Model | None = None
    served: ServedBefore | None = None
    note: str = ""


class Incumbents:
    """Reads models in production with their files.

    Parameters
    ----------
    plan
        Says which features are computed.
    store
        Holds the files.
    """

    def __init__(self, *, plan: TrainingPlan, store: ArtifactStore) -> None:
        self._plan = plan
        self._store = store

    async def read(self, connection: asyncpg.Connection, key: Key) -> Incumbent:
        """Read what is in production."""
        model = await models.in_production(connection, key.symbol, key.forecast_horizon, key.model_type)
        if model is None:
            return Incumbent()
        if model.schema_hash != self._plan.schema_hash:
            note = f"; {model.model_version} was trained on other features and serves no more"
            return Incumbent(model=model, note=note)
        try:
            return Incumbent(model=model, served=self.load(model))
        except ModelRefusedError as error:
            return Incumbent(model=model, note=f"; {model.model_version} could not be compared with: {error}")

    def load(self, model: Model) -> ServedBefore:
        """Read a model's file and check it.

        Raises
        ------
        ModelRefusedError
            If it must not serve.
        """
        payload = self._store.read(model.artifact_path, sha256=model.artifact_sha256)
        ServedModel.from_bytes(
            payload,
            sha256=model.artifact_sha256,
            feature_names=self._plan.feature_names,
            schema_hash=self._plan.schema_hash,
        )
        return ServedBefore(
            version=model.model_version,
            train_at_ms=model.train_at_ms,
            payload=payload,
            sha256=model.artifact_sha256,
        )
