"""Growing the heads of a boosted model, chunk by chunk.

A chunk is a model of its own: its trees start from what the chunks before say of each row (the base margin),
so that nothing that is there already is loaded or asked again. What the library would print after each round
is computed here for a whole chunk, from the leaves that the early-stopping rows fall into.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xgboost as xgb

from domain.models import xgboost_text
from domain.models.model import BadSettingsError, Checkpoints, TrainingRows
from domain.models.xgboost_settings import XGBoostSettings
from schemas.frames import Float32, Float64

#: (kind of head, objective, second derivative of one row at the start)
_KINDS = (("change", "reg:squarederror", 1.0), ("rise", "binary:logistic", 0.25))
#: Of a larger number exp() would overflow.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One head on its way.

    Attributes
    ----------
    chunks
        JSON of the trees of each chunk; in a further training, the earlier model comes first.
    history
        Score on the early-stopping rows after each round; of a further training, before it too.
    before
        Trees that a further training began with; None where it began with nothing.
    """

    chunks: tuple[bytes, ...] = ()
    history: tuple[float, ...] = ()
    done: bool = False
    before: int | None = None

    @property
    def best_round(self) -> int:
        """Place of the best score in the history."""
        return int(np.argmin(self.history))

    @property
    def best_trees(self) -> int:
        """How many trees the best model has."""
        return self.best_round + 1 if self.before is None else self.before + self.best_round

    @property
    def added(self) -> int:
        """How many trees were grown in this training."""
        return len(self.history) - (self.before is not None)


@dataclass(slots=True, kw_only=True)
class _Standing:
    """What a head says of the rows after some of its chunks, and what is asked of it."""

    index: int
    chunks: int
    learned: Float32
    judged: Float32
    label: Any
    counts: Any


