"""Which features the newest models look at, measured on a sample of the rows that they were asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models.serving import ServedModel
from domain.models.windows import Windows
from schemas.frames import ALL_SYMBOLS, Float32, Float64, Int64
from training.evaluation.history import History
from training.evaluation.trained import TrainedModel, Training
from training.rows import Compute
from training.settings import TrainingPlan

#: Families whose native model is boosted trees, for which Shapley values are exact and quick.
TREES = frozenset({"xgboost"})
#: Says the same of every row.
SAYS_NOTHING = frozenset({"last_value"})
SAMPLED_ROWS = 2_000
#: Every row is asked about once a feature where features are hidden one by one.
_HIDDEN_ROWS, _HIDDEN_WINDOWS = 200, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What the features of one model do.

    Attributes
    ----------
    method
        `shapley`: mean absolute Shapley value; `occlusion`: mean absolute change of the prediction when the
        feature is put to its median.
    rows
        Rows of the sample.
    by_feature_pct
        Percent of predicted change, by name, the largest first.
    """

    family: str
    horizon_minutes: int
    version: str
    method: str
    rows: int
    by_feature_pct: Mapping[str, float]


async def importances(
    history: History, trainings: Sequence[Training], plan: TrainingPlan, *, seed: int, compute: Compute
) -> list[Importance]:
    """Measure the newest pooled model of every family and horizon, of one seed."""
    newest: dict[tuple[str, int], TrainedModel] = {}
    for training in trainings:
        for model in training.models:
            if model.seed == seed and model.family not in SAYS_NOTHING:
                newest[model.family, model.horizon_minutes] = model
    found = []
    for (family, horizon), model in sorted(newest.items()):
        rows = _sample(history, model, seed)
        if not len(rows):
            continue
        method, shares = await compute.run(measure, *_inputs(history, model, rows, plan))
        order = np.argsort(-shares, kind="stable")
        found.append(
            Importance(
                family=family,
                horizon_minutes=horizon,
                version=model.version,
                method=method,
                rows=len(rows),
                by_feature_pct={plan.feature_names[k]: float(shares[k]) for k in order},
            )
        )
    return found


def _sample(history: History, model: TrainedModel, seed: int) -> Int64:
    """Draw rows that the model could have been asked about: behind its training, if there are enough."""
    frame = history.frame
    usable = frame.is_complete.copy()
    if model.symbol != ALL_SYMBOLS:
        usable &= frame.symbol_index == frame.symbols.index(model.symbol)
    later = np.flatnonzero(usable & (frame.open_time_ms > model.train_at_ms))
    rows = later if len(later) >= _HIDDEN_ROWS else np.flatnonzero(usable)
    count = min(SAMPLED_ROWS, len(rows))
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def _inputs(history: History, model: TrainedModel, rows: Int64, plan: TrainingPlan) -> tuple[Any, ...]:
    served = ServedModel.from_bytes(
        model.graph, sha256=model.sha256, feature_names=plan.feature_names, schema_hash=plan.schema_hash
    )
    frame = history.frame
    column = served.card.horizons.index(model.horizon_minutes)
    if model.family in TREES:
        return model.native, b"", column, frame.vector[rows]
    rows = rows[:: max(1, len(rows) // (_HIDDEN_WINDOWS if served.window else _HIDDEN_ROWS))]
    if not served.window:
        return b"", model.graph, column, frame.vector[rows]
    windows = Windows(
        symbol_index=frame.symbol_index, open_time_ms=frame.open_time_ms, vectors=frame.vector
    ).of(symbol_index=frame.symbol_index[rows], open_time_ms=frame.open_time_ms[rows], minutes=served.window)
    return b"", model.graph, column, windows


def measure(
    native: bytes, graph: bytes, column: int, inputs: Float32, *, progress: Any, cancelled: Any
) -> tuple[str, Float64]:
    """Measure one model; runs in a process of the pool. Trees by their native file, others by their graph."""
    return (
        ("shapley", _of_trees(native, column, inputs))
        if native
        else ("occlusion", _hidden(graph, column, inputs))
    )


def _of_trees(native: bytes, column: int, vectors: Float32) -> Float64:
    # TreeSHAP of the library (Lundberg et al. 2018); the last column is the expectation
    import json

    import xgboost as xgb

    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(json.loads(native)["heads"][f"change{column}"]).encode()))
    shares = booster.predict(xgb.DMatrix(vectors, missing=np.nan), pred_contribs=True)
    mean: Float64 = np.abs(shares[:, :-1].astype(np.float64)).mean(axis=0)
    return mean


def _hidden(graph: bytes, column: int, inputs: Float32) -> Float64:
    from domain.models import serving

    session = serving.open_session(graph)
    said = serving.run(session, inputs).predicted_pct[:, column].astype(np.float64)
    flat = inputs.reshape(-1, inputs.shape[-1])
    shares = np.empty(inputs.shape[-1])
    for feature in range(inputs.shape[-1]):
        known = flat[:, feature][np.isfinite(flat[:, feature])]
        without = inputs.copy()
        without[..., feature] = np.median(known) if len(known) else np.nan
        shares[feature] = np.abs(said - serving.run(session, without).predicted_pct[:, column]).mean()
    return shares
