"""Inside the forecaster's stage: watches whether the intervals are missed more often than they say.

Outcomes that fell due are counted by type and horizon over all symbols of the stage, those that were made
and due inside one block of time (`domain.drift.watch.block_minutes`). A block is judged `LAG_MINUTES` of
event time after its end, before the first candle that comes so late; what follows begins with each symbol's
first candle from that minute on. So rows depend on candles alone, and not on how they were batched: a batch
is taken in pieces that end where a block is judged.

An interval that is called drifted may be widened: its quantiles are multiplied once, and from then on the
outcomes decide. Misses count against the interval as it was stated, so where the step was not needed the
quantiles take it back, and nothing jumps when it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from domain.drift.coverage import CoverageWatch, News
from domain.drift.watch import Detector, block_minutes
from domain.forecasting.conformal import LEVELS, MISSES
from domain.forecasting.stated import ACTUAL, LOWER_80
from pipeline.drift_rows import DriftCheck, warning_of
from pipeline.forecast_rows import TYPES
from pipeline.stage import LogEntry
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, Bool, Float64, Int64

KIND = "coverage"
#: Those of all reactions to drift that can follow here.
REACTIONS = ("warn", "widen")
#: A symbol's candle may come so many minutes after those of others and still count.
LAG_MINUTES = 12
#: A symbol that has had no candle for so long is not widened when it comes back, in minutes.
_LATE_MINUTES = 1440
#: Share of one symbol's outcomes of a block that must be there.
_LEAST_SHARE = 0.5
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageSettings:
    """How coverage is watched.

    Attributes
    ----------
    reactions
        Of drift in general; those that are not among `REACTIONS` do not follow here.
    detector, threshold, adwin_error_rate
        See `domain.drift.coverage.CoverageWatch`.
    widen_by
        `widen`: factor on the interval.
    every_minutes
        The state of all detectors is written at these points.
    label
        Stands for the symbols in the rows.
    """

    reactions: tuple[str, ...] = ("warn",)
    detector: Detector = "page_hinkley"
    threshold: float = 16.0
    adwin_error_rate: float = 0.002
    widen_by: float = 1.5
    every_minutes: int = 1440
    label: str = ALL_SYMBOLS


class CoverageDrift:
    """Detectors for every type, horizon and level, over the symbols of one stage.

    Parameters
    ----------
    symbols
        How many.
    horizons
        Minutes ahead.
    settings
        What to do.
    """

    def __init__(self, *, symbols: int, horizons: Sequence[int], settings: CoverageSettings) -> None:
        self._horizons = np.array(horizons, np.int64)
        self._lengths = np.array([block_minutes(h) for h in horizons], np.int64)
        self._options = settings
        self._reactions = tuple(name for name in REACTIONS if name in settings.reactions)
        n = len(self._horizons)
        self._latest = _NONE
        #: When the next block is judged, in minutes of event time.
        self._due = _NONE
        #: By symbol, before the rows at hand.
        self._last_minute = np.full(symbols, _NONE, np.int64)
        #: By horizon: the first block that was not judged yet.
        self._open_block = np.full(n, _NONE, np.int64)
        #: (horizon, block modulo 2, type, [outcomes, misses by level])
        self._counts = np.zeros((n, 2, len(TYPES), 1 + len(LEVELS)), np.int64)
        self._watches: dict[tuple[int, int, int], CoverageWatch] = {}
        #: By horizon, type and level: the first minute that is stated more widely.
        self._widened: dict[tuple[int, int, int], int] = {}

    def pieces(self, minute: Int64) -> Iterator[tuple[slice, list[DriftCheck], list[LogEntry]]]:
        """Cut rows where a block is to be judged, and judge it before the piece is handed out."""
        if not len(minute):
            return
        reached = np.maximum(np.maximum.accumulate(minute), self._latest)
        start = 0
        while start < len(minute):
            checks, logs = self._judge(int(reached[start])) if reached[start] >= self._due else ([], [])
            stop = len(minute)
            if reached[-1] >= self._due:
                stop = int(np.searchsorted(reached, self._due))
            yield slice(start, stop), checks, logs
            self._latest = int(reached[stop - 1])
            start = stop

    def lift(self, symbol: Int64, minute: Int64) -> Float64:
        """Give the factors on the quantiles, as (rows, horizons, types, levels): 1 nearly everywhere."""
        factors = np.ones((len(minute), len(self._horizons), len(TYPES), len(LEVELS)))
        first = np.unique(symbol, return_index=True) if self._widened else ((), ())
        for s, row in zip(*first, strict=True):
            before = self._last_minute[s] if self._last_minute[s] != _NONE else minute[row]
            mine = np.flatnonzero(symbol == s)
            for (j, t, level), since in self._widened.items():
                reached = mine[minute[mine] >= since][:1]
                if before < since and len(reached) and minute[reached[0]] < since + _LATE_MINUTES:
                    factors[reached[0], j, t, level] = self._options.widen_by
        np.maximum.at(self._last_minute, symbol, minute)
        return factors

    def count(self, minute: Int64, settles: Bool, past: Float64) -> None:
        """Count outcomes and misses; `past` as in `domain.forecasting.stated.Judged`."""
        _count(minute, settles, past, self._horizons, self._lengths, self._open_block, self._counts)

    # --- judging ---

    def _judge(self, at: int) -> tuple[list[DriftCheck], list[LogEntry]]:
        """Judge the blocks whose time has come when a candle of the minute `at` comes."""
        judged = (at - LAG_MINUTES) // self._lengths
        ready = []
        for j, (first, end) in enumerate(zip(self._open_block.tolist(), judged.tolist(), strict=True)):
            if first == _NONE:
                continue
            # Nothing can have been counted behind these two.
            ready += [
                ((block + 1) * int(self._lengths[j]), j, block) for block in (first, first + 1) if block < end
            ]
        checks: list[DriftCheck] = []
        logs: list[LogEntry] = []
        for end, j, block in sorted(ready):
            for t in range(len(TYPES)):
                for level in range(len(LEVELS)):
                    self._judge_one(j, t, level, end, self._counts[j, block % 2, t], checks, logs)
            self._counts[j, block % 2] = 0
        self._open_block = np.maximum(judged, self._open_block)
        self._due = int(((self._open_block + 1) * self._lengths).min()) + LAG_MINUTES
        self._widened = {key: since for key, since in self._widened.items() if at <= since + _LATE_MINUTES}
        return checks, logs

    def _judge_one(
        self,
        j: int,
        t: int,
        level: int,
        end: int,
        counts: Int64,
        checks: list[DriftCheck],
        logs: list[LogEntry],
    ) -> None:
        horizon, length = int(self._horizons[j]), int(self._lengths[j])
        outcomes = int(counts[0])
        if not outcomes or outcomes < _LEAST_SHARE * (length - horizon):
            return
        watch = self._watch((j, t, level))
        missed = int(counts[1 + level]) / outcomes
        news = watch.update(missed, alpha=MISSES[level], outcomes=outcomes / horizon)
        if (
            news == News.NONE
            and end // self._options.every_minutes == (end - length) // self._options.every_minutes
        ):
            return
        check = DriftCheck(
            at_ms=end * MINUTE_MS,
            symbol=self._options.label,
            kind=KIND,
            subject=f"{TYPES[t]} {LEVELS[level]}%",
            horizon_minutes=horizon,
            statistic=self._options.detector,
            value=watch.statistic,
            threshold=watch.threshold,
            drifted=watch.drifted,
            reaction=",".join(self._reactions) if watch.drifted and self._reactions else None,
        )
        checks.append(check)
        if news == News.DRIFTED and "widen" in self._reactions:
            self._widened[j, t, level] = end + LAG_MINUTES
        if news != News.NONE and "warn" in self._reactions:
            logs.append(_told(check, news))

    def _watch(self, key: tuple[int, int, int]) -> CoverageWatch:
        if key not in self._watches:
            self._watches[key] = CoverageWatch(
                detector=self._options.detector,
                threshold=self._options.threshold,
                error_rate=self._options.adwin_error_rate,
            )
        return self._watches[key]

    # --- state ---

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Hand out the state."""
        watches, widened = sorted(self._watches), sorted(self._widened)
        return {
            "times": np.array([self._latest, self._due], np.int64),
            "last_minute": self._last_minute,
            "open_block": self._open_block,
            "counts": self._counts,
            "watches": np.array(watches, np.int64).reshape(len(watches), 3),
            "widened": np.array([[*key, self._widened[key]] for key in widened], np.int64).reshape(-1, 4),
            **{f"watch.{k}": self._watches[key].state() for k, key in enumerate(watches)},
        }

    def take(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Go on from the state of `arrays`; begin anew where coverage was not watched before."""
        if not arrays:
            return
        self._latest, self._due = arrays["times"].tolist()
        for name, mine in (("last_minute", self._last_minute), ("counts", self._counts)):
            mine[...] = arrays[name]
        self._open_block[...] = arrays["open_block"]
        self._widened = {(j, t, level): since for j, t, level, since in arrays["widened"].tolist()}
        self._watches = {}
        for k, (j, t, level) in enumerate(arrays["watches"].tolist()):
            self._watch((j, t, level)).take(arrays[f"watch.{k}"])

    def drifted(self) -> list[str]:
        """Name the intervals that are called drifted."""
        return [
            f"{TYPES[t]} {LEVELS[level]}% over {self._horizons[j]} minutes"
            for (j, t, level), watch in sorted(self._watches.items())
            if watch.drifted
        ]


def _told(check: DriftCheck, news: News) -> LogEntry:
    interval = f"the interval of {check.subject} over {check.horizon_minutes} minutes"
    if news == News.OVER:
        entry = warning_of(check, f"{interval} holds again")
        return LogEntry(
            level="info",
            category=entry.category,
            subcategory=entry.subcategory,
            message=entry.message,
            context=entry.context,
            symbol=entry.symbol,
        )
    return warning_of(check, f"{interval} is called drifted: outcomes fall outside it too often")


# Row by row: what fell due, was made in the same block, and is in a block that was not judged yet.
def _count_rule(
    minute: Int64,
    settles: Bool,
    past: Float64,
    horizons: Int64,
    lengths: Int64,
    open_block: Int64,
    counts: Int64,
) -> None:
    for i in range(len(minute)):
        for j in range(len(horizons)):
            if not settles[i, j]:
                continue
            block = minute[i] // lengths[j]
            if block < open_block[j] or (minute[i] - horizons[j]) // lengths[j] != block:
                continue
            for t in range(past.shape[2]):
                said, count = past[i, j, t], counts[j, block % 2, t]
                value = said[ACTUAL]
                if np.isnan(value):
                    continue
                count[0] += 1
                for level in range(count.shape[0] - 1):
                    lower = LOWER_80 + 2 * level
                    if value < said[lower] or value > said[lower + 1]:
                        count[1 + level] += 1


_count = njit(cache=True)(_count_rule)
