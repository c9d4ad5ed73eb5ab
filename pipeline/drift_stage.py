"""Between what models say and what is made of it: watches whether they are still worth listening to.

What every serving model says is remembered until its target minute closes, and then compared with the
no-change forecast: squared errors of the percent change, and the Brier score of the probability against 1/4.
One value a block of time goes to a detector for each model version and horizon (see `domain.drift.watch`).
Once a drift is found, the predictions of that version and horizon are changed as the settings say, until
another version serves.

Blocks are judged `LAG_MINUTES` of event time after their end, when every symbol's minutes have come, so that
rows depend on candles alone, and not on how they were batched. Sums are kept in whole numbers: they are the
same in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from domain.drift.watch import Detector, Watch, block_minutes, inside_one_block
from pipeline.drift_rows import DriftCheck, next_checkpoint_ms, rows_of, warning_of
from pipeline.drift_waiting import UNIT, Waiting
from pipeline.snapshot import pack, unpack
from pipeline.stage import LogEntry, StepResult
from pipeline.symbol_index import SymbolIndex, require_new_minutes
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, NULL_MS, Float64, Int64, PredictionFrame, Reason

KINDS = ("error", "brier")
REACTIONS = ("warn", "widen", "lower_weight", "baseline", "retrain")
#: A symbol's candle may come so many minutes after those of others and still count.
LAG_MINUTES = 12
#: A version that has said nothing for so long is forgotten, in minutes of event time.
FORGET_MINUTES = 10_080
_SPAN = 2**32
_NONE = -1
#: Share of one symbol's forecasts of a block that must have an outcome.
_LEAST_SHARE = 0.5


class DriftStage:
    """Watches the serving models, and changes what drifted ones say.

    Parameters
    ----------
    symbols
        The symbols whose predictions come.
    horizons
        Minutes ahead, as in the frames.
    reactions
        What a drift leads to: `warn` (a log entry), `widen` (the intervals, which the forecaster states),
        `lower_weight`, `baseline`, `retrain` (a training is asked for at the next checkpoint).
    detector, threshold, adwin_error_rate
        See `domain.drift.watch.Watch`.
    weight_left
        `lower_weight`: share left of the forecast and of the probability's distance from 1/2.
    widen_by
        `widen`: factor on the intervals.
    every_minutes
        Checkpoints: the state of all detectors is written there, and trainings are asked for there.
    per_symbol
        Models serve one symbol each.
    label
        Stands for the symbols in the rows, where models are not of one symbol each.
    """

    name = "drift"
    version = 1

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        horizons: Sequence[int],
        reactions: Sequence[str] = ("warn",),
        detector: Detector = "page_hinkley",
        threshold: float = 16.0,
        adwin_error_rate: float = 0.002,
        weight_left: float = 0.5,
        widen_by: float = 1.5,
        every_minutes: int = 1440,
        per_symbol: bool = False,
        label: str = ALL_SYMBOLS,
    ) -> None:
        if unknown := sorted(set(reactions) - set(REACTIONS)):
            raise ValueError(f"no reaction is called {', '.join(unknown)}; there are {', '.join(REACTIONS)}")
        self._symbols = SymbolIndex(symbols)
        self._horizons = tuple(horizons)
        self._reactions = tuple(name for name in REACTIONS if name in reactions)
        self._detector, self._threshold, self._error_rate = detector, threshold, adwin_error_rate
        self._weight_left = np.float32(weight_left)
        self._widen_by = np.float32(widen_by)
        self._every = every_minutes
        self._per_symbol = per_symbol
        self._label = label
        self._last_minute = np.full(len(self._symbols), _NONE, np.int64)
        self._latest = _NONE
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        #: By version: the symbol it serves.
        self._serves: dict[str, str] = {}
        self._waiting = Waiting.none(len(self._horizons))
        #: By version, horizon and block: outcomes, and those with a direction; then the sums of model error,
        #: no-change error and Brier loss.
        self._sums: dict[tuple[str, int, int], list[int]] = {}
        self._watches: dict[tuple[str, int, str], Watch] = {}
        #: By version and horizon: the first minute of the reaction.
        self._drifted: dict[tuple[str, int], int] = {}
        self._settings = {
            "symbols": self._symbols.symbols,
            "horizons": self._horizons,
            "detector": detector,
            "threshold": threshold,
            "adwin_error_rate": adwin_error_rate,
            "every_minutes": every_minutes,
        }

    def step(self, batch: PredictionFrame) -> StepResult:
        """Score what is due, judge the blocks that have ended, and change what drifted models say."""
        position = self._symbols.positions(batch)
        minute = batch.open_time_ms // MINUTE_MS
        require_new_minutes(self._symbols, position, minute, self._last_minute)
        if len(batch) and batch.horizons != self._horizons:
            raise ValueError(f"predictions for {batch.horizons} minutes, expected {self._horizons}")
        self._remember(batch, position, minute)
        self._score(position, minute, batch.ohlcv[:, 3])
        checks, logs = self._judge(minute)
        np.maximum.at(self._last_minute, position, minute)
        return StepResult(
            rows=rows_of(checks),
            out=self._changed(batch, minute),
            event_time_ms=batch.complete_to_ms,
            logs=logs,
        )

    # --- remembering and scoring ---

    def _remember(self, batch: PredictionFrame, position: Int64, minute: Int64) -> None:
        spoke = (batch.model_index > 0) & np.isfinite(batch.predicted_pct) & np.isfinite(batch.probability_up)
        for j, horizon in enumerate(self._horizons):
            spoke[:, j] &= inside_one_block(minute, horizon)
        rows = np.flatnonzero(spoke.any(axis=1))
        if not len(rows):
            return
        place = np.array([self._place(name) for name in batch.models], np.int64)
        model = np.where(spoke[rows], place[batch.model_index[rows]], _NONE)
        for number in np.unique(model[model != _NONE]).tolist():
            if self._names[number] not in self._serves:
                first = rows[int((model == number).any(axis=1).argmax())]
                symbol = self._symbols.symbols[position[first]] if self._per_symbol else self._label
                self._serves[self._names[number]] = symbol
        fresh = Waiting(
            position=position[rows],
            minute=minute[rows],
            close=batch.ohlcv[rows, 3],
            predicted=batch.predicted_pct[rows],
            up=batch.probability_up[rows],
            model=model,
        )
        self._waiting = self._waiting.joined(fresh)

    def _place(self, version: str) -> int:
        if version not in self._places:
            self._places[version] = len(self._names)
            self._names.append(version)
        return self._places[version]

    def _score(self, position: Int64, minute: Int64, close: Float64) -> None:
        """Join the waiting forecasts with the closes that came, and add up their losses by block."""
        if not len(minute):
            return
        waiting = self._waiting
        key = position * _SPAN + minute
        order = np.argsort(key, kind="stable")
        key = key[order]
        start = waiting.position * _SPAN + waiting.minute
        for j, horizon in enumerate(self._horizons):
            place = np.minimum(np.searchsorted(key, start + horizon), len(key) - 1)
            due = np.flatnonzero((key[place] == start + horizon) & (waiting.model[:, j] != _NONE))
            if len(due):
                actual = 100.0 * (close[order[place[due]]] / waiting.close[due] - 1.0)
                self._add(j, waiting.kept(due), actual)
        # What is past its longest horizon can have no outcome any more.
        longest = max(self._horizons)
        done = self._last_minute.copy()
        np.maximum.at(done, position, minute)
        self._waiting = waiting.kept(waiting.minute + longest > done[waiting.position])

    def _add(self, j: int, made: Waiting, actual: Float64) -> None:
        horizon = self._horizons[j]
        for model, number, added in made.losses(j, horizon, actual):
            if (number + 1) * block_minutes(horizon) + LAG_MINUTES <= self._latest:
                continue  # it was judged already
            before = self._sums.setdefault((self._names[model], horizon, number), [0] * 5)
            for k, value in enumerate(added):
                before[k] += value

    # --- judging ---

    def _judge(self, minute: Int64) -> tuple[list[DriftCheck], list[LogEntry]]:
        """Judge the blocks whose time has come, in the order of their ends."""
        if not len(minute):
            return [], []
        times = np.unique(minute)
        self._latest = max(self._latest, int(times[-1]))
        ready = sorted(
            ((number + 1) * block_minutes(horizon), horizon, version, number)
            for version, horizon, number in self._sums
            if (number + 1) * block_minutes(horizon) + LAG_MINUTES <= self._latest
        )
        checks: list[DriftCheck] = []
        logs: list[LogEntry] = []
        for end, horizon, version, number in ready:
            sums = self._sums.pop((version, horizon, number))
            if sums[0] < _LEAST_SHARE * (block_minutes(horizon) - horizon):
                continue
            # The first candle that could show it: that of a later minute where there was a halt.
            seen = int(times[times >= min(end + LAG_MINUTES, times[-1])][0])
            for kind, value in _values(sums):
                check = self._watch(version, horizon, kind).update(value)
                found, told = self._tell(version, horizon, kind, end, seen, news=check)
                checks += found
                logs += told
            for kind in KINDS:
                self._watch(version, horizon, kind).last_block = end
        self._forget()
        return checks, logs

    def _watch(self, version: str, horizon: int, kind: str) -> Watch:
        key = (version, horizon, kind)
        if key not in self._watches:
            self._watches[key] = Watch(
                detector=self._detector, threshold=self._threshold, error_rate=self._error_rate
            )
        return self._watches[key]

    def _tell(
        self, version: str, horizon: int, kind: str, end: int, seen: int, *, news: bool
    ) -> tuple[list[DriftCheck], list[LogEntry]]:
        """Make a row of a drift, and of every detector at the block that ends at or behind a checkpoint."""
        length = block_minutes(horizon)
        if not news and end // self._every == (end - length) // self._every:
            return [], []
        watch = self._watch(version, horizon, kind)
        first = news and (version, horizon) not in self._drifted
        if first:
            self._drifted[version, horizon] = end + LAG_MINUTES
        asks = first and "retrain" in self._reactions
        check = DriftCheck(
            at_ms=end * MINUTE_MS,
            symbol=self._serves.get(version, self._label),
            kind=kind,
            subject=version[:50],
            horizon_minutes=horizon,
            statistic=self._detector,
            value=watch.statistic,
            threshold=watch.threshold,
            drifted=watch.drifted,
            reaction=",".join(self._reactions) if watch.drifted and self._reactions else None,
            train_at_ms=next_checkpoint_ms((seen + 1) * MINUTE_MS, self._every) if asks else NULL_MS,
        )
        if not (first and "warn" in self._reactions):
            return [check], []
        what = "errors" if kind == "error" else "probabilities"
        message = f"{version} is called drifted: its {what} over {horizon} minutes have become worse"
        return [check], [warning_of(check, message)]

    def _forget(self) -> None:
        """Forget versions that no block has heard of for long."""
        newest: dict[int, int] = {}
        for (_, horizon, _), watch in self._watches.items():
            newest[horizon] = max(newest.get(horizon, _NONE), watch.last_block)
        gone = {
            (version, horizon)
            for (version, horizon, _), watch in self._watches.items()
            if newest[horizon] - watch.last_block > max(FORGET_MINUTES, 4 * block_minutes(horizon))
        }
        if not gone:
            return
        self._watches = {key: watch for key, watch in self._watches.items() if key[:2] not in gone}
        self._drifted = {key: since for key, since in self._drifted.items() if key not in gone}
        heard = {version for version, *_ in (*self._watches, *self._sums)} | self._awaited()
        self._serves = {version: symbol for version, symbol in self._serves.items() if version in heard}
        self._renumber(sorted(heard))

    def _awaited(self) -> set[str]:
        waiting = self._waiting.model
        return {self._names[k] for k in np.unique(waiting[waiting != _NONE]).tolist()}

    def _renumber(self, names: list[str]) -> None:
        """Give the versions the places that they have in a list, which names all that are waited for."""
        self._waiting = replace(self._waiting, model=self._numbered(names))
        self._names, self._places = names, {name: k for k, name in enumerate(names)}

    def _numbered(self, names: list[str]) -> Int64:
        # The last one is that of "none".
        places = [names.index(name) if name in names else _NONE for name in self._names]
        place = np.array([*places, _NONE], np.int64)
        numbered: Int64 = np.take(place, self._waiting.model)
        return numbered

    # --- reacting ---

    def _changed(self, batch: PredictionFrame, minute: Int64) -> PredictionFrame:
        """Change what drifted models say from the minute on in which it is known."""
        acting = [name for name in ("widen", "lower_weight", "baseline") if name in self._reactions]
        chosen = np.zeros(batch.model_index.shape, np.bool_)
        for (version, horizon), since in self._drifted.items():
            if version in batch.models:
                column = self._horizons.index(horizon)
                mine = batch.model_index[:, column] == batch.models.index(version)
                chosen[:, column] |= mine & (minute >= since)
        batch = replace(batch, widen=batch.widened())
        if not acting or not chosen.any():
            return batch
        if "widen" in acting:
            batch = replace(batch, widen=np.where(chosen, self._widen_by, batch.widened()))
        if "baseline" in acting:
            return replace(
                batch,
                predicted_pct=np.where(chosen, np.float32(0.0), batch.predicted_pct),
                probability_up=np.where(chosen, np.float32(np.nan), batch.probability_up),
                model_index=np.where(chosen, np.int16(0), batch.model_index),
                reason=np.where(chosen, np.int8(Reason.DRIFT), batch.reason),
            )
        if "lower_weight" not in acting:
            return batch
        half = np.float32(0.5)
        lowered = half + (batch.probability_up - half) * self._weight_left
        return replace(
            batch,
            predicted_pct=np.where(chosen, batch.predicted_pct * self._weight_left, batch.predicted_pct),
            probability_up=np.where(chosen, lowered, batch.probability_up),
        )

    # --- state ---

    def snapshot(self) -> bytes:
        """Write the waiting forecasts, the sums of unfinished blocks and the detectors."""
        waiting = self._waiting
        # In the order of their names, whatever the order was in which they came.
        names = sorted(self._awaited())
        order = np.lexsort((waiting.position, waiting.minute))
        columns = replace(waiting, model=self._numbered(names)).kept(order).columns()
        sums, drifted = sorted(self._sums), sorted(self._drifted)
        watches = sorted(self._watches)
        return pack(
            stage=self.name,
            version=self.version,
            settings=self._settings,
            arrays={
                **{f"waiting.{name}": column for name, column in columns.items()},
                "last_minute": self._last_minute,
                "sums": np.array([self._sums[key] for key in sums], np.int64).reshape(len(sums), 5),
                **{f"watch.{k}": self._watches[key].state() for k, key in enumerate(watches)},
            },
            values={
                "names": names,
                "serves": dict(sorted(self._serves.items())),
                "latest": self._latest,
                "sums": [list(key) for key in sums],
                "watches": [list(key) for key in watches],
                "drifted": [[*key, self._drifted[key]] for key in drifted],
            },
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same symbols, horizons and detector.

        Raises
        ------
        StateVersionError
            If it is of another version or other settings.
        """
        arrays, values = unpack(state, stage=self.name, version=self.version, settings=self._settings)
        self._waiting = Waiting(**{name: arrays[f"waiting.{name}"] for name in Waiting.NAMES})
        self._last_minute = arrays["last_minute"]
        self._latest = values["latest"]
        self._names, self._serves = list(values["names"]), dict(values["serves"])
        self._places = {name: k for k, name in enumerate(self._names)}
        self._sums = {
            (version, horizon, number): sums
            for (version, horizon, number), sums in zip(values["sums"], arrays["sums"].tolist(), strict=True)
        }
        self._drifted = {(version, horizon): since for version, horizon, since in values["drifted"]}
        self._watches = {}
        for k, (version, horizon, kind) in enumerate(values["watches"]):
            self._watch(version, horizon, kind).take(arrays[f"watch.{k}"])

    def summary(self) -> dict[str, Any]:
        """Name the models that are called drifted, by horizon."""
        found: dict[str, list[int]] = {}
        for version, horizon in sorted(self._drifted):
            found.setdefault(version, []).append(horizon)
        return {"watched": len(self._watches) // len(KINDS), "drifted": found}


def _values(sums: list[int]) -> list[tuple[str, float]]:
    """Make the values of a block, 0 for the no-change forecast, higher for worse."""
    _, moved, error, no_change, brier = sums
    found = []
    if no_change > 0:
        # Over the block's own no-change error: a wild hour counts as much as a calm one.
        found.append(("error", min(error / no_change - 1.0, 1.0)))
    if moved > 0:
        found.append(("brier", brier / moved / UNIT))
    return found
