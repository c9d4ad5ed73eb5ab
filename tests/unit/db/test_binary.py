from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.binary import HEADER, TRAILER, encode
from schemas.frames import NULL_MS


def fields_of(kinds: dict[str, str], columns: dict[str, Any], rows: int) -> list[list[bytes | None]]:
    """Read the stream back the slow and obvious way."""
    stream = b"".join(encode(kinds, columns, rows))
    assert stream.startswith(HEADER)
    at, found = len(HEADER), []
    while (count := struct.unpack_from(">h", stream, at)[0]) >= 0:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", stream, at)
            at += 4
            row.append(None if length < 0 else stream[at : at + length])
            at += max(length, 0)
        found.append(row)
    assert stream[at:] == TRAILER
    return found


def column_of(kind: str, values: Any) -> list[bytes | None]:
    return [row[0] for row in fields_of({"x": kind}, {"x": values}, len(values))]


def decimal_of(field: bytes) -> Decimal:
    groups, weight, sign, scale = struct.unpack_from(">hhHh", field)
    digits = struct.unpack_from(f">{groups}h", field, 8)
    assert all(0 <= digit < 10_000 for digit in digits)
    total = sum(Decimal(digit) * Decimal(10_000) ** (weight - k) for k, digit in enumerate(digits))
    return (-total if sign else total).quantize(Decimal(1).scaleb(-scale))


@given(st.lists(st.floats(-9.9e11, 9.9e11), min_size=1))
def test_a_number_is_rounded_to_the_nearest_at_the_scale(values: list[float]) -> None:
    for value, field in zip(values, column_of("numeric(20,8)", np.array(values)), strict=True):
        assert field is not None
        assert abs(decimal_of(field) - Decimal(value)) <= Decimal("0.5000001e-8")


@given(st.decimals(-999_999, 999_999, places=8))
def test_a_number_that_fits_the_scale_comes_back_as_it_was_written(value: Decimal) -> None:
    (field,) = column_of("numeric(20,8)", np.array([float(value)]))
    assert field is not None
    assert decimal_of(field) == value


@given(st.floats(-999, 999), st.floats(-999, 999))
def test_rounding_keeps_the_order(one: float, other: float) -> None:
    low, high = column_of("numeric(15,8)", np.array(sorted((one, other))))
    assert low is not None
    assert high is not None
    assert decimal_of(low) <= decimal_of(high)


def test_the_decimals_may_carry_over_the_point() -> None:
    fields = column_of("numeric(5,2)", np.array([99.999, 0.996, -0.001]))
    assert [decimal_of(field) for field in fields if field] == [
        Decimal("100.00"),
        Decimal("1.00"),
        Decimal("0.00"),
    ]


@pytest.mark.parametrize("value", [1000.0, 999.996, -1e300, np.inf])
def test_a_number_too_large_for_its_column_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=r"column 'x' \(numeric\(5,2\)\).*digits before the point"):
        column_of("numeric(5,2)", np.array([1.0, value]))


@given(st.lists(st.tuples(*[st.floats(-999, 999) | st.none()] * 3, st.integers(0, 2**40) | st.none())))
def test_columns_of_a_kind_are_written_together_as_they_are_alone(rows: list[tuple[Any, ...]]) -> None:
    kinds = {"a": "numeric(5,2)", "b": "numeric(5,2)", "c": "timestamptz", "d": "timestamptz"}
    columns = {"a": [row[0] for row in rows], "b": [row[1] for row in rows], "c": [row[3] for row in rows]}
    columns["d"] = columns["c"][::-1]
    alone = [column_of(kinds[name], columns[name]) for name in kinds]
    assert fields_of(kinds, columns, len(rows)) == [list(row) for row in zip(*alone, strict=True)]


def test_among_columns_of_a_kind_the_one_at_fault_is_named() -> None:
    with pytest.raises(ValueError, match="column 'b'"):
        fields_of({"a": "numeric(5,2)", "b": "numeric(5,2)"}, {"a": [1.0], "b": [1e9]}, 1)


def test_what_is_missing_is_null() -> None:
    assert column_of("numeric(5,2)", np.array([np.nan])) == [None]
    assert column_of("numeric(5,2)", [None]) == [None]
    assert column_of("double precision", [None, float("nan")]) == [None, None]
    assert column_of("timestamptz", np.array([NULL_MS])) == [None]
    assert column_of("timestamptz", [None]) == [None]
    assert column_of("integer", [None, 3]) == [None, struct.pack(">i", 3)]
    assert column_of("boolean", [None, True]) == [None, b"\x01"]
    assert column_of("varchar(5)", [None, "ab", None]) == [None, b"ab", None]
    assert column_of("text", [None]) == [None]
    assert column_of("jsonb", [None, {"a": float("nan")}]) == [None, b'\x01{"a":null}']
    assert column_of("bytea", [None, b""]) == [None, b""]


def test_times_count_microseconds_since_2000() -> None:
    assert column_of("timestamptz", np.array([946_684_800_001])) == [struct.pack(">q", 1000)]


def test_a_fraction_does_not_slip_into_an_integer_column() -> None:
    with pytest.raises(ValueError, match="fraction"):
        column_of("integer", np.array([1.5]))
    with pytest.raises(ValueError, match="does not fit"):
        column_of("integer", np.array([2**31]))


def test_a_zero_character_is_refused() -> None:
    with pytest.raises(ValueError, match="zero character"):
        column_of("text", ["a\0b"])


def test_a_vector_keeps_its_bits() -> None:
    vector = np.array([[1.5, np.nan, -0.0]], np.float32)
    (field,) = column_of("real[]", vector)
    assert field is not None
    assert struct.unpack_from(">5i", field) == (1, 0, 700, 3, 1)
    assert b"".join(field[24 + 8 * k : 28 + 8 * k] for k in range(3)) == vector.astype(">f4").tobytes()


texts = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.slow
@given(st.lists(st.tuples(texts, texts, st.none() | st.binary(max_size=9), st.integers(-9, 9), texts)))
def test_columns_of_any_width_lie_side_by_side(rows: list[tuple[Any, ...]]) -> None:
    kinds = {"a": "varchar(20)", "b": "text", "c": "bytea", "d": "integer", "e": "varchar(20)"}
    columns = {name: [row[k] for row in rows] for k, name in enumerate(kinds)}
    expected = [
        [
            None
            if v is None
            else struct.pack(">i", v)
            if isinstance(v, int)
            else v
            if isinstance(v, bytes)
            else v.encode()
            for v in row
        ]
        for row in rows
    ]
    assert fields_of(kinds, columns, len(rows)) == expected


def test_many_rows_are_written_in_blocks() -> None:
    numbers = np.arange(20_000)
    assert column_of("bigint", numbers) == [struct.pack(">q", number) for number in numbers]
