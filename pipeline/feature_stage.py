"""From closed candles to chart rows and feature vectors.

A minute of any symbol is processed once the minute before it is in, or absent for good, for every reference
symbol: features look at other symbols only through their previous minute, so nobody waits for the slowest and
the result does not depend on the order in which candles arrive.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from domain.features.engine import FeatureEngine, FeatureRows
from domain.features.errors import SnapshotMismatchError
from domain.features.schema import INDICATOR_COLUMNS
from pipeline.stage import LogEntry, Rows, StateVersionError, StepResult
from schemas.frames import (
    MINUTE_MS,
    NULL_MS,
    Bool,
    CandleFrame,
    FeatureFrame,
    FeedBatch,
    Float64,
    Int32,
    Int64,
    Origin,
)

ORIGIN_TEXT = np.array([origin.name.lower() for origin in Origin], object)


class ExtraIndicators(Protocol):
    """Indicators that a user has added, computed candle by candle."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values."""
        ...

    @property
    def failures(self) -> Mapping[str, int]:
        """How often each indicator raised."""
        ...

    def advance(self, *, symbol_index: Int32, open_time_ms: Int64, ohlcv: Float64) -> Float64:
        """Process candles; a row of `columns` for each, NaN where there is no value."""
        ...

    def snapshot(self) -> bytes:
        """Write the whole state."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over a snapshot."""
        ...