class Growing:
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
        self.start_from = start_from
        self.rounds = settings.rounds if start_from is None else settings.further_rounds
        self.parts = (train, validation)
        self.heads = 2 * train.horizons
        shared = {"nthread": settings.threads, "missing": np.nan}
        self.train = xgb.QuantileDMatrix(train.vectors, max_bin=settings.max_bin, **shared)
        self.validation = xgb.DMatrix(validation.vectors, **shared)
        self._fingerprint = ""
        self._standing: _Standing | None = None
        self._read: dict[bytes, dict[str, Any]] = {}

    def chunk(self, index: int, head: Head) -> Head:
        """Grow a head by one chunk; the same whether the chunks before were grown here or taken over."""
        standing = self._prepared(index, head)
        self.train.set_base_margin(standing.learned)
        rounds = min(self.settings.chunk_rounds, self.rounds - head.added)
        booster = xgb.Booster(self._parameters(index, head.added), cache=[self.train])
        for number in range(rounds):
            booster.update(self.train, number)
        text = bytes(booster.save_raw("json"))
        self._read[text] = xgboost_text.read(text)
        margins = self._staged(booster, self._read[text], standing.judged)
        standing.learned = booster.predict(self.train, output_margin=True)
        standing.judged = margins[-1]
        standing.chunks += 1
        grown = replace(
            head,
            chunks=(*head.chunks, text),
            history=(*head.history, *_scores(index, margins, standing)),
        )
        stale = len(grown.history) - 1 - grown.best_round
        finished = grown.added >= self.rounds or stale >= self.settings.early_stopping_patience
        return replace(grown, done=finished)

    def model(self, head: Head) -> dict[str, Any]:
        """Put the best trees of a head together, as the library would write them."""
        return xgboost_text.joined([self._parsed(text) for text in head.chunks], head.best_trees)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        if text not in self._read:
            self._read[text] = xgboost_text.read(text)
        return self._read[text]

    def _staged(self, booster: xgb.Booster, model: dict[str, Any], margin: Float32) -> Float32:
        """Say what early-stopping rows are told after each tree of a chunk; shape (trees, rows)."""
        places = booster.predict(self.validation, pred_leaf=True).astype(np.int32).reshape(len(margin), -1)
        steps = [margin]
        steps += [values[places[:, tree]] for tree, values in enumerate(xgboost_text.leaf_values(model))]
        # one after the other in single precision, as the library adds them up
        staged: Float32 = np.add.accumulate(np.stack(steps), axis=0, dtype=np.float32)[1:]
        return staged

    def _prepared(self, index: int, head: Head) -> _Standing:
        """Set the labels of a head, and find out what its chunks say, unless that is known."""
        standing = self._standing
        if standing is not None and (standing.index, standing.chunks) == (index, len(head.chunks)):
            return standing
        # all heads share the bins; a row without a label weighs nothing, and one that did not move says
        # nothing about the direction
        label, counts = self._labels(index, self.parts[0])
        self.train.set_info(label=label.astype(np.float64), weight=counts.astype(np.float32))
        label, counts = self._labels(index, self.parts[1])
        learned, judged = (np.zeros(len(part), np.float32) for part in self.parts)
        for text in head.chunks:
            booster = xgb.Booster({"nthread": self.settings.threads})
            booster.load_model(bytearray(text))
            learned, judged = (
                _said(booster, matrix, margin)
                for matrix, margin in ((self.train, learned), (self.validation, judged))
            )
        self._standing = _Standing(
            index=index,
            chunks=len(head.chunks),
            learned=learned,
            judged=judged,
            label=label[counts],
            counts=np.flatnonzero(counts),
        )
        return self._standing

    def _labels(self, index: int, rows: TrainingRows) -> tuple[Any, Any]:
        target = rows.target_pct[:, index // 2]
        known = np.isfinite(target)
        if index % 2:
            return target > 0, known & (target != 0)
        limit = self._limit(index // 2)
        return np.clip(np.where(known, target, 0.0), -limit, limit), known

    def _limit(self, column: int) -> float:
        target = self.parts[0].target_pct[:, column]
        return self.settings.clip_deviations * _robust_deviation(target[np.isfinite(target)])

    def _parameters(self, index: int, done: int) -> dict[str, Any]:
        s = self.settings
        _, objective, row_weight = _KINDS[index % 2]
        rows = int(np.isfinite(self.parts[0].target_pct[:, index // 2]).sum())
        leaf_rows = max(float(s.min_leaf_rows), s.min_leaf_fraction * rows)
        return {
            "objective": objective,
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

    def load(self, checkpoints: Checkpoints | None) -> list[Head]:
        """Take over an unfinished training, if it is one of the same rows, settings and seed."""
        if checkpoints is not None:
            self._fingerprint = self._identify()
        saved = checkpoints.load() if checkpoints is not None else None
        if saved is not None:
            try:
                state = json.loads(saved)
                if state["fingerprint"] == self._fingerprint:
                    return [
                        Head(
                            chunks=tuple(base64.b64decode(chunk) for chunk in head["chunks"]),
                            history=tuple(head["history"]),
                            done=head["done"],
                            before=head["before"],
                        )
                        for head in state["heads"]
                    ]
            except (ValueError, KeyError, TypeError):
                pass  # a torn state is no state: begin again, which ends in the same bytes
        return self._beginning()

    def _beginning(self) -> list[Head]:
        if self.start_from is None:
            return [Head() for _ in range(self.heads)]
        models = xgboost_text.split(self.start_from)
        if len(models) != self.heads:
            raise BadSettingsError(
                f"the model to go on from has {len(models) // 2} horizons, this training {self.heads // 2}"
            )
        return [self._further(number, model) for number, model in enumerate(models)]

    def _further(self, index: int, model: dict[str, Any]) -> Head:
        text = xgboost_text.write(model)
        booster = xgb.Booster({"nthread": self.settings.threads})
        booster.load_model(bytearray(text))
        if booster.num_features() != self.parts[0].vectors.shape[1]:
            raise BadSettingsError(
                f"the model to go on from has {booster.num_features()} features, this training"
                f" {self.parts[0].vectors.shape[1]}"
            )
        trees = booster.num_boosted_rounds()
        # so many trees are slow to serve: it has learned what it can
        head = Head(chunks=(text,), done=trees + self.rounds > self.settings.most_trees, before=trees)
        standing = self._prepared(index, head)
        return replace(head, history=tuple(_scores(index, standing.judged[None], standing)))

    def state(self, heads: list[Head]) -> bytes:
        """Write down an unfinished training."""
        return json.dumps(
            {
                "fingerprint": self._fingerprint,
                "heads": [
                    {
                        "chunks": [base64.b64encode(chunk).decode() for chunk in head.chunks],
                        "history": head.history,
                        "done": head.done,
                        "before": head.before,
                    }
                    for head in heads
                ],
            }
        ).encode()

    def _identify(self) -> str:
        facts = f"{xgb.__version__} {self.seed} {sorted(asdict(self.settings).items())}"
        digest = hashlib.sha256(facts.encode())
        digest.update(hashlib.sha256(self.start_from or b"").digest())
        for rows in self.parts:
            digest.update(np.ascontiguousarray(rows.vectors).data)
            digest.update(np.ascontiguousarray(rows.target_pct).data)
        return digest.hexdigest()


def _said(booster: xgb.Booster, matrix: xgb.DMatrix, margin: Float32) -> Float32:
    matrix.set_base_margin(margin)
    said: Float32 = booster.predict(matrix, output_margin=True)
    return said


def _scores(index: int, margins: Float32, standing: _Standing) -> list[float]:
    """Judge what is said of the early-stopping rows, a line a tree: by its error, or by its surprise."""
    said: Float64 = margins[:, standing.counts].astype(np.float64)
    if index % 2 == 0:
        errors: list[float] = np.sqrt(np.square(said - standing.label).mean(axis=1)).tolist()
        return errors
    against = np.where(standing.label, -said, said)
    surprises: list[float] = (
        np.log(1.0 + np.exp(np.minimum(against, _LARGEST_EXPONENT))).mean(axis=1).tolist()
    )
    return surprises


def _chunk_seed(seed: int, index: int, done: int) -> int:
    digest = hashlib.sha256(f"{seed}/{xgboost_text.name(index)}/{done}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _robust_deviation(target: Any) -> float:
    # 1.4826 times the median absolute value is the standard deviation of a normal distribution around 0
    robust = 1.4826 * float(np.median(np.abs(target)))
    return robust if robust > 0 else float(np.std(target))
