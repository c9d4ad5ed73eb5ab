"""Columns of NumPy arrays and lists, written in PostgreSQL's binary COPY format.

A column becomes a matrix of bytes, one line a row, with the value's length in front; the columns are laid
side by side and the unused bytes masked out. So the cost of a row is that of moving its bytes, not of Python
objects, and a number is rounded to its column's scale in one place: here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.frames import NULL_MS

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_BLOCK_ROWS = 8192
_FEW_ROWS = 500
_LENGTH = 4  # bytes of the length in front of each value; -1 there is NULL
_NULL = b"\xff" * _LENGTH
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


#: A column whose values differ too much in length for a matrix: each value with its length in front.
_Pieces = list[bytes]


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
    pending = HEADER
    for start in range(0, rows, _BLOCK_ROWS):
        stop = min(rows, start + _BLOCK_ROWS)
        block = {name: columns[name][start:stop] for name in kinds}
        yield pending + _lay_out(_all_cells(kinds, block, stop - start), stop - start)
        pending = b""
    yield pending + TRAILER


def _all_cells(kinds: Mapping[str, str], block: Mapping[str, Any], rows: int) -> list[_Cells | _Pieces]:
    # A live minute has few rows, and then each call costs more than its work: one call for all of a kind.
    cells: dict[str, _Cells | _Pieces] = {}
    for kind in set(kinds.values()):
        names = [name for name, its_kind in kinds.items() if its_kind == kind]
        if len(names) > 1 and rows < _FEW_ROWS and (kind.startswith("numeric") or kind == "timestamptz"):
            cells.update(_together(names, kind, block, rows))
        else:
            cells.update({name: _cells(name, kind, block[name]) for name in names})
    return [cells[name] for name in kinds]


def _together(
    names: list[str], kind: str, block: Mapping[str, Any], rows: int
) -> dict[str, _Cells | _Pieces]:
    prepare = _milliseconds if kind == "timestamptz" else _floats
    try:
        joint = _encoder(kind)(np.concatenate([prepare(block[name]) for name in names]))
    except (ValueError, TypeError, OverflowError):
        # Alone, the column at fault is found and named.
        return {name: _cells(name, kind, block[name]) for name in names}
    assert isinstance(joint, _Cells)
    spans = {name: slice(k * rows, (k + 1) * rows) for k, name in enumerate(names)}
    return {
        name: _Cells(joint.data[span], None if joint.used is None else joint.used[span])
        for name, span in spans.items()
    }


def _cells(name: str, kind: str, values: Any) -> _Cells | _Pieces:
    try:
        return _encoder(kind)(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"column {name!r} ({kind}): {error}") from error


def _lay_out(columns: list[_Cells | _Pieces], rows: int) -> bytes:
    # Neighbouring matrices become one strip of bytes; where there are only matrices, that is the whole block.
    count = np.frombuffer(len(columns).to_bytes(2, "big"), np.uint8)
    strip = [_Cells(np.broadcast_to(count, (rows, 2)), None)]
    strands: list[Sequence[bytes]] = []
    for column in columns:
        if isinstance(column, _Cells):
            strip.append(column)
            continue
        if strip:
            strands.append(_cut(strip, rows))
            strip = []
        strands.append(column)
    if not strands:
        return _side_by_side(strip)[0].tobytes()
    if strip:
        strands.append(_cut(strip, rows))
    return b"".join(chain.from_iterable(zip(*strands, strict=True)))


def _side_by_side(cells: list[_Cells]) -> tuple[Bytes, NDArray[np.bool_] | None]:
    block = np.concatenate([cell.data for cell in cells], axis=1)
    if all(cell.used is None for cell in cells):
        return block, None
    keep = np.ones(block.shape, np.bool_)
    at = 0
    for cell in cells:
        end = at + cell.data.shape[1]
        if cell.used is not None:
            np.less(np.arange(end - at), cell.used[:, None], out=keep[:, at:end])
        at = end
    return block[keep], keep


def _cut(cells: list[_Cells], rows: int) -> list[bytes]:
    block, keep = _side_by_side(cells)
    whole = block.tobytes()
    if keep is None:
        ends = np.arange(1, rows + 1) * block.shape[1]
    else:
        ends = np.count_nonzero(keep, axis=1).cumsum()
    bounds = [0, *ends.tolist()]
    return [whole[start:end] for start, end in pairwise(bounds)]


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


def _milliseconds(values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind == "i":
        return array.astype(np.int64, copy=False)
    return np.array([NULL_MS if value is None else int(value) for value in values], np.int64)


def _timestamptz(values: Any) -> _Cells:
    array = _milliseconds(values)
    nulls = array == NULL_MS
    microseconds = (np.where(nulls, _POSTGRES_EPOCH_MS, array) - _POSTGRES_EPOCH_MS) * 1000
    return _fixed(_as_bytes(microseconds, ">i8"), nulls)


@dataclass(frozen=True, slots=True)
class Decimals:
    """Numbers rounded to a column's scale: sign, whole part and fraction in units of the last decimal."""

    negative: NDArray[np.bool_]
    whole: NDArray[np.int64]
    fraction: NDArray[np.int64]
    nulls: NDArray[np.bool_]


