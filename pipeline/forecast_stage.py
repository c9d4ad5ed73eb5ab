"""From predictions to forecasts of price, volatility and trend, and from later candles to their outcomes.

For every candle and horizon three rows of `"persistentForecasts"` are stated at the candle's event time:
price_direction by the serving model (the no-change baseline where there is none), volatility and trend by
rules over the symbol's own past; each with an interval of 80 % and one of 95 %. They begin at the symbol's
first complete minute. An outcome is written with the row if it falls into the same batch, and as an update of
the row otherwise, so the table holds the same either way. The sums of `"forecastScores"` that an outcome adds
to are written with it, whole. Intervals that come to miss too often are told in `"driftChecks"`, and may be
widened (`pipeline.coverage_drift`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from domain.forecasting.confidence import HitRates
from domain.forecasting.outcomes import OpenForecasts, Settled
from domain.forecasting.realised import EFFICIENCY_MINUTES, CloseHistory, Realised
from domain.forecasting.regime import REGIMES, classify
from domain.forecasting.scores import FREE, ScoreBook
from domain.forecasting.stated import NOT_SCORED, Judged, StatedForecasts
from domain.forecasting.trend import TrendRule, lookback_minutes
from domain.forecasting.versions import VersionNumbers
from domain.forecasting.volatility import COMPONENT_MINUTES, VolatilityRule
from pipeline.coverage_drift import CoverageDrift, CoverageSettings
from pipeline.drift_rows import DriftCheck, rows_of
from pipeline.forecast_rows import NO_CANDLE, TYPES, ForecastTable, Objects, Outcome, Stated, missing_reason
from pipeline.score_rows import ScoreTable
from pipeline.snapshot import pack, unpack
from pipeline.stage import LogEntry, Rows, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import (
    MINUTE_MS,
    NULL_MS,
    REASON_TEXT,
    Bool,
    Float32,
    Float64,
    Int32,
    Int64,
    PredictionFrame,
    Reason,
)

BASELINE = "last_value"
VOLATILITY_VERSION = "har_v1"
TREND_VERSION = "regime_v1"
#: Below this horizon there is no spread and no slope, so only the price is forecast.
SHORTEST_SPREAD_MINUTES = 2


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What is forecast at each row: arrays of shape (rows, horizons, types).

    The version of the price forecast, and whether it was made too late to act on: shape (rows, horizons).
    """

    predicted: Float32
    confidence: Float64
    price_version: Int32
    late: Bool
    reason: Objects


class _Owner(Protocol):
    """Keeps a part of the state."""

    def arrays(self) -> dict[str, Any]: ...

    def take(self, arrays: dict[str, Any]) -> None: ...


