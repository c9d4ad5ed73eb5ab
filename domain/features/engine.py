"""The feature engine: candles in, chart indicators and the model's vector out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from domain.features import kernel, snapshot
from domain.features.errors import CandleOrderError, FeatureSettingsError
from domain.features.kernel import Symbols
from domain.features.layout import make_layout
from domain.features.market import NEVER, close_through, make_market
from domain.features.periods import make_periods
from domain.features.schema import FEATURE_COUNT, INDICATOR_COLUMNS, schema_hash
from schemas.frames import MINUTE_MS, NULL_MS, Bool, Float32, Float64, Int32, Int64

# Read-only or unaligned columns, as they come out of a message, would be another type to the compiler and
# make it compile everything again; they are copied instead.
_PLAIN: tuple[Literal["C", "A", "W"], ...] = ("C", "A", "W")
_MISTAKES = {
    kernel.UNKNOWN_SYMBOL: "its symbol is not among the engine's",
    kernel.NO_MINUTE: "its open time is not a whole minute",
    kernel.NOT_A_PRICE: "it needs 0 < low <= open, close <= high and volume >= 0, all finite; the feed "
    "must refuse it",
    kernel.NOT_NEWER: "the symbol already has a candle of that minute or a later one",
    kernel.AFTER_CLOSING: "its symbol is a reference, and other rows were already computed as if that "
    "minute had none; hand out minute t only once minute t-1 of every reference is in or absent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRows:
    """What candles became, in their order.

    Attributes
    ----------
    vector
        Shape (rows, 72), float32, in the order of `schema.NAMES`; NaN where a feature is not warm.
    indicators
        Shape (rows, 7), in the order of `schema.INDICATOR_COLUMNS`; NaN where one is not warm.
    is_complete
        True where all of `indicators` are there.
    """

    vector: Float32
    indicators: Float64
    is_complete: Bool


class FeatureEngine:
    """Moves the state of many symbols candle by candle.

    The values of a row depend on the candles of its symbol and on the references' candles through the minute
    before it, and on nothing else: not on how rows are divided into calls, nor on how symbols interleave.
    A symbol goes on over a gap of up to `max_gap_minutes` missing minutes, its windows counting the candles
    there are; after a longer one it starts warming again.

    Parameters
    ----------
    symbols
        Names that `symbol_index` points into.
    references
        Symbols that make up the market, among `symbols`.
    leader
        The symbol that others are measured against, by default Bitcoin. If it is not among `symbols`, the
        features that need it are NaN.
    max_gap_minutes
        Missing minutes over which a state goes on.

    Raises
    ------
    FeatureSettingsError
        Naming what cannot be.
    """

    def __init__(
        self,
        *,
        symbols: tuple[str, ...],
        references: tuple[str, ...],
        leader: str,
        rsi_period: int = 14,
        macd_fast: int = 12,
        macd_slow: int = 26,
        macd_signal: int = 9,
        bollinger_period: int = 20,
        bollinger_std_dev: float = 2.0,
        stochastic_k: int = 14,
        stochastic_d: int = 3,
        volatility_window: int = 5,
        max_gap_minutes: int = 5,
    ) -> None:
        _check_names(symbols, references, leader)
        if max_gap_minutes < 0:
            raise FeatureSettingsError(f"max_gap_minutes is {max_gap_minutes}, but must be 0 or more")
        self.symbols = symbols
        self.references = references
        self.leader = leader
        self.max_gap_minutes = max_gap_minutes
        self.periods = make_periods(
            rsi_period=rsi_period,
            macd_fast=macd_fast,
            macd_slow=macd_slow,
            macd_signal=macd_signal,
            bollinger_period=bollinger_period,
            bollinger_std_dev=bollinger_std_dev,
            stochastic_k=stochastic_k,
            stochastic_d=stochastic_d,
            volatility_window=volatility_window,
        )
        #: Identifies the vectors of this engine; `schema.SCHEMA_HASH` with the default settings.
        self.schema_hash = schema_hash(self.periods)
        self._layout = make_layout(self.periods)
        self._leader = references.index(leader) if leader in references else -1
        self._symbols = Symbols(
            numbers=np.zeros((len(symbols), self._layout.size)),
            candles=np.zeros(len(symbols), np.int64),
            minute=np.full(len(symbols), NEVER, np.int64),
            close=np.full(len(symbols), np.nan),
            reference=np.array([references.index(s) if s in references else -1 for s in symbols], np.int64),
        )
        self._market = make_market(len(references))

    @property
    def closed_to_ms(self) -> int:
        """Open time of the newest closed minute of the market; `NULL_MS` before the first."""
        minute = int(self._market.closed[0])
        return NULL_MS if minute == NEVER else minute * MINUTE_MS

    def advance(
        self, *, symbol_index: Int32, open_time_ms: Int64, ohlcv: Float64, closed_to_ms: int
    ) -> FeatureRows:
        """Process candles.

        Before a row of minute t, the market's minutes through t-1 are closed with what has come; after the
        rows, those through `closed_to_ms`. A symbol that is not a reference may come later than that, and
        sees the market as it was; `market.MINUTES_KEPT` minutes are kept for it.

        Parameters
        ----------
        symbol_index, open_time_ms, ohlcv
            One entry a row; times rising for each symbol.
        closed_to_ms
            Through this minute every reference is in, or absent for good. `NULL_MS` if none is.

        Raises
        ------
        CandleOrderError
            If a row cannot be processed; then nothing has changed.
        """
        index = np.require(symbol_index, np.int32, _PLAIN)
        times = np.require(open_time_ms, np.int64, _PLAIN)
        candles = np.require(ohlcv, np.float64, _PLAIN)
        self._check(index, times, candles)
        rows = len(index)
        result = FeatureRows(
            vector=np.empty((rows, FEATURE_COUNT), np.float32),
            indicators=np.empty((rows, len(INDICATOR_COLUMNS))),
            is_complete=np.empty(rows, np.bool_),
        )
        kernel.advance_rows(
            self._symbols,
            self._market,
            self._layout,
            self.periods,
            self._leader,
            self.max_gap_minutes,
            index,
            times,
            candles,
            result.vector,
            result.indicators,
            result.is_complete,
        )
        if closed_to_ms != NULL_MS and closed_to_ms > self.closed_to_ms:
            close_through(self._market, closed_to_ms // MINUTE_MS, self._leader)
        return result

    def snapshot(self) -> bytes:
        """Write the whole state; an engine that restores it goes on with the same bits."""
        return snapshot.pack(self._settings(), self._arrays())

    def restore(self, state: bytes) -> None:
        """Take over a snapshot.

        Raises
        ------
        SnapshotMismatchError
            If it is damaged, of another version, or made with other settings; then nothing has changed.
        """
        found = snapshot.unpack(state, self._settings(), self._arrays())
        for name, array in self._arrays().items():
            array[...] = found[name]

    def _check(self, index: Int32, times: Int64, candles: Float64) -> None:
        rows = len(index)
        if times.shape != (rows,) or candles.shape != (rows, 5):
            raise CandleOrderError(
                f"{rows} symbol indices need as many times and candles of 5, not {times.shape} and "
                f"{candles.shape}"
            )
        mistake, row = kernel.find_mistake(self._symbols, self._market, index, times, candles)
        if mistake:
            known = 0 <= index[row] < len(self.symbols)
            name = self.symbols[index[row]] if known else f"number {index[row]}"
            moment = np.datetime64(int(times[row]), "ms")
            raise CandleOrderError(
                f"candle of {name} at {moment}Z (row {row}: {candles[row].tolist()}): {_MISTAKES[mistake]}"
            )

    def _settings(self) -> dict[str, object]:
        return {
            "symbols": list(self.symbols),
            "references": list(self.references),
            "leader": self.leader,
            "max_gap_minutes": self.max_gap_minutes,
            "periods": list(self.periods),
            "schema_hash": self.schema_hash,
        }

    def _arrays(self) -> dict[str, Float64 | Int64]:
        symbols, market = self._symbols, self._market
        return {
            "numbers": symbols.numbers,
            "candles": symbols.candles,
            "minute": symbols.minute,
            "close": symbols.close,
            "logs": market.logs,
            "minutes": market.minutes,
            "stamps": market.stamps,
            "closed": market.closed,
        }


def _check_names(symbols: tuple[str, ...], references: tuple[str, ...], leader: str) -> None:
    if not symbols or len(set(symbols)) != len(symbols):
        raise FeatureSettingsError(
            f"symbols must be given, each once, but are {', '.join(symbols) or 'none'}"
        )
    strangers = [name for name in references if name not in symbols]
    if strangers or len(set(references)) != len(references):
        raise FeatureSettingsError(
            "references must be among the symbols, each once; not so: "
            f"{', '.join(strangers) or 'one is there twice'}"
        )
    if leader in symbols and leader not in references:
        raise FeatureSettingsError(
            f"the leader {leader} is among the symbols but not among the references, so nobody would wait "
            "for its candles; add it to the references"
        )
