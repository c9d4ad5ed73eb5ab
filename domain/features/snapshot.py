"""The engine's state as bytes: exact bits, with a header that says what they are."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.features.errors import SnapshotMismatchError

#: Raise it when the meaning of the state changes without a change of its shape.
VERSION = 1
_MAGIC = b"tidecast features"

Arrays = Mapping[str, NDArray[Any]]


def pack(settings: Mapping[str, object], arrays: Arrays) -> bytes:
    """Write arrays, and the settings that they belong to."""
    body = b"".join(
        array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays.values()
    )
    header = json.dumps(_describe(settings, arrays)).encode()
    checksum = zlib.crc32(header + body)
    return b"%s %d %d\n%s%s" % (_MAGIC, checksum, len(header), header, body)


def unpack(state: bytes, settings: Mapping[str, object], arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Read arrays of the same names, types and shapes, made with the same settings.

    Raises
    ------
    SnapshotMismatchError
        Saying what differs.
    """
    found, body = _open(state)
    wanted = json.loads(json.dumps(_describe(settings, arrays)))
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        raise SnapshotMismatchError(
            f"the snapshot differs from this engine in {', '.join(different)}; replay from candles instead"
        )
    result: dict[str, NDArray[Any]] = {}
    start = 0
    for name, array in arrays.items():
        kind = array.dtype.newbyteorder("<")
        result[name] = np.frombuffer(body, kind, array.size, start).reshape(array.shape)
        start += array.nbytes
    return result


def _describe(settings: Mapping[str, object], arrays: Arrays) -> dict[str, object]:
    return {
        "version": VERSION,
        **settings,
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
    }


def _open(state: bytes) -> tuple[dict[str, object], bytes]:
    line, _, rest = state.partition(b"\n")
    parts = line.removeprefix(_MAGIC).split()
    if not line.startswith(_MAGIC) or len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise SnapshotMismatchError(
            "these bytes are no snapshot of a feature engine; replay from candles instead"
        )
    checksum, length = int(parts[0]), int(parts[1])
    if zlib.crc32(rest) != checksum:
        raise SnapshotMismatchError(
            "the snapshot is damaged (its checksum differs); replay from candles instead"
        )
    header: dict[str, object] = json.loads(rest[:length])
    return header, rest[length:]
