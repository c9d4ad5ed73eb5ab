"""Recorded candles, exactly as they were recorded.

A folder holds one file per symbol, `SYMBOL-1m.parquet` or `SYMBOL-1m.csv`, with the columns timestamp (candle
open time), open, high, low, close and volume. A minute that is missing in the file does not exist in the
market; a symbol exists from its first to its last minute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from exchanges.simulation.market import no_candles
from schemas.frames import MINUTE_MS, Bool, Float64, Int64

VALUE_COLUMNS = ("open", "high", "low", "close", "volume")
COLUMNS = ("timestamp", *VALUE_COLUMNS)
SUFFIXES = (".parquet", ".csv")
#: What to do about a bad row.
_LEAVE_OUT = "leave the row out: a minute that is not there is known to be missing"
_WHOLE_MINUTES = "write the time at which the candle's minute begins"
_HIGH_AND_LOW = "see whether the two columns are swapped, or leave the row out"
_COVERED = "correct it, so that low and high enclose both, or leave the row out"


class BadRecordingError(ValueError):
    """A recorded file cannot be played; the message names file, column, row and what to do."""


class RecordedMarket:
    """Plays the candles of a folder.

    Parameters
    ----------
    path
        Folder of `SYMBOL-1m.parquet` and `SYMBOL-1m.csv` files.
    symbols
        Only these, in this order; all that are there by default.
    from_ms, to_ms
        Only candles with `from_ms <= open time < to_ms`.

    Raises
    ------
    BadRecordingError
        Where a file is missing, unreadable, or holds something that cannot be a candle.
    """

    def __init__(
        self,
        path: Path,
        *,
        symbols: Sequence[str] | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> None:
        files = recorded_files(path)
        wanted = tuple(symbols) if symbols else tuple(files)
        missing = [symbol for symbol in wanted if symbol not in files]
        if missing:
            raise BadRecordingError(
                f"{path}: no recording of {', '.join(missing)}; recorded are {', '.join(files)}"
            )
        self._path = path
        self._range = (from_ms, to_ms)
        self._candles = {}
        for symbol in wanted:
            recorded = read_candles(files[symbol])
            rows = _cut(recorded, from_ms, to_ms)
            if not len(rows):
                raise BadRecordingError(
                    f"{files[symbol]}: no candle between the chosen times; it has {_times(recorded)}"
                )
            self._candles[symbol] = rows

    @property
    def symbols(self) -> tuple[str, ...]:
        """The recorded symbols."""
        return tuple(self._candles)

    @property
    def description(self) -> str:
        """Say which recording this is."""
        return f"recorded {self._path.resolve()} {','.join(self.symbols)} {self._range[0]}..{self._range[1]}"

    def span(self, symbol: str) -> tuple[int, int | None]:
        """Give the first and the last recorded minute."""
        rows = self._candles[symbol]
        return int(rows[0, 0]), int(rows[-1, 0])

    def candles(self, symbol: str, from_ms: int, to_ms: int) -> Float64:
        """Give the recorded candles with `from_ms <= open time < to_ms`."""
        return _cut(self._candles[symbol], from_ms, to_ms)


def _times(rows: Float64) -> str:
    if not len(rows):
        return "none at all"
    first, last = (datetime.fromtimestamp(rows[place, 0] / 1000, UTC) for place in (0, -1))
    return f"those from {first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}"


def recorded_files(path: Path) -> dict[str, Path]:
    """Find the recordings of a folder by symbol, in alphabetical order."""
    if not path.is_dir():
        raise BadRecordingError(f"{path} is not a folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        symbol, mark, suffix = file.name.rpartition("-1m")
        if mark and suffix in SUFFIXES:
            if symbol in found:
                raise BadRecordingError(f"{file}: {symbol} is recorded twice, also in {found[symbol].name}")
            found[symbol] = file
    if not found:
        raise BadRecordingError(f"{path} holds no SYMBOL-1m.parquet or SYMBOL-1m.csv file")
    return found


def read_candles(file: Path) -> Float64:
    """Read one file into an array of shape (rows, 6), checked."""
    table = _read_table(file)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise BadRecordingError(
            f"{file}: column {', '.join(missing)} is missing; there are {', '.join(table.column_names)};"
            f" rename or add columns, so that there are {', '.join(COLUMNS)}"
        )
    if table.num_rows == 0:
        return no_candles()
    times = _timestamps(file, table.column("timestamp"))
    values = np.column_stack([_floats(file, table.column(name), name) for name in VALUE_COLUMNS])
    _check(file, times, values)
    return np.column_stack([times.astype(np.float64), values])


def _read_table(file: Path) -> pa.Table:
    try:
        if file.suffix == ".parquet":
            return pa_parquet.read_table(file)
        return pa_csv.read_csv(file)
    except (OSError, pa.ArrowException) as error:
        raise BadRecordingError(f"{file}: cannot be read ({error})") from error


# Times come as timestamps of any unit, as whole milliseconds since 1970, or as ISO text (UTC without a zone).
def _timestamps(file: Path, column: pa.ChunkedArray[Any]) -> Int64:
    _refuse_nulls(file, column, "timestamp")
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return np.array([_iso_ms(file, row, text.as_py()) for row, text in enumerate(column)], np.int64)
        if pa.types.is_timestamp(column.type):
            return _int64(column.cast(pa.timestamp("ms", tz=column.type.tz)).cast(pa.int64()))
        if pa.types.is_integer(column.type):
            return _int64(column.cast(pa.int64()))
    except pa.ArrowException as error:
        raise BadRecordingError(
            f"{file}: column timestamp is not in whole milliseconds ({error}); cut it to minutes"
        ) from error
    raise BadRecordingError(
        f"{file}: column timestamp is {column.type}; wanted are timestamps, ISO text or epoch milliseconds"
    )


def _iso_ms(file: Path, row: int, text: str) -> int:
    try:
        moment = np.datetime64(text.replace("Z", "").removesuffix("+00:00"), "ms")
    except ValueError as error:
        raise BadRecordingError(
            f"{file}: column timestamp, row {row + 1}: {text!r} is no ISO time in UTC; write it like"
            " 2021-04-01T00:00Z"
        ) from error
    return int(moment.astype(np.int64))


def _int64(column: pa.ChunkedArray[Any]) -> Int64:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _floats(file: Path, column: pa.ChunkedArray[Any], name: str) -> Float64:
    _refuse_nulls(file, column, name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        for row, value in enumerate(column):
            try:
                float(value.as_py())
            except (TypeError, ValueError) as error:
                raise BadRecordingError(
                    f"{file}: column {name}, row {row + 1}: {value.as_py()!r} is no number; {_LEAVE_OUT}"
                ) from error
        raise BadRecordingError(f"{file}: column {name} is {column.type}; write it as numbers")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _refuse_nulls(file: Path, column: pa.ChunkedArray[Any], name: str) -> None:
    if column.null_count:
        row = next(row for row, value in enumerate(column) if not value.is_valid)
        raise BadRecordingError(f"{file}: column {name}, row {row + 1}: the value is missing; {_LEAVE_OUT}")


def _check(file: Path, times: Int64, values: Float64) -> None:
    opened, high, low, close, volume = values.T

    def refuse(bad: Bool, column: str, what: Callable[[int], str]) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise BadRecordingError(f"{file}: column {column}, row {row + 1}: {what(row)}")

    refuse(
        times % MINUTE_MS != 0, "timestamp", lambda r: f"{times[r]} ms is no whole minute; {_WHOLE_MINUTES}"
    )
    steps = np.diff(times, prepend=times[:1] - MINUTE_MS)
    refuse(steps <= 0, "timestamp", lambda r: _late(times, r))
    for name, column in zip(VALUE_COLUMNS, values.T, strict=True):
        refuse(~np.isfinite(column), name, lambda r, c=column: f"{c[r]} is no number; {_LEAVE_OUT}")  # type: ignore[misc]
    for name, column in zip(VALUE_COLUMNS[:4], values.T[:4], strict=True):
        refuse(column <= 0, name, lambda r, c=column: f"price {c[r]} is not above 0; {_LEAVE_OUT}")  # type: ignore[misc]
    refuse(
        volume < 0,
        "volume",
        lambda r: f"{volume[r]} is below 0; write 0 where nothing was traded, or {_LEAVE_OUT}",
    )
    refuse(high < low, "high", lambda r: f"{high[r]} is below the low {low[r]}; {_HIGH_AND_LOW}")
    refuse(
        high < np.maximum(opened, close), "high", lambda r: f"{high[r]} is below open or close; {_COVERED}"
    )
    refuse(low > np.minimum(opened, close), "low", lambda r: f"{low[r]} is above open or close; {_COVERED}")


def _late(times: Int64, row: int) -> str:
    if times[row] == times[row - 1]:
        return f"{times[row]} ms does not come after the row before, but is the same; keep one row a minute"
    return f"{times[row]} ms does not come after the row before; sort the rows by timestamp"


def _cut(rows: Float64, from_ms: int | None, to_ms: int | None) -> Float64:
    times = rows[:, 0]
    first = 0 if from_ms is None else int(np.searchsorted(times, from_ms))
    last = len(rows) if to_ms is None else int(np.searchsorted(times, to_ms))
    return rows[first:last]
