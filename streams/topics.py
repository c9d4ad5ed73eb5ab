"""The streams between the workers: what they are called, who writes and who reads them."""

from __future__ import annotations

#: topic -> the service that writes it.
PRODUCER = {
    "candles": "feature_calculator",
    "features": "feature_calculator",
    "predictions": "ml_inference",
}

#: topic -> the services that read it. The journal of candles is re-lived by its own writer.
CONSUMERS: dict[str, list[str]] = {
    "candles": ["feature_calculator"],
    "features": ["ml_trainer", "ml_inference", "chart_monitor"],
    "predictions": ["forecaster"],
}


def key(prefix: str, topic: str, partition: int) -> str:
    """Name the Redis stream of a topic's partition; the braces keep it in one slot of a cluster."""
    return f"{prefix}:{{{topic}:{partition}}}"
