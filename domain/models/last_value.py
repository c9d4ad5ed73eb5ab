"""The no-change baseline: the price stays, and it rises as often as it did.

Every other model must beat it. It has a graph too, so that nothing downstream treats it as a special case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    Predictions,
    Progress,
    TrainingRows,
)
from domain.models.search_space import Range
from schemas.frames import Float32


class LastValue:
    """Predict no change; the probability of a rise is the share of rises among the moves seen."""

    name = "last_value"
    native_suffix = "json"
    is_joint = True
    search_space: tuple[Range, ...] = ()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse every setting: there is nothing to set."""
        if settings:
            raise BadSettingsError(f"last_value has no settings, but was given {', '.join(sorted(settings))}")

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
        """Count the rises."""
        self.check_settings(settings)
        probabilities = []
        for column in range(train.horizons):
            target = train.target_pct[:, column]
            moved = target[np.isfinite(target) & (target != 0)]
            if not len(moved):
                raise BadTrainingDataError(f"the target never changes in {len(train)} rows")
            # one pseudo-count on either side keeps a short history from claiming certainty
            probabilities.append(float(np.float32((int(np.sum(moved > 0)) + 1) / (len(moved) + 2))))
        progress(1.0, "counted")
        return Fitted(
            native=json.dumps({"probability_up": probabilities}).encode(),
            graph=_graph(probabilities, train.vectors.shape[1]),
            best_iteration=0,
        )

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Repeat the counted shares on every row."""
        probabilities = np.array(json.loads(native)["probability_up"], np.float32)
        shape = (len(inputs), len(probabilities))
        return Predictions(
            np.zeros(shape, np.float32), np.broadcast_to(_log_odds(probabilities), shape).copy()
        )


def _log_odds(probabilities: Any) -> Float32:
    chance = np.asarray(probabilities, np.float64)
    odds: Float32 = np.log(chance / (1.0 - chance)).astype(np.float32)
    return odds


def _graph(probabilities: list[float], features: int) -> bytes:
    from onnx import helper, numpy_helper

    from domain.models import graph

    horizons = len(probabilities)
    said = (np.zeros(horizons, np.float32), _log_odds(probabilities))
    nodes = [
        helper.make_node("Shape", [INPUT], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "one_row"], ["shape"], axis=0),
        *(helper.make_node("Expand", [f"said_{name}", "shape"], [name]) for name in OUTPUTS),
    ]
    constants = [
        numpy_helper.from_array(np.array([horizons], np.int64), "one_row"),
        *(
            numpy_helper.from_array(values, f"said_{name}")
            for name, values in zip(OUTPUTS, said, strict=True)
        ),
    ]
    return graph.build(nodes=nodes, initializers=constants, features=features, horizons=horizons)


FAMILY = LastValue()
