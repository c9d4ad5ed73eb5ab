"""How the LSTM learns: every setting, its default and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from domain.models.model import BadSettingsError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class LSTMSettings:
    """How the network looks and learns. Minute returns are nearly all noise: it is small.

    Attributes
    ----------
    lookback_minutes
        Minutes that it looks at, the row's own included.
    hidden_size, layers
        Cells of a layer, and layers.
    attention
        Besides the last state, look back at all of them and weigh them by what the last one asks for.
    missing_share
        Tell the network beside each minute which share of its features is missing.
    dropout
        Share of what goes into the heads (and from layer to layer) that is left out at random while learning.
    averaged_steps
        What is scored and kept is the average of the weights over about so many steps; 1 is the last one's.
    weight_decay
        Pull of the weights towards 0, per step and learning rate.
    learning_rate
        Size of the steps.
    batch_size
        Rows between two steps.
    max_epochs
        Passes over the rows at most.
    early_stopping_patience
        Epochs without a better score on the early-stopping rows before it stops.
    epoch_rows
        Rows of one epoch at most, drawn anew for each: windows of neighbouring minutes are nearly the same.
    clip_deviations
        Targets further from 0 than this many (robust) deviations are pulled in while learning.
    device
        Where it learns: `cpu`, `cuda`, or `auto` for a GPU where there is one. Both are deterministic, but
        they give different bytes.
    threads
        Fixed, because sums of floating-point numbers depend on it.
    """

    lookback_minutes: int = field(default=60, metadata={"low": 2, "high": 1440})
    hidden_size: int = field(default=32, metadata={"low": 1, "high": 1024})
    layers: int = field(default=1, metadata={"low": 1, "high": 4})
    attention: bool = False
    missing_share: bool = True
    dropout: float = field(default=0.2, metadata={"low": 0.0, "high": 0.9})
    averaged_steps: int = field(default=100, metadata={"low": 1, "high": 10**6})
    weight_decay: float = field(default=0.05, metadata={"low": 0.0, "high": 100.0})
    learning_rate: float = field(default=0.002, metadata={"low": 1e-7, "high": 1.0})
    batch_size: int = field(default=1000, metadata={"low": 1, "high": 10**6})
    max_epochs: int = field(default=100, metadata={"low": 1, "high": 100_000})
    early_stopping_patience: int = field(default=10, metadata={"low": 1, "high": 100_000})
    epoch_rows: int = field(default=20_000, metadata={"low": 1, "high": 10**9})
    clip_deviations: float = field(default=3.0, metadata={"low": 0.1, "high": 1e9})
    device: str = field(default="auto", metadata={"choices": DEVICES})
    threads: int = field(default=1, metadata={"low": 1, "high": 256})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LSTMSettings:
        """Read settings, refusing unknown keys and values out of range, all at once."""
        known = {f.name: f for f in fields(cls)}
        wrong, read = [], {}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                wrong.append(f"{key!r} is unknown" + (f", did you mean {near[0]!r}?" if near else ""))
            elif problem := _problem(known[key], value):
                wrong.append(f"{key} = {value!r} must be {problem}")
            else:
                default: Any = known[key].default
                read[key] = type(default)(value)
        if wrong:
            raise BadSettingsError("lstm: " + "; ".join(wrong))
        return cls(**read)


def _problem(setting: Field[Any], value: Any) -> str:
    """Say what the value should have been; empty if it is that."""
    if isinstance(setting.default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if choices := setting.metadata.get("choices"):
        return "" if value in choices else f"one of {', '.join(choices)}"
    low, high = setting.metadata["low"], setting.metadata["high"]
    whole = isinstance(setting.default, int)
    number = isinstance(value, int) or (isinstance(value, float) and (not whole or value.is_integer()))
    if isinstance(value, bool) or not number or not low <= value <= high:
        return f"{'a whole number' if whole else 'a number'} in {low:g}..{high:g}"
    return ""
