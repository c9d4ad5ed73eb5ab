"""What stands inside a model's graph about itself: enough to refuse it where it does not fit.

Nothing of the wall clock or of a path is in it, so the same training gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from domain.models.model import ModelRefusedError

FORMAT = "tidecast-model-2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model's own description.

    Attributes
    ----------
    family
        Name of the model family.
    symbol
        The symbol it was trained for, or `ALL`.
    horizons
        Minutes ahead, one a column of what the graph says.
    window
        Minutes that the graph looks at; 0 for one that takes single vectors.
    trained_to_ms
        Open time of the last candle that was known when it was trained.
    feature_names, schema_hash
        The columns it expects.
    seed, settings
        What the training was given.
    best_iteration
        The round or epoch it was taken from.
    native_sha256
        Digest of the native file beside it.
    """

    family: str
    symbol: str
    horizons: tuple[int, ...]
    window: int
    trained_to_ms: int
    feature_names: tuple[str, ...]
    schema_hash: str
    seed: int
    settings: Mapping[str, Any]
    best_iteration: int
    native_sha256: str

    def to_metadata(self) -> dict[str, str]:
        """Write the card as the text entries of a graph."""
        entries = {key: json.dumps(value, sort_keys=True) for key, value in asdict(self).items()}
        return {"format": FORMAT, **entries}

    @classmethod
    def from_metadata(cls, entries: Mapping[str, str]) -> ModelCard:
        """Read the card of a graph.

        Raises
        ------
        ModelRefusedError
            If the graph has none, or one of another format.
        """
        if entries.get("format") != FORMAT:
            raise ModelRefusedError(
                f"not a model of this program: its format is {entries.get('format')!r}, expected {FORMAT!r}"
            )
        try:
            values = {name: json.loads(entries[name]) for name in cls.__dataclass_fields__}
            values["feature_names"] = tuple(values["feature_names"])
            values["horizons"] = tuple(values["horizons"])
            return cls(**values)
        except (KeyError, ValueError, TypeError) as error:
            raise ModelRefusedError(f"the model's description cannot be read: {error!r}") from error
