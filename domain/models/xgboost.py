"""Gradient-boosted trees: for each horizon a head for the percent change, and one for the chance of a rise.

All heads of a training share the bins of the features. They start from "no change" (0 %, one half) and move
away from it only as far as the trees say. Training
goes in fixed chunks of rounds, each with a seed of its own and starting from the bytes of the chunk before:
so a killed training that goes on from its last chunk draws the same rows and columns, and ends in the same
bytes, as one that ran through.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb

from domain.models import xgboost_graph
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Cancelled,
    Checkpoints,
    Fitted,
    NoSignalError,
    Predictions,
    Progress,
    TrainingCancelledError,
    TrainingRows,
)
from domain.models.xgboost_settings import XGBoostSettings
from schemas.frames import Float32

#: (kind of head, objective, measure that stops it early, second derivative of one row at the start)
_KINDS = (("change", "reg:squarederror", "rmse", 1.0), ("rise", "binary:logistic", "logloss", 0.25))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """One booster on its way."""

    booster: bytes = b""
    history: tuple[float, ...] = ()  # validation score after each round; of a further training, before it too
    done: bool = False
    #: Trees that a further training began with; None where it began with nothing.
    before: int | None = None

    @property
    def best_round(self) -> int:
        return int(np.argmin(self.history))

    @property
    def best_trees(self) -> int:
        """How many trees the best model has."""
        return self.best_round + 1 if self.before is None else self.before + self.best_round

    @property
    def added(self) -> int:
        """How many trees were grown in this training."""
        return len(self.history) - (self.before is not None)


class XGBoost:
    """The family."""

    name = "xgboost"
    native_suffix = "json"
    is_joint = False

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown settings and values out of range."""
        XGBoostSettings.of(settings)

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
        """Grow all heads chunk by chunk, and put them into one graph.

        Parameters
        ----------
        start_from
            The native file of an earlier model of as many horizons, whose trees are kept and added to; a head
            that does not get better by that stays as it is.
        """
        chosen = XGBoostSettings.of(settings)
        for part, rows in (("training rows", train), ("early-stopping rows", validation)):
            if not ((rows.target_pct > 0).any(axis=0) & (rows.target_pct < 0).any(axis=0)).all():
                raise BadTrainingDataError(
                    f"{part}: the target only ever moves one way; wait for more history"
                )
        run = _Run(chosen, seed, train, validation, start_from)
        heads = run.load(checkpoints)
        while not all(head.done for head in heads):
            if cancelled():
                raise TrainingCancelledError("asked to stop")
            current = next(i for i, head in enumerate(heads) if not head.done)
            heads[current] = run.chunk(current, heads[current])
            if checkpoints is not None:
                checkpoints.save(run.state(heads))
            progress(
                _fraction(heads, run.rounds),
                f"round {len(heads[current].history)} of {_name(current)}",
            )
        return _fitted(heads, train.vectors.shape[1], chosen)

    def predict(self, *, native: bytes, inputs: Float32) -> Predictions:
        """Predict with the library itself."""
        values = []
        for number, model in enumerate(_split_native(native)):
            booster = xgb.Booster({"nthread": 1})
            booster.load_model(bytearray(json.dumps(model).encode()))
            said = booster.inplace_predict(inputs, missing=np.nan, predict_type="margin")
            values.append(np.asarray(said, np.float32))
            if len(values[-1]) != len(inputs):
                raise ValueError(f"head {_name(number)} answered {len(values[-1])} of {len(inputs)} rows")
        return Predictions(np.stack(values[0::2], axis=1), np.stack(values[1::2], axis=1))


