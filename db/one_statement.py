"""A small batch in one statement: a live minute costs one round trip, not one for every table.

All of it is written or nothing. Rows travel as one array a column and come apart on the server; every table
is one part of a WITH. Numbers are rounded to their column's scale by the same code as in bulk writing, and
travel as whole numbers of its last decimal: a table holds the same, whichever way its rows were written.
"""

# ruff: noqa: S608 - the names in these statements come from `db.tables`, the literals from numbers

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import asyncpg
import numpy as np
import orjson

from db.binary import decimals
from db.copy import Rows, check, listed, on_day, update_of, upsert_of
from db.tables import DAY_MS, TABLES, Table, partition_name
from schemas.frames import NULL_MS

#: Above this COPY costs less than lists of Python objects.
MOST_ROWS = 400
_WIDEST = 2**63 // 10

#: Every plan of a stage's statements is the same lookup by key, whatever the numbers: plan once, and leave
#: out what the planner likes better where a day has no statistics yet.
SESSION = """
    SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET enable_bitmapscan = off; SET enable_seqscan = off; SET enable_material = off
"""


class UnfitError(ValueError):
    """These rows cannot go through one statement; write them in bulk."""


class GuardError(RuntimeError):
    """The part that had to find its row did not; nothing was written."""


class OneStatement:
    """Collects parts, and runs them all or none."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._arguments: list[Any] = []
        self._guard: str | None = None

    def value(self, value: Any) -> str:
        """Take an argument; returns its place."""
        self._arguments.append(value)
        return f"${len(self._arguments)}"

    def add(self, part: str) -> None:
        """Take an INSERT, UPDATE or DELETE; no part sees what another one writes."""
        self._parts.append(part)

    def guard(self, part: str) -> None:
        """Take the part that must return exactly one row; otherwise nothing is written at all."""
        self._guard = part

    async def run(self, connection: asyncpg.Connection) -> None:
        """Run it, in a transaction of its own unless the caller has one.

        Raises
        ------
        GuardError
            If the guard returned no row.
        """
        assert self._guard is not None
        parts = [*self._parts, self._guard]
        named = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(parts))
        try:
            # One divided by no row is an error, and an error undoes the other parts.
            await connection.fetchval(
                f"WITH {named} SELECT 1 / count(*) FROM part{len(parts) - 1}", *self._arguments
            )
        except asyncpg.DivisionByZeroError as error:
            raise GuardError("the row that guards this statement is not as it was") from error


def statement_of(batches: Sequence[Rows], known_days: Mapping[str, Collection[int]]) -> OneStatement:
    """Begin a statement that writes these rows.

    Parameters
    ----------
    known_days
        By table, the days whose partitions are there.

    Raises
    ------
    UnfitError
        If they are too many, too wide, meet each other, or update a day that may be gone.
    ValueError
        If a column is unknown or a value does not fit.
    """
    if sum(len(next(iter(rows.columns.values()), ())) for rows in batches) > MOST_ROWS:
        raise UnfitError("too many rows")
    statement = OneStatement()
    for number, rows in enumerate(batches):
        table = TABLES[rows.table]
        if not check(table, rows):
            continue
        if rows.op not in ("insert", "upsert", "update"):
            raise ValueError(f"{rows.op!r} is no way to write rows: use insert, upsert or update")
        if any(_may_meet(table, rows, other) for other in batches[:number]):
            raise UnfitError("rows that this batch writes twice")
        _add(statement, table, rows, known_days.get(rows.table, ()))
    return statement


def _may_meet(table: Table, rows: Rows, other: Rows) -> bool:
    """Tell whether two parts may touch the same row; parts run at once and do not see each other."""
    if rows.table != other.table:
        return False
    if table.day is None or {rows.op, other.op} != {"insert", "update"}:
        return True
    new, old = (rows, other) if rows.op == "insert" else (other, rows)
    new_times, old_times = np.asarray(new.columns[table.day]), np.asarray(old.columns[table.day])
    return bool(len(new_times) and len(old_times) and new_times.min() <= old_times.max())


def _add(statement: OneStatement, table: Table, rows: Rows, known_days: Collection[int]) -> None:
    source = _source(statement, table, rows)
    if rows.op == "insert":
        statement.add(f'INSERT INTO "{table.name}" ({listed(rows.columns)}) {source}')
    elif rows.op == "upsert":
        statement.add(upsert_of(table, rows.columns, source))
    else:
        for part in _updates(table, rows, f"({source})", known_days):
            statement.add(part)


def _updates(table: Table, rows: Rows, source: str, known_days: Collection[int]) -> list[str]:
    """Write one UPDATE for each day."""
    if table.day is None:
        return [update_of(table.name, table, rows.columns, source)]
    parts = []
    for day in np.unique(np.asarray(rows.columns[table.day]) // DAY_MS).tolist():
        partition = partition_name(table.name, day)
        if day not in known_days:
            raise UnfitError(f"{partition} may be gone")
        parts.append(f"{update_of(partition, table, rows.columns, source)} AND {on_day(table, day)}")
    return parts


def _source(statement: OneStatement, table: Table, rows: Rows) -> str:
    """Write the SELECT that takes the rows out of the arrays."""
    arrays, places, columns = [], [], []
    ready = _columns(table, rows)
    for number, name in enumerate(rows.columns):
        kind, array, expression = ready[name]
        if kind.endswith("[]") and isinstance(array, tuple):
            # An array for each row: all of them lie in one, and each row takes its piece.
            flat, width = array
            place = f"{statement.value(flat)}::{kind}"
            columns.append(f'({place})[(row - 1) * {width} + 1 : row * {width}] AS "{name}"')
            continue
        arrays.append(f"{statement.value(array)}::{kind}[]")
        places.append(f"v{number}")
        columns.append(f'{expression.format(f"v{number}")} AS "{name}"')
    return (
        f"SELECT {', '.join(columns)} FROM unnest({', '.join(arrays)}) "
        f"WITH ORDINALITY AS given({', '.join(places)}, row)"
    )


def _columns(table: Table, rows: Rows) -> dict[str, _Column]:
    """Make the arrays; numeric columns of a kind in one go, as each call costs more than its work."""
    ready: dict[str, _Column] = {}
    for kind in {table.columns[name] for name in rows.columns}:
        names = [name for name in rows.columns if table.columns[name] == kind]
        try:
            if kind.startswith("numeric") and len(names) > 1:
                joint = np.concatenate([np.asarray(rows.columns[name], np.float64) for name in names])
                sent, units, expression = _column(kind, joint)
                each = len(units) // len(names)
                for number, name in enumerate(names):
                    ready[name] = sent, units[number * each : (number + 1) * each], expression
                continue
        except (UnfitError, ValueError, TypeError, OverflowError):
            pass  # alone, the column at fault is found and named
        for name in names:
            try:
                ready[name] = _column(kind, rows.columns[name])
            except UnfitError:
                raise
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"column {name!r} ({kind}): {error}") from error
    return ready


#: Type of the array's elements (or the array's own), the array, and the column's value made of an element.
_Column = tuple[str, Any, str]


def _integers(values: Any) -> list[int | None]:
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        whole: list[int | None] = array.tolist()
        return whole
    floats = np.asarray(values, np.float64)
    nulls = np.isnan(floats)
    if (floats[~nulls] != np.rint(floats[~nulls])).any():
        raise ValueError("a fraction in a column of integers")
    return [None if null else int(value) for value, null in zip(floats.tolist(), nulls, strict=True)]


def _floats(values: Any) -> list[float | None]:
    array = np.asarray(values, np.float64)
    return _without(array.tolist(), np.isnan(array))


def _without(values: list[Any], nulls: np.ndarray[Any, np.dtype[np.bool_]]) -> list[Any]:
    if nulls.any():
        for number in np.flatnonzero(nulls).tolist():
            values[number] = None
    return values


def _times(values: Any) -> _Column:
    array = np.asarray(values)
    if array.dtype.kind != "i":
        array = np.array([NULL_MS if value is None else int(value) for value in values], np.int64)
    return "float8", _without((array / 1000.0).tolist(), array == NULL_MS), "to_timestamp({})"


def _numeric(values: Any, precision: int, scale: int) -> _Column:
    rounded = decimals(values, precision, scale)
    one = 10**scale
    if len(rounded.whole) and int(rounded.whole.max()) >= _WIDEST // one:
        raise UnfitError("a number with too many digits")
    units = rounded.whole * one + rounded.fraction
    units[rounded.negative] *= -1
    smallest = f"{1 / one:.{scale}f}" if scale else "1"
    return "int8", _without(units.tolist(), rounded.nulls), f"({{}} * numeric '{smallest}')"


def _plain(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _json(values: Any) -> _Column:
    texts = [None if value is None else _json_text(value) for value in values]
    return "text", texts, "{}::jsonb"


def _json_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _vectors(values: Any) -> _Column:
    matrix = np.asarray(values, np.float32)
    if matrix.ndim != 2:
        raise ValueError(f"shape {matrix.shape}: a column of arrays takes a matrix, one line a row")
    return "real[]", (matrix.ravel().tolist(), matrix.shape[1]), ""


_KINDS: dict[str, Callable[[Any], _Column]] = {
    "smallint": lambda values: ("int2", _integers(values), "{}"),
    "integer": lambda values: ("int4", _integers(values), "{}"),
    "bigint": lambda values: ("int8", _integers(values), "{}"),
    "real": lambda values: ("float4", _floats(values), "{}"),
    "double precision": lambda values: ("float8", _floats(values), "{}"),
    "boolean": lambda values: ("bool", _plain(values), "{}"),
    "timestamptz": _times,
    "text": lambda values: ("text", _plain(values), "{}"),
    "bytea": lambda values: ("bytea", _plain(values), "{}"),
    "jsonb": _json,
    "real[]": _vectors,
}


def _column(kind: str, values: Any) -> _Column:
    if kind in _KINDS:
        return _KINDS[kind](values)
    if match := re.fullmatch(r"numeric\((\d+),(\d+)\)", kind):
        return _numeric(values, int(match[1]), int(match[2]))
    if kind.startswith("varchar("):
        return "text", _plain(values), "{}"
    raise UnfitError(f"no way to send a column of {kind}")
