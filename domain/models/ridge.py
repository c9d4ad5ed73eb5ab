"""A straight line through everything: ridge regression, for signals spread thinly over many features.

Each feature is cut to where nearly all of its training values lie, centred and scaled; a missing value counts
as the mean. For each horizon there is a head for the percent change and one for the direction, without
intercepts: they start from "no change" (0 %, one half). The head for the direction regresses the sign of the
change; twice what it says are the log-odds, which is the first Newton step of the logistic regression with
the same ridge from 0. How strong the ridge is, the validation rows decide for each head; where they like no
line better than the flat one, the head says nothing.

In the graph the products are added up in a tree of element-wise additions, not by a matrix product, whose
order of summation depends on how many rows there are: so a row has the same bits in every batch.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from domain.models.model import (
    INPUT,
    OUTPUTS,
    BadSettingsError,
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
from schemas.frames import Bool, Float32, Float64

#: Ridges that are tried, as shares of the rows: a direction with unit variance is drawn half-way to 0 at 1.
_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
#: Rows at a time, to bound the memory.
_PIECE = 20_000
#: Rows by which the range of a feature is judged.
_SAMPLE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeSettings:
    """How the line is drawn.

    Attributes
    ----------
    clip_deviations
        Targets further from 0 than this many (robust) deviations are pulled in while training.
    tail_share
        Share of a feature's values on either side that is pulled in to where the others begin.
    """

    clip_deviations: float = 3.0
    tail_share: float = 0.005

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RidgeSettings:
        """Read settings, refusing unknown keys and values out of range."""
        limits = {"clip_deviations": (0.1, 1e9), "tail_share": (0.0, 0.25)}
        wrong = []
        for key, value in values.items():
            if key not in limits:
                near = difflib.get_close_matches(key, [f.name for f in fields(cls)], 1)
                wrong.append(f"{key!r} is unknown" + (f", did you mean {near[0]!r}?" if near else ""))
                continue
            low, high = limits[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                wrong.append(f"{key} = {value!r} must be a number in {low:g}..{high:g}")
        if wrong:
            raise BadSettingsError("ridge: " + "; ".join(wrong))
        return cls(**{key: float(value) for key, value in values.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """All that a fitted line is.

    Attributes
    ----------
    low, high, middle, scale
        Of each feature: the range it is cut to, its mean, and 1 over its deviation (0: not looked at).
    change, rise
        Coefficients of shape (horizons, features): percent, and log-odds.
    """

    low: Float32
    high: Float32
    middle: Float32
    scale: Float32
    change: Float32
    rise: Float32

    def scaled(self, vectors: Float32) -> Float32:
        """Bring features to the scale on which the coefficients are."""
        filled = np.where(np.isnan(vectors), self.middle, vectors)
        ready: Float32 = (np.minimum(np.maximum(filled, self.low), self.high) - self.middle) * self.scale
        return ready

    def to_text(self) -> bytes:
        """Write it as JSON; no digit is lost."""
        values = {f.name: getattr(self, f.name).astype(np.float64).tolist() for f in fields(self)}
        return json.dumps({"format": "tidecast-ridge-1", **values}).encode()

    @classmethod
    def from_text(cls, native: bytes) -> Line:
        """Read what `to_text` wrote."""
        values = json.loads(native)
        return cls(**{f.name: np.array(values[f.name], np.float32) for f in fields(cls)})


#: What tuning may change; how strong the ridge is, each training looks for by itself.
SEARCH_SPACE: tuple[Range, ...] = (
    Range(name="clip_deviations", low=1.0, high=10.0, usual=RidgeSettings().clip_deviations, log=True),
    Range(name="tail_share", low=0.0, high=0.05, usual=RidgeSettings().tail_share),
)


class Ridge:
    """The family."""

    name = "ridge"
    native_suffix = "json"
    is_joint = True
    search_space = SEARCH_SPACE

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown settings and values out of range."""
        RidgeSettings.of(settings)

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
        """Solve all heads; nothing is random, and it takes a second, so there is nothing to go on from."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        chosen = RidgeSettings.of(settings)
        limits = np.array([_limit(train, column, chosen) for column in range(train.horizons)])
        flat = _scaling(train.vectors, chosen.tail_share)
        heads: list[tuple[Float64, Float64]] = []
        metrics: dict[str, float] = {}
        for column in range(train.horizons):
            if cancelled():
                raise TrainingCancelledError("asked to stop")
            # with one thread the sums are the same wherever they are computed
            with threadpool_limits(limits=1):
                heads.append(_solve(flat, train, validation, column, limits[column], metrics))
            progress((column + 1) / train.horizons, f"horizon {column + 1} of {train.horizons}")
        change, rise = (np.stack([head[kind] for head in heads]).astype(np.float32) for kind in (0, 1))
        if not change.any() and not rise.any():
            raise NoSignalError(
                "no line is better than the flat one on the early-stopping rows; the no-change forecast stays"
            )
        line = Line(
            low=flat.low, high=flat.high, middle=flat.middle, scale=flat.scale, change=change, rise=rise
        )
        return Fitted(
            native=line.to_text(),
            graph=_graph(line),
            best_iteration=0,
            metrics=metrics,
            importance=_importance(change),
        )

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Compute the sums with NumPy, in double precision."""
        line = Line.from_text(native)
        ready = line.scaled(inputs).astype(np.float64)
        return Predictions(
            (ready @ line.change.T.astype(np.float64)).astype(np.float32),
            (ready @ line.rise.T.astype(np.float64)).astype(np.float32),
        )