class _Run:
    """The data of one training, and how a head grows by one chunk."""

    def __init__(
        self,
        settings: XGBoostSettings,
        seed: int,
        train: TrainingRows,
        validation: TrainingRows,
        start_from: bytes | None,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.fingerprint = _fingerprint(settings, seed, start_from, train, validation)
        self.start_from = start_from
        self.rounds = settings.rounds if start_from is None else settings.further_rounds
        self.parts = (train, validation)
        self.heads = 2 * train.horizons
        shared = {"max_bin": settings.max_bin, "nthread": settings.threads, "missing": np.nan}
        self.train = xgb.QuantileDMatrix(train.vectors, **shared)
        self.validation = xgb.DMatrix(validation.vectors, missing=np.nan, nthread=settings.threads)
        self.prepared: int | None = None

    def chunk(self, index: int, head: _Head) -> _Head:
        """Grow a head by one chunk, always from its bytes, so that a resumed run does the very same."""
        self._prepare(index)
        done = head.added
        rounds = min(self.settings.chunk_rounds, self.rounds - done)
        scores: dict[str, dict[str, list[float]]] = {}
        booster = xgb.train(
            self._parameters(index, done),
            self.train,
            rounds,
            evals=[(self.validation, "validation")],
            evals_result=scores,
            verbose_eval=False,
            xgb_model=bytearray(head.booster) if head.booster else None,
        )
        grown = replace(
            head,
            booster=bytes(booster.save_raw("ubj")),
            history=(*head.history, *scores["validation"][_kind(index)[2]]),
        )
        stale = len(grown.history) - 1 - grown.best_round
        finished = grown.added >= self.rounds or stale >= self.settings.early_stopping_patience
        return replace(grown, done=finished)

    def _prepare(self, index: int) -> None:
        # all heads share the bins; a row without a label weighs nothing, and one that did not move says
        # nothing about the direction
        if self.prepared == index:
            return
        limit = self._limit(index // 2)
        for matrix, rows in zip((self.train, self.validation), self.parts, strict=True):
            target = rows.target_pct[:, index // 2]
            known = np.isfinite(target)
            if _kind(index)[0] == "rise":
                label, weight = target > 0, known & (target != 0)
            else:
                label, weight = np.clip(np.where(known, target, 0.0), -limit, limit), known
            matrix.set_info(label=label.astype(np.float64), weight=weight.astype(np.float32))
        self.prepared = index

    def _limit(self, column: int) -> float:
        target = self.parts[0].target_pct[:, column]
        return self.settings.clip_deviations * _robust_deviation(target[np.isfinite(target)])

    def _parameters(self, index: int, done: int) -> dict[str, Any]:
        s = self.settings
        _, objective, metric, row_weight = _kind(index)
        rows = int(np.isfinite(self.parts[0].target_pct[:, index // 2]).sum())
        leaf_rows = max(float(s.min_leaf_rows), s.min_leaf_fraction * rows)
        return {
            "objective": objective,
            "eval_metric": metric,
            "base_score": 0.0 if index % 2 == 0 else 0.5,
            "tree_method": "hist",
            "max_depth": s.max_depth,
            "eta": s.learning_rate,
            "min_child_weight": leaf_rows * row_weight,
            "reg_lambda": s.reg_lambda_rows * row_weight,
            "subsample": s.subsample,
            "colsample_bytree": s.colsample_bytree,
            "max_bin": s.max_bin,
            "nthread": s.threads,
            "seed": _chunk_seed(self.seed, index, done),
            "verbosity": 0,
        }

    def load(self, checkpoints: Checkpoints | None) -> list[_Head]:
        """Take over an unfinished training, if it is one of the same rows, settings and seed."""
        saved = checkpoints.load() if checkpoints is not None else None
        if saved is not None:
            try:
                state = json.loads(saved)
                if state["fingerprint"] == self.fingerprint:
                    return [
                        _Head(
                            booster=base64.b64decode(head["booster"]),
                            history=tuple(head["history"]),
                            done=head["done"],
                            before=head["before"],
                        )
                        for head in state["heads"]
                    ]
            except (ValueError, KeyError, TypeError):
                pass  # a torn state is no state: begin again, which ends in the same bytes
        return self._beginning()

    def _beginning(self) -> list[_Head]:
        if self.start_from is None:
            return [_Head() for _ in range(self.heads)]
        models = _split_native(self.start_from)
        if len(models) != self.heads:
            raise BadSettingsError(
                f"the model to go on from has {len(models) // 2} horizons, this training {self.heads // 2}"
            )
        return [self._further(number, model) for number, model in enumerate(models)]

    def _further(self, index: int, model: dict[str, Any]) -> _Head:
        booster = xgb.Booster({"nthread": self.settings.threads})
        booster.load_model(bytearray(json.dumps(model).encode()))
        if booster.num_features() != self.parts[0].vectors.shape[1]:
            raise BadSettingsError(
                f"the model to go on from has {booster.num_features()} features, this training"
                f" {self.parts[0].vectors.shape[1]}"
            )
        self._prepare(index)
        trees = booster.num_boosted_rounds()
        return _Head(
            booster=bytes(booster.save_raw("ubj")),
            history=(self._score(index, booster),),
            # so many trees are slow to serve: it has learned what it can
            done=trees + self.rounds > self.settings.most_trees,
            before=trees,
        )

    def _score(self, index: int, booster: xgb.Booster) -> float:
        """Compute what the library would print for the early-stopping rows, with all digits."""
        said = booster.predict(self.validation).astype(np.float64)
        label, weight = self.validation.get_label().astype(np.float64), self.validation.get_weight()
        if _kind(index)[0] == "change":
            return float(np.sqrt(np.average((said - label) ** 2, weights=weight)))
        kept = np.clip(said, 1e-16, 1.0 - 1e-7)
        loss = -(label * np.log(kept) + (1.0 - label) * np.log(1.0 - kept))
        return float(np.average(loss, weights=weight))

    def state(self, heads: list[_Head]) -> bytes:
        """Write down an unfinished training."""
        return json.dumps(
            {
                "fingerprint": self.fingerprint,
                "heads": [
                    {
                        "booster": base64.b64encode(head.booster).decode(),
                        "history": head.history,
                        "done": head.done,
                        "before": head.before,
                    }
                    for head in heads
                ],
            }
        ).encode()


def _kind(index: int) -> tuple[str, str, str, float]:
    return _KINDS[index % 2]


def _name(index: int) -> str:
    return f"{_kind(index)[0]}{index // 2}"


def _fitted(heads: list[_Head], features: int, settings: XGBoostSettings) -> Fitted:
    models, texts = [], []
    gains: dict[int, float] = {}
    metrics: dict[str, float] = {}
    for number, head in enumerate(heads):
        booster = xgb.Booster({"nthread": settings.threads})
        booster.load_model(bytearray(head.booster))
        best = booster[: head.best_trees]
        texts.append(bytes(best.save_raw("json")))
        models.append(json.loads(texts[-1]))
        metrics[f"stopping_{_kind(number)[2]}{number // 2}"] = head.history[head.best_round]
        metrics[f"rounds_{_name(number)}"] = float(head.best_trees)
        if number % 2 == 0:
            for feature, share in _importance(best).items():
                gains[feature] = gains.get(feature, 0.0) + share * 2 / len(heads)
    if not gains:
        raise NoSignalError(
            "no split in any tree: the features say nothing about the target that these settings would"
            " accept; the no-change forecast stays"
        )
    return Fitted(
        native=_join_native(texts),
        graph=xgboost_graph.build(changes=models[0::2], rises=models[1::2], features=features),
        best_iteration=heads[0].best_trees - 1,
        metrics=metrics,
        importance=dict(sorted(gains.items())),
    )


def _importance(booster: xgb.Booster) -> dict[int, float]:
    gain = booster.get_score(importance_type="total_gain")
    total = math.fsum(gain.values())
    return {int(key[1:]): value / total for key, value in sorted(gain.items())} if total > 0 else {}


def _join_native(models: list[bytes]) -> bytes:
    # each head stands in the file as the library wrote it
    heads = b",".join(b'"%s":%s' % (_name(number).encode(), model) for number, model in enumerate(models))
    return b'{"format":"tidecast-xgboost-2","heads":{%s}}' % heads


def _split_native(native: bytes) -> list[dict[str, Any]]:
    heads = json.loads(native)["heads"]
    return [heads[_name(number)] for number in range(len(heads))]


def _chunk_seed(seed: int, index: int, done: int) -> int:
    digest = hashlib.sha256(f"{seed}/{_name(index)}/{done}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _fingerprint(settings: XGBoostSettings, seed: int, start_from: bytes | None, *parts: TrainingRows) -> str:
    digest = hashlib.sha256(f"{xgb.__version__} {seed} {sorted(asdict(settings).items())}".encode())
    digest.update(hashlib.sha256(start_from or b"").digest())
    for rows in parts:
        digest.update(np.ascontiguousarray(rows.vectors).data)
        digest.update(np.ascontiguousarray(rows.target_pct).data)
    return digest.hexdigest()


def _robust_deviation(target: Any) -> float:
    # 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0
    robust = 1.4826 * float(np.median(np.abs(target)))
    return robust if robust > 0 else float(np.std(target))


def _fraction(heads: list[_Head], rounds: int) -> float:
    return sum(1.0 if head.done else head.added / rounds for head in heads) / len(heads)


FAMILY = XGBoost()
