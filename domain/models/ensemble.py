"""Several families as one model: each learns by itself, and what they say is added up by weights.

The percent change is the weighted sum of the members' changes, and so are the log-odds: evidence that does
not overlap adds up in log-odds, one half is their 0, and calibration puts right what overlaps. Weight that no
member has earned belongs to the no-change forecast, so where nobody has skill nothing is said. How weights
are found is a setting (`weighting`):

- `skill`: by what each member gains over no change on rows that it has not learned from. Members stop early
  by the validation rows; where those are long enough, their first half is for that and the second (purged)
  for the weights, else all of them are for both, and evidence counts for less.
- `stacked`: by least squares on parts of the training rows, each foretold by models of the rows before it
  (purged); then the members learn from all of them. Where the rows are too few for that, as for `skill`.
- `regime`: as `skill`, with weights for each kind of market (`ensemble_regimes`).
- `equal`, or given weights: nothing is found out. What a member without signal would have had is lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from domain.forecasting.regime import REGIMES
from domain.models import (
    ensemble_graph,
    ensemble_regimes,
    ensemble_rows,
    ensemble_weights,
    families,
    serving,
)
from domain.models.ensemble_graph import Part
from domain.models.ensemble_settings import EnsembleSettings
from domain.models.ensemble_stages import Shelf, Stages, fingerprint
from domain.models.ensemble_weights import FRESH, STOPPED_BY, Judged, Weights
from domain.models.model import (
    Cancelled,
    Checkpoints,
    Fitted,
    NoSignalError,
    Predictions,
    Progress,
    TrainingRows,
)
from domain.models.search_space import Range
from schemas.frames import Float32, Int64

_KINDS = ("change", "rise")


class Ensemble:
    """The family."""

    name = "ensemble"
    native_suffix = "json"
    is_joint = True
    # its members are trained as given
    search_space: tuple[Range, ...] = ()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown settings and members, and what members refuse."""
        EnsembleSettings.of(settings)

    def fit(
        self,
        *,
        train: TrainingRows,
        validation: TrainingRows,
        settings: Mapping[str, Any],
        seed: int,
        progress: Progress,
        cancelled: Cancelled,
        checkpoints: Checkpoints | None = None,
        start_from: bytes | None = None,
    ) -> Fitted:
        """Train the members, weigh them, and put those that count into one graph.

        With `start_from`, an earlier ensemble's native file, its members are trained further, and weighed
        anew.
        """
        chosen = EnsembleSettings.of(settings)
        run = _Run(chosen, train, validation)
        earlier = _members_of(start_from)
        shelf = Shelf(checkpoints, fingerprint(chosen, seed, train, validation, start_from=start_from))
        stages = Stages(
            shelf=shelf,
            count=run.trainings,
            seed=seed,
            progress=progress,
            cancelled=cancelled,
            earlier=earlier,
        )
        fitted, weights = run.fit(stages)
        kept = [name for name in chosen.members if name in fitted and name in weights]
        if not kept:
            raise NoSignalError(
                f"no member ({', '.join(chosen.members)}) foretells anything better than the no-change"
                " forecast, which stays"
            )
        progress(1.0, f"weighed: {', '.join(kept)}")
        return _together(
            {name: fitted[name] for name in kept}, weights, features=train.vectors.shape[1], found=run.metrics
        )

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Ask each member's own library, and add up in double precision."""
        sums: list[Any] = [0.0, 0.0]
        for member in json.loads(native)["members"]:
            minutes = member["window"]
            # a window is cut from its end; vectors are what single-minute members take
            shown = inputs if inputs.ndim == 2 else inputs[:, -minutes:] if minutes else inputs[:, -1]
            said = families.load(member["family"]).predict(
                native=member["native"].encode(), inputs=np.ascontiguousarray(shown)
            )
            for kind, name in enumerate(_KINDS):
                weights = np.array(member["weights"][name])
                if weights.ndim == 2:
                    weights = ensemble_regimes.chosen(weights, inputs)
                sums[kind] = sums[kind] + said[kind].astype(np.float64) * weights
        return Predictions(sums[0].astype(np.float32), sums[1].astype(np.float32))


def _members_of(native: bytes | None) -> dict[str, bytes]:
    if native is None:
        return {}
    return {member["family"]: member["native"].encode() for member in json.loads(native)["members"]}