class FeatureStage:
    """Computes indicators and vectors for the symbols of one partition.

    Parameters
    ----------
    symbols
        Every symbol whose candles come in: the partition's own and the reference symbols.
    owned
        The symbols of this partition: only they make rows and events.
    references
        The symbols that features of other symbols look at.
    engine
        A fresh engine over `symbols`.
    user_indicators
        Computes what a user has added, over `symbols`; None where nothing is added.
    """

    name = "feature"
    version = 1

    def __init__(
        self,
        *,
        symbols: tuple[str, ...],
        owned: Sequence[str],
        references: Sequence[str],
        engine: FeatureEngine,
        user_indicators: ExtraIndicators | None = None,
    ) -> None:
        self._symbols = symbols
        self._owned = np.array([symbol in set(owned) for symbol in symbols])
        self._references = np.array([symbol in set(references) for symbol in symbols])
        self._engine = engine
        self._extra = user_indicators
        self._known_to = np.full(len(symbols), NULL_MS, np.int64)
        self._waiting = CandleFrame.empty(symbols)
        self._settings = hashlib.sha256(
            repr((symbols, sorted(owned), sorted(references), engine.schema_hash)).encode()
        ).hexdigest()

    def step(self, batch: FeedBatch) -> StepResult:
        """Process the candles whose turn has come; the others wait inside."""
        complete_before = self._complete_to()
        self._known_to = np.maximum(self._known_to, batch.known_to_ms)
        waiting = CandleFrame.concat([self._waiting, batch.candles]) if len(batch.candles) else self._waiting
        closed_to = int(self._known_to[self._references].min())
        ready = waiting.open_time_ms <= closed_to + MINUTE_MS if closed_to != NULL_MS else _none(waiting)
        self._waiting = waiting.rows(~ready)
        candles = _in_order(waiting.rows(ready))
        computed = self._engine.advance(
            symbol_index=candles.symbol_index,
            open_time_ms=candles.open_time_ms,
            ohlcv=candles.ohlcv,
            closed_to_ms=closed_to,
        )
        complete_to = self._complete_to()
        mine = self._owned[candles.symbol_index]
        frame = self._frame(candles, computed, mine, complete_to, batch.as_of_ms)
        extra, failed = self._user_indicators(frame)
        rows, logs = self._revisions(batch.revisions)
        return StepResult(
            rows=[*self._rows(frame, computed.indicators[mine], extra), *rows],
            # Without rows it still says that minutes are absent for good.
            out=frame if len(frame) or complete_to > complete_before else None,
            event_time_ms=complete_to,
            logs=[*failed, *logs],
        )

    def _complete_to(self) -> int:
        """Tell up to which minute every owned symbol is processed or absent."""
        reached = self._known_to.copy()
        if len(self._waiting):
            np.minimum.at(reached, self._waiting.symbol_index, self._waiting.open_time_ms - MINUTE_MS)
        return int(reached[self._owned].min())

    def _frame(
        self,
        candles: CandleFrame,
        computed: FeatureRows,
        mine: Bool,
        complete_to: int,
        as_of_ms: int | None,
    ) -> FeatureFrame:
        own = candles.rows(mine)
        event_time = own.open_time_ms + MINUTE_MS
        as_of = event_time if as_of_ms is None else np.maximum(event_time, as_of_ms)
        return FeatureFrame(
            symbols=self._symbols,
            symbol_index=own.symbol_index,
            open_time_ms=own.open_time_ms,
            ohlcv=own.ohlcv,
            origin=own.origin,
            vector=computed.vector[mine],
            is_complete=computed.is_complete[mine],
            complete_to_ms=complete_to,
            schema_hash=self._engine.schema_hash,
            as_of_ms=as_of,
        )

    def _user_indicators(self, frame: FeatureFrame) -> tuple[list[dict[str, float | None]], list[LogEntry]]:
        """Compute by name what a user has added; tells of each indicator that raises for the first time."""
        if self._extra is None:
            return [], []
        before = dict(self._extra.failures)
        values = self._extra.advance(
            symbol_index=frame.symbol_index, open_time_ms=frame.open_time_ms, ohlcv=frame.ohlcv
        )
        rows = [
            {
                name: None if math.isnan(value) else value
                for name, value in zip(self._extra.columns, row, strict=True)
            }
            for row in values.tolist()
        ]
        logs = [
            LogEntry(
                level="warning",
                category="feature_calculation",
                subcategory="user_indicator",
                message=f"The indicator {name} raised on these candles; its values are missing there.",
            )
            for name, count in self._extra.failures.items()
            if count and not before[name]
        ]
        return rows, logs

    def _rows(
        self,
        frame: FeatureFrame,
        indicators: np.ndarray[Any, Any],
        extra: list[dict[str, float | None]],
    ) -> list[Rows]:
        if not len(frame):
            return []
        symbol = np.array(self._symbols, object)[frame.symbol_index]
        chart: dict[str, Any] = {
            "symbol": symbol,
            "timestamp": frame.open_time_ms,
            "open": frame.ohlcv[:, 0],
            "high": frame.ohlcv[:, 1],
            "low": frame.ohlcv[:, 2],
            "close": frame.ohlcv[:, 3],
            "volume": frame.ohlcv[:, 4],
        }
        chart |= {name: indicators[:, column] for column, name in enumerate(INDICATOR_COLUMNS)}
        chart |= {
            "is_complete": frame.is_complete,
            "origin": ORIGIN_TEXT[frame.origin],
            "created_at": frame.open_time_ms + MINUTE_MS,
        }
        if self._extra is not None:
            chart["extra"] = extra
        vectors = {
            "symbol": symbol,
            "timestamp": frame.open_time_ms,
            "close": frame.ohlcv[:, 3],
            "is_complete": frame.is_complete,
            "schema_hash": [frame.schema_hash] * len(frame),
            "vector": frame.vector,
        }
        return [
            Rows(table="rollingChartData", op="insert", columns=chart),
            Rows(table="ml_features", op="insert", columns=vectors),
        ]

    def _revisions(self, revised: CandleFrame) -> tuple[list[Rows], list[LogEntry]]:
        """Mend the chart, also where a minute had counted as absent.

        What was computed from the old values stays, because that is what was known.
        """
        revised = revised.rows(self._owned[revised.symbol_index]) if len(revised) else revised
        if not len(revised):
            return [], []
        names = [self._symbols[index] for index in revised.symbol_index]
        columns = {
            "symbol": names,
            "timestamp": revised.open_time_ms,
            "open": revised.ohlcv[:, 0],
            "high": revised.ohlcv[:, 1],
            "low": revised.ohlcv[:, 2],
            "close": revised.ohlcv[:, 3],
            "volume": revised.ohlcv[:, 4],
            "origin": ["revised"] * len(revised),
            "created_at": revised.open_time_ms + MINUTE_MS,
        }
        logs = [
            LogEntry(
                level="warning",
                category="feature_calculation",
                subcategory="revision",
                message="The exchange changed a candle after it was processed.",
                context={"open_time_ms": int(t)},
                symbol=name,
            )
            for name, t in zip(names, revised.open_time_ms, strict=True)
        ]
        return [Rows(table="rollingChartData", op="upsert", columns=columns)], logs

    def snapshot(self) -> bytes:
        """Write the engine's state, the waiting candles and what is known of every symbol."""
        waiting = self._waiting
        extra = {} if self._extra is None else {"extra": self._extra.snapshot()}
        return msgspec.msgpack.encode(
            {
                **extra,
                "settings": self._settings,
                "engine": self._engine.snapshot(),
                "known_to": self._known_to.astype("<i8").tobytes(),
                "symbol_index": waiting.symbol_index.astype("<i4").tobytes(),
                "open_time_ms": waiting.open_time_ms.astype("<i8").tobytes(),
                "ohlcv": waiting.ohlcv.astype("<f8").tobytes(),
                "origin": waiting.origin.tobytes(),
            }
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same settings; user-added indicators may differ, and then warm anew.

        Raises
        ------
        StateVersionError
            If it was written for other symbols or another feature schema.
        """
        parts = msgspec.msgpack.decode(state)
        if parts["settings"] != self._settings:
            raise StateVersionError("the snapshot was written for other symbols or other features")
        self._engine.restore(parts["engine"])
        self._known_to = np.frombuffer(parts["known_to"], "<i8").astype(np.int64)
        self._waiting = CandleFrame(
            symbols=self._symbols,
            symbol_index=np.frombuffer(parts["symbol_index"], "<i4").astype(np.int32),
            open_time_ms=np.frombuffer(parts["open_time_ms"], "<i8").astype(np.int64),
            ohlcv=np.frombuffer(parts["ohlcv"], "<f8").reshape(-1, 5).copy(),
            origin=np.frombuffer(parts["origin"], "i1").astype(np.int8),
        )
        if self._extra is not None and "extra" in parts:
            # Of other ones: a short window, for which the vectors shall not begin anew.
            with contextlib.suppress(SnapshotMismatchError):
                self._extra.restore(parts["extra"])

    def summary(self) -> dict[str, Any]:
        """Tell how many candles wait for a reference symbol, and how far each symbol is known."""
        known = self._known_to[self._known_to != NULL_MS]
        return {
            "waiting": len(self._waiting),
            "symbols": len(self._symbols),
            "known_to_ms": int(known.min()) if len(known) else None,
        }


def _none(frame: CandleFrame) -> Bool:
    return np.zeros(len(frame), bool)


def _in_order(frame: CandleFrame) -> CandleFrame:
    order: Int64 = np.lexsort((frame.symbol_index, frame.open_time_ms)).astype(np.int64)
    return frame.rows(order)
