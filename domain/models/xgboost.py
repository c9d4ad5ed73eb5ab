"""Gradient-boosted trees: one head for the percent change, one for the probability of a rise.

Both heads start from "no change" (0 %, one half) and move away from it only as far as the trees say. Training
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

#: (name of the head, objective, measure that stops it early, second derivative of one row at the start)
_HEADS = (("change", "reg:squarederror", "rmse", 1.0), ("rise", "binary:logistic", "logloss", 0.25))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """One booster on its way."""

    booster: bytes = b""
    history: tuple[float, ...] = ()  # validation score after each round
    done: bool = False

    @property
    def best_round(self) -> int:
        return int(np.argmin(self.history))


class XGBoost:
    """The family."""

    name = "xgboost"
    native_suffix = "json"

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
    ) -> Fitted:
        """Grow both heads chunk by chunk, and put them into one graph."""
        chosen = XGBoostSettings.of(settings)
        for part, rows in (("training rows", train), ("early-stopping rows", validation)):
            if not (rows.target_pct > 0).any() or not (rows.target_pct < 0).any():
                raise BadTrainingDataError(
                    f"{part}: the target only ever moves one way; wait for more history"
                )
        run = _Run(chosen, seed, train, validation)
        heads = run.load(checkpoints)
        while not all(head.done for head in heads):
            if cancelled():
                raise TrainingCancelledError("asked to stop")
            current = next(i for i, head in enumerate(heads) if not head.done)
            heads[current] = run.chunk(current, heads[current])
            if checkpoints is not None:
                checkpoints.save(run.state(heads))
            progress(
                _fraction(heads, chosen.rounds),
                f"round {len(heads[current].history)} of {_HEADS[current][0]}",
            )
        return _fitted(heads, train.vectors.shape[1], chosen)

    def predict(self, *, native: bytes, vectors: Float32) -> Predictions:
        """Predict with the library itself."""
        values = []
        for (name, *_), model in zip(_HEADS, _split_native(native), strict=True):
            booster = xgb.Booster({"nthread": 1})
            booster.load_model(bytearray(json.dumps(model).encode()))
            values.append(np.asarray(booster.inplace_predict(vectors, missing=np.nan), np.float32))
            if len(values[-1]) != len(vectors):
                raise ValueError(f"head {name} answered {len(values[-1])} of {len(vectors)} rows")
        return Predictions(*values)


class _Run:
    """The data of one training, and how a head grows by one chunk."""

    def __init__(
        self, settings: XGBoostSettings, seed: int, train: TrainingRows, validation: TrainingRows
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.fingerprint = _fingerprint(settings, seed, train, validation)
        limit = settings.clip_deviations * _robust_deviation(train.target_pct)
        parts = (train, validation)
        self.targets = {
            "change": [np.clip(rows.target_pct, -limit, limit) for rows in parts],
            "rise": [(rows.target_pct > 0).astype(np.float64) for rows in parts],
        }
        self.moved = [(rows.target_pct != 0).astype(np.float32) for rows in parts]
        shared = {"max_bin": settings.max_bin, "nthread": settings.threads, "missing": np.nan}
        self.train = xgb.QuantileDMatrix(train.vectors, **shared)
        self.validation = xgb.DMatrix(validation.vectors, missing=np.nan, nthread=settings.threads)
        self.rows = len(train)
        self.prepared: int | None = None

    def chunk(self, index: int, head: _Head) -> _Head:
        """Grow a head by one chunk, always from its bytes, so that a resumed run does the very same."""
        self._prepare(index)
        done = len(head.history)
        rounds = min(self.settings.chunk_rounds, self.settings.rounds - done)
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
        grown = _Head(
            booster=bytes(booster.save_raw("ubj")),
            history=(*head.history, *scores["validation"][_HEADS[index][2]]),
        )
        stale = len(grown.history) - 1 - grown.best_round
        finished = (
            len(grown.history) >= self.settings.rounds or stale >= self.settings.early_stopping_patience
        )
        return replace(grown, done=finished)

    def _prepare(self, index: int) -> None:
        # both heads share the bins; a row that did not move says nothing about the direction
        if self.prepared == index:
            return
        name = _HEADS[index][0]
        for part, (matrix, label) in enumerate(
            zip((self.train, self.validation), self.targets[name], strict=True)
        ):
            weight = self.moved[part] if name == "rise" else np.ones(len(label), np.float32)
            matrix.set_info(label=label, weight=weight)
        self.prepared = index

    def _parameters(self, index: int, done: int) -> dict[str, Any]:
        s = self.settings
        _, objective, metric, row_weight = _HEADS[index]
        leaf_rows = max(float(s.min_leaf_rows), s.min_leaf_fraction * self.rows)
        return {
            "objective": objective,
            "eval_metric": metric,
            "base_score": 0.0 if index == 0 else 0.5,
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
                        )
                        for head in state["heads"]
                    ]
            except (ValueError, KeyError, TypeError):
                pass  # a torn state is no state: begin again, which ends in the same bytes
        return [_Head() for _ in _HEADS]

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
                    }
                    for head in heads
                ],
            }
        ).encode()


def _fitted(heads: list[_Head], features: int, settings: XGBoostSettings) -> Fitted:
    models = []
    texts = []
    importance: dict[int, float] = {}
    for (name, *_), head in zip(_HEADS, heads, strict=True):
        booster = xgb.Booster({"nthread": settings.threads})
        booster.load_model(bytearray(head.booster))
        best = booster[: head.best_round + 1]
        texts.append(bytes(best.save_raw("json")))
        models.append(json.loads(texts[-1]))
        if name == "change":
            importance = _importance(best)
    if not importance:
        raise NoSignalError(
            "no split in any tree: the features say nothing about the target that these settings would"
            " accept; the no-change forecast stays"
        )
    metrics = {
        f"stopping_{metric}": head.history[head.best_round]
        for (_, _, metric, _), head in zip(_HEADS, heads, strict=True)
    }
    metrics["rounds_change"], metrics["rounds_rise"] = (float(head.best_round + 1) for head in heads)
    return Fitted(
        native=_join_native(texts),
        graph=xgboost_graph.build(change=models[0], rise=models[1], features=features),
        best_iteration=heads[0].best_round,
        metrics=metrics,
        importance=importance,
    )


def _importance(booster: xgb.Booster) -> dict[int, float]:
    gain = booster.get_score(importance_type="total_gain")
    total = math.fsum(gain.values())
    return {int(key[1:]): value / total for key, value in sorted(gain.items())} if total > 0 else {}


def _join_native(models: list[bytes]) -> bytes:
    # each head stands in the file as the library wrote it
    heads = b",".join(
        b'"%s":%s' % (name.encode(), model) for (name, *_), model in zip(_HEADS, models, strict=True)
    )
    return b'{"format":"tidecast-xgboost-1","heads":{%s}}' % heads


def _split_native(native: bytes) -> list[dict[str, Any]]:
    heads = json.loads(native)["heads"]
    return [heads[name] for name, *_ in _HEADS]


def _chunk_seed(seed: int, index: int, done: int) -> int:
    digest = hashlib.sha256(f"{seed}/{_HEADS[index][0]}/{done}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _fingerprint(settings: XGBoostSettings, seed: int, *parts: TrainingRows) -> str:
    digest = hashlib.sha256(f"{xgb.__version__} {seed} {sorted(asdict(settings).items())}".encode())
    for rows in parts:
        digest.update(np.ascontiguousarray(rows.vectors).data)
        digest.update(np.ascontiguousarray(rows.target_pct).data)
    return digest.hexdigest()


def _robust_deviation(target: Any) -> float:
    # 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0
    robust = 1.4826 * float(np.median(np.abs(target)))
    return robust if robust > 0 else float(np.std(target))


def _fraction(heads: list[_Head], rounds: int) -> float:
    return sum(1.0 if head.done else len(head.history) / rounds for head in heads) / len(heads)


FAMILY = XGBoost()
