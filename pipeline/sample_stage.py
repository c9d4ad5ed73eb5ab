"""From feature vectors to training samples, and the points of event time at which a training is due.

A sample joins the vector of a minute with what the price did afterwards. It is written when the target minute
closes, and never where that minute is absent. A training is asked for as a row of the job queue, so that it
happens once, whatever restarts in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.forecasting.retraining import retraining_points
from pipeline.snapshot import pack, unpack
from pipeline.stage import Rows, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, NULL_MS, FeatureFrame, Float32, Float64, Int64

PRIORITY = 5
#: Every float32 is told apart by so many digits.
FLOAT32_DIGITS = 9
# A row's key is its symbol's position times this, plus its minute; minutes stay below 2**32 for 8,000 years.
_SPAN = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """When trainings are due, and of what.

    Attributes
    ----------
    window_minutes
        How much data the first training waits for.
    every_minutes
        Event time between later ones.
    horizons
        Minutes ahead; one training each, but for families that learn all of them at once.
    model_types
        Families; one training each.
    joint_types
        Those of them that learn all horizons at once.
    per_symbol
        One model for each symbol instead of one for all.
    """

    window_minutes: int = 600
    every_minutes: int = 10_080
    horizons: tuple[int, ...] = (5, 15, 30, 60)
    model_types: tuple[str, ...] = ("xgboost",)
    joint_types: frozenset[str] = frozenset()
    per_symbol: bool = False

    def trainings(self) -> list[tuple[tuple[int, ...], str]]:
        """List the trainings of one symbol at one point of time: horizons, and the family."""
        if not self.horizons:
            return []
        joint = [(tuple(self.horizons), name) for name in self.model_types if name in self.joint_types]
        single = [name for name in self.model_types if name not in self.joint_types]
        return joint + [((horizon,), name) for horizon in self.horizons for name in single]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Minutes whose targets are not all known yet."""

    position: Int64
    minute: Int64
    close: Float64
    vector: Float32

    def kept(self, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> _Waiting:
        return _Waiting(self.position[chosen], self.minute[chosen], self.close[chosen], self.vector[chosen])

    def joined(self, other: _Waiting) -> _Waiting:
        return _Waiting(
            np.concatenate([self.position, other.position]),
            np.concatenate([self.minute, other.minute]),
            np.concatenate([self.close, other.close]),
            np.concatenate([self.vector, other.vector]),
        )


class SampleStage:
    """Writes training samples and asks for trainings.

    Parameters
    ----------
    symbols
        The symbols whose candles come.
    feature_names
        Names of the vector's columns, in order.
    horizons
        Minutes ahead of the targets.
    thinning_minutes
        Samples are of the minutes that are multiples of this.
    retraining
        When a training is due.
    """

    name = "sample"
    version = 1

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        feature_names: Sequence[str],
        horizons: Sequence[int] = (5, 15, 30, 60),
        thinning_minutes: int = 5,
        retraining: Retraining | None = None,
    ) -> None:
        if thinning_minutes < 1:
            raise ValueError(f"thinning_minutes={thinning_minutes} must be at least 1")
        self._symbols = SymbolIndex(symbols)
        self._names = tuple(feature_names)
        self._horizons = tuple(sorted(set(horizons)))
        self._thinning = thinning_minutes
        self._retraining = retraining or Retraining()
        self._last_minute = np.full(len(self._symbols), -1, np.int64)
        self._first_minute = np.full(len(self._symbols), -1, np.int64)
        self._complete_to_ms = NULL_MS
        self._waiting = _Waiting(
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0),
            np.empty((0, len(self._names)), np.float32),
        )
        # Retraining is left out: with other points of time the same state goes on.
        self._settings = {
            "symbols": self._symbols.symbols,
            "feature_names": self._names,
            "horizons": self._horizons,
            "thinning_minutes": thinning_minutes,
        }

    def step(self, batch: FeatureFrame) -> StepResult:
        """Write the samples whose targets have come, and ask for the trainings that are due."""
        position = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, position, minute, self._last_minute)
        if len(batch) and batch.vector.shape[1] != len(self._names):
            raise ValueError(
                f"vectors of {batch.vector.shape[1]} features, expected {len(self._names)}: "
                "the producer runs another version"
            )

        close = batch.ohlcv[:, 3]
        fresh = batch.is_complete & (minute % self._thinning == 0)
        waiting = self._waiting
        if fresh.any():
            waiting = waiting.joined(
                _Waiting(position[fresh], minute[fresh], close[fresh], batch.vector[fresh])
            )
        samples = self._samples(waiting, position, minute, close, batch.schema_hash)
        self._note_first(position, minute)
        jobs = self._jobs(batch.complete_to_ms)

        longest = self._horizons[-1]
        self._waiting = waiting.kept((waiting.minute + longest) * MINUTE_MS > batch.complete_to_ms)
        np.maximum.at(self._last_minute, position, minute)
        self._complete_to_ms = max(self._complete_to_ms, batch.complete_to_ms)
        return StepResult(
            rows=[rows for rows in (samples, jobs) if rows is not None],
            event_time_ms=batch.complete_to_ms,
        )

    def _samples(
        self, waiting: _Waiting, position: Int64, minute: Int64, close: Float64, schema_hash: str
    ) -> Rows | None:
        """Join the waiting minutes with the closes that came."""
        key = position * _SPAN + minute
        order = np.argsort(key, kind="stable")
        key = key[order]
        start = waiting.position * _SPAN + waiting.minute
        found: list[tuple[Int64, Int64, int]] = []
        for horizon in self._horizons:
            place = np.minimum(np.searchsorted(key, start + horizon), max(len(key) - 1, 0))
            hit = np.flatnonzero(key[place] == start + horizon) if len(key) else np.empty(0, np.int64)
            if len(hit):
                found.append((hit, order[place[hit]], horizon))
        if not found:
            return None
        row = np.concatenate([hit for hit, _, _ in found])
        target_close = close[np.concatenate([target for _, target, _ in found])]
        horizon_minutes = np.concatenate([np.full(len(hit), horizon) for hit, _, horizon in found])
        before = waiting.close[row]
        known_at = (waiting.minute[row] + horizon_minutes + 1) * MINUTE_MS
        columns = {
            "symbol": np.array(self._symbols.symbols, object)[waiting.position[row]],
            "timestamp": waiting.minute[row] * MINUTE_MS,
            "known_at": known_at,
            "forecast_horizon": horizon_minutes,
            "target": 100.0 * (target_close / before - 1.0),
            "features": self._by_name(waiting.vector, row),
            "metadata": [
                {"close": first, "target_close": then, "schema_hash": schema_hash}
                for first, then in zip(before.tolist(), target_close.tolist(), strict=True)
            ],
            "created_at": known_at,
        }
        return Rows(table="mlTrainingSamples", op="insert", columns=columns)

    def _by_name(self, vectors: Float32, row: Int64) -> list[dict[str, float | None]]:
        """Make the JSON of each row; the horizons of one minute share theirs."""
        unique, back = np.unique(row, return_inverse=True)
        values = few_digits(vectors[unique])
        known = np.isfinite(values)
        named: list[dict[str, float | None]] = []
        for numbers, these in zip(values.tolist(), known, strict=True):
            present = (
                numbers if these.all() else [n if k else None for n, k in zip(numbers, these, strict=True)]
            )
            named.append(dict(zip(self._names, present, strict=True)))
        return [named[k] for k in back]

    def _note_first(self, position: Int64, minute: Int64) -> None:
        if (self._first_minute >= 0).all():
            return
        earliest = np.full(len(self._symbols), np.iinfo(np.int64).max)
        np.minimum.at(earliest, position, minute)
        new = (self._first_minute < 0) & (earliest < np.iinfo(np.int64).max)
        self._first_minute[new] = earliest[new]

    def _jobs(self, complete_to_ms: int) -> Rows | None:
        """Ask for every training whose point of time is reached and was not before."""
        seen = self._first_minute >= 0
        if not seen.any() or complete_to_ms <= self._complete_to_ms:
            return None
        policy = self._retraining
        points = retraining_points(
            int(self._first_minute[seen].min()) * MINUTE_MS,
            self._complete_to_ms,
            complete_to_ms,
            policy.window_minutes,
            policy.every_minutes,
        )
        due = [
            (point, symbol, first_ms, horizons, model_type)
            for point in points
            for symbol, first_ms in self._trained(point)
            for horizons, model_type in policy.trainings()
        ]
        if not due:
            return None
        train_at = np.array([point for point, *_ in due], np.int64)
        columns: dict[str, Any] = {
            "job_type": ["TRAIN"] * len(due),
            "status": ["PENDING"] * len(due),
            "priority": np.full(len(due), PRIORITY, np.int64),
            "created_at": train_at + MINUTE_MS,
            "train_at": train_at,
            "symbol": [symbol for _, symbol, *_ in due],
            # A joint training is known by its longest horizon.
            "forecast_horizon": np.array([max(horizons) for *_, horizons, _ in due], np.int64),
            "settings": [
                {"horizons": list(horizons)} if len(horizons) > 1 else {} for *_, horizons, _ in due
            ],
            "train_model_type": [model_type for *_, model_type in due],
            "train_target_var": ["pct_change"] * len(due),
            "train_start": np.array([first_ms for _, _, first_ms, _, _ in due], np.int64),
            "train_end": train_at,
        }
        return Rows(table="ml_jobs", op="insert", columns=columns)

    def _trained(self, point_ms: int) -> list[tuple[str, int]]:
        """List what is trained at a point of time, with the first candle it can learn from."""
        first_ms = self._first_minute * MINUTE_MS
        seen = self._first_minute >= 0
        if not self._retraining.per_symbol:
            return [(ALL_SYMBOLS, int(first_ms[seen].min()))]
        # A symbol that was listed later is trained once it has the window itself.
        ready = seen & (first_ms + self._retraining.window_minutes * MINUTE_MS <= point_ms)
        return [(self._symbols.symbols[k], int(first_ms[k])) for k in np.flatnonzero(ready)]

    def snapshot(self) -> bytes:
        """Write the minutes that wait for a target, and how far the stage has come."""
        waiting = self._waiting
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays={
                "position": waiting.position,
                "minute": waiting.minute,
                "close": waiting.close,
                "vector": waiting.vector,
                "last_minute": self._last_minute,
                "first_minute": self._first_minute,
            },
            values={"complete_to_ms": self._complete_to_ms},
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols, features, horizons and thinning.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, values = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._waiting = _Waiting(arrays["position"], arrays["minute"], arrays["close"], arrays["vector"])
        self._last_minute = arrays["last_minute"]
        self._first_minute = arrays["first_minute"]
        self._complete_to_ms = values["complete_to_ms"]

    def summary(self) -> dict[str, Any]:
        """Tell how many minutes wait for a target, and since when there are candles."""
        seen = self._first_minute[self._first_minute >= 0]
        return {
            "waiting": len(self._waiting.minute),
            "first_minute_ms": int(seen.min()) * MINUTE_MS if len(seen) else None,
        }


def few_digits(values: Float32) -> Float64:
    """Widen float32 to float64 with hardly more decimal digits than tell them apart.

    Written as JSON, 100.3 then is 100.3000031 and not 100.30000305175781; read back and narrowed, the bits
    are the same.
    """
    wide = values.astype(np.float64)
    _, exponent = np.frexp(np.where(np.isfinite(wide) & (wide != 0.0), wide, 1.0))
    # 2**(exponent-1) <= |value|, so this many decimals keep at least FLOAT32_DIGITS digits.
    decimals = FLOAT32_DIGITS - 1 - np.floor((exponent - 1) * np.log10(2.0)).astype(np.int64)
    # Powers of ten are exact up to 22; beyond, the number is so small or large that it keeps its own digits.
    plain = (decimals >= 0) & (decimals <= 22)
    scale = 10.0 ** np.where(plain, decimals, 0)
    rounded: Float64 = np.where(plain, np.rint(wide * scale) / scale, wide)
    return rounded
