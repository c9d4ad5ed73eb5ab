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
from schemas.frames import Float32


class LastValue:
    """Predict no change; the probability of a rise is the share of rises among the moves seen."""

    name = "last_value"
    native_suffix = "json"

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
    ) -> Fitted:
        """Count the rises."""
        self.check_settings(settings)
        moved = train.target_pct[train.target_pct != 0]
        if not len(moved):
            raise BadTrainingDataError(f"the target never changes in {len(train)} rows")
        # one pseudo-count on either side keeps a short history from claiming certainty
        probability = float(np.float32((int(np.sum(moved > 0)) + 1) / (len(moved) + 2)))
        progress(1.0, "counted")
        return Fitted(
            native=json.dumps({"probability_up": probability}).encode(),
            graph=_graph(probability, train.vectors.shape[1]),
            best_iteration=0,
            metrics={"moved_rows": float(len(moved))},
        )

    def predict(self, *, native: bytes, vectors: Float32) -> Predictions:
        """Repeat the counted share on every row."""
        probability = json.loads(native)["probability_up"]
        return Predictions(np.zeros(len(vectors), np.float32), np.full(len(vectors), probability, np.float32))


def _graph(probability: float, features: int) -> bytes:
    from onnx import TensorProto, helper

    from domain.models import graph

    def constant(output: str, value: float) -> Any:
        tensor = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
        return helper.make_node("ConstantOfShape", ["rows_shape"], [output], value=tensor)

    return graph.build(
        nodes=[
            helper.make_node("Shape", [INPUT], ["rows_shape"], start=0, end=1),
            constant(OUTPUTS[0], 0.0),
            constant(OUTPUTS[1], probability),
        ],
        initializers=[],
        features=features,
    )


FAMILY = LastValue()
