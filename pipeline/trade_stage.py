"""From predictions to simulated trades, moved by every candle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from domain.trading.book import TradeBook
from domain.trading.costs import Costs
from domain.trading.likelihood import TakeProfitRates
from domain.trading.signals import Signal, direction_of
from domain.trading.trade import Candle, Exits, Trade
from domain.trading.true_range import AverageTrueRange
from pipeline.snapshot import pack, unpack
from pipeline.stage import Rows, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import MINUTE_MS, NULL_MS, Bool, Float64, Int64, PredictionFrame, Reason

TABLE = "tradeSimulations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way of trading the predictions.

    Attributes
    ----------
    name
        Part of the trade's key.
    horizon_minutes
        The forecast horizon that is traded.
    confidence_threshold
        Least confidence, 0 to 100, to open a trade.
    """

    name: str = "main"
    horizon_minutes: int = 15
    confidence_threshold: float = 60.0


class TradeStage:
    """Opens, moves and ends the simulated trades of some strategies.

    Parameters
    ----------
    symbols
        The symbols whose candles come.
    strategies
        Each has its own trades, at most one active for each symbol.
    costs
        Fee and slippage of every fill.
    exits
        Where stops and take-profits are put.
    enabled
        False opens no trades; those that are open go on.
    """

    name = "trade"
    version = 2

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        strategies: Sequence[Strategy] = (Strategy(),),
        costs: Costs | None = None,
        exits: Exits | None = None,
        enabled: bool = True,
    ) -> None:
        names = [strategy.name for strategy in strategies]
        if len(set(names)) != len(names):
            raise ValueError(f"strategies {names} name one twice")
        self._symbols = SymbolIndex(symbols)
        self._strategies = tuple(strategies)
        self._costs = costs or Costs()
        self._exits = exits = exits or Exits()
        self._enabled = enabled
        self._books = [TradeBook(costs=self._costs, exits=exits) for _ in strategies]
        self._rates = [
            TakeProfitRates(
                symbols=len(self._symbols),
                horizon_minutes=strategy.horizon_minutes,
                slippage_bps=self._costs.slippage_bps,
            )
            for strategy in strategies
        ]
        self._ranges = [AverageTrueRange() for _ in self._symbols.symbols]
        self._last_minute = np.full(len(self._symbols), -1, np.int64)
        self._settings = {
            "symbols": self._symbols.symbols,
            "strategies": [asdict(strategy) for strategy in strategies],
            "costs": asdict(self._costs),
            "exits": asdict(exits),
        }

    def step(self, batch: PredictionFrame) -> StepResult:
        """Move trades by the candles and act on the predictions, in the order of the rows."""
        position = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, position, minute, self._last_minute)

        atr_pct, warm = self._reach(position, batch.ohlcv)
        asks = [self._asks(batch, strategy) & warm for strategy in self._strategies]
        likelihood = [
            self._likelihood(batch, position, minute, strategy, ask, atr_pct, rates)
            for strategy, ask, rates in zip(self._strategies, asks, self._rates, strict=True)
        ]
        touched: list[dict[tuple[str, int], Trade]] = [{} for _ in self._books]
        acts = [ask.tolist() for ask in asks]
        times, candles, places = batch.open_time_ms.tolist(), batch.ohlcv.tolist(), position.tolist()
        for i, place in enumerate(places):
            symbol = self._symbols.symbols[place]
            open_, high, low, close, _ = candles[i]
            for k, (book, changed) in enumerate(zip(self._books, touched, strict=True)):
                if book.has(symbol):
                    candle = Candle(open_time_ms=times[i], open=open_, high=high, low=low, close=close)
                    for trade in book.on_candle(symbol, candle):
                        changed[symbol, trade.signal.created_at_ms] = trade
                if acts[k][i]:
                    signal = self._signal(batch, i, self._strategies[k], atr_pct[i], likelihood[k][i])
                    if signal is not None:
                        book.on_signal(symbol, signal)
        np.maximum.at(self._last_minute, position, minute)
        return StepResult(rows=self._rows(touched), event_time_ms=batch.complete_to_ms)

    def _reach(self, position: Int64, ohlcv: Float64) -> tuple[Float64, Bool]:
        """Tell how far candles reach as of each row, and whether that is known."""
        percent, warm = np.empty(len(position)), np.empty(len(position), np.bool_)
        for i, (place, (_, high, low, close, _)) in enumerate(
            zip(position.tolist(), ohlcv.tolist(), strict=True)
        ):
            reach = self._ranges[place]
            reach.update(high, low, close)
            percent[i], warm[i] = reach.percent, reach.is_warm
        return percent, warm

    def _likelihood(
        self,
        batch: PredictionFrame,
        position: Int64,
        minute: Int64,
        strategy: Strategy,
        asks: Bool,
        atr_pct: Float64,
        rates: TakeProfitRates,
    ) -> Float64:
        """Follow what is stated at each row, and say how likely a trade on it would pay."""
        horizon = strategy.horizon_minutes
        side = np.zeros(len(batch), np.int8)
        confidence = np.full(len(batch), 0.5)
        if asks.any():
            column = batch.horizons.index(horizon)
            up = batch.probability_up[:, column].astype(np.float64)
            side = np.where(asks, np.sign(batch.predicted_pct[:, column]), 0).astype(np.int8)
            confidence = np.where(side > 0, up, 1.0 - up)
        distances = np.array(
            [self._exits.distances_pct(reach, horizon, self._costs) for reach in atr_pct.tolist()]
        ).reshape(len(batch), 2)
        return rates.advance(
            symbol_index=position,
            minute=minute,
            ohlc=batch.ohlcv[:, :4],
            side=side,
            confidence=confidence,
            atr_pct=atr_pct,
            distances_pct=distances,
        )

    def _asks(self, batch: PredictionFrame, strategy: Strategy) -> Bool:
        """Mark the rows whose prediction may be acted on, confident or not."""
        if not self._enabled or strategy.horizon_minutes not in batch.horizons:
            return np.zeros(len(batch), np.bool_)
        column = batch.horizons.index(strategy.horizon_minutes)
        asks: Bool = (
            (batch.reason[:, column] == Reason.NONE)
            & (batch.model_index[:, column] > 0)
            & np.isfinite(batch.probability_up[:, column])
            & np.isfinite(batch.predicted_pct[:, column])
        )
        return asks

    def _signal(
        self, batch: PredictionFrame, row: int, strategy: Strategy, atr_pct: float, likelihood: float
    ) -> Signal | None:
        column = batch.horizons.index(strategy.horizon_minutes)
        said = direction_of(
            float(batch.predicted_pct[row, column]),
            float(batch.probability_up[row, column]),
            strategy.confidence_threshold,
        )
        if said is None:
            return None
        direction, confidence = said
        return Signal(
            direction=direction,
            confidence=confidence,
            created_at_ms=int(batch.open_time_ms[row]) + MINUTE_MS,
            horizon_minutes=strategy.horizon_minutes,
            model_version=batch.models[int(batch.model_index[row, column])],
            atr_pct=float(atr_pct),
            profit_likelihood=100.0 * float(likelihood),
        )

    def _rows(self, touched: Iterable[dict[tuple[str, int], Trade]]) -> list[Rows]:
        entries = [
            (symbol, strategy.name, trade)
            for strategy, changed in zip(self._strategies, touched, strict=True)
            for (symbol, _), trade in sorted(changed.items())
        ]
        if not entries:
            return []
        trades = [trade for _, _, trade in entries]
        signals = [trade.signal for trade in trades]
        columns: dict[str, Any] = {
            "symbol": [symbol for symbol, _, _ in entries],
            "strategy": [strategy for _, strategy, _ in entries],
            "created_at": np.array([signal.created_at_ms for signal in signals], np.int64),
            "signal_type": [signal.direction for signal in signals],
            "entry_price": np.array([trade.entry_price for trade in trades]),
            "tp_price": np.array([trade.tp_price for trade in trades]),
            "sl_price": np.array([trade.sl_price for trade in trades]),
            "current_price": np.array([trade.current_price for trade in trades]),
            "confidence": np.array([round(signal.confidence) for signal in signals], np.int64),
            "profit_likelihood": np.array([round(signal.profit_likelihood) for signal in signals], np.int64),
            "real_time_pnl": np.array([trade.profit_pct for trade in trades]),
            "highest_profit": np.array([trade.highest_profit_pct for trade in trades]),
            "lowest_loss": np.array([trade.lowest_loss_pct for trade in trades]),
            "profitable_minutes": np.array([trade.profitable_minutes for trade in trades], np.int64),
            "total_minutes": np.array([trade.total_minutes for trade in trades], np.int64),
            "is_active": np.array([trade.is_active for trade in trades], np.bool_),
            "completed_at": np.array([_or(trade.completed_at_ms, NULL_MS) for trade in trades], np.int64),
            "forecast_horizon": np.array([signal.horizon_minutes for signal in signals], np.int64),
            "model_version": [signal.model_version for signal in signals],
            "entered_at": np.array([trade.entered_at_ms for trade in trades], np.int64),
            "exit_price": np.array([_or(trade.exit_price, np.nan) for trade in trades]),
            "exit_reason": [trade.exit_reason for trade in trades],
            "fee_bps": np.full(len(trades), self._costs.fee_bps),
            "slippage_bps": np.full(len(trades), self._costs.slippage_bps),
            "last_candle_at": np.array([trade.last_candle_ms for trade in trades], np.int64),
        }
        return [Rows(table=TABLE, op="upsert", columns=columns)]

    def snapshot(self) -> bytes:
        """Write the open trades, the waiting signals and the ranges."""
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays={
                "last_minute": self._last_minute,
                "percent": np.array([reach.percent for reach in self._ranges]),
                "seen": np.array([reach.seen for reach in self._ranges], np.int64),
                "previous_close": np.array([reach.previous_close for reach in self._ranges]),
                **{
                    f"rates.{k}.{name}": array
                    for k, rates in enumerate(self._rates)
                    for name, array in rates.arrays().items()
                },
            },
            values={"books": [book.state() for book in self._books]},
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols, strategies, costs and exits.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, values = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._last_minute = arrays["last_minute"]
        columns = (arrays[name].tolist() for name in ("percent", "seen", "previous_close"))
        self._ranges = [
            AverageTrueRange(percent=percent, seen=seen, previous_close=close)
            for percent, seen, close in zip(*columns, strict=True)
        ]
        for k, rates in enumerate(self._rates):
            mark = f"rates.{k}."
            rates.take({n.removeprefix(mark): a for n, a in arrays.items() if n.startswith(mark)})
        for book, book_state in zip(self._books, values["books"], strict=True):
            book.take(book_state)

    def summary(self) -> dict[str, Any]:
        """Count the active trades of each strategy."""
        pairs = zip(self._strategies, self._books, strict=True)
        return {"active_trades": {strategy.name: len(book) for strategy, book in pairs}}


def _or(value: float | None, null: float) -> float:
    return null if value is None else value
