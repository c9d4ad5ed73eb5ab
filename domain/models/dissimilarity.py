"""How unlike the rows that a model has learned from a row is.

Each feature's distance from its median is measured in its own spread (interquartile range, as a normal
distribution's standard deviation); the measure is the root mean square over the features, divided by what
only one learned row in a thousand reaches. Above 1 a model is asked about something it has hardly seen.

Features that are missing in a row say nothing; those that never varied while learning are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.frames import Float32

#: Share of the learned rows that are unlike the others by definition.
UNLIKE_SHARE = 0.001
#: A feature further away than this many deviations counts as this far: one wild value is not everything.
_FARTHEST = 20.0
#: Squares are added up as whole numbers of this fraction: so the sum does not depend on the order of adding,
#: which the runtime chooses by the size of the batch.
_GRAIN = 1e6
#: Interquartile range of a normal distribution, in standard deviations.
_QUARTILES = 1.349


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissimilarity:
    """What a row is held against.

    Attributes
    ----------
    centres
        Median of each feature.
    weights
        One over the spread of each feature; 0 where it is left out.
    limit
        The root mean square that only one learned row in a thousand exceeds.
    """

    centres: tuple[float, ...]
    weights: tuple[float, ...]
    limit: float

    def distances(self, vectors: Float32) -> Float32:
        """Measure each feature of each row, in deviations; 0 where it is missing."""
        centre, weight = np.array(self.centres, np.float32), np.array(self.weights, np.float32)
        away = np.nan_to_num((vectors - centre) * weight, nan=0.0, posinf=_FARTHEST, neginf=-_FARTHEST)
        distances: Float32 = np.clip(away, -_FARTHEST, _FARTHEST).astype(np.float32)
        return distances

    def apply(self, vectors: Float32) -> Float32:
        """Measure rows; above 1 one is unlike the learned ones."""
        measured: Float32 = (_root_mean_square(self.distances(vectors), self.weights) / self.limit).astype(
            np.float32
        )
        return measured


def fit(vectors: Float32) -> Dissimilarity:
    """Measure the spread of rows of shape (rows, features) that a model has learned from."""
    low, centre, high, deviation = np.zeros((4, vectors.shape[1]))
    for feature in range(vectors.shape[1]):
        # sorted once, what is missing comes last
        values = np.sort(vectors[:, feature])
        values = values[: len(values) - int(np.count_nonzero(np.isnan(values)))]
        if len(values):
            low[feature], centre[feature], high[feature] = (_at(values, share) for share in (0.25, 0.5, 0.75))
            deviation[feature] = np.std(values, dtype=np.float64)
    # what rests on one value for more than half of the time still varies
    spread = np.maximum((high - low) / _QUARTILES, 0.1 * deviation)
    weight = np.zeros(len(spread))
    varies = spread > 1e-12 * (1.0 + np.abs(centre))
    weight[varies] = 1.0 / spread[varies]
    bare = Dissimilarity(centres=tuple(centre.tolist()), weights=tuple(weight.tolist()), limit=1.0)
    limit = float(np.quantile(bare.apply(vectors), 1.0 - UNLIKE_SHARE)) if varies.any() else 1.0
    return Dissimilarity(centres=bare.centres, weights=bare.weights, limit=limit if limit > 0 else 1.0)


def _at(ordered: Float32, share: float) -> float:
    """Give the value below which a share of ordered ones lie, between neighbours on a straight line."""
    place = share * (len(ordered) - 1)
    below = int(place)
    first, second = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    return first + (second - first) * (place - below)


def _root_mean_square(distances: Float32, weights: Sequence[float]) -> Float32:
    count = max(1, int(np.count_nonzero(weights)))
    root: Float32 = np.sqrt(np.sum(distances * distances, axis=1) / np.float32(count))
    return root


def nodes(measure: Dissimilarity, *, vectors: str, output: str) -> tuple[list[Any], list[Any]]:
    """Write the measure as ONNX nodes and constants, from vectors (rows, features) to (rows,)."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: Any, kind: Any = np.float32) -> Any:
        return numpy_helper.from_array(np.asarray(values, kind), f"unlike_{name}")

    count = max(1, int(np.count_nonzero(measure.weights)))
    constants = [
        constant("centre", measure.centres),
        constant("weight", measure.weights),
        constant("zero", 0.0),
        constant("low", -_FARTHEST),
        constant("high", _FARTHEST),
        constant("features", [1], np.int64),
        constant("grain", _GRAIN),
        constant("scale", 1.0 / (_GRAIN * count * measure.limit**2), np.float64),
    ]
    make = helper.make_node
    chain = [
        make("Sub", [vectors, "unlike_centre"], ["unlike_shifted"]),
        make("Mul", ["unlike_shifted", "unlike_weight"], ["unlike_scaled"]),
        make("IsNaN", ["unlike_scaled"], ["unlike_missing"]),
        make("Where", ["unlike_missing", "unlike_zero", "unlike_scaled"], ["unlike_known"]),
        make("Clip", ["unlike_known", "unlike_low", "unlike_high"], ["unlike_distance"]),
        make("Mul", ["unlike_distance", "unlike_distance"], ["unlike_square"]),
        make("Mul", ["unlike_square", "unlike_grain"], ["unlike_fine"]),
        make("Cast", ["unlike_fine"], ["unlike_whole"], to=TensorProto.INT64),
        make("ReduceSum", ["unlike_whole", "unlike_features"], ["unlike_sum"], keepdims=0),
        make("Cast", ["unlike_sum"], ["unlike_wide"], to=TensorProto.DOUBLE),
        make("Mul", ["unlike_wide", "unlike_scale"], ["unlike_mean"]),
        make("Sqrt", ["unlike_mean"], ["unlike_root"]),
        make("Cast", ["unlike_root"], [output], to=TensorProto.FLOAT),
    ]
    return chain, constants
