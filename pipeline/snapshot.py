"""How a stage's state becomes bytes and comes back: MessagePack with raw arrays, compressed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from pipeline.stage import StateVersionError


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    version: int
    settings: dict[str, Any]
    arrays: dict[str, _Array]
    values: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Snapshot)


def pack(
    *,
    stage: str,
    version: int,
    settings: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    values: Mapping[str, Any],
) -> bytes:
    """Write a state as bytes.

    Parameters
    ----------
    stage, version
        Whose state this is; `unpack` refuses any other.
    settings
        What the state depends on (symbols, horizons, ...), in plain MessagePack values.
    arrays, values
        The state itself.
    """
    return zlib.compress(
        _encoder.encode(
            _Snapshot(
                stage=stage,
                version=version,
                settings=dict(settings),
                arrays={
                    name: _Array(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())
                    for name, array in arrays.items()
                },
                values=dict(values),
            )
        ),
        level=1,
    )


def unpack(
    state: bytes, *, stage: str, version: int, settings: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read back what `pack` wrote: the arrays (writable copies) and the values.

    Raises
    ------
    StateVersionError
        If the bytes are damaged, or of another stage, version or settings.
    """
    try:
        found = _decoder.decode(zlib.decompress(state))
        arrays = {
            name: np.frombuffer(a.data, np.dtype(a.dtype)).reshape(a.shape).copy()
            for name, a in found.arrays.items()
        }
    except (zlib.error, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise StateVersionError(f"the snapshot of stage {stage!r} is not readable: {error}") from error
    if (found.stage, found.version) != (stage, version):
        raise StateVersionError(
            f"a snapshot of stage {found.stage!r} version {found.version}, "
            f"this is {stage!r} version {version}: replay from the retained candles"
        )
    # Both sides go through the encoder, so that tuples and lists compare equal.
    wanted: dict[str, Any] = msgspec.msgpack.decode(_encoder.encode(dict(settings)))
    if found.settings != wanted:
        changed = sorted(
            k for k in found.settings.keys() | wanted.keys() if found.settings.get(k) != wanted.get(k)
        )
        raise StateVersionError(
            f"the snapshot of stage {stage!r} was made with other settings ({', '.join(changed)}): "
            "replay from the retained candles"
        )
    return arrays, found.values
