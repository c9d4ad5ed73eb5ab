"""From feature vectors to predictions: one row for every candle, whether or not a model speaks.

Which model serves a minute is looked up in event time: the newest one that was effective by then. So the same
history gives the same predictions, however it was cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
import numpy as np

from domain.models.windows import Windows
from pipeline.past_vectors import PastVectors
from pipeline.shadow import shadow_rows
from pipeline.stage import StateVersionError, StepResult
from schemas.frames import (
    ALL_SYMBOLS,
    MINUTE_MS,
    FeatureFrame,
    Float32,
    Int8,
    Int16,
    Int32,
    Int64,
    PredictionFrame,
    Reason,
)

BASELINE = "last_value"

#: Windows that are cut at once: all those of a batch of hours would fill the memory.
_WINDOWS_AT_ONCE = 1_000


class Says(Protocol):
    """What a model says of some rows."""

    @property
    def predicted_pct(self) -> Float32:
        """Percent change, shape (rows, horizons)."""
        ...

    @property
    def probability_up(self) -> Float32:
        """Probability of a rise, shape (rows, horizons)."""
        ...

    @property
    def dissimilarity(self) -> Float32:
        """How unlike the training rows each row is; shape (rows,)."""
        ...


#: Vectors (rows, features) or windows (rows, minutes, features) -> what the model says, a column a horizon.
Ask = Callable[[Float32], Says]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingModel:
    """A model in production, ready to be asked.

    Attributes
    ----------
    version
        Its `model_version`.
    symbol
        The symbol it serves, or `ALL`.
    horizon_minutes
        How far ahead it looks.
    effective_from_ms
        The event time from which it serves; an older one serves until then.
    until_ms
        The event time at which it ends; None: until a newer one serves.
    schema_hash
        The features it was trained on.
    rank
        Of several that serve the same, the one with the highest rank is asked.
    artifact
        Names what is asked: models of several horizons that share a file are asked once.
    column
        The model's horizon among those that its file answers.
    window
        Minutes that it looks at; 0 for single vectors.
    ask
        The computation; must give the same bits for a row in any batch.
    """

    version: str
    symbol: str
    horizon_minutes: int
    effective_from_ms: int
    schema_hash: str
    until_ms: int | None = None
    rank: int = 0
    artifact: str
    column: int = 0
    window: int = 0
    ask: Ask


@dataclass(frozen=True, slots=True)
class _Answers:
    """The arrays of one frame that are being filled in, each of shape (rows, horizons)."""

    predicted: Float32
    probability: Float32
    model: Int16
    reason: Int8


class InferenceStage:
    """Asks the serving models about every candle.

    Parameters
    ----------
    horizons
        Minutes ahead for which a model may exist.
    max_prediction_age_s
        A prediction made later than this after its event time is marked too old to act on.
    window_minutes
        Minutes that are kept for models that look back; 0 where there is none.
    dissimilarity_limit
        A row that is more unlike a model's training rows than this is marked; 1 is the model's own limit.
    """

    name = "inference"
    version = 2

    def __init__(
        self,
        *,
        horizons: Sequence[int],
        max_prediction_age_s: float,
        window_minutes: int = 0,
        dissimilarity_limit: float = 1.0,
    ) -> None:
        self._horizons = tuple(horizons)
        self._max_age_ms = int(max_prediction_age_s * 1000)
        self._past = PastVectors(window_minutes) if window_minutes else None
        self._limit = dissimilarity_limit
        self._models: tuple[ServingModel, ...] = ()
        self._challengers: tuple[ServingModel, ...] = ()

    def serve(self, models: Sequence[ServingModel]) -> None:
        """Put the models in place that may serve from here on; called between steps.

        Raises
        ------
        ValueError
            If one looks further back than this stage keeps.
        """
        kept = self._past.minutes if self._past is not None else 0
        for model in models:
            if model.window > kept:
                raise ValueError(f"{model.version} looks back {model.window} minutes, {kept} are kept")
        self._models = tuple(
            sorted(models, key=lambda model: (model.rank, model.effective_from_ms, model.version))
        )

    def shadow(self, challengers: Sequence[ServingModel]) -> None:
        """Put the models in place that are asked beside, in rows of their own; called between steps.

        One that looks further back than this stage keeps is left out.
        """
        kept = self._past.minutes if self._past is not None else 0
        self._challengers = tuple(model for model in challengers if model.window <= kept)

    def step(self, batch: FeatureFrame) -> StepResult:
        """Predict for every row and horizon."""
        shape = (len(batch), len(self._horizons))
        answers = _Answers(
            predicted=np.zeros(shape, np.float32),
            probability=np.full(shape, np.nan, np.float32),
            model=np.zeros(shape, np.int16),
            reason=np.full(shape, Reason.NO_MODEL, np.int8),
        )
        versions = [BASELINE]
        chosen = np.stack([self._chosen(batch, horizon) for horizon in self._horizons], axis=1)
        chosen[~batch.is_complete] = -1
        past = self._past.join(batch) if self._past is not None else None
        for artifact in self._artifacts(chosen):
            self._ask(batch, past, artifact, chosen, answers, versions)
        answers.reason[~batch.is_complete] = Reason.WARMING
        too_old = (batch.age_ms() > self._max_age_ms)[:, None] & (answers.reason == Reason.NONE)
        answers.reason[too_old] = Reason.TOO_OLD
        beside = (
            shadow_rows(batch, self._challengers, partial(self._said, batch, past))
            if self._challengers
            else []
        )
        return StepResult(
            rows=beside,
            out=_with_answers(batch, self._horizons, answers, tuple(versions)),
            event_time_ms=batch.complete_to_ms,
        )

    def _artifacts(self, chosen: Int64) -> dict[str, list[int]]:
        """Group the chosen models by the file that answers for them."""
        groups: dict[str, list[int]] = {}
        for number in np.unique(chosen[chosen >= 0]).tolist():
            groups.setdefault(self._models[number].artifact, []).append(number)
        return groups

    def _ask(
        self,
        batch: FeatureFrame,
        past: tuple[Windows, Int32] | None,
        artifact: str,
        chosen: Int64,
        answers: _Answers,
        versions: list[str],
    ) -> None:
        numbers = self._artifacts(chosen)[artifact]
        rows = np.flatnonzero(np.isin(chosen, numbers).any(axis=1))
        predicted, probability, unlike = self._said(batch, past, self._models[numbers[0]], rows)
        for number in numbers:
            model = self._models[number]
            if model.version not in versions:
                versions.append(model.version)
            for column in np.flatnonzero((chosen == number).any(axis=0)).tolist():
                mine = np.flatnonzero(chosen[rows, column] == number)
                these = rows[mine]
                answers.predicted[these, column] = predicted[mine, model.column]
                answers.probability[these, column] = probability[mine, model.column]
                answers.model[these, column] = versions.index(model.version)
                answers.reason[these, column] = np.where(
                    unlike[mine] > self._limit, Reason.UNLIKE, Reason.NONE
                )

    def _said(
        self, batch: FeatureFrame, past: tuple[Windows, Int32] | None, model: ServingModel, rows: Int64
    ) -> tuple[Float32, Float32, Float32]:
        if not model.window:
            said = model.ask(batch.vector[rows])
            return said.predicted_pct, said.probability_up, said.dissimilarity
        assert past is not None
        windows, symbol = past
        pieces = []
        for first in range(0, len(rows), _WINDOWS_AT_ONCE):
            piece = rows[first : first + _WINDOWS_AT_ONCE]
            pieces.append(
                model.ask(
                    windows.of(
                        symbol_index=symbol[piece],
                        open_time_ms=batch.open_time_ms[piece],
                        minutes=model.window,
                    )
                )
            )
        return (
            np.concatenate([said.predicted_pct for said in pieces]),
            np.concatenate([said.probability_up for said in pieces]),
            np.concatenate([said.dissimilarity for said in pieces]),
        )

    def _chosen(self, batch: FeatureFrame, horizon: int) -> Int64:
        """Give each row the number of the model that serves it, -1 for none."""
        event_time = batch.open_time_ms + MINUTE_MS
        chosen = np.full(len(batch), -1, np.int64)
        own = np.full(len(batch), -1, np.int64)
        for number, model in enumerate(self._models):
            if model.horizon_minutes != horizon or model.schema_hash != batch.schema_hash:
                continue
            serves = event_time >= model.effective_from_ms
            if model.until_ms is not None:
                serves &= event_time < model.until_ms
            if model.symbol == ALL_SYMBOLS:
                # of the same rank, a symbol's own model goes before the pooled one
                serves &= own < model.rank
            elif model.symbol in batch.symbols:
                serves &= batch.symbol_index == batch.symbols.index(model.symbol)
                own[serves] = model.rank
            else:
                continue
            chosen[serves] = number
        return chosen

    def snapshot(self) -> bytes:
        """Write the horizons, and the past minutes where models look back."""
        past = None if self._past is None else {"minutes": self._past.minutes, **self._past.state()}
        return msgspec.msgpack.encode({"horizons": self._horizons, "past": past})

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same horizons and past.

        Raises
        ------
        StateVersionError
            If it is of others.
        """
        parts = msgspec.msgpack.decode(state)
        if tuple(parts["horizons"]) != self._horizons:
            raise StateVersionError("the snapshot was written for other horizons")
        past = parts["past"]
        kept = None if past is None else past.pop("minutes")
        if kept != (None if self._past is None else self._past.minutes):
            raise StateVersionError("the snapshot was written for models that look back otherwise")
        if self._past is not None:
            self._past.take(past)

    def summary(self) -> dict[str, Any]:
        """Name the models in place."""
        return {"models": sorted({model.version for model in self._models})}


def _with_answers(
    batch: FeatureFrame, horizons: tuple[int, ...], answers: _Answers, versions: tuple[str, ...]
) -> PredictionFrame:
    return PredictionFrame(
        symbols=batch.symbols,
        symbol_index=batch.symbol_index,
        open_time_ms=batch.open_time_ms,
        ohlcv=batch.ohlcv,
        origin=batch.origin,
        vector=batch.vector,
        is_complete=batch.is_complete,
        complete_to_ms=batch.complete_to_ms,
        schema_hash=batch.schema_hash,
        as_of_ms=batch.as_of_ms,
        horizons=horizons,
        predicted_pct=answers.predicted,
        probability_up=answers.probability,
        model_index=answers.model,
        reason=answers.reason,
        models=versions,
    )
