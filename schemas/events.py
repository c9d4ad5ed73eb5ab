"""Messages between workers: one message is one batch, MessagePack with raw little-endian columns."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from schemas.frames import MINUTE_MS, CandleFrame, FeatureFrame, FeedBatch, PredictionFrame

WIRE_VERSION = 1

_COLUMNS: dict[str, tuple[str, bool]] = {
    # column: (little-endian dtype, whether it is two-dimensional)
    "symbol_index": ("<i4", False),
    "open_time_ms": ("<i8", False),
    "ohlcv": ("<f8", True),
    "origin": ("i1", False),
    "vector": ("<f4", True),
    "is_complete": ("?", False),
    "as_of_ms": ("<i8", False),
    "known_to_ms": ("<i8", False),
    "predicted_pct": ("<f4", True),
    "probability_up": ("<f4", True),
    "model_index": ("<i2", True),
    "reason": ("i1", True),
    "widen": ("<f4", True),
}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One batch on the wire."""

    kind: str
    version: int
    rows: int
    scalars: dict[str, Any]
    columns: dict[str, bytes]


class UnreadableMessageError(ValueError):
    """The bytes are no message of this version."""


_KINDS: dict[str, type[CandleFrame]] = {
    "candles": CandleFrame,
    "features": FeatureFrame,
    "predictions": PredictionFrame,
}
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()
FrameT = TypeVar("FrameT", bound=CandleFrame)


def encode(frame: FeatureFrame) -> bytes:
    """Write a frame as one message."""
    kind = "predictions" if isinstance(frame, PredictionFrame) else "features"
    if frame.as_of_ms is None:
        frame = replace(frame, as_of_ms=frame.open_time_ms + MINUTE_MS)
    if isinstance(frame, PredictionFrame):
        frame = replace(frame, widen=frame.widened())
    return _encode(kind, frame)


def encode_feed(batch: FeedBatch) -> bytes:
    """Write what the feed handed out, for the journal that recovery re-lives."""
    parts = {
        "candles": _encode("candles", batch.candles),
        "revisions": _encode("candles", batch.revisions),
        "known_to_ms": batch.known_to_ms.astype("<i8").tobytes(),
        "as_of_ms": batch.as_of_ms,
    }
    return _encoder.encode(parts)


def decode_feed(payload: bytes) -> FeedBatch:
    """Read a journal entry back.

    Raises
    ------
    UnreadableMessageError
        If the bytes are damaged.
    """
    try:
        parts = msgspec.msgpack.decode(payload)
        return FeedBatch(
            candles=decode(parts["candles"], CandleFrame),
            revisions=decode(parts["revisions"], CandleFrame),
            known_to_ms=np.frombuffer(parts["known_to_ms"], "<i8").astype(np.int64),
            as_of_ms=parts["as_of_ms"],
        )
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise UnreadableMessageError(f"not a readable journal entry: {error}") from error


def _encode(kind: str, frame: CandleFrame) -> bytes:
    columns = {
        f.name: np.ascontiguousarray(getattr(frame, f.name), np.dtype(_COLUMNS[f.name][0])).tobytes()
        for f in fields(frame)
        if f.name in _COLUMNS
    }
    scalars = {f.name: getattr(frame, f.name) for f in fields(frame) if f.name not in _COLUMNS}
    scalars["widths"] = {name: getattr(frame, name).shape[1] for name in columns if _COLUMNS[name][1]}
    return _encoder.encode(
        Message(kind=kind, version=WIRE_VERSION, rows=len(frame), scalars=scalars, columns=columns)
    )


def decode(payload: bytes, expected: type[FrameT]) -> FrameT:
    """Read a message back.

    Raises
    ------
    UnreadableMessageError
        If the bytes are damaged, of another version, or of another kind of frame.
    """
    try:
        message = _decoder.decode(payload)
        if message.version != WIRE_VERSION:
            raise UnreadableMessageError(
                f"message version {message.version}, this program reads version {WIRE_VERSION}"
            )
        if _KINDS.get(message.kind) is not expected:
            raise UnreadableMessageError(f"a {message.kind!r} message, expected {expected.__name__}")
        return expected(**_values(message, expected))
    except UnreadableMessageError:
        raise
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UnreadableMessageError(f"not a readable message: {error}") from error


def _values(message: Message, expected: type[CandleFrame]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    rows = message.rows
    for field in fields(expected):
        name = field.name
        if name not in _COLUMNS:
            value = message.scalars[name]
            values[name] = tuple(value) if isinstance(value, list) else value
            continue
        if name not in message.columns and field.default is None:
            continue  # written before there was such a column
        kind, is_matrix = _COLUMNS[name]
        flat = np.frombuffer(message.columns[name], np.dtype(kind))
        if is_matrix:
            width = int(message.scalars["widths"][name])
            if width < 0 or len(flat) != rows * width:
                raise UnreadableMessageError(f"column {name!r} does not have {rows} rows of {width}")
            flat = flat.reshape(rows, width)
        elif len(flat) != rows:
            raise UnreadableMessageError(f"column {name!r} has {len(flat)} rows, not {rows}")
        values[name] = flat
    indices = values["symbol_index"]
    if rows and not (0 <= indices.min() and indices.max() < len(values["symbols"])):
        raise UnreadableMessageError("symbol_index points outside symbols")
    return values
