"""When a prediction becomes a signal to trade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.frames import MINUTE_MS

Direction = Literal["LONG", "SHORT"]

#: The mean range of a candle is about this many standard deviations of its return, as for a random walk.
RANGE_PER_DEVIATION = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A wish to trade, made at the close of a candle.

    Attributes
    ----------
    direction
        `LONG` or `SHORT`; a prediction that says WAIT makes no signal.
    confidence
        100 times the calibrated probability that the stated sign is right.
    created_at_ms
        Event time of the candle: its close.
    horizon_minutes
        How long the prediction holds.
    model_version
        Who predicted.
    atr_pct
        Average true range of one-minute candles at that time, in percent.
    profit_likelihood
        100 times the calibrated probability that the trade ends at its take-profit: before the stop is
        reached, and within the horizon.
    """

    direction: Direction
    confidence: float
    created_at_ms: int
    horizon_minutes: int
    model_version: str
    atr_pct: float
    profit_likelihood: float

    @property
    def expires_at_ms(self) -> int:
        """Event time at which the prediction's horizon is reached."""
        return self.created_at_ms + self.horizon_minutes * MINUTE_MS


def direction_of(
    predicted_pct: float, probability_up: float, confidence_threshold: float
) -> tuple[Direction, float] | None:
    """Decide what a model's prediction says, and how surely; None is WAIT.

    Parameters
    ----------
    predicted_pct
        Stated percent change; its sign is what is traded.
    probability_up
        Calibrated probability of a rise, in 0..1.
    confidence_threshold
        Least confidence, 0 to 100, to act on.
    """
    if predicted_pct > 0.0:
        confidence = 100.0 * probability_up
        return ("LONG", confidence) if confidence >= confidence_threshold else None
    if predicted_pct < 0.0:
        confidence = 100.0 * (1.0 - probability_up)
        return ("SHORT", confidence) if confidence >= confidence_threshold else None
    return None
