"""Looks for better settings before a training, by trials on rows that only the training learns from.

The rows to learn from are walked through by the one splitter: several times, a model of the earlier ones is
held against the later ones. Early-stopping, calibration and validation rows of the training are never looked
at. The settings as given are the first trial, so nothing is chosen that does worse in the trials. What to try
next, Optuna proposes from the trials before; each proposal has a seed of its own, so that a killed tuning
that goes on proposes the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from domain.evaluation.walk_forward import TooFewRowsError, WalkForward
from domain.models import families, serving
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Cancelled,
    Family,
    NoSignalError,
    Progress,
    TrainingCancelledError,
    TrainingRows,
    check_rows,
)
from schemas.frames import Float64
from training.checkpoints import TuningCheckpoints
from training.parts import unproven_cycles

if TYPE_CHECKING:
    from training.fitting import FitRequest

#: Parts of time that each trial is scored on, one behind the other, and the share of each.
FOLDS = 3
FOLD_FRACTION = 0.2
#: Trials, the given settings among them, before proposals follow what was good.
_AT_RANDOM = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedTrial:
    """What was tried: its values of the settings that are looked for, and its skill against no change."""

    settings: Mapping[str, float]
    skill: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What came of a tuning.

    Attributes
    ----------
    trials
        In order; the first are the settings as given. None if the rows were too few to tune by.
    note
        Why there are no trials; empty if there are.
    """

    trials: tuple[TunedTrial, ...] = ()
    note: str = ""

    @property
    def chosen(self) -> int:
        """Number of the best trial, the first of equals."""
        return int(np.argmax([trial.skill for trial in self.trials]))

    def applied(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give the settings to train with; the very same where none were found that are better."""
        if not self.trials or self.chosen == 0:
            return given
        return {**given, **self.trials[self.chosen].settings}

    @property
    def metrics(self) -> dict[str, float]:
        """Tell how many trials there were, and the skill of the chosen and of the given settings in them."""
        if not self.trials:
            return {"tuning_trials": 0.0}
        return {
            "tuning_trials": float(len(self.trials)),
            "tuning_skill": self.trials[self.chosen].skill,
            "tuning_skill_as_given": self.trials[0].skill,
        }

    def told(self) -> dict[str, Any]:
        """Give all of it as plain data."""
        if not self.trials:
            return {"trials": [], "note": self.note}
        return {"trials": [asdict(trial) for trial in self.trials], "chosen": self.chosen}


def is_due(request: FitRequest, family: Family) -> bool:
    """Tell whether a training that begins anew is to be tuned."""
    return bool(request.tuning_trials and family.search_space)


def kept_settings(request: FitRequest, family: Family) -> Mapping[str, Any]:
    """Give the settings of a training that goes on from an earlier model: what was tuned then stays."""
    if not is_due(request, family):
        return request.settings
    names = [each.name for each in family.search_space]
    kept = {name: request.start_settings[name] for name in names if name in request.start_settings}
    return {**request.settings, **kept}


def tune(
    request: FitRequest,
    family: Family,
    rows: TrainingRows,
    *,
    progress: Progress,
    cancelled: Cancelled,
    checkpoints: TuningCheckpoints | None,
) -> Tuning:
    """Try settings, and tell how each did.

    Parameters
    ----------
    rows
        Those that the training learns from, and no others.

    Raises
    ------
    BadSettingsError
        If Optuna is not installed.
    TrainingCancelledError
        Soon after `cancelled` says so; what is finished is in `checkpoints`.
    """
    trials = _Trials(request, family, rows, progress, cancelled, checkpoints)
    try:
        return Tuning(trials=trials.run())
    except (TooFewRowsError, BadTrainingDataError) as error:
        return Tuning(note=f"too few rows to tune by: {error}")


class _Trials:
    """The trials of one tuning, and where it is."""

    def __init__(
        self,
        request: FitRequest,
        family: Family,
        rows: TrainingRows,
        progress: Progress,
        cancelled: Cancelled,
        checkpoints: TuningCheckpoints | None,
    ) -> None:
        self._request = request
        self._family = family
        self._rows = rows
        self._progress = progress
        self._cancelled = cancelled
        self._checkpoints = checkpoints
        self._wanted = request.tuning_trials
        self._proposals = _Proposals(request, family)
        self._fingerprint = self._identify() if checkpoints is not None else ""
        self._done: list[TunedTrial] = []
        #: Skills of the trial under way, fold by fold.
        self._folds: list[list[float]] = []

    def run(self) -> tuple[TunedTrial, ...]:
        """Make all trials that are not made yet."""
        self._restore()
        while len(self._done) < self._wanted:
            settings = self._proposals.next(self._done)
            skills = self._scored({**self._request.settings, **settings})
            self._done.append(TunedTrial(settings=settings, skill=float(np.mean(skills))))
            self._folds = []
            self._save()
        return tuple(self._done)

    def _scored(self, settings: Mapping[str, Any]) -> list[list[float]]:
        for number, (learn, judged) in enumerate(self._split()):
            if number < len(self._folds):
                continue
            if self._cancelled():
                raise TrainingCancelledError("asked to stop")
            self._tell(number / FOLDS)
            self._folds.append(self._skills(settings, learn, judged))
            self._save()
        return self._folds

    def _split(self) -> Iterator[tuple[TrainingRows, TrainingRows]]:
        """Walk through the rows; what is learned from comes first, purged of what it is judged by."""
        splitter = self._splitter(FOLD_FRACTION, FOLDS)
        for learn, judged in splitter.split(None, groups=self._rows.open_time_ms):
            yield self._rows.take(learn), self._rows.take(judged)

    def _splitter(self, fraction: float, parts: int) -> WalkForward:
        return WalkForward(
            horizon_minutes=max(self._request.horizons),
            embargo_minutes=self._request.embargo_minutes,
            validation_fraction=fraction,
            n_splits=parts,
        )

    def _skills(self, settings: Mapping[str, Any], before: TrainingRows, judged: TrainingRows) -> list[float]:
        """Train on the rows before, with early stopping on the last of them, and judge by the later rows."""
        request = self._request
        one = self._splitter(request.validation_fraction, 1)
        learn, stop = next(one.split(None, groups=before.open_time_ms))
        shown = _hidden(before, unproven_cycles(request.feature_names, before.open_time_ms[learn]))
        parts = {"learn": shown.take(learn), "stop": shown.take(stop), "judge": judged}
        for name, rows in parts.items():
            names = request.feature_names
            check_rows(
                rows, part=f"tuning, rows to {name}", feature_names=names, may_be_missing=frozenset(names)
            )
        done = len(self._folds)
        try:
            fitted = self._family.fit(
                train=parts["learn"],
                validation=parts["stop"],
                settings=settings,
                seed=request.seed,
                progress=lambda share, _: self._tell((done + share) / FOLDS),
                cancelled=self._cancelled,
                checkpoints=self._checkpoints,
            )
        except NoSignalError:
            # it would say what the no-change forecast says
            return [0.0] * judged.horizons
        session = serving.open_session(fitted.graph)
        said = np.concatenate(
            [serving.run(session, inputs).predicted_pct for inputs in judged.pieces(fitted.window)]
        )
        return _skill(judged.target_pct, said.astype(np.float64))

    def _tell(self, of_trial: float) -> None:
        best = f", best skill {max(trial.skill for trial in self._done):.4f}" if self._done else ""
        share = (len(self._done) + of_trial) / self._wanted
        self._progress(share, f"trial {len(self._done) + 1} of {self._wanted}{best}")

    def _save(self) -> None:
        if self._checkpoints is not None:
            state = {
                "fingerprint": self._fingerprint,
                "trials": [asdict(trial) for trial in self._done],
                "folds": self._folds,
            }
            self._checkpoints.save_trials(json.dumps(state).encode())

    def _restore(self) -> None:
        """Take over an unfinished tuning, if it is one of the same rows, settings and seed."""
        if self._checkpoints is None:
            return
        try:
            state = json.loads(self._checkpoints.trials)
            if state["fingerprint"] == self._fingerprint:
                done = [TunedTrial(**trial) for trial in state["trials"]]
                self._done, self._folds = done, list(state["folds"])
        except (ValueError, KeyError, TypeError):
            pass  # a torn state is no state: begin again, which ends in the same bytes

    def _identify(self) -> str:
        request, rows = self._request, self._rows
        facts = [
            *(self._proposals.library, self._wanted, request.seed, request.family, request.horizons),
            *(request.embargo_minutes, request.validation_fraction, request.feature_names),
            *(sorted(request.settings.items()), [asdict(each) for each in self._family.search_space]),
        ]
        digest = hashlib.sha256(json.dumps(facts, default=str).encode())
        for values in (rows.vectors, rows.target_pct, rows.open_time_ms, rows.symbol_index):
            digest.update(np.ascontiguousarray(values).data)
        if request.family in families.LOOKING_BACK and rows.history is not None:
            digest.update(rows.history.at(np.arange(len(rows.history))).data)
        return digest.hexdigest()


class _Proposals:
    """Proposes what to try: first the settings as given, then what Optuna makes of the trials before."""

    def __init__(self, request: FitRequest, family: Family) -> None:
        self._space = family.search_space
        self._given = request.settings
        self._seed = request.seed
        try:
            import optuna
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise BadSettingsError(
                "tuning needs Optuna, which is not installed: pip install 'tidecast[tune]', or set"
                " training.tuning_trials to 0"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self.library = f"optuna {optuna.__version__}"
        make = optuna.distributions
        self._distributions: dict[str, Any] = {
            each.name: make.IntDistribution(int(each.low), int(each.high), log=each.log)
            if each.whole
            else make.FloatDistribution(each.low, each.high, log=each.log)
            for each in self._space
        }

    def next(self, done: list[TunedTrial]) -> dict[str, float]:
        """Propose the next trial; the same after the same trials, whether or not it was asked before."""
        if not done:
            return {each.name: self._given.get(each.name, each.usual) for each in self._space}
        optuna = self._optuna
        digest = hashlib.sha256(f"{self._seed}/trial/{len(done)}".encode()).digest()
        sampler = optuna.samplers.TPESampler(
            seed=int.from_bytes(digest[:4], "big"), n_startup_trials=_AT_RANDOM
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in done:
            # the given settings may lie outside of what is looked for
            known = {
                each.name: trial.settings[each.name]
                for each in self._space
                if each.holds(trial.settings[each.name])
            }
            study.add_trial(
                optuna.trial.create_trial(
                    params=known,
                    distributions={name: self._distributions[name] for name in known},
                    value=trial.skill,
                )
            )
        return dict(study.ask(self._distributions).params)


def _hidden(rows: TrainingRows, columns: list[int]) -> TrainingRows:
    """Hide columns from whoever learns, also of the minutes before and between the rows."""
    if not columns:
        return rows
    vectors = np.array(rows.vectors, np.float32)
    vectors[:, columns] = np.nan
    history = None if rows.history is None else rows.history.without(columns)
    return replace(rows, vectors=vectors, history=history)


def _skill(target_pct: Float64, predicted_pct: Float64) -> list[float]:
    """Compare squared errors with those of the no-change forecast, horizon by horizon."""
    found = []
    for column in range(target_pct.shape[1]):
        known = np.isfinite(target_pct[:, column])
        actual, said = target_pct[known, column], predicted_pct[known, column]
        found.append(1.0 - float(np.sum((actual - said) ** 2)) / float(np.sum(actual**2)))
    return found
