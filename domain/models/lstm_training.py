"""One training of the network: epoch by epoch, each of which a killed training can go on from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from domain.models.lstm_model import Model, Scaling, Shape, decode, encode
from domain.models.lstm_network import Network
from domain.models.lstm_rows import Part, Table, history_of
from domain.models.lstm_settings import LSTMSettings
from domain.models.model import Cancelled, Checkpoints, TrainingCancelledError, TrainingRows
from schemas.frames import Float32, Int64

#: Early-stopping rows that are asked about, evenly spread: neighbours say nearly the same.
_STOPPING_ROWS = 10_000
_ASKED_AT_ONCE = 1000
#: Few rows are cut into smaller batches, until there are so many steps in an epoch, or batches so small.
_STEPS, _SMALL_BATCH = 20, 32
#: A gradient longer than this is cut to it: a single wild minute must not throw the network about.
_LONGEST_GRADIENT = 1.0


@dataclass(slots=True, kw_only=True)
class Course:
    """How far a training has come.

    Attributes
    ----------
    scores
        Score on the early-stopping rows before the first epoch and after each; 1 is as good as no forecast.
    best
        Weights that had the best score.
    """

    scores: list[float]
    best: dict[str, Float32]

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.scores) - 1


class Training:
    """The network, its optimiser and the rows of one training.

    Parameters
    ----------
    start
        The model that it goes on from; None begins anew.
    """

    def __init__(
        self,
        *,
        settings: LSTMSettings,
        seed: int,
        device: str,
        shape: Shape,
        scaling: Scaling,
        train: TrainingRows,
        validation: TrainingRows,
        start: Model | None,
    ) -> None:
        self.shape = shape
        self._settings = settings
        self._seed = seed
        self._device = device
        self._start = start
        self._scaling = scaling
        tables = {}
        for rows in (train, validation):
            history = history_of(rows)
            if id(history) not in tables:
                tables[id(history)] = Table(history, shape=shape, scaling=scaling, device=device)
        self._train, self.validation = (
            Part(
                rows,
                shape=shape,
                scaling=scaling,
                clip_deviations=settings.clip_deviations,
                table=tables[id(rows.history)],
            )
            for rows in (train, validation)
        )
        #: Last minute learned from.
        self.learned_to_ms = int(train.open_time_ms.max())
        few = min(len(validation), _STOPPING_ROWS)
        #: Places of the early-stopping rows that are asked about.
        self.asked = np.linspace(0, len(validation) - 1, few).astype(np.int64)
        torch.manual_seed(_derived(seed, "weights"))
        self._learner = Network(shape, dropout=settings.dropout)
        if start is not None:
            self._learner.load(start.weights)
        self._learner.parts.to(device)
        #: The average of the learner over its last steps.
        self.network = Network(shape)
        self.network.parts.to(device)
        self.network.load(self._learner.weights())
        self._steps = 0
        self._parameters = list(self._learner.parts.parameters())
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def begin(self, checkpoints: Checkpoints | None, cancelled: Cancelled) -> Course:
        """Take over an unfinished training of the same rows, settings and seed, or begin."""
        self._fingerprint = self._identify() if checkpoints is not None else ""
        saved = checkpoints.load() if checkpoints is not None else None
        course = self._restored(saved) if saved is not None else None
        if course is None:
            course = Course(scores=[self._score(cancelled)], best=self.network.weights())
        return course

    def is_done(self, course: Course) -> bool:
        """Tell whether all epochs are done, or the score has not become better for long."""
        stale = course.epochs - self.best_epoch(course)
        return course.epochs >= self._settings.max_epochs or (
            course.epochs > 0 and stale >= self._settings.early_stopping_patience
        )

    def best_epoch(self, course: Course) -> int:
        """Give the number of epochs after which the score was best; at least one, unless it began trained."""
        first = 0 if self._start is not None else 1
        return first + int(np.argmin(course.scores[first:])) if course.epochs else 0

    def epoch(self, course: Course, cancelled: Cancelled) -> None:
        """Learn from rows in an order of this epoch's own, and see how well it does then."""
        number = course.epochs
        torch.manual_seed(_derived(self._seed, f"epoch {number}"))
        order = np.random.default_rng([self._seed, number]).permutation(len(self._train))
        self._learner.learns(True)
        drawn = order[: self._settings.epoch_rows]
        for chosen in _cut(drawn, _steps(len(drawn), self._settings.batch_size)):
            _go_on(cancelled)
            self._step(chosen)
        course.scores.append(self._score(cancelled))
        if self.best_epoch(course) == course.epochs:
            course.best = self.network.weights()

    def _step(self, chosen: Int64) -> None:
        said = self._learner(self._train.windows(chosen))
        loss = _losses(said, *self._train.outcomes(chosen)).sum()
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, _LONGEST_GRADIENT)
        self._optimiser.step()
        self._steps += 1
        # at first the mean of all steps, later one that forgets
        share = 1.0 / min(self._steps, self._settings.averaged_steps)
        with torch.no_grad():
            for mean, latest in zip(self.network.parts.parameters(), self._parameters, strict=True):
                mean.lerp_(latest, share)

    def say(self, cancelled: Cancelled) -> Float32:
        """Ask the network about the early-stopping rows; shape (rows, heads)."""
        self.network.learns(False)
        said = []
        with torch.inference_mode():
            for chosen in _cut(self.asked, math.ceil(len(self.asked) / _ASKED_AT_ONCE)):
                _go_on(cancelled)
                said.append(self.network(self.validation.windows(chosen)).cpu().numpy())
        together: Float32 = np.concatenate(said)
        return together

    def _score(self, cancelled: Cancelled) -> float:
        # each head against saying nothing, so that no horizon drowns another
        said = torch.from_numpy(self.say(cancelled).astype(np.float64))
        outcomes = [values.cpu() for values in self.validation.outcomes(self.asked)]
        return float((_losses(said, *outcomes) / _losses(torch.zeros_like(said), *outcomes)).mean())

    def state(self, course: Course) -> bytes:
        """Write down an unfinished training."""
        moments = {}
        for number, parameter in enumerate(self._parameters):
            for name, values in self._optimiser.state[parameter].items():
                moments[f"{number}.{name}"] = values.detach().cpu().numpy()
        return json.dumps(
            {
                "fingerprint": self._fingerprint,
                "scores": course.scores,
                "steps": self._steps,
                "weights": encode(self._learner.weights()),
                "average": encode(self.network.weights()),
                "moments": encode(moments),
                "best": encode(course.best),
            }
        ).encode()

    def _restored(self, saved: bytes) -> Course | None:
        try:
            state = json.loads(saved)
            if state["fingerprint"] != self._fingerprint:
                return None
            weights, average, best, moments = (
                decode(state[name]) for name in ("weights", "average", "best", "moments")
            )
            course, steps = Course(scores=list(state["scores"]), best=best), int(state["steps"])
        except (ValueError, KeyError, TypeError):
            return None  # a torn state is no state: begin again, which ends in the same bytes
        self._learner.load(weights)
        self.network.load(average)
        self._steps = steps
        for number, parameter in enumerate(self._parameters):
            names = ("step", "exp_avg", "exp_avg_sq")
            self._optimiser.state[parameter] = {
                name: torch.from_numpy(moments[f"{number}.{name}"]).to(self._device) for name in names
            }
        return course

    def _identify(self) -> str:
        start = hashlib.sha256(self._start.to_bytes()).hexdigest() if self._start else ""
        facts = [torch.__version__, self._device, self._seed, sorted(asdict(self._settings).items()), start]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for part in (self._train, self.validation):
            rows, history = part.rows, history_of(part.rows)
            for values in (
                rows.target_pct,
                rows.symbol_index,
                rows.open_time_ms,
                rows.vectors,
                history.at(np.arange(len(history))),
            ):
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


def _losses(said: Any, target: Any, known: Any, rose: Any, moved: Any) -> Any:
    """Give the loss of each head: half the square of the error, and the cross-entropy of the direction.

    A row whose change is not known weighs nothing, one that did not move says nothing about the direction.
    """
    change, rise = said.chunk(2, dim=1)
    squares = 0.5 * (change - target) ** 2 * known
    surprises = torch.nn.functional.binary_cross_entropy_with_logits(
        rise, rose.to(said.dtype), reduction="none"
    )
    changes = squares.sum(dim=0) / known.sum(dim=0).clamp(min=1)
    rises = (surprises * moved).sum(dim=0) / moved.sum(dim=0).clamp(min=1)
    return torch.cat([changes, rises])


def _steps(rows: int, batch_size: int) -> int:
    return max(math.ceil(rows / batch_size), min(_STEPS, rows // _SMALL_BATCH), 1)


def _cut(chosen: Int64, pieces: int) -> Iterator[Int64]:
    return iter(np.array_split(chosen, pieces))


def _go_on(cancelled: Cancelled) -> None:
    if cancelled():
        raise TrainingCancelledError("asked to stop")


def _derived(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1