class ForecastStage:
    """Forecasts every symbol at every horizon.

    Parameters
    ----------
    symbols
        The symbols whose candles come.
    horizons
        Minutes ahead.
    update_frequency_s
        Forecasts are made at event times that are multiples of this many seconds; a multiple of 60.
    confidence_threshold
        A model's price forecast below it is marked `below threshold`: no trade follows from it.
    regimes
        Regimes that may be named.
    coverage
        How the intervals' coverage is watched; None: not at all.
    """

    name = "forecast"
    version = 2

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        horizons: Sequence[int] = (5, 15, 30, 60, 240, 1440),
        update_frequency_s: int = 60,
        confidence_threshold: float = 60.0,
        regimes: Sequence[str] = REGIMES,
        coverage: CoverageSettings | None = None,
    ) -> None:
        if update_frequency_s < 60 or update_frequency_s % 60:
            raise ValueError(f"update_frequency_s={update_frequency_s} must be a multiple of 60")
        self._symbols = SymbolIndex(symbols)
        self._horizons = tuple(sorted(set(horizons)))
        self._threshold = confidence_threshold
        self._regimes = tuple(regimes)
        spread = {h for h in self._horizons if h >= SHORTEST_SPREAD_MINUTES}
        lookbacks = {lookback_minutes(h) for h in self._horizons}
        windows = tuple(sorted({*COMPONENT_MINUTES, *spread, *lookbacks}))
        self._windows = windows
        self._outcome_columns = [windows.index(h) if h in spread else -1 for h in self._horizons]
        self._component_columns = [windows.index(k) for k in COMPONENT_MINUTES]
        self._volatility = VolatilityRule(self._horizons)
        self._trend = TrendRule(horizons=self._horizons, windows=windows)
        self._rates = HitRates(self._horizons)
        self._history = CloseHistory(symbols=len(self._symbols), windows=windows, horizons=self._horizons)
        self._open = OpenForecasts(
            symbols=len(self._symbols),
            horizons=self._horizons,
            cap=self._rates.cap,
            every_minutes=update_frequency_s // 60,
        )
        self._stated = StatedForecasts(symbols=len(self._symbols), horizons=self._horizons)
        self._scores = ScoreBook(symbols=len(self._symbols), horizons=self._horizons)
        self._versions = VersionNumbers()
        self._coverage: CoverageDrift | None = None
        if coverage is not None:
            self._coverage = CoverageDrift(
                symbols=len(self._symbols), horizons=self._horizons, settings=coverage
            )
        self._owners: dict[str, _Owner] = {
            "history": self._history,
            "open": self._open,
            "stated": self._stated,
            "scores": self._scores,
            **({"coverage": self._coverage} if self._coverage else {}),
        }
        self._settings = {
            "symbols": self._symbols.symbols,
            "horizons": self._horizons,
            "update_frequency_s": update_frequency_s,
            "regimes": self._regimes,
        }
        self._table = ForecastTable(
            symbols=self._symbols.symbols,
            horizons=self._horizons,
            # The spread types are left out where there is no spread.
            wanted=np.array([[True, h in spread, h in spread] for h in self._horizons]),
        )
        self._score_table = ScoreTable(
            symbols=self._symbols.symbols,
            horizons=self._horizons,
            rules=(VOLATILITY_VERSION, TREND_VERSION),
        )

    def step(self, batch: PredictionFrame) -> StepResult:
        """State the forecasts of a batch and settle those whose target minute has come."""
        symbol = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, symbol, minute, self._open.last_minute)

        seen = self._history.advance(symbol, minute, np.ascontiguousarray(batch.ohlcv[:, 3]))
        regime = self._regime(seen)
        volatility = self._volatility.predict(seen.known_volatility_pct[:, self._component_columns])
        trend = self._trend.predict(seen.known_slope_pct_per_hour, regime)
        actual = self._actual(seen)
        settled = self._open.advance(
            symbol_index=symbol,
            minute=minute,
            may_start=batch.is_complete & np.isfinite(volatility).all(axis=1),
            change_pct=np.ascontiguousarray(actual[:, :, 0]),
            volatility_pct=np.ascontiguousarray(actual[:, :, 1]),
            slope_pct_per_hour=np.ascontiguousarray(actual[:, :, 2]),
            stated_volatility_pct=volatility,
            stated_slope_pct_per_hour=trend,
            regime=regime,
            complete_to_minute=batch.complete_to_ms // MINUTE_MS,
        )
        spoken = self._speak(batch, settled, volatility, trend)
        judged, checks, logs = self._judge(
            symbol_index=symbol,
            minute=minute,
            issued=settled.issued,
            settles=settled.settles,
            actual=actual,
            predicted=spoken.predicted,
            reference_pct=seen.known_volatility_pct[:, self._outcome_columns],
            confidence=spoken.confidence,
            widen=self._widened(batch),
            version=np.where(spoken.late, np.int32(NOT_SCORED), spoken.price_version),
        )
        totals = self._scores.advance(
            symbol_index=symbol, minute=minute, settles=settled.settles, judged=judged
        )
        outcome, updates = self._outcomes(symbol, minute, actual, settled)
        chosen = np.flatnonzero(settled.issued)
        stated = self._stated_as(judged.said, spoken)
        inserts = self._table.inserts(chosen, symbol, batch.open_time_ms, regime, stated, outcome)
        rows = [inserts, *updates, self._score_table.rows(totals, self._versions.names), *rows_of(checks)]
        if self._versions.too_many:
            new = self._versions.forget_all_but(self._versions_spoken_of())
            self._stated.version[...], self._scores.version[...] = self._renumbered(new)
        return StepResult(
            rows=[part for part in rows if len(part)], event_time_ms=batch.complete_to_ms, logs=logs
        )

    def _judge(self, **given: np.ndarray[Any, Any]) -> tuple[Judged, list[DriftCheck], list[LogEntry]]:
        """State the intervals and judge what falls due, and how often intervals are missed."""
        coverage = self._coverage
        if coverage is None:
            return self._stated.advance(**given), [], []
        symbol, minute = given["symbol_index"], given["minute"]
        parts: list[Judged] = []
        checks: list[DriftCheck] = []
        logs: list[LogEntry] = []
        for piece, found, told in coverage.pieces(minute):
            part = {name: column[piece] for name, column in given.items()}
            judged = self._stated.advance(**part, lift=coverage.lift(symbol[piece], minute[piece]))
            coverage.count(minute[piece], part["settles"], judged.past)
            parts.append(judged)
            checks += found
            logs += told
        return Judged.joined(parts) if parts else self._stated.advance(**given), checks, logs

    def _widened(self, batch: PredictionFrame) -> Float64:
        """Give the factor on the price intervals of every row and horizon."""
        widen = np.ones((len(batch), len(self._horizons)))
        if batch.widen is not None:
            for column, horizon in enumerate(batch.horizons):
                if horizon in self._horizons:
                    widen[:, self._horizons.index(horizon)] = batch.widen[:, column]
        return widen

    def _regime(self, seen: Realised) -> np.ndarray[Any, np.dtype[np.int8]]:
        column = {minutes: k for k, minutes in enumerate(self._windows)}
        known = seen.known_volatility_pct
        return classify(
            hour_volatility_pct=known[:, column[EFFICIENCY_MINUTES]],
            four_hour_volatility_pct=known[:, column[240]],
            day_volatility_pct=known[:, column[1440]],
            efficiency=seen.efficiency,
            allowed=self._regimes,
        )

    def _actual(self, seen: Realised) -> Float64:
        """Gather what each row says about the horizon that ends with it, as (rows, horizons, types)."""
        rows = len(seen.change_pct)
        actual = np.full((rows, len(self._horizons), len(TYPES)), np.nan)
        actual[:, :, 0] = seen.change_pct
        for j, column in enumerate(self._outcome_columns):
            if column >= 0:
                actual[:, j, 1] = seen.volatility_pct[:, column]
                actual[:, j, 2] = seen.slope_pct_per_hour[:, column]
        return actual

    def _speak(
        self, batch: PredictionFrame, settled: Settled, volatility: Float64, trend: Float64
    ) -> _Spoken:
        """Decide what is forecast at each row, how sure it is, and by whom."""
        rows, n = len(batch), len(self._horizons)
        predicted = np.stack([np.zeros((rows, n)), volatility, trend], axis=2).astype(np.float32)
        rates = self._rates
        confidence = np.stack(
            [
                rates.confidence("price_direction", settled.no_change_hits, settled.no_change_scored),
                rates.confidence("volatility", settled.volatility_hits, settled.volatility_scored),
                rates.confidence("trend", settled.trend_hits, settled.trend_scored),
            ],
            axis=2,
        )
        numbers = self._versions.of([BASELINE, *batch.models])
        price_version = np.full((rows, n), numbers[0], np.int32)
        reason = np.full((rows, n, len(TYPES)), REASON_TEXT[Reason.NO_MODEL], object)
        reason[:, :, 1:] = None
        modelled = [j for j, horizon in enumerate(self._horizons) if horizon in batch.horizons]
        columns = [batch.horizons.index(self._horizons[j]) for j in modelled]
        said, up = batch.predicted_pct[:, columns], batch.probability_up[:, columns].astype(np.float64)
        model, why = batch.model_index[:, columns], batch.reason[:, columns]
        spoke = (model > 0) & np.isfinite(said) & np.isfinite(up)
        sure = 100.0 * np.clip(np.where(said > 0.0, up, 1.0 - up), 0.0, 1.0)
        why = np.where(spoke & (why == Reason.NONE) & (sure < self._threshold), _BELOW, why)
        predicted[:, modelled, 0] = np.where(spoke, said, 0.0)
        confidence[:, modelled, 0] = np.where(spoke, sure, confidence[:, modelled, 0])
        price_version[:, modelled] = np.where(spoke, numbers[1:][model], numbers[0])
        late = np.zeros((rows, n), np.bool_)
        late[:, modelled] = spoke & (why == Reason.TOO_OLD)
        reason[:, modelled, 0] = _REASONS[why]
        reason[~batch.is_complete] = REASON_TEXT[Reason.WARMING]
        return _Spoken(predicted, confidence, price_version, late, reason)

    def _stated_as(self, said: Float64, spoken: _Spoken) -> Stated:
        """Put together what each row states, with the names of the versions."""
        version = np.empty((len(said), len(self._horizons), len(TYPES)), object)
        version[:, :, 0] = np.array(self._versions.names, object)[spoken.price_version]
        version[:, :, 1:] = (VOLATILITY_VERSION, TREND_VERSION)
        return Stated(said, spoken.confidence, version, spoken.reason)

    def _versions_spoken_of(self) -> tuple[Int32, Int32]:
        """List the numbers of the versions that an open forecast or a sum of the day speaks of."""
        return self._stated.version[self._open.is_open], self._scores.version

    def _renumbered(self, new: Int32) -> tuple[Int32, Int32]:
        """Give the numbers of all places and sums, by their new numbers."""
        stated, scores = self._stated.version, self._scores.version
        named = np.where(stated == NOT_SCORED, np.int32(NOT_SCORED), new[stated])
        return (
            np.where(self._open.is_open, named, np.int32(0)),
            np.where(scores == FREE, np.int32(FREE), new[scores]),
        )

    def _outcomes(
        self, symbol: Int64, minute: Int64, actual: Float64, settled: Settled
    ) -> tuple[Outcome, list[Rows]]:
        """Put outcomes beside the forecasts of this step, and make updates for the earlier ones."""
        shape = actual.shape
        outcome = Outcome(np.full(shape, np.nan), np.full(shape, NULL_MS), np.full(shape, None, object))
        row, j = np.nonzero(settled.settles)
        value, source = actual[row, j], settled.source[row, j]
        missing = missing_reason(value)
        known_at = (minute[row] + 1) * MINUTE_MS
        scored_at = np.where(np.isnan(value), NULL_MS, known_at[:, None])
        here = source >= 0
        outcome.actual[source[here], j[here]] = value[here]
        outcome.scored_at[source[here], j[here]] = scored_at[here]
        outcome.missing[source[here], j[here]] = missing[here]

        absent = settled.absent
        gone = absent.source >= 0
        outcome.missing[absent.source[gone], absent.horizon_index[gone]] = NO_CANDLE
        late = ~gone
        lost = np.full((int(late.sum()), len(TYPES)), np.nan)
        updates = [self._table.updates(symbol[row[~here]], j[~here], minute[row[~here]], value[~here])]
        if late.any():
            updates.append(
                self._table.updates(
                    absent.symbol_index[late], absent.horizon_index[late], absent.target_minute[late], lost
                )
            )
        return outcome, updates

    def snapshot(self) -> bytes:
        """Write the longest window's closes, the open forecasts, the counts of hits and the day's sums."""
        # Numbers as they were given depend on how the input was cut; names in their own order do not.
        new, names = self._versions.in_order(self._versions_spoken_of())
        arrays = {
            f"{part}.{name}": array
            for part, owner in self._owners.items()
            for name, array in owner.arrays().items()
        }
        arrays["stated.version"], arrays["scores.version"] = self._renumbered(new)
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays=arrays,
            values={"versions": names},
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols and horizons.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, values = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._versions.take(values["versions"])
        for part, owner in self._owners.items():
            start = f"{part}."
            owner.take({k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)})

    def summary(self) -> dict[str, Any]:
        """Tell how many symbols forecast and how many forecasts are open."""
        return {
            "symbols": len(self._symbols),
            "forecasting": int(self._open.started.sum()),
            "open_forecasts": self._open.open_count() * len(TYPES),
            "drifted": self._coverage.drifted() if self._coverage else [],
        }


_BELOW = np.int8(Reason.BELOW_THRESHOLD)
_REASONS = np.array([REASON_TEXT[reason] for reason in sorted(Reason)], object)
