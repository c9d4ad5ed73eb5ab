"""Columns of NumPy arrays and lists, written in PostgreSQL's binary COPY format.

A column becomes a matrix of bytes, one line a row, with the value's length in front; the columns are laid
side by side and the unused bytes masked out. So the cost of a row is that of moving its bytes, not of Python
objects, and a number is rounded to its column's scale in one place: here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.frames import NULL_MS

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_BLOCK_BYTES = 4 << 20
_LENGTH = 4  # bytes of the length in front of each value; -1 there is NULL
_POSTGRES_EPOCH_MS = 946_684_800_000
_FLOAT4_OID = 700
_JSONB_VERSION = b"\x01"
_NUMERIC_NEGATIVE = 0x4000
_GROUP = 10_000  # PostgreSQL's numeric is made of groups of four decimal digits

Bytes = NDArray[np.uint8]
Nulls = NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class _Cells:
    """One column, ready to be laid beside the others; `used` is None where every byte counts."""

    data: Bytes
    used: NDArray[np.int64] | None


def encode(kinds: Mapping[str, str], columns: Mapping[str, Any], rows: int) -> Iterator[bytes]:
    """Write columns as pieces of one binary COPY stream.

    Parameters
    ----------
    kinds
        SQL type of each column, in the order of the COPY.
    columns
        Equally long arrays or lists.
    rows
        How long.

    Raises
    ------
    ValueError
        If a value does not fit its column.
    """
    yield HEADER
    step = _rows_per_block(columns, rows)
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        cells = [_cells(name, kind, columns[name][start:stop], stop - start) for name, kind in kinds.items()]
        yield _lay_out(cells, stop - start)
    yield TRAILER


def _rows_per_block(columns: Mapping[str, Any], rows: int) -> int:
    # The widest row decides the width of a block, so what may be wide is looked at before.
    width = 32 * len(columns)
    for values in columns.values():
        if isinstance(values, np.ndarray):
            width += values.nbytes * 2 // max(1, rows)
        else:
            width += max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
            width += 2048 * any(isinstance(value, dict | list) for value in values[:1])
    return max(1, _BLOCK_BYTES // width)


def _lay_out(cells: list[_Cells], rows: int) -> bytes:
    width = 2 + sum(cell.data.shape[1] for cell in cells)
    block = np.empty((rows, width), np.uint8)
    block[:, :2] = np.frombuffer(len(cells).to_bytes(2, "big"), np.uint8)
    keep: NDArray[np.bool_] | None = None
    at = 2
    for cell in cells:
        end = at + cell.data.shape[1]
        block[:, at:end] = cell.data
        if cell.used is not None:
            if keep is None:
                keep = np.ones((rows, width), np.bool_)
            keep[:, at:end] = np.arange(end - at) < cell.used[:, None]
        at = end
    return block.tobytes() if keep is None else block[keep].tobytes()


def _cells(name: str, kind: str, values: Any, rows: int) -> _Cells:
    try:
        return _encoder(kind)(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"column {name!r} ({kind}): {error}") from error


def _fixed(payload: Bytes, nulls: Nulls) -> _Cells:
    rows, width = payload.shape
    data = np.empty((rows, _LENGTH + width), np.uint8)
    data[:, :_LENGTH] = np.frombuffer(width.to_bytes(_LENGTH, "big"), np.uint8)
    data[:, _LENGTH:] = payload
    if nulls is None or not nulls.any():
        return _Cells(data, None)
    data[nulls, :_LENGTH] = 0xFF
    return _Cells(data, np.where(nulls, _LENGTH, _LENGTH + width))


def _as_bytes(values: NDArray[Any], dtype: str) -> Bytes:
    big_endian = np.ascontiguousarray(values, np.dtype(dtype))
    return big_endian.view(np.uint8).reshape(len(values), -1)


def _floats(values: Any) -> NDArray[np.float64]:
    # A list with None in it becomes an array with NaN in it.
    return np.asarray(values, np.float64)


def _integer(dtype: str) -> Callable[[Any], _Cells]:
    bounds = np.iinfo(np.dtype(dtype))

    def encode_integer(values: Any) -> _Cells:
        array = np.asarray(values)
        nulls: Nulls = None
        if array.dtype.kind not in "iu":
            array = _floats(values)
            nulls = np.isnan(array)
            if (array[~nulls] != np.rint(array[~nulls])).any():
                raise ValueError("a fraction in a column of integers")
            array = np.where(nulls, 0, array)
        if len(array) and (array.min() < bounds.min or array.max() > bounds.max):
            raise ValueError(f"{array.min()}..{array.max()} does not fit")
        return _fixed(_as_bytes(array, dtype), nulls)

    return encode_integer


def _float(dtype: str) -> Callable[[Any], _Cells]:
    def encode_float(values: Any) -> _Cells:
        array = _floats(values)
        return _fixed(_as_bytes(array, dtype), np.isnan(array))

    return encode_float


def _boolean(values: Any) -> _Cells:
    array = np.asarray(values)
    if array.dtype == np.bool_:
        return _fixed(array.astype(np.uint8)[:, None], None)
    nulls = np.fromiter((value is None for value in values), np.bool_, len(values))
    return _fixed(np.fromiter((bool(value) for value in values), np.uint8, len(values))[:, None], nulls)


def _timestamptz(values: Any) -> _Cells:
    array = np.asarray(values)
    if array.dtype.kind != "i":
        array = np.array([NULL_MS if value is None else int(value) for value in values], np.int64)
    nulls = array == NULL_MS
    microseconds = (np.where(nulls, _POSTGRES_EPOCH_MS, array).astype(np.int64) - _POSTGRES_EPOCH_MS) * 1000
    return _fixed(_as_bytes(microseconds, ">i8"), nulls)


def rounded(values: Any, precision: int, scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Round magnitudes to `scale` decimals; gives whole parts and fractions in units of the last decimal.

    The whole part is split off first, which is exact, so a large number loses no decimals to the rounding.
    """
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    fraction = np.rint((magnitude - whole) * 10.0**scale)
    carry = fraction >= 10.0**scale
    whole += carry
    fraction[carry] = 0
    if (whole >= 10.0 ** (precision - scale)).any():
        worst = magnitude[whole.argmax()]
        raise ValueError(f"{worst!r} has more than {precision - scale} digits before the point")
    return whole.astype(np.int64), fraction.astype(np.int64)