def decimals(values: Any, precision: int, scale: int) -> Decimals:
    """Round numbers to `numeric(precision, scale)`; NaN is NULL, with zeros in its place.

    Raises
    ------
    ValueError
        If one has too many digits before the point.
    """
    one = 10**scale
    array = _floats(values)
    nulls = np.isnan(array)
    magnitude = np.abs(array)
    magnitude[nulls] = 0
    if len(array) and (largest := magnitude.max()) >= 10.0 ** (precision - scale) - 0.5 / one:
        raise ValueError(f"{largest} has more than {precision - scale} digits before the point")
    # The whole part is split off first, which is exact, so a large number loses no decimals to rounding.
    floor = np.floor(magnitude)
    whole = floor.astype(np.int64)
    fraction = np.rint((magnitude - floor) * one).astype(np.int64)
    whole += fraction == one
    return Decimals(array < 0, whole, fraction % one, nulls)


def _numeric(precision: int, scale: int) -> Callable[[Any], _Cells]:
    whole_groups = -(-(precision - scale) // 4)
    fraction_groups = -(-scale // 4)
    groups = whole_groups + fraction_groups
    whole_units = _GROUP ** np.arange(whole_groups - 1, -1, -1, dtype=np.int64)
    fraction_units = _GROUP ** np.arange(fraction_groups - 1, -1, -1, dtype=np.int64)
    fill = 10 ** (4 * fraction_groups - scale)
    # length of the value (two words), groups, weight of the first group, sign, decimals
    head = np.array([0, 8 + 2 * groups, groups, whole_groups - 1, 0, scale], ">i2")

    def encode_numeric(values: Any) -> _Cells:
        rounded = decimals(values, precision, scale)
        words = np.empty((len(rounded.whole), len(head) + groups), ">i2")
        words[:, : len(head)] = head
        words[:, 4] = np.where(rounded.negative, _NUMERIC_NEGATIVE, 0)
        words[:, len(head) : len(head) + whole_groups] = rounded.whole[:, None] // whole_units % _GROUP
        words[:, len(head) + whole_groups :] = rounded.fraction[:, None] * fill // fraction_units % _GROUP
        data = words.view(np.uint8)
        if not rounded.nulls.any():
            return _Cells(data, None)
        data[rounded.nulls, :_LENGTH] = 0xFF
        return _Cells(data, np.where(rounded.nulls, _LENGTH, data.shape[1]))

    return encode_numeric


def _framed(part: bytes | None) -> bytes:
    return _NULL if part is None else len(part).to_bytes(_LENGTH, "big") + part


def _name(values: Any) -> _Cells:
    # Names repeat: encode each once, then pick by number.
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    numbers: dict[str | None, int] = {}
    chosen = np.fromiter((numbers.setdefault(value, len(numbers)) for value in listed), np.int64, len(listed))
    distinct = [_framed(None if value is None else _utf8(value)) for value in numbers]
    sizes = np.array([len(part) for part in distinct], np.int64)
    width = int(sizes.max(initial=_LENGTH))
    padded = np.array(distinct, f"S{width}").view(np.uint8).reshape(-1, width)
    return _Cells(padded[chosen], None if (sizes == width).all() else sizes[chosen])


def _utf8(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise ValueError("a zero character, which PostgreSQL's text cannot hold")
    return encoded


def _text(values: Any) -> _Pieces:
    return [_framed(None if value is None else _utf8(value)) for value in values]


def _bytea(values: Any) -> _Pieces:
    return [_framed(value) for value in values]


def _jsonb(values: Any) -> _Pieces:
    # Rows of one minute often share one object: write each object once.
    written: dict[int, bytes] = {id(None): _NULL}
    pieces = []
    for value in values:
        piece = written.get(id(value))
        if piece is None:
            piece = _framed(_JSONB_VERSION + (value if isinstance(value, bytes) else _json(value)))
            written[id(value)] = piece
        pieces.append(piece)
    return pieces


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


_ENCODERS: dict[str, Callable[[Any], _Cells | _Pieces]] = {
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


def _encoder(kind: str) -> Callable[[Any], _Cells | _Pieces]:
    if kind not in _ENCODERS:
        if match := re.fullmatch(r"numeric\((\d+),(\d+)\)", kind):
            _ENCODERS[kind] = _numeric(int(match[1]), int(match[2]))
        elif kind.startswith("varchar("):
            _ENCODERS[kind] = _name
        else:
            raise ValueError("a type that bulk writing does not know")
    return _ENCODERS[kind]