def _scaling(vectors: Float32, tail_share: float) -> Line:
    features = vectors.shape[1]
    low, high = np.full(features, -np.inf, np.float32), np.full(features, np.inf, np.float32)
    middle, scale = np.zeros(features, np.float32), np.zeros(features, np.float32)
    sample = vectors[:: max(1, len(vectors) // _SAMPLE)]
    for feature in range(features):
        values = sample[:, feature]
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        low[feature], high[feature] = np.quantile(values, (tail_share, 1.0 - tail_share))
        kept = np.clip(values.astype(np.float64), low[feature], high[feature])
        middle[feature] = kept.mean()
        deviation = float(kept.std())
        # a feature that (nearly) never differs says nothing
        scale[feature] = 1.0 / deviation if deviation > 1e-6 * (1.0 + abs(middle[feature])) else 0.0
    nothing = np.zeros((0, features), np.float32)
    return Line(low=low, high=high, middle=middle, scale=scale, change=nothing, rise=nothing)


def _solve(
    flat: Line,
    train: TrainingRows,
    validation: TrainingRows,
    column: int,
    limit: float,
    metrics: dict[str, float],
) -> tuple[Float64, Float64]:
    """Give the coefficients of the change and of the log-odds of one horizon."""
    learned, judged = train.of_horizon(column), validation.of_horizon(column)
    for part, rows in (("training rows", learned), ("early-stopping rows", judged)):
        if not ((rows.target_pct > 0).any() and (rows.target_pct < 0).any()):
            raise BadTrainingDataError(f"{part}: the target only ever moves one way; wait for more history")
    gram, moments = _sums(flat, learned, limit)
    found = []
    for kind, name in enumerate(("change", "rise")):
        candidates = np.stack([_ridge(gram, moments[:, kind], s * len(learned)) for s in _STRENGTHS])
        target = _targets(judged, limit)[:, kind]
        errors = np.zeros(len(_STRENGTHS))
        for piece in _pieces(len(judged)):
            said = flat.scaled(judged.vectors[piece]).astype(np.float64) @ candidates.T
            errors += np.sum((target[piece, None] - said) ** 2, axis=0)
        best = int(np.argmin(errors))
        # the flat line is a candidate too
        better = bool(errors[best] < np.sum(target**2))
        found.append(candidates[best] if better else np.zeros(len(gram)))
        if better:
            metrics[f"strength_{name}{column}"] = _STRENGTHS[best]
    return found[0], 2.0 * found[1]


def _sums(flat: Line, rows: TrainingRows, limit: float) -> tuple[Float64, Float64]:
    features = rows.vectors.shape[1]
    gram, moments = np.zeros((features, features)), np.zeros((features, 2))
    targets = _targets(rows, limit)
    for piece in _pieces(len(rows)):
        ready = flat.scaled(rows.vectors[piece]).astype(np.float64)
        gram += ready.T @ ready
        moments += ready.T @ targets[piece]
    return gram, moments


def _pieces(count: int) -> list[slice]:
    return [slice(first, first + _PIECE) for first in range(0, count, _PIECE)]


def _targets(rows: TrainingRows, limit: float) -> Float64:
    # a row that did not move says neither
    change = rows.target_pct[:, 0]
    return np.stack([np.clip(change, -limit, limit), np.sign(change)], axis=1)


def _ridge(gram: Float64, moment: Float64, strength: float) -> Float64:
    used: Bool = np.diag(gram) > 0
    solution = np.zeros(len(gram))
    if used.any():
        inner = gram[np.ix_(used, used)]
        solution[used] = np.linalg.solve(inner + strength * np.eye(len(inner)), moment[used])
    return solution


def _limit(rows: TrainingRows, column: int, settings: RidgeSettings) -> float:
    target = rows.target_pct[:, column]
    known = target[np.isfinite(target)]
    if not len(known):
        raise BadTrainingDataError("training rows: no target is known; wait for more history")
    # 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0
    robust = 1.4826 * float(np.median(np.abs(known)))
    return settings.clip_deviations * (robust if robust > 0 else float(np.std(known)))


def _importance(change: Float32) -> dict[int, float]:
    sizes = np.abs(change.astype(np.float64))
    totals = sizes.sum(axis=1, keepdims=True)
    shares = np.divide(sizes, totals, out=np.zeros_like(sizes), where=totals > 0).mean(axis=0)
    return {feature: float(share) for feature, share in enumerate(shares) if share > 0}


def _graph(line: Line) -> bytes:
    from onnx import helper, numpy_helper

    from domain.models import graph

    horizons, features = line.change.shape
    levels = max(1, features - 1).bit_length()
    padding = (1 << levels) - features
    # shape (1, heads, features), filled up with nothing to a power of two
    weights = np.pad(np.concatenate([line.change, line.rise]), ((0, 0), (0, padding)))[None]
    constants = {
        "middle": line.middle,
        "low": line.low,
        "high": line.high,
        "scale": line.scale,
        "weights": weights,
        "pads": np.array([0, 0, 0, padding], np.int64),
        "nothing": np.float32(0.0),
        "one": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    make = helper.make_node
    nodes = [
        make("IsNaN", [INPUT], ["missing"]),
        make("Where", ["missing", "middle", INPUT], ["filled"]),
        make("Max", ["filled", "low"], ["not_lower"]),
        make("Min", ["not_lower", "high"], ["not_higher"]),
        make("Sub", ["not_higher", "middle"], ["centred"]),
        make("Mul", ["centred", "scale"], ["scaled"]),
        make("Pad", ["scaled", "pads", "nothing"], ["padded"]),
        make("Unsqueeze", ["padded", "one"], ["row"]),
        make("Mul", ["row", "weights"], ["sum0"]),
    ]
    for level in range(levels):
        halves = [f"left{level}", f"right{level}"]
        nodes.append(make("Split", [f"sum{level}"], halves, axis=2))
        nodes.append(make("Add", halves, [f"sum{level + 1}"]))
    nodes.append(make("Squeeze", [f"sum{levels}", "last"], ["said"]))
    nodes.append(make("Split", ["said"], list(OUTPUTS), axis=1))
    return graph.build(
        nodes=nodes,
        initializers=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        features=features,
        horizons=horizons,
    )


FAMILY = Ridge()
