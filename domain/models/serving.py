"""Serve a model from its graph, with nothing but ONNX Runtime and NumPy.

No training library may be imported from here: the inference process loads this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from domain.models.card import ModelCard
from domain.models.model import INPUT, OUTPUTS, ModelRefusedError, Predictions
from schemas.frames import Float32

# converters and runtime are chatty about harmless things on standard error
onnxruntime.set_default_logger_severity(3)
_WARM_UP_ROWS = (1, 1, 2, 3)


class ServedModel:
    """A model ready to predict: one row or thousands, each row's result the same whatever rows are beside it.

    Attributes
    ----------
    card
        What the graph says about itself.
    sha256
        Digest of the graph's bytes.
    """

    __slots__ = ("_session", "card", "sha256")

    def __init__(self, *, card: ModelCard, sha256: str, session: Any) -> None:
        self.card = card
        self.sha256 = sha256
        self._session = session

    @classmethod
    def from_bytes(
        cls, payload: bytes, *, sha256: str, feature_names: Sequence[str], schema_hash: str
    ) -> ServedModel:
        """Check a graph, load it and warm it up.

        Parameters
        ----------
        payload
            The bytes of the graph.
        sha256
            What the registry says their digest is.
        feature_names, schema_hash
            The vectors that this process will be handing in.

        Raises
        ------
        ModelRefusedError
            If the bytes differ from the registry's, cannot be read, or expect other features.
        """
        found = hashlib.sha256(payload).hexdigest()
        if found != sha256:
            raise ModelRefusedError(
                f"the model file's digest is {found[:12]}..., the registry says {sha256[:12]}...:"
                " it was changed or cut short; restore it from a backup or train again"
            )
        session = open_session(payload)
        card = ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map)
        _check_features(card, tuple(feature_names), schema_hash)
        _check_ports(session, len(card.feature_names))
        model = cls(card=card, sha256=sha256, session=session)
        _warm_up(session, len(card.feature_names))
        return model

    def predict(self, vectors: Float32) -> Predictions:
        """Predict one value pair a row; NaN in a vector is a missing value.

        Parameters
        ----------
        vectors
            Shape (rows, features), in the order of the card's names.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.card.feature_names):
            raise ValueError(
                f"vectors of shape {vectors.shape}, the model expects (rows, {len(self.card.feature_names)})"
            )
        return run(self._session, vectors)


def open_session(payload: bytes) -> Any:
    """Open a graph with one thread: processes are the unit of scaling, and results stay the same.

    Raises
    ------
    ModelRefusedError
        If the bytes are no graph that can be executed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen unrelated classes; all of them mean refused
        raise ModelRefusedError(f"not a readable model graph: {_first_line(error)}") from error


def run(session: Any, vectors: Float32) -> Predictions:
    """Run a session over vectors."""
    if not len(vectors):
        return Predictions(np.empty(0, np.float32), np.empty(0, np.float32))
    change, probability = session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(vectors, np.float32)})
    return Predictions(change, probability)


def _warm_up(session: Any, width: int) -> None:
    # the first run is many times slower than the later ones; and what cannot answer must not serve
    for rows in _WARM_UP_ROWS:
        try:
            answers = run(session, np.zeros((rows, width), np.float32))
        except Exception as error:  # the runtime's classes again
            raise ModelRefusedError(f"the graph fails on {rows} rows: {_first_line(error)}") from error
        if any(values.shape != (rows,) or values.dtype != np.float32 for values in answers):
            raise ModelRefusedError(f"the graph does not give one float32 per row for {rows} rows")


def _check_features(card: ModelCard, feature_names: tuple[str, ...], schema_hash: str) -> None:
    if card.feature_names != feature_names:
        theirs, ours = set(card.feature_names), set(feature_names)
        detail = f"it wants {sorted(theirs - ours)[:5]} and lacks {sorted(ours - theirs)[:5]}"
        if theirs == ours:
            detail = "the same names in another order"
        raise ModelRefusedError(
            f"the model was trained on other features ({len(theirs)}, here {len(ours)}): {detail};"
            " train again"
        )
    if card.schema_hash != schema_hash:
        raise ModelRefusedError(
            f"the model was trained on feature schema {card.schema_hash[:12]}, this program computes"
            f" {schema_hash[:12]}; train again"
        )


def _check_ports(session: Any, width: int) -> None:
    inputs, outputs = session.get_inputs(), tuple(port.name for port in session.get_outputs())
    if [port.name for port in inputs] != [INPUT] or outputs != OUTPUTS or inputs[0].shape[1:] != [width]:
        raise ModelRefusedError(
            f"the graph maps {[(port.name, port.shape) for port in inputs]} to {outputs}, expected"
            f" {INPUT} of width {width} to {OUTPUTS}"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