class _Run:
    """The trainings of one ensemble: how the rows are split, and which members are trained on what."""

    def __init__(self, settings: EnsembleSettings, train: TrainingRows, validation: TrainingRows) -> None:
        self.settings = settings
        self.train = train
        self.stop = validation
        self.judge = validation
        # those whose given weight is 0 need not be trained
        self.members = [m for m in settings.members if not settings.weights or settings.weights[m] > 0]
        self.purge, self.overlap = ensemble_rows.reach(train, validation)
        #: Positions to learn from, to stop by and to foretell.
        self.folds: list[tuple[Int64, Int64, Int64]] = []
        found_out = not settings.weights and settings.weighting != "equal"
        if found_out and settings.weighting == "stacked":
            self.folds = ensemble_rows.folds(
                train.open_time_ms, purge_minutes=self.purge, count=settings.folds
            )
        if found_out and settings.weighting == "regime":
            ensemble_regimes.of(train.vectors[:1])  # refused before anything is trained
        self.judges = found_out and not self.folds
        if self.judges:
            parts = ensemble_rows.halves(validation.open_time_ms, purge_minutes=self.purge)
            if parts is not None:
                self.stop, self.judge = (validation.take(part) for part in parts)

    @property
    def metrics(self) -> dict[str, float]:
        """Tell what the weights stand on."""
        judged = sum(len(fold[2]) for fold in self.folds) if self.folds else len(self.judge) * self.judges
        return {"purged_minutes": float(self.purge), "judged_rows": float(judged)}

    @property
    def trainings(self) -> int:
        """Count them, all folds included."""
        return len(self.members) * (1 + len(self.folds))

    def fit(self, stages: Stages) -> tuple[dict[str, Fitted], Weights]:
        """Train all there is to train, and weigh; a member may lack a model, or a weight."""
        foretold = [self._foretold(stages, number) for number in range(len(self.folds))]
        fitted = self._members(stages, "", self.train, self.stop)
        if not fitted:
            return fitted, {}
        if foretold:
            weights = ensemble_weights.by_stacking(self._joined(foretold))
        elif self.judges:
            said = {name: _ask(model, self.judge) for name, model in fitted.items()}
            doubt = STOPPED_BY if self.judge is self.stop else FRESH
            judged = Judged(rows=self.judge, said=said, overlap=self.overlap)
            regimes = self.settings.weighting == "regime"
            weigh = ensemble_regimes.by_regime if regimes else ensemble_weights.by_skill
            weights = weigh(judged, doubt=doubt)
        else:
            weights = ensemble_weights.alike(self.members, self.settings.weights, self.train.horizons)
        return fitted, weights

    def _members(
        self, stages: Stages, before: str, train: TrainingRows, stop: TrainingRows
    ) -> dict[str, Fitted]:
        found = {
            name: stages.fit(
                f"{before}{name}",
                member=name,
                settings=self.settings.of_member[name],
                train=train,
                validation=stop,
            )
            for name in self.members
        }
        return {name: model for name, model in found.items() if model is not None}

    def _foretold(self, stages: Stages, number: int) -> dict[str, Predictions]:
        learn, stop, ahead = (self.train.take(part) for part in self.folds[number])
        nothing = np.zeros((len(ahead), ahead.horizons), np.float32)
        said = dict.fromkeys(self.members, Predictions(nothing, nothing))
        fitted = self._members(stages, f"fold {number + 1}, ", learn, stop)
        return {**said, **{name: _ask(model, ahead) for name, model in fitted.items()}}

    def _joined(self, foretold: Sequence[Mapping[str, Predictions]]) -> Judged:
        said = {
            name: Predictions(*(np.concatenate([each[name][kind] for each in foretold]) for kind in (0, 1)))
            for name in self.members
        }
        rows = self.train.take(np.concatenate([ahead for _, _, ahead in self.folds]))
        return Judged(rows=rows, said=said, overlap=self.overlap)


def _ask(fitted: Fitted, rows: TrainingRows) -> Predictions:
    """Ask a member's graph, a few rows at a time where each is a window."""
    session = serving.open_session(fitted.graph)
    pieces = [serving.run(session, inputs) for inputs in rows.pieces(fitted.window)]
    return Predictions(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def _together(
    fitted: Mapping[str, Fitted], weights: Weights, *, features: int, found: Mapping[str, float]
) -> Fitted:
    metrics = dict(found)
    members, parts = [], []
    for name, model in fitted.items():
        members.append(
            {
                "family": name,
                "window": model.window,
                "weights": {kind: weights[name][row].tolist() for row, kind in enumerate(_KINDS)},
                "native": model.native.decode(),
            }
        )
        parts.append(Part(name=name, graph=model.graph, window=model.window, weights=weights[name]))
        metrics |= _told(name, weights[name])
        metrics |= {f"{name}_{key}": value for key, value in model.metrics.items()}
    return Fitted(
        native=json.dumps({"format": "tidecast-ensemble-1", "members": members}).encode(),
        graph=ensemble_graph.merge(parts, features=features),
        best_iteration=max(model.best_iteration for model in fitted.values()),
        window=max(model.window for model in fitted.values()),
        metrics=metrics,
        importance=_importance(fitted, weights),
    )


def _told(name: str, weights: Any) -> dict[str, float]:
    """Name each weight of a member: by what it says, horizon, and regime where there are several."""
    return {
        f"weight_{name}_{kind}{column}{suffix}": float(by_horizon[column])
        for kind, given in zip(_KINDS, weights, strict=True)
        for suffix, by_horizon in (
            [("", given)]
            if given.ndim == 1
            else [(f"_{regime}", of) for regime, of in zip(REGIMES, given, strict=True)]
        )
        for column in range(len(by_horizon))
    }


def _importance(fitted: Mapping[str, Fitted], weights: Weights) -> dict[int, float]:
    """Add up the members' shares, each by its weight; those that tell none are left out."""
    counts = {name: float(weights[name].mean()) for name, model in fitted.items() if model.importance}
    total = math.fsum(counts.values())
    sums: dict[int, float] = {}
    for name, count in counts.items():
        for feature, share in fitted[name].importance.items():
            sums[feature] = sums.get(feature, 0.0) + share * count / total
    return dict(sorted(sums.items()))


FAMILY = Ensemble()
