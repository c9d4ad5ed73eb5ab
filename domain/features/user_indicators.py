"""Indicators that a user adds by name from pandas-ta-classic, over a fixed window at every candle.

They stand beside the vector, not in it: a slow library outside the promise of latency. The window makes live
and history equal, and nothing after a candle can reach it. pandas is imported only where one is asked for.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from domain.features import snapshot
from domain.features.errors import CandleOrderError, FeatureSettingsError, UnknownIndicatorError
from schemas.frames import MINUTE_MS, NULL_MS, Float64, Int32, Int64

if TYPE_CHECKING:
    import pandas as pd

_INPUTS = {"open": 0, "open_": 0, "high": 1, "low": 2, "close": 3, "volume": 4}
_NOON_MS = 1_600_000_020_000 // MINUTE_MS * MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    text: str  # as the user wrote it
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    arguments: dict[str, Any]


class UserIndicators:
    """Computes the indicators that a user asked for.

    Parameters
    ----------
    names
        For example `supertrend`, or with arguments `ema(length=50)`.
    symbols
        Names that `symbol_index` points into.
    window
        Candles that each value is computed from; NaN until there are as many.
    max_gap_minutes
        Missing minutes over which a window goes on; after more it fills anew.

    Attributes
    ----------
    columns
        Names of the values, as pandas-ta gives them.
    failures
        For each indicator, how often it raised on a window; its values are NaN there.

    Raises
    ------
    UnknownIndicatorError
        If a name is unknown (naming the nearest ones) or does not run on such a window.
    """

    def __init__(
        self, names: Sequence[str], *, symbols: tuple[str, ...], window: int = 200, max_gap_minutes: int = 5
    ) -> None:
        if window < 2:
            raise FeatureSettingsError(f"window is {window}, but must be 2 or more")
        self._names = tuple(names)
        self._symbols = symbols
        self._window = window
        self._max_gap_minutes = max_gap_minutes
        self._asked = [_find(name) for name in self._names]
        self._columns_of = [_try_out(asked, window) for asked in self._asked]
        self.columns: tuple[str, ...] = tuple(column for part in self._columns_of for column in part)
        twice = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if twice:
            raise UnknownIndicatorError(f"two of the indicators give the same columns: {', '.join(twice)}")
        self.failures: dict[str, int] = dict.fromkeys(self._names, 0)
        self._candles = np.zeros((len(symbols), window, 5))
        self._times = np.full((len(symbols), window), NULL_MS, np.int64)
        self._seen = np.zeros(len(symbols), np.int64)

    def advance(self, *, symbol_index: Int32, open_time_ms: Int64, ohlcv: Float64) -> Float64:
        """Process candles in their order; a row of `columns` for each.

        Raises
        ------
        CandleOrderError
            If a candle is not newer than the one before it.
        """
        result = np.full((len(symbol_index), len(self.columns)), np.nan)
        for row, (symbol, time_ms) in enumerate(
            zip(symbol_index.tolist(), open_time_ms.tolist(), strict=True)
        ):
            self._take_in(symbol, time_ms, ohlcv[row])
            if self._seen[symbol] >= self._window:
                result[row] = self._compute(symbol)
        return result

    def snapshot(self) -> bytes:
        """Write the whole state."""
        return snapshot.pack(self._settings(), self._arrays())

    def restore(self, state: bytes) -> None:
        """Take over a snapshot.

        Raises
        ------
        SnapshotMismatchError
            If it is damaged, of another version, or made with other settings.
        """
        found = snapshot.unpack(state, self._settings(), self._arrays())
        for name, array in self._arrays().items():
            array[...] = found[name]

    def _take_in(self, symbol: int, time_ms: int, candle: Float64) -> None:
        before = int(self._times[symbol, -1])
        if time_ms <= before:
            raise CandleOrderError(
                f"candle of {self._symbols[symbol]} at {np.datetime64(time_ms, 'ms')}Z comes after one of "
                f"{np.datetime64(before, 'ms')}Z; hand candles out in the order of time"
            )
        if before != NULL_MS and (time_ms - before) // MINUTE_MS - 1 > self._max_gap_minutes:
            self._seen[symbol] = 0
        self._candles[symbol, :-1] = self._candles[symbol, 1:]
        self._candles[symbol, -1] = candle
        self._times[symbol, :-1] = self._times[symbol, 1:]
        self._times[symbol, -1] = time_ms
        self._seen[symbol] += 1

    def _compute(self, symbol: int) -> Float64:
        inputs = _series(self._candles[symbol], self._times[symbol])
        values: list[Float64] = []
        for asked, columns in zip(self._asked, self._columns_of, strict=True):
            try:
                values.append(_last_row(_call(asked, inputs), columns))
            except Exception:  # noqa: BLE001 - somebody else's code on any market: counted, and the value is missing
                self.failures[asked.text] += 1
                values.append(np.full(len(columns), np.nan))
        return np.concatenate(values)

    def _settings(self) -> dict[str, object]:
        return {
            "names": list(self._names),
            "symbols": list(self._symbols),
            "max_gap_minutes": self._max_gap_minutes,
        }

    def _arrays(self) -> dict[str, Float64 | Int64]:
        return {"candles": self._candles, "times": self._times, "seen": self._seen}


def known_names() -> tuple[str, ...]:
    """Name every indicator of pandas-ta-classic that needs nothing but candles."""
    import pandas_ta_classic as library

    names = {name for group in library.Category.values() for name in group}
    return tuple(sorted(name for name in names if _inputs_of(getattr(library, name, None))))


def validate_names(names: Sequence[str], *, window: int = 200) -> None:
    """Check that every indicator exists and runs.

    Raises
    ------
    UnknownIndicatorError
        Naming the first that does not, and the nearest names.
    """
    for name in names:
        _try_out(_find(name), window)


def whole_history_of(name: str) -> Callable[[Int64, Float64], dict[str, Float64]]:
    """Prepare an indicator for whole histories at once, as the library alone computes it.

    Parameters
    ----------
    name
        For example `supertrend`, or with arguments `ema(length=50)`.

    Returns
    -------
    A function of open times and candles, shapes (candles,) and (candles, 5), that gives its columns.

    Raises
    ------
    UnknownIndicatorError
        If the name is unknown or not understood.
    """
    asked = _find(name)

    def compute(open_time_ms: Int64, ohlcv: Float64) -> dict[str, Float64]:
        result = _call(asked, _series(ohlcv, open_time_ms))
        values = {str(column): result[column].to_numpy(np.float64) for column in result.columns}
        return {column: np.where(np.isfinite(part), part, np.nan) for column, part in values.items()}

    return compute


def _inputs_of(function: Callable[..., Any] | None) -> tuple[str, ...]:
    # Names of the candle columns it takes; nothing if it needs something else.
    if function is None:
        return ()
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if not set(needed) <= _INPUTS.keys():
        return ()
    return tuple(p.name for p in parameters if p.name in _INPUTS)


def _find(text: str) -> _Asked:
    import pandas_ta_classic as library

    name, arguments = _parse(text)
    names = known_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see the list of pandas-ta-classic"
        raise UnknownIndicatorError(
            f"no indicator {name!r} that needs only candles in pandas-ta-classic; {hint}"
        )
    function = getattr(library, name)
    known = inspect.signature(function).parameters
    # The library's own arithmetic, whether or not TA-Lib happens to be installed.
    own = {"talib": False} if "talib" in known else {}
    return _Asked(text=text, function=function, inputs=_inputs_of(function), arguments=own | arguments)


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    # `name` or `name(argument=literal, ...)`; nothing is evaluated.
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            return node.func.id, {
                keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg
            }
    except (SyntaxError, ValueError):
        pass
    raise UnknownIndicatorError(f"{text!r} is not understood; write a name, or for example ema(length=50)")


def _series(candles: Float64, times: Int64) -> dict[str, pd.Series[float]]:
    import pandas as pd

    index = pd.DatetimeIndex(times.astype("datetime64[ms]"))
    return {
        name: pd.Series(candles[:, column].copy(), index=index, name=name) for name, column in _INPUTS.items()
    }


def _call(asked: _Asked, inputs: dict[str, pd.Series[float]]) -> pd.DataFrame:
    import pandas as pd

    result = asked.function(**{name: inputs[name] for name in asked.inputs}, **asked.arguments)
    if isinstance(result, tuple):
        result = result[0]
    if isinstance(result, pd.Series):
        result = result.to_frame()
    if not isinstance(result, pd.DataFrame) or len(result) != len(inputs["close"]):
        raise ValueError("it does not give one row per candle")
    return result


def _last_row(result: pd.DataFrame, columns: Sequence[str]) -> Float64:
    newest = result.iloc[-1]
    values = np.array([float(newest[column]) if column in result.columns else math.nan for column in columns])
    return np.where(np.isfinite(values), values, np.nan)


def _try_out(asked: _Asked, window: int) -> tuple[str, ...]:
    # Tells the columns, from a made-up market.
    steps = np.arange(window)
    close = 100.0 + np.sin(steps * 0.7) + 0.3 * np.sin(steps * 2.9) + 0.01 * steps
    first = np.roll(close, 1)
    first[0] = 100.0
    candles = np.column_stack(
        [
            first,
            np.maximum(first, close) + 0.1,
            np.minimum(first, close) - 0.1,
            close,
            10.0 + 5.0 * np.cos(steps * 1.3),
        ]
    )
    try:
        result = _call(asked, _series(candles, _NOON_MS + MINUTE_MS * steps.astype(np.int64)))
        columns = tuple(str(column) for column in result.columns)
        _last_row(result, columns)
    except Exception as error:
        raise UnknownIndicatorError(
            f"{asked.text!r} does not run on a window of {window} candles: {error}; check its arguments"
        ) from error
    return columns
