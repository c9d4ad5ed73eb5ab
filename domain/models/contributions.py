"""What each feature contributed to one prediction.

Trees: exact Shapley values by the library (Lundberg et al. 2018, Consistent individualized feature
attribution for tree ensembles); they add up to the prediction. Any other graph: what the prediction loses
when the feature is put to its median in the learned rows, in all minutes that the graph looks at; these need
not add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models.dissimilarity import Dissimilarity
from schemas.frames import Float32, Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """Shares of a percent change.

    Attributes
    ----------
    method
        `shapley` or `occlusion`.
    base_pct
        What is predicted without any feature (shapley), or with the median of all (occlusion).
    by_feature_pct
        One a feature.
    """

    method: str
    base_pct: float
    by_feature_pct: Float64


def of_trees(native: bytes, vector: Float32, column: int) -> Contributions:
    """Take a prediction of boosted trees apart.

    Parameters
    ----------
    native
        The family's own file.
    vector
        Shape (features,).
    column
        The horizon's place among those of the file.
    """
    import json

    import xgboost as xgb

    heads = json.loads(native)["heads"]
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(heads[f"change{column}"]).encode()))
    shares = booster.predict(xgb.DMatrix(vector[None, :], missing=np.nan), pred_contribs=True)[0]
    return Contributions(
        method="shapley", base_pct=float(shares[-1]), by_feature_pct=shares[:-1].astype(np.float64)
    )


def by_occlusion(ask: Callable[[Float32], Float32], inputs: Float32, centres: Any) -> Contributions:
    """Hide one feature after the other from a graph.

    Parameters
    ----------
    ask
        Gives the percent change of each row.
    inputs
        One vector of shape (features,), or one window of shape (minutes, features).
    centres
        Median of each feature.
    """
    medians = np.asarray(centres, np.float32)
    hidden = np.repeat(inputs[None], len(medians), axis=0)
    for feature, median in enumerate(medians):
        hidden[feature, ..., feature] = median
    everywhere = np.broadcast_to(medians, inputs.shape).astype(np.float32)
    said = ask(np.concatenate([inputs[None], everywhere[None], hidden]))
    return Contributions(
        method="occlusion",
        base_pct=float(said[1]),
        by_feature_pct=(said[0] - said[2:]).astype(np.float64),
    )


def measure_of(graph: bytes) -> Dissimilarity:
    """Read out of a graph that serves what it holds rows against."""
    import onnx
    from onnx import numpy_helper

    inside = onnx.ModelProto.FromString(graph).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in inside.initializer}
    weights = constants["unlike_weight"]
    count = max(1, int(np.count_nonzero(weights)))
    grain = float(constants["unlike_grain"])
    limit = float(1.0 / np.sqrt(float(constants["unlike_scale"]) * grain * count))
    return Dissimilarity(
        centres=tuple(constants["unlike_centre"].tolist()), weights=tuple(weights.tolist()), limit=limit
    )
