"""Gradient-boosted trees: for each horizon a head for the percent change, and one for the chance of a rise.

All heads of a training share the bins of the features. They start from "no change" (0 %, one half) and move
away from it only as far as the trees say. Training
goes in fixed chunks of rounds, each with a seed of its own and starting from the bytes of the chunk before:
so a killed training that goes on from its last chunk draws the same rows and columns, and ends in the same
bytes, as one that ran through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost as xgb

from domain.models import xgboost_graph, xgboost_text
from domain.models.model import (
    BadTrainingDataError,
    Cancelled,
    Checkpoints,
    Fitted,
    NoSignalError,
    Predictions,
    Progress,
    TrainingCancelledError,
    TrainingRows,
)
from domain.models.search_space import Range
from domain.models.xgboost_growing import Growing, Head
from domain.models.xgboost_settings import XGBoostSettings
from schemas.frames import Float32

#: What the early-stopping rows are judged by, a head for the change and one for the rise.
_MEASURES = ("rmse", "logloss")


_USUAL = XGBoostSettings()
#: What tuning may change.
SEARCH_SPACE: tuple[Range, ...] = (
    Range(name="max_depth", low=2, high=8, usual=_USUAL.max_depth, whole=True),
    Range(name="learning_rate", low=0.01, high=0.3, usual=_USUAL.learning_rate, log=True),
    Range(name="subsample", low=0.3, high=1.0, usual=_USUAL.subsample),
    Range(name="reg_lambda_rows", low=1.0, high=1_000.0, usual=_USUAL.reg_lambda_rows, log=True),
)


class XGBoost:
    """The family."""

    name = "xgboost"
    native_suffix = "json"
    is_joint = False
    search_space = SEARCH_SPACE

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown settings and values out of range."""
        XGBoostSettings.of(settings)

    def fit(
        self,
        *,
        train: TrainingRows,
        validation: TrainingRows,
        settings: Mapping[str, Any],
        seed: int,
        progress: Progress,
        cancelled: Cancelled,
        checkpoints: Checkpoints | None = None,
        start_from: bytes | None = None,
    ) -> Fitted:
        """Grow all heads chunk by chunk, and put them into one graph.

        Parameters
        ----------
        start_from
            The native file of an earlier model of as many horizons, whose trees are kept and added to; a head
            that does not get better by that stays as it is.
        """
        chosen = XGBoostSettings.of(settings)
        for part, rows in (("training rows", train), ("early-stopping rows", validation)):
            if not ((rows.target_pct > 0).any(axis=0) & (rows.target_pct < 0).any(axis=0)).all():
                raise BadTrainingDataError(
                    f"{part}: the target only ever moves one way; wait for more history"
                )
        # the library's own number of threads is asked for where a booster's is not, as when one is loaded
        with xgb.config_context(nthread=chosen.threads):
            growing = Growing(chosen, seed, train, validation, start_from)
            heads = self._grown(growing, progress, cancelled, checkpoints)
        return _fitted(growing, heads, train.vectors.shape[1])

    def _grown(
        self, growing: Growing, progress: Progress, cancelled: Cancelled, checkpoints: Checkpoints | None
    ) -> list[Head]:
        heads = growing.load(checkpoints)
        while not all(head.done for head in heads):
            if cancelled():
                raise TrainingCancelledError("asked to stop")
            current = next(i for i, head in enumerate(heads) if not head.done)
            heads[current] = growing.chunk(current, heads[current])
            if checkpoints is not None:
                checkpoints.save(growing.state(heads))
            progress(
                _fraction(heads, growing.rounds),
                f"round {len(heads[current].history)} of {xgboost_text.name(current)}",
            )
        return heads

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Predict with the library itself."""
        with xgb.config_context(nthread=1):
            values = [_said(number, model, inputs) for number, model in enumerate(xgboost_text.split(native))]
        return Predictions(np.stack(values[0::2], axis=1), np.stack(values[1::2], axis=1))


def _said(number: int, model: dict[str, Any], inputs: Float32) -> Float32:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(xgboost_text.write(model)))
    said = np.asarray(booster.inplace_predict(inputs, missing=np.nan, predict_type="margin"), np.float32)
    if len(said) != len(inputs):
        raise ValueError(f"head {xgboost_text.name(number)} answered {len(said)} of {len(inputs)} rows")
    return said


def _fitted(growing: Growing, heads: list[Head], features: int) -> Fitted:
    gains: dict[int, float] = {}
    metrics: dict[str, float] = {}
    models = [growing.model(head) for head in heads]
    for number, (head, model) in enumerate(zip(heads, models, strict=True)):
        metrics[f"stopping_{_MEASURES[number % 2]}{number // 2}"] = head.history[head.best_round]
        metrics[f"rounds_{xgboost_text.name(number)}"] = float(head.best_trees)
        if number % 2 == 0:
            for feature, share in xgboost_text.importance(model).items():
                gains[feature] = gains.get(feature, 0.0) + share * 2 / len(heads)
    if not gains:
        raise NoSignalError(
            "no split in any tree: the features say nothing about the target that these settings would"
            " accept; the no-change forecast stays"
        )
    return Fitted(
        native=xgboost_text.join(models),
        graph=xgboost_graph.build(changes=models[0::2], rises=models[1::2], features=features),
        best_iteration=heads[0].best_trees - 1,
        metrics=metrics,
        importance=dict(sorted(gains.items())),
    )


def _fraction(heads: list[Head], rounds: int) -> float:
    return sum(1.0 if head.done else head.added / rounds for head in heads) / len(heads)


FAMILY = XGBoost()
