"""From feature vectors to the question whether they are still those that the models learned from.

At fixed points of event time the block of minutes that ends there is compared with the blocks before the last
retraining point. Only sketches of the blocks are kept, so that memory does not grow with symbols or time. A
block is judged once all of its minutes are in, or absent for good, so the result does not depend on batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from domain.drift.feature_drift import FeatureDrift, compare
from domain.drift.sketch import RANKS, Counts, Summary
from domain.forecasting.retraining import retraining_points
from pipeline.drift_rows import ALL_FEATURES, DriftCheck, rows_of, warning_of
from pipeline.snapshot import pack, unpack
from pipeline.stage import LogEntry, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, NULL_MS, FeatureFrame

#: Names in the log entry of an alarm.
MOST_NAMES = 10
#: Share of the rows of the fullest block that a block must have.
_PART = 0.5
_NEVER = -1


class FeatureDriftStage:
    """Compares every block of event time with what the models were trained on.

    Parameters
    ----------
    symbols
        The symbols whose vectors come; they are judged as one, as a pooled model is trained on them as one.
    feature_names
        Names of the vector's columns, in order.
    retraining_window_minutes, retraining_every_minutes
        When trainings are due, see `domain.forecasting.retraining`.
    every_minutes
        Length of a block; blocks end at event times that are multiples of it.
    reference_blocks, least_reference_blocks
        How many blocks the reference holds at most, and must hold.
    psi_threshold, error_rate
        See `domain.drift.feature_drift.compare`.
    share
        Share of the features that must have drifted for an alarm.
    thinning_minutes
        Only minutes that are multiples of this are looked at: their neighbours say the same.
    reactions
        What follows an alarm: `warn`, and `retrain` for a training at the point of the check.
    label
        Stands for the symbols in the rows.
    """

    name = "feature_drift"
    version = 1

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        feature_names: Sequence[str],
        retraining_window_minutes: int = 600,
        retraining_every_minutes: int = 10_080,
        every_minutes: int = 1440,
        reference_blocks: int = 14,
        least_reference_blocks: int = 7,
        psi_threshold: float = 0.25,
        error_rate: float = 0.01,
        share: float = 0.1,
        thinning_minutes: int = 5,
        reactions: Sequence[str] = ("warn",),
        label: str = ALL_SYMBOLS,
    ) -> None:
        if not 2 <= least_reference_blocks <= reference_blocks:
            raise ValueError(
                f"least_reference_blocks={least_reference_blocks} must be at least 2 and at most"
                f" reference_blocks={reference_blocks}"
            )
        self._symbols = SymbolIndex(symbols)
        self._names = tuple(feature_names)
        self._window, self._retrain_every = retraining_window_minutes, retraining_every_minutes
        self._every = every_minutes
        self._most, self._least = reference_blocks, least_reference_blocks
        self._psi_threshold, self._error_rate, self._share = psi_threshold, error_rate, share
        self._thinning = thinning_minutes
        self._reactions = [name for name in ("warn", "retrain") if name in reactions]
        self._label = label
        self._first_minute = _NEVER
        self._last_minute = np.full(len(self._symbols), _NEVER, np.int64)
        #: Every block up to this one has been judged.
        self._done = _NEVER
        self._counts: dict[int, Counts] = {}
        self._summaries: dict[int, Summary] = {}
        self._last_share = 0.0
        # What only decides about alarms is left out: with other thresholds the same state goes on.
        self._settings = {
            "symbols": self._symbols.symbols,
            "feature_names": self._names,
            "every_minutes": every_minutes,
            "thinning_minutes": thinning_minutes,
        }

    def step(self, batch: FeatureFrame) -> StepResult:
        """Count the rows of a batch, and judge the blocks that are complete."""
        position = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, position, minute, self._last_minute)
        if len(batch) and batch.vector.shape[1] != len(self._names):
            raise ValueError(
                f"vectors of {batch.vector.shape[1]} features, expected {len(self._names)}: "
                "the producer runs another version"
            )
        self._count(batch)
        np.maximum.at(self._last_minute, position, minute)
        checks: list[DriftCheck] = []
        logs: list[LogEntry] = []
        for block in sorted(self._counts):
            if batch.complete_to_ms // MINUTE_MS < (block + 1) * self._every - 1:
                break
            found, told = self._finish(block)
            checks += found
            logs += told
        return StepResult(rows=rows_of(checks), event_time_ms=batch.complete_to_ms, logs=logs)

    def _count(self, batch: FeatureFrame) -> None:
        minute = batch.open_time_ms // MINUTE_MS
        if len(minute):
            earliest = int(minute.min())
            self._first_minute = min(self._first_minute, earliest) if self._first_minute >= 0 else earliest
        block = minute // self._every
        wanted = batch.is_complete & (minute % self._thinning == 0) & (block > self._done)
        for number in np.unique(block[wanted]).tolist():
            counts = self._counts.setdefault(number, Counts(len(self._names)))
            counts.add(batch.vector[wanted & (block == number)])

    def _finish(self, block: int) -> tuple[list[DriftCheck], list[LogEntry]]:
        counts = self._counts.pop(block)
        current = counts.summary()
        reference = self._reference(block)
        self._done = block
        self._summaries[block] = current
        # A later reference reaches back to the last retraining point, and from there over its own blocks.
        oldest = self._first_kept(block)
        self._summaries = {k: kept for k, kept in self._summaries.items() if k >= oldest}
        if len(reference) < self._least or current.rows < _PART * max(known.rows for known in reference):
            return [], []
        found = compare(
            reference,
            current,
            psi_threshold=self._psi_threshold,
            error_rate=self._error_rate,
            most_rows=current.rows,
        )
        return self._tell(block, found)

    def _reference(self, block: int) -> list[Summary]:
        """Give the blocks that ended by the last retraining point before this block."""
        trained_ms = self._trained_by(block * self._every * MINUTE_MS)
        if trained_ms is None:
            return []
        last = trained_ms // (self._every * MINUTE_MS)
        blocks = [self._summaries[number] for number in sorted(self._summaries) if number < last]
        most_rows = max((known.rows for known in blocks), default=0)
        # A block of a start or a long halt is another time of day, not another market.
        whole = [known for known in blocks if _PART * most_rows <= known.rows]
        return whole[-self._most :]

    def _trained_by(self, to_ms: int) -> int | None:
        first_ms = self._first_minute * MINUTE_MS
        points = retraining_points(first_ms, NULL_MS, to_ms, self._window, self._retrain_every)
        return points[-1] if points else None

    def _first_kept(self, block: int) -> int:
        behind = -(-self._retrain_every // self._every) + 1
        return block - behind - self._most

    def _tell(self, block: int, found: FeatureDrift) -> tuple[list[DriftCheck], list[LogEntry]]:
        at_ms = (block + 1) * self._every * MINUTE_MS
        drifted = found.drifted
        self._last_share = float(drifted.mean())
        alarm = bool(self._last_share >= self._share) and bool(drifted.any())
        reaction = ",".join(self._reactions) if alarm and self._reactions else None

        def check(subject: str, statistic: str, value: float, threshold: float, beyond: bool) -> DriftCheck:
            return DriftCheck(
                at_ms=at_ms,
                symbol=self._label,
                kind="features",
                subject=subject[:50],
                horizon_minutes=0,
                statistic=statistic,
                value=value,
                threshold=threshold,
                drifted=beyond,
            )

        checks = []
        for name, psi, psi_at, ks, ks_at in zip(
            self._names,
            found.psi.tolist(),
            found.psi_threshold.tolist(),
            found.ks.tolist(),
            found.ks_threshold.tolist(),
            strict=True,
        ):
            checks.append(check(name, "psi", psi, psi_at, psi > psi_at))
            checks.append(check(name, "ks", ks, ks_at, ks > ks_at))
        whole = DriftCheck(
            at_ms=at_ms,
            symbol=self._label,
            kind="features",
            subject=ALL_FEATURES,
            horizon_minutes=0,
            statistic="share",
            value=self._last_share,
            threshold=self._share,
            drifted=alarm,
            reaction=reaction,
            train_at_ms=at_ms if alarm and "retrain" in self._reactions else NULL_MS,
        )
        logs = []
        if alarm and "warn" in self._reactions:
            worst = np.argsort(-np.where(drifted, found.psi, 0.0), kind="stable")[:MOST_NAMES]
            named = ", ".join(self._names[k] for k in worst.tolist() if drifted[k])
            message = (
                f"{int(drifted.sum())} of {len(self._names)} features are not what the models know: {named}"
            )
            logs = [warning_of(whole, message)]
        return [*checks, whole], logs

    def snapshot(self) -> bytes:
        """Write the sketches."""
        blocks = sorted(self._summaries)
        shape = (len(blocks), len(self._names))
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays={
                "blocks": np.array(blocks, np.int64),
                "ranks": np.array([self._summaries[k].ranks for k in blocks], np.uint16).reshape(
                    *shape, RANKS
                ),
                "rows": np.array([self._summaries[k].rows for k in blocks], np.int64),
                "last_minute": self._last_minute,
                "missing": np.array([self._summaries[k].missing for k in blocks]).reshape(shape),
                **{f"counts.{block}": self._counts[block].state() for block in sorted(self._counts)},
            },
            values={"first_minute": self._first_minute, "done": self._done, "share": self._last_share},
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols, features and length of blocks.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, values = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._first_minute, self._done = values["first_minute"], values["done"]
        self._last_share = values["share"]
        self._last_minute = arrays["last_minute"]
        ranks, missing, rows = arrays["ranks"], arrays["missing"], arrays["rows"].tolist()
        self._summaries = {
            block: Summary(ranks[k], missing[k], rows[k]) for k, block in enumerate(arrays["blocks"].tolist())
        }
        self._counts = {}
        for name, counted in arrays.items():
            if name.startswith("counts."):
                counts = Counts(len(self._names))
                counts.take(counted)
                self._counts[int(name.removeprefix("counts."))] = counts

    def summary(self) -> dict[str, Any]:
        """Tell how many blocks are known, and the share of features that had drifted at the last look."""
        return {"blocks": len(self._summaries), "drifted_share": round(self._last_share, 4)}
