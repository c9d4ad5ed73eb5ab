"""From feature vectors to predictions: one row for every candle, whether or not a model speaks.

Which model serves a minute is looked up in event time: the newest one that was effective by then. So the same
history gives the same predictions, however it was cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from pipeline.stage import StateVersionError, StepResult
from schemas.frames import MINUTE_MS, FeatureFrame, Float32, Int8, Int16, Int64, PredictionFrame, Reason

BASELINE = "last_value"
ALL_SYMBOLS = "ALL"

#: (vectors of shape (rows, features)) -> (percent change, probability of a rise), each of shape (rows,).
Predict = Callable[[Float32], tuple[Float32, Float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingModel:
    """A model in production, ready to be called.

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
    schema_hash
        The features it was trained on.
    predict
        The computation; must give the same bits for a row in any batch.
    """

    version: str
    symbol: str
    horizon_minutes: int
    effective_from_ms: int
    schema_hash: str
    predict: Predict


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
    """

    name = "inference"
    version = 1

    def __init__(self, *, horizons: Sequence[int], max_prediction_age_s: float) -> None:
        self._horizons = tuple(horizons)
        self._max_age_ms = int(max_prediction_age_s * 1000)
        self._models: tuple[ServingModel, ...] = ()
        #: Names of the models that were seen, kept with the checkpoint.
        self.known_models: Callable[[], list[str]] = list

    def serve(self, models: Sequence[ServingModel]) -> None:
        """Put the models in place that may serve from here on; called between steps."""
        self._models = tuple(sorted(models, key=lambda model: (model.effective_from_ms, model.version)))

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
        for column, horizon in enumerate(self._horizons):
            self._ask(batch, column, horizon, answers, versions)
        answers.reason[~batch.is_complete] = Reason.WARMING
        too_old = (batch.age_ms() > self._max_age_ms)[:, None] & (answers.reason == Reason.NONE)
        answers.reason[too_old] = Reason.TOO_OLD
        return StepResult(
            out=_with_answers(batch, self._horizons, answers, tuple(versions)),
            event_time_ms=batch.complete_to_ms,
        )

    def _ask(
        self, batch: FeatureFrame, column: int, horizon: int, answers: _Answers, versions: list[str]
    ) -> None:
        chosen = self._chosen(batch, horizon)
        for number in np.unique(chosen[chosen >= 0]):
            model = self._models[number]
            rows = np.flatnonzero((chosen == number) & batch.is_complete)
            if not len(rows):
                continue
            predicted, probability = model.predict(batch.vector[rows])
            if model.version not in versions:
                versions.append(model.version)
            answers.predicted[rows, column] = predicted
            answers.probability[rows, column] = probability
            answers.model[rows, column] = versions.index(model.version)
            answers.reason[rows, column] = Reason.NONE

    def _chosen(self, batch: FeatureFrame, horizon: int) -> Int64:
        """Give each row the number of the model that serves it, -1 for none."""
        event_time = batch.open_time_ms + MINUTE_MS
        chosen = np.full(len(batch), -1, np.int64)
        own = np.zeros(len(batch), bool)
        for number, model in enumerate(self._models):
            if model.horizon_minutes != horizon or model.schema_hash != batch.schema_hash:
                continue
            serves = event_time >= model.effective_from_ms
            if model.symbol == ALL_SYMBOLS:
                serves &= ~own  # a symbol's own model goes before the pooled one
            elif model.symbol in batch.symbols:
                serves &= batch.symbol_index == batch.symbols.index(model.symbol)
                own |= serves
            else:
                continue
            chosen[serves] = number
        return chosen

    def snapshot(self) -> bytes:
        """Write the horizons; predictions need no memory."""
        return msgspec.msgpack.encode({"horizons": self._horizons})

    def restore(self, state: bytes) -> None:
        """Check that the snapshot is of the same horizons.

        Raises
        ------
        StateVersionError
            If it is not.
        """
        parts = msgspec.msgpack.decode(state)
        if tuple(parts["horizons"]) != self._horizons:
            raise StateVersionError("the snapshot was written for other horizons")

    def summary(self) -> dict[str, Any]:
        """Name the models in place and those that were ever seen."""
        return {
            "models": sorted({model.version for model in self._models}),
            "known_models": self.known_models(),
        }


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
