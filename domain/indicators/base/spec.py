"""How an indicator describes itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Columns of a candle, as every update rule receives it.
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndicatorSpec:
    """Everything about an indicator but its rule.

    The module beside it holds `update(state, candle, out, *parameters)`. `state` is a float64 slice in which
    zeros mean "nothing seen yet", `candle` is open, high, low, close and volume, and `out` receives one value
    per output: NaN until warm.

    Attributes
    ----------
    title
        What people call it.
    outputs
        Names of the values, in the order in which `update` writes them.
    parameters
        Names of the further arguments of `update`, with their usual values.
    state_size
        Number of float64 in the state, from the parameters.
    warm_up
        Number of candles until the first value, from the parameters.
    unit, formula, source
        For the generated page of features.
    differs
        Where the usual libraries compute something else.
    """

    title: str
    outputs: tuple[str, ...]
    parameters: dict[str, float]
    state_size: Callable[..., int]
    warm_up: Callable[..., int]
    unit: str
    formula: str
    source: str
    differs: str = ""

    @property
    def defaults(self) -> tuple[float, ...]:
        """The usual parameters, in the order of `update`."""
        return tuple(self.parameters.values())
