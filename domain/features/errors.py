"""What can be wrong with what the feature engine is given."""

from __future__ import annotations


class FeatureSettingsError(ValueError):
    """The engine cannot be built like this: mend the settings."""


class CandleOrderError(ValueError):
    """These candles cannot be processed now; the engine's state is unchanged."""


class SnapshotMismatchError(ValueError):
    """A snapshot is damaged, of another version, or made with other settings: replay from candles instead."""


class UnknownIndicatorError(ValueError):
    """A user-added indicator does not exist, or does not run with these arguments."""
