"""The features that a user adds, as the causality gate wants them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from domain.features.causality import Columns, Compute, Subject
from domain.features.cuts import History, Market
from domain.features.fresh_copy import fresh_copy
from domain.features.user_indicators import whole_history_of

if TYPE_CHECKING:
    import pandas as pd

#: What a user's function is given; see `own_function`.
Takes = Literal["frame", "arrays", "market"]

#: Candles that an indicator added by name is computed from at most.
_WINDOW = 200


def user_indicator(text: str) -> Subject:
    """Make a subject of an indicator that a user adds by name, over the whole history at once.

    Over a history the library may give a candle another value than over the window that ends with it. The
    former is what charts and backtests elsewhere show, so it is that which must not change.

    Raises
    ------
    UnknownIndicatorError
        If the library does not have it.
    """
    of_one = whole_history_of(text)

    def compute(market: Market) -> dict[str, Columns]:
        return {name: of_one(history.open_time_ms, history.ohlcv) for name, history in market.items()}

    return Subject(name=text, fresh=lambda: compute, least=_WINDOW)


def own_function(function: Callable[..., Any], *, name: str | None = None, takes: Takes = "frame") -> Subject:
    """Make a subject of a user's own function.

    Parameters
    ----------
    function
        Gives one number per candle: a Series, an array, or a DataFrame of several columns. A Series with
        other labels than the candles' is aligned to them, as pandas does in an assignment; it may
        leave out a warm-up, and after that less than half of the candles.
    name
        What to call it; by default, its own name.
    takes
        `frame`: a DataFrame with open, high, low, close, volume and the minutes (UTC) as index. `arrays`: the
        open times in ms and an array of shape (candles, 5). `market`: a dictionary of such DataFrames by
        symbol, answered with one column for each symbol.
    """
    called = name or str(getattr(function, "__name__", type(function).__name__))
    return Subject(
        name=called,
        fresh=partial(_fresh, function, called, takes),
        sees_others=takes == "market",
    )


def _fresh(function: Callable[..., Any], name: str, takes: Takes) -> Compute:
    """Make a computation with a copy of the function that was never called."""
    own = fresh_copy(function)

    def compute(market: Market) -> dict[str, Columns]:
        if takes == "market":
            frames = {symbol: _frame(history) for symbol, history in market.items()}
            result = own({symbol: frame.copy() for symbol, frame in frames.items()})
            return {symbol: _columns(result[symbol], frame, name) for symbol, frame in frames.items()}
        return {symbol: _of_one(own, history, name, takes) for symbol, history in market.items()}

    return compute


def _of_one(function: Callable[..., Any], history: History, name: str, takes: Takes) -> Columns:
    frame = _frame(history)
    if takes == "arrays":
        return _columns(function(history.open_time_ms, history.ohlcv), frame, name)
    return _columns(function(frame.copy()), frame, name)


def _frame(history: History) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        history.ohlcv.copy(),
        columns=["open", "high", "low", "close", "volume"],
        index=pd.DatetimeIndex(history.open_time_ms.astype("datetime64[ms]"), name="open_time"),
    )


def _columns(result: object, frame: pd.DataFrame, name: str) -> Columns:
    import pandas as pd

    if isinstance(result, pd.Series):
        return {name: _aligned(result, frame, name).to_numpy(np.float64)}
    if isinstance(result, pd.DataFrame):
        table = _aligned(result, frame, name)
        return {str(column): table[column].to_numpy(np.float64) for column in table.columns}
    values = np.asarray(result, np.float64)
    if values.ndim == 2:
        return {str(number): column for number, column in enumerate(values.T)}
    return {name: values}


def _aligned(result: Any, frame: pd.DataFrame, name: str) -> Any:
    """Bring a result to the candles' labels; a warm-up and single candles may be left out, and become NaN."""
    import pandas as pd

    if isinstance(result.index, pd.RangeIndex) or result.index.equals(frame.index):
        return result
    there = frame.index.isin(result.index)
    if len(there) and there[int(np.argmax(there)) :].mean() < 0.5:
        raise ValueError(
            f"{name} gives {len(result)} values for {len(frame)} candles, and none for "
            f"{int((~there).sum())} of them"
        )
    return result.reindex(frame.index)
