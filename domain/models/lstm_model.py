"""A trained LSTM as plain numbers: what the graph is built from, and what training goes on from.

Its text is JSON with the little-endian float32 numbers in base64: the same numbers give the same text, and
nothing in it is executed when it is read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from domain.models.model import ModelRefusedError
from schemas.frames import Float32

FORMAT = "tidecast-lstm-1"
#: Standardised values are kept this close to 0.
INPUT_LIMIT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the network is made of.

    Attributes
    ----------
    features, window, horizons
        Of what goes in and what comes out.
    hidden_size, layers, attention, missing_share
        As in the settings.
    """

    features: int
    window: int
    horizons: int
    hidden_size: int
    layers: int
    attention: bool
    missing_share: bool

    @property
    def inputs(self) -> int:
        """Numbers that the first layer sees of each minute."""
        return self.features + self.missing_share

    @property
    def readout(self) -> int:
        """Numbers that the heads see."""
        return self.hidden_size * (2 if self.attention else 1)

    @property
    def heads(self) -> int:
        """Two a horizon: the changes first, then the logits of a rise."""
        return 2 * self.horizons


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What is done to numbers on their way in and out, learned from the training rows alone.

    Attributes
    ----------
    centre, scale
        Of each feature: `(value - centre) * scale` is what the network sees; a scale of 0 hides the feature.
    deviation
        Of each horizon, in percent: what the network says is in this unit.
    """

    centre: Float32
    scale: Float32
    deviation: Float32

    @property
    def shares(self) -> Float32:
        """How much each feature counts in the share that is missing; hidden ones do not."""
        live = self.scale > 0
        shares: Float32 = (live / max(1, int(live.sum()))).astype(np.float32)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained network: its shape, its scaling and its weights under PyTorch's names."""

    shape: Shape
    scaling: Scaling
    weights: Mapping[str, Float32]

    def to_bytes(self) -> bytes:
        """Write it as text."""
        arrays = {**{name: getattr(self.scaling, name) for name in Scaling.__slots__}, **self.weights}
        return json.dumps(
            {"format": FORMAT, "shape": asdict(self.shape), "arrays": encode(arrays)},
            sort_keys=True,
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_bytes(cls, native: bytes) -> Model:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ModelRefusedError
            If it is something else.
        """
        try:
            content = json.loads(native)
            if content["format"] != FORMAT:
                raise ModelRefusedError(f"not an LSTM of this program: format {content['format']!r}")
            arrays = decode(content["arrays"])
            scaling = Scaling(**{name: arrays.pop(name) for name in Scaling.__slots__})
            return cls(shape=Shape(**content["shape"]), scaling=scaling, weights=arrays)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelRefusedError):
                raise
            raise ModelRefusedError(f"the native LSTM cannot be read: {error!r}") from error


def encode(arrays: Mapping[str, Float32]) -> dict[str, Any]:
    """Write arrays of float32 as text."""
    return {
        name: {
            "shape": list(values.shape),
            "data": base64.b64encode(np.asarray(values, "<f4").tobytes()).decode(),
        }
        for name, values in arrays.items()
    }


def decode(texts: Mapping[str, Any]) -> dict[str, Float32]:
    """Read what `encode` wrote."""
    return {
        name: np.frombuffer(base64.b64decode(text["data"], validate=True), "<f4")
        .astype(np.float32)
        .reshape(text["shape"])
        for name, text in texts.items()
    }
