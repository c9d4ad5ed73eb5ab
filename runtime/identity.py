"""Whose rows a pipeline makes, read off its settings."""

from __future__ import annotations

import hashlib

from config.market import MarketSettings
from config.ml_config import Settings
from runtime.directory import Identity


def identity_of(settings: Settings, market: str | None = None) -> Identity:
    """Say whose rows these settings make.

    Parameters
    ----------
    settings
        Of the pipeline.
    market
        Name of what is played; derived from the settings where it is None.
    """
    played = settings.market
    if market is None:
        market = "generated" if played.is_simulated else "live"
        if played.recorded_path is not None:
            market = _recording_name(played)
    return Identity(
        exchange=played.exchange,
        market=market,
        # A seed means nothing to a market that was not generated.
        seed=played.seed if market == "generated" else 0,
        partitions=settings.pipeline.partitions,
    )


def _recording_name(played: MarketSettings) -> str:
    """Name a recording and the part of it that is played, in the 30 characters of its column."""
    assert played.recorded_path is not None
    path = played.recorded_path.resolve()
    digest = hashlib.sha256(f"{path}|{played.from_ms}|{played.to_ms}".encode()).hexdigest()
    return f"recorded:{path.name[:12]}:{digest[:8]}"