def _numeric(precision: int, scale: int) -> Callable[[Any], _Cells]:
    whole_groups = -(-(precision - scale) // 4)
    fraction_groups = -(-scale // 4)
    groups = whole_groups + fraction_groups
    fill = 10 ** (4 * fraction_groups - scale)

    def encode_numeric(values: Any) -> _Cells:
        array = _floats(values)
        nulls = np.isnan(array)
        present = np.where(nulls, 0.0, array)
        if np.isinf(present).any():
            raise ValueError("an infinite number")
        whole, fraction = rounded(present, precision, scale)
        fraction *= fill
        words = np.empty((len(array), 4 + groups), np.int64)
        words[:, 0] = groups
        words[:, 1] = whole_groups - 1  # weight of the first group
        words[:, 2] = np.where(present < 0, _NUMERIC_NEGATIVE, 0)
        words[:, 3] = scale
        for column in range(4 + whole_groups - 1, 3, -1):
            whole, words[:, column] = np.divmod(whole, _GROUP)
        for column in range(4 + groups - 1, 4 + whole_groups - 1, -1):
            fraction, words[:, column] = np.divmod(fraction, _GROUP)
        return _fixed(_as_bytes(words, ">i2"), nulls)

    return encode_numeric


def _padded(parts: Sequence[bytes | None]) -> _Cells:
    width = max((len(part) for part in parts if part is not None), default=0)
    sizes = np.fromiter((-1 if part is None else len(part) for part in parts), np.int64, len(parts))
    data = np.empty((len(parts), _LENGTH + width), np.uint8)
    data[:, :_LENGTH] = _as_bytes(sizes, ">i4")
    if width:
        padded = b"".join((part or b"").ljust(width, b"\0") for part in parts)
        data[:, _LENGTH:] = np.frombuffer(padded, np.uint8).reshape(len(parts), width)
    return _Cells(data, np.maximum(sizes, 0) + _LENGTH)


def _text(values: Any) -> _Cells:
    # Names repeat in nearly every text column: encode each once, then pick by number.
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    numbers: dict[str | None, int] = {}
    chosen = np.fromiter((numbers.setdefault(value, len(numbers)) for value in listed), np.int64, len(listed))
    distinct = _padded([None if value is None else _utf8(value) for value in numbers])
    assert distinct.used is not None
    return _Cells(distinct.data[chosen], distinct.used[chosen])


def _utf8(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise ValueError("a zero character, which PostgreSQL's text cannot hold")
    return encoded


def _bytea(values: Any) -> _Cells:
    return _padded(values)


def _jsonb(values: Any) -> _Cells:
    # Rows of one minute often share one object: write each object once.
    written: dict[int, bytes] = {}
    parts: list[bytes | None] = []
    for value in values:
        if value is None:
            parts.append(None)
            continue
        part = written.get(id(value))
        if part is None:
            part = written[id(value)] = _JSONB_VERSION + (value if isinstance(value, bytes) else _json(value))
        parts.append(part)
    return _padded(parts)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _real_array(values: Any) -> _Cells:
    matrix = np.asarray(values, np.float32)
    if matrix.ndim != 2:
        raise ValueError(f"shape {matrix.shape}: a column of arrays takes a matrix, one line a row")
    rows, width = matrix.shape
    # dimensions, whether there are nulls, type of the elements, how many, number of the first
    head = np.array([1, 0, _FLOAT4_OID, width, 1], ">i4")
    words = np.empty((rows, len(head) + 2 * width), ">i4")
    words[:, : len(head)] = head
    words[:, len(head) :: 2] = 4
    words[:, len(head) + 1 :: 2] = matrix.astype(">f4").view(">i4")
    return _fixed(words.view(np.uint8).reshape(rows, -1), None)


_ENCODERS: dict[str, Callable[[Any], _Cells]] = {
    "smallint": _integer(">i2"),
    "integer": _integer(">i4"),
    "bigint": _integer(">i8"),
    "real": _float(">f4"),
    "double precision": _float(">f8"),
    "boolean": _boolean,
    "timestamptz": _timestamptz,
    "text": _text,
    "bytea": _bytea,
    "jsonb": _jsonb,
    "real[]": _real_array,
}


def _encoder(kind: str) -> Callable[[Any], _Cells]:
    if kind not in _ENCODERS:
        if match := re.fullmatch(r"numeric\((\d+),(\d+)\)", kind):
            _ENCODERS[kind] = _numeric(int(match[1]), int(match[2]))
        elif kind.startswith("varchar("):
            _ENCODERS[kind] = _text
        else:
            raise ValueError("a type that bulk writing does not know")
    return _ENCODERS[kind]
