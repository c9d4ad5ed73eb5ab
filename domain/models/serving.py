"""Serve a model from its graph, with nothing but ONNX Runtime and NumPy.

No training library may be imported from here: the inference process loads this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from domain.models.card import ModelCard
from domain.models.model import (
    INPUT,
    OUTPUTS,
    SERVED_OUTPUTS,
    WINDOW_INPUT,
    ModelRefusedError,
    Predictions,
)
from schemas.frames import Float32

# converters and runtime are chatty about harmless things on standard error
onnxruntime.set_default_logger_severity(3)
_WARM_UP_ROWS = (1, 1, 2, 3)
#: Windows go through a network so many at a time, filled up with nothing: matrix products of another size may
#: add up in another order, and a row's result would depend on the rows beside it.
_WINDOWS_AT_ONCE = 8
#: Many windows go through faster in larger pieces, where a trial shows that they have the same bits in them;
#: at most so many, and so many minutes, to bound the memory.
_MANY_AT_ONCE, _MINUTES_AT_ONCE = 64, 4_096


class Answers(NamedTuple):
    """What a model says: two arrays of shape (rows, horizons), and one value a row.

    A row whose dissimilarity is above 1 is unlike nearly all that the model was trained on.
    """

    predicted_pct: Float32
    probability_up: Float32
    dissimilarity: Float32


class ServedModel:
    """A model ready to predict: one row or thousands, each row's result the same whatever rows are beside it.

    Attributes
    ----------
    card
        What the graph says about itself.
    sha256
        Digest of the graph's bytes.
    """

    __slots__ = ("_at_once", "_session", "card", "sha256")

    def __init__(
        self, *, card: ModelCard, sha256: str, session: Any, at_once: int = _WINDOWS_AT_ONCE
    ) -> None:
        self.card = card
        self.sha256 = sha256
        self._session = session
        self._at_once = at_once

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
        _check_ports(session, card)
        _warm_up(session, card)
        return cls(card=card, sha256=sha256, session=session, at_once=_fitting_piece(session, card))

    @property
    def window(self) -> int:
        """Minutes that it looks at; 0 if it takes single vectors."""
        return self.card.window

    def predict(self, inputs: Float32) -> Answers:
        """Predict for every row; NaN is a missing value.

        Parameters
        ----------
        inputs
            Shape (rows, features), or (rows, minutes, features) for a model with a window; features in the
            order of the card's names.
        """
        expected = _input_shape(self.card)
        if inputs.shape[1:] != expected:
            raise ValueError(f"inputs of shape {inputs.shape}, the model expects (rows, *{expected})")
        return Answers(*_run(self._session, SERVED_OUTPUTS, inputs, at_once=self._at_once))


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


def run(session: Any, inputs: Float32) -> Predictions:
    """Run a family's session over vectors or windows."""
    return Predictions(*_run(session, OUTPUTS, inputs))


def ask(session: Any, inputs: Float32) -> Answers:
    """Run a session that serves over vectors or windows."""
    return Answers(*_run(session, SERVED_OUTPUTS, inputs))


def _run(
    session: Any, outputs: Sequence[str], inputs: Float32, *, at_once: int = _WINDOWS_AT_ONCE
) -> list[Float32]:
    name = WINDOW_INPUT if inputs.ndim == 3 else INPUT
    rows = np.ascontiguousarray(inputs, np.float32)
    if not len(rows):
        widths = [port.shape[1:] for port in session.get_outputs() if port.name in outputs]
        return [np.empty((0, *width), np.float32) for width in widths]
    if name == INPUT:
        answers: list[Float32] = session.run(list(outputs), {name: rows})
        return answers
    pieces = [session.run(list(outputs), {name: piece}) for piece in _pieces(rows, at_once)]
    return [np.concatenate(parts)[: len(rows)] for parts in zip(*pieces, strict=True)]


def _pieces(rows: Float32, at_once: int) -> Iterator[Float32]:
    """Cut windows into pieces of two sizes and no others, the last one filled up with nothing."""
    first = 0
    while len(rows) - first >= at_once:
        yield rows[first : first + at_once]
        first += at_once
    for begin in range(first, len(rows), _WINDOWS_AT_ONCE):
        piece = rows[begin : begin + _WINDOWS_AT_ONCE]
        if len(piece) < _WINDOWS_AT_ONCE:
            empty = np.zeros((_WINDOWS_AT_ONCE - len(piece), *piece.shape[1:]), np.float32)
            piece = np.concatenate([piece, empty])
        yield piece


def _fitting_piece(session: Any, card: ModelCard) -> int:
    """Find how many windows may go through at once, on this machine, without a bit of any being another.

    How a runtime adds up depends on the sizes and not on the values: so a trial with some values shows it.
    """
    many_at_once = min(_MANY_AT_ONCE, _MINUTES_AT_ONCE // max(1, card.window))
    if not card.window or many_at_once <= _WINDOWS_AT_ONCE:
        return _WINDOWS_AT_ONCE
    chance = np.random.default_rng(0)
    shape = (many_at_once, *_input_shape(card))
    trial = chance.normal(size=shape) * 10.0 ** chance.uniform(-4, 5, size=shape[-1])
    trial[chance.random(shape) < 0.05] = np.nan
    windows = trial.astype(np.float32)
    few, many = (
        _run(session, SERVED_OUTPUTS, windows, at_once=size) for size in (_WINDOWS_AT_ONCE, many_at_once)
    )
    same = all(np.array_equal(one, other) for one, other in zip(few, many, strict=True))
    return many_at_once if same else _WINDOWS_AT_ONCE


def _input_shape(card: ModelCard) -> tuple[int, ...]:
    features = len(card.feature_names)
    return (card.window, features) if card.window else (features,)


def _warm_up(session: Any, card: ModelCard) -> None:
    # the first run is many times slower than the later ones; and what cannot answer must not serve
    horizons = len(card.horizons)
    for rows in _WARM_UP_ROWS:
        try:
            answers = _run(session, SERVED_OUTPUTS, np.zeros((rows, *_input_shape(card)), np.float32))
        except Exception as error:  # the runtime's classes again
            raise ModelRefusedError(f"the graph fails on {rows} rows: {_first_line(error)}") from error
        shapes = [(rows, horizons), (rows, horizons), (rows,)]
        if [values.shape for values in answers] != shapes or any(a.dtype != np.float32 for a in answers):
            raise ModelRefusedError(
                f"the graph answers {[values.shape for values in answers]} to {rows} rows, expected {shapes}"
            )


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


def _check_ports(session: Any, card: ModelCard) -> None:
    name = WINDOW_INPUT if card.window else INPUT
    inputs, outputs = session.get_inputs(), {port.name for port in session.get_outputs()}
    lacking = set(SERVED_OUTPUTS) - outputs
    fits = [(port.name, tuple(port.shape[1:])) for port in inputs] == [(name, _input_shape(card))]
    if lacking or not fits:
        raise ModelRefusedError(
            f"the graph maps {[(port.name, port.shape) for port in inputs]} to {sorted(outputs)}, expected"
            f" {name} of shape (rows, *{_input_shape(card)}) to {SERVED_OUTPUTS}"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
