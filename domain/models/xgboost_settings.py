"""How XGBoost's trees are grown: every setting, its default and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from domain.models.model import BadSettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class XGBoostSettings:
    """How trees are grown. Minute returns are nearly all noise: shallow trees, small steps, many rows a leaf.

    Attributes
    ----------
    rounds
        Trees of a head at most.
    chunk_rounds
        Rounds between two points at which a killed training can go on.
    early_stopping_patience
        Rounds without a better validation score before a head stops.
    learning_rate
        Share of each new tree, above 0 to 1.
    max_depth
        Levels of a tree.
    min_leaf_rows
        Fewest rows in a leaf.
    min_leaf_fraction
        The same as a share of the training rows; the larger one holds.
    subsample, colsample_bytree
        Share of the rows and of the features that each tree sees.
    reg_lambda_rows
        Ridge on the leaves: a leaf of this many rows goes half as far as its mean.
    max_bin
        Steps that each feature is cut into.
    clip_deviations
        Targets further from 0 than this many (robust) deviations are pulled in while training.
    further_rounds
        Trees that a head gets at most when an earlier model is trained further.
    most_trees
        A head that would have more is not trained further.
    threads
        Fixed, because sums of floating-point numbers depend on it.
    """

    rounds: int = field(default=200, metadata={"low": 1, "high": 100_000})
    chunk_rounds: int = field(default=25, metadata={"low": 1, "high": 100_000})
    early_stopping_patience: int = field(default=20, metadata={"low": 1, "high": 100_000})
    learning_rate: float = field(default=0.05, metadata={"low": 1e-6, "high": 1.0})
    max_depth: int = field(default=4, metadata={"low": 1, "high": 12})
    min_leaf_rows: int = field(default=20, metadata={"low": 1, "high": 10**9})
    min_leaf_fraction: float = field(default=0.005, metadata={"low": 0.0, "high": 0.5})
    subsample: float = field(default=0.7, metadata={"low": 0.01, "high": 1.0})
    colsample_bytree: float = field(default=0.5, metadata={"low": 0.01, "high": 1.0})
    reg_lambda_rows: float = field(default=50.0, metadata={"low": 0.0, "high": 1e9})
    max_bin: int = field(default=64, metadata={"low": 2, "high": 1024})
    clip_deviations: float = field(default=3.0, metadata={"low": 0.1, "high": 1e9})
    further_rounds: int = field(default=50, metadata={"low": 1, "high": 100_000})
    most_trees: int = field(default=1_000, metadata={"low": 1, "high": 1_000_000})
    threads: int = field(default=1, metadata={"low": 1, "high": 256})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> XGBoostSettings:
        """Read settings, refusing unknown keys and values out of range, all at once."""
        known = {f.name: f for f in fields(cls)}
        wrong = []
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                wrong.append(f"{key!r} is unknown" + (f", did you mean {near[0]!r}?" if near else ""))
                continue
            low, high = known[key].metadata["low"], known[key].metadata["high"]
            whole = isinstance(known[key].default, int)
            number = isinstance(value, int) or (
                isinstance(value, float) and (not whole or value.is_integer())
            )
            if isinstance(value, bool) or not number or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                wrong.append(f"{key} = {value!r} must be {kind} in {low:g}..{high:g}")
        if wrong:
            raise BadSettingsError("xgboost: " + "; ".join(wrong))
        numbers: dict[str, Any] = {
            key: int(value) if isinstance(known[key].default, int) else float(value)
            for key, value in values.items()
        }
        return cls(**numbers)
