"""Watches the data that users and models see: alerts when it is bad, asks for minutes that are missing.

Single candles that stand out get a row in `anomalies` and an alert each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from domain.quality.anomalies import KINDS, CandleWatch
from domain.quality.check import CHECKS, Limits, build_checks
from domain.quality.grid import NEVER, QualityGrid
from domain.quality.invalid_values import invalid_rows
from domain.quality.recent import RecentMinutes, Seen
from pipeline.snapshot import pack, unpack
from pipeline.stage import LogEntry, Rows, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import MINUTE_MS, Bool, FeatureFrame, Int64, Origin

Level = Literal["debug", "info", "warning", "error"]

CATEGORY = "data_quality"
REQUESTED_BY = "chart_monitor"
#: More symbols than this with the same news in the same minute share one entry.
MOST_ENTRIES = 5
#: Of a frozen price the check of that name raises and clears the alert.
_STANDS_OUT = {
    "spike": "The price moved many times further than usual within a minute.",
    "burst": "Many times the usual volume was traded within a minute.",
    "repeated": "The same traded candle has come again and again.",
}


class QualityStage:
    """Judges every minute once it is complete, raises each alert once and clears it once.

    Parameters
    ----------
    symbols
        The symbols whose candles are wanted.
    limits
        How bad it may get.
    check_interval_s
        Checks are made at event times that are multiples of this; a multiple of 60.
    hole_minutes
        A hole up to this long is asked for again; a longer one is a halt.
    checks
        Names of the checks to make.
    spike_score, burst_score
        Beyond these a candle stands out, see `domain.quality.anomalies`.
    """

    name = "quality"
    version = 2

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        limits: Limits | None = None,
        check_interval_s: int = 60,
        hole_minutes: int = 60,
        checks: tuple[str, ...] = CHECKS,
        spike_score: float = 10.0,
        burst_score: float = 5.0,
    ) -> None:
        if check_interval_s < 60 or check_interval_s % 60:
            raise ValueError(f"check_interval_s={check_interval_s} must be a multiple of 60")
        self._symbols = SymbolIndex(symbols)
        self._limits = limits or Limits()
        self._every = check_interval_s // 60
        self._hole_minutes = hole_minutes
        self._checks = build_checks(self._limits, checks)
        count = len(self._symbols)
        self._recent = RecentMinutes(symbols=count, lookback_minutes=self._limits.window_minutes - 1)
        self._candles = CandleWatch(
            symbols=count,
            spike_score=spike_score,
            burst_score=burst_score,
            frozen_minutes=self._limits.frozen_minutes,
        )
        self._last_minute = np.full(count, NEVER, np.int64)
        self._last_close = np.full(count, np.nan)
        self._raised = {name: np.zeros(count, np.bool_) for name in self._checks}
        self._silent = np.zeros(count, np.bool_)
        self._measured: dict[str, np.ndarray[Any, Any]] = {}
        self._first_tick_ms: int | None = None
        self._settings = {
            "symbols": self._symbols.symbols,
            "limits": asdict(self._limits),
            "check_interval_s": check_interval_s,
            "hole_minutes": hole_minutes,
            "checks": list(checks),
            "scores": [spike_score, burst_score],
        }

    def step(self, batch: FeatureFrame) -> StepResult:
        """Judge the minutes that became complete, and ask for those that were skipped."""
        position = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, position, minute, self._last_minute)
        seen, holes = self._look_at(batch, position, minute)
        odd, alerts = self._odd_candles(batch, position, minute)
        logs = self._heard(position) + alerts
        self._recent.add(seen)
        while (grid := self._recent.next_grid(batch.complete_to_ms // MINUTE_MS)) is not None:
            logs += self._judge(grid)
        rows = [part for part in (holes, odd) if len(part)]
        return StepResult(rows=rows, event_time_ms=batch.complete_to_ms, logs=logs)

    def tick(self, now_ms: int) -> list[LogEntry]:
        """Notice silence by the clock: entries for the symbols that have had no candle for too long.

        Makes no rows. A symbol that was never heard of counts from the first tick.
        """
        if self._first_tick_ms is None:
            self._first_tick_ms = now_ms
        heard = np.where(self._last_minute == NEVER, self._first_tick_ms, (self._last_minute + 1) * MINUTE_MS)
        late = now_ms - heard > 1000.0 * self._limits.stale_data_s
        news = late & ~self._silent
        self._silent |= late
        return self._entries(
            "silence",
            news,
            level="error",
            message="Nothing has come for too long.",
            context={"now_ms": now_ms, "limit": self._limits.stale_data_s},
            values=(now_ms - heard) / 1000.0,
        )

    def _look_at(self, batch: FeatureFrame, position: Int64, minute: Int64) -> tuple[Seen, Rows]:
        """Compare each candle with its symbol's last one."""
        order = np.argsort(position, kind="stable")
        s, m, close = position[order], minute[order], batch.ohlcv[order, 3]
        follows = np.concatenate([[False], s[1:] == s[:-1]]) if len(s) else np.empty(0, np.bool_)
        before = np.where(follows, np.roll(m, 1), self._last_minute[s])
        close_before = np.where(follows, np.roll(close, 1), self._last_close[s])
        quiet = batch.origin[order] == Origin.SYNTHETIC
        seen = Seen(
            position=s,
            minute=m,
            complete=batch.is_complete[order],
            invalid=invalid_rows(batch)[order],
            changed=quiet | (close != close_before),
        )
        ends = np.concatenate([s[1:] != s[:-1], [True]]) if len(s) else np.empty(0, np.bool_)
        self._last_minute[s[ends]] = m[ends]
        self._last_close[s[ends]] = close[ends]
        gap = m - before - 1
        hole = (before != NEVER) & (gap > 0) & (gap <= self._hole_minutes)
        return seen, self._requests(s[hole], before[hole] + 1, m[hole])

    def _odd_candles(
        self, batch: FeatureFrame, position: Int64, minute: Int64
    ) -> tuple[Rows, list[LogEntry]]:
        """Find the candles that stand out, as rows and as alerts."""
        quiet = batch.origin == Origin.SYNTHETIC
        found = self._candles.advance(position, minute, batch.ohlcv, quiet)
        at = minute[found.row]
        kinds = np.array(KINDS, object)[found.kind]
        columns = {
            "symbol": np.array(self._symbols.symbols, object)[position[found.row]],
            "timestamp": at * MINUTE_MS,
            "kind": kinds,
            "value": found.value,
            "threshold": found.limit,
            "created_at": (at + 1) * MINUTE_MS,
        }
        logs = []
        for moment, kind in sorted(set(zip(at.tolist(), kinds.tolist(), strict=True))):
            if kind not in _STANDS_OUT:
                continue
            mine = found.row[(at == moment) & (kinds == kind)]
            values = np.full(len(self._symbols), np.nan)
            values[position[mine]] = found.value[(at == moment) & (kinds == kind)]
            logs += self._entries(
                kind,
                np.isfinite(values),
                level="warning",
                message=_STANDS_OUT[kind],
                context={"open_time_ms": moment * MINUTE_MS},
                values=values,
            )
        return Rows(table="anomalies", op="insert", columns=columns), logs

    def _requests(self, position: Int64, first: Int64, end: Int64) -> Rows:
        columns = {
            "symbol": np.array(self._symbols.symbols, object)[position],
            "from_at": first * MINUTE_MS,
            "to_at": (end - 1) * MINUTE_MS,
            "requested_by": [REQUESTED_BY] * len(position),
            "created_at": (end + 1) * MINUTE_MS,
        }
        return Rows(table="backfill_requests", op="insert", columns=columns)

    def _heard(self, position: Int64) -> list[LogEntry]:
        """Clear the silence of symbols that are back."""
        back = np.zeros(len(self._symbols), np.bool_)
        back[position] = True
        back &= self._silent
        self._silent &= ~back
        return self._entries("silence", back, level="info", message="Candles come again.", context={})

    def _judge(self, grid: QualityGrid) -> list[LogEntry]:
        judged = grid.minute[grid.lookback :]
        due = np.flatnonzero((judged + 1) % self._every == 0)
        logs: list[tuple[int, LogEntry]] = []
        if not len(due):
            return []
        for name, check in self._checks.items():
            judgement = check.judge(grid)
            value, is_bad = judgement.value[due], judgement.is_bad[due]
            previous = np.concatenate([self._raised[name][None], is_bad[:-1]])
            for k in np.flatnonzero((is_bad != previous).any(axis=1)):
                at = int(judged[due[k]])
                for bad in (True, False):
                    entries = self._entries(
                        name,
                        (is_bad[k] == bad) & (previous[k] != bad),
                        level=check.level if bad else "info",
                        message=check.message if bad else f"Good again: {name}.",
                        context={"open_time_ms": at * MINUTE_MS, "limit": check.limit},
                        values=value[k],
                    )
                    logs += [(at, entry) for entry in entries]
            self._raised[name] = is_bad[-1].copy()
            self._measured[name] = value[-1]
        return [entry for _, entry in sorted(logs, key=lambda pair: pair[0])]

    def _entries(
        self,
        subcategory: str,
        chosen: Bool,
        *,
        level: Level,
        message: str,
        context: dict[str, Any],
        values: np.ndarray[Any, Any] | None = None,
    ) -> list[LogEntry]:
        """Make one entry a symbol, or one for all if they are many."""
        places = np.flatnonzero(chosen)
        names = [self._symbols.symbols[k] for k in places]

        def entry(symbol: str | None, more: dict[str, Any]) -> LogEntry:
            return LogEntry(
                level=level,
                category=CATEGORY,
                subcategory=subcategory,
                message=message,
                context={**context, **more},
                symbol=symbol,
            )

        if len(names) > MOST_ENTRIES:
            return [entry(None, {"symbols": names})]
        measured = [{} if values is None else {"value": _plain(values[k])} for k in places]
        return [entry(name, more) for name, more in zip(names, measured, strict=True)]

    def snapshot(self) -> bytes:
        """Write the recent minutes and the alerts that are up."""
        recent = {f"recent.{name}": array for name, array in self._recent.arrays().items()}
        raised = {f"raised.{name}": flags for name, flags in self._raised.items()}
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays={
                "last_minute": self._last_minute,
                "last_close": self._last_close,
                "silent": self._silent,
                **{f"candles.{name}": array for name, array in self._candles.arrays().items()},
                **recent,
                **raised,
            },
            values={},
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols, limits and checks.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, _ = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._last_minute, self._last_close = arrays["last_minute"], arrays["last_close"]
        self._silent = arrays["silent"]
        self._raised = {name: arrays[f"raised.{name}"] for name in self._checks}
        self._candles.take(
            {k.removeprefix("candles."): a for k, a in arrays.items() if k.startswith("candles.")}
        )
        self._recent.take(
            {k.removeprefix("recent."): a for k, a in arrays.items() if k.startswith("recent.")}
        )

    def summary(self) -> dict[str, Any]:
        """Tell the completeness of each symbol at the last check, and which alerts are up."""
        names = self._symbols.symbols
        complete = self._measured.get("completeness", np.full(len(names), np.nan))
        return {
            "completeness": {name: _plain(value) for name, value in zip(names, complete, strict=True)},
            "alerts": {
                check: [names[k] for k in np.flatnonzero(flags)]
                for check, flags in {**self._raised, "silence": self._silent}.items()
                if flags.any()
            },
        }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
