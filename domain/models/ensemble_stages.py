"""The trainings of an ensemble, one after the other, as one training that can be killed and go on.

What members have finished is kept whole, and the one at work keeps its own state, all in one file. A state
that is torn, or of other rows, settings or seed, is no state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models import families
from domain.models.model import (
    Cancelled,
    Checkpoints,
    Fitted,
    NoSignalError,
    Progress,
    TrainingCancelledError,
    TrainingRows,
)

_FORMAT = "tidecast-ensemble-state-1"


class Shelf:
    """Named pieces of state in one file.

    Parameters
    ----------
    checkpoints
        Where the file is kept; None for nowhere.
    fingerprint
        Of everything that the training depends on.
    """

    def __init__(self, checkpoints: Checkpoints | None, fingerprint: str) -> None:
        self._checkpoints = checkpoints
        self._fingerprint = fingerprint
        saved = checkpoints.load() if checkpoints is not None else None
        self.pieces: dict[str, bytes] = {} if saved is None else _unpacked(saved, fingerprint)

    def change(self, *, put: Mapping[str, bytes], drop: str = "") -> None:
        """Put pieces on the shelf, drop one, and write it all down."""
        self.pieces.pop(drop, None)
        self.pieces.update(put)
        if self._checkpoints is None:
            return
        sizes = {name: len(piece) for name, piece in self.pieces.items()}
        head = json.dumps({"format": _FORMAT, "fingerprint": self._fingerprint, "sizes": sizes}).encode()
        self._checkpoints.save(head + b"\n" + b"".join(self.pieces.values()))


def _unpacked(saved: bytes, fingerprint: str) -> dict[str, bytes]:
    head, _, rest = saved.partition(b"\n")
    try:
        facts = json.loads(head)
        if facts["format"] != _FORMAT or facts["fingerprint"] != fingerprint:
            return {}
        pieces, begin = {}, 0
        for name, size in facts["sizes"].items():
            pieces[name] = rest[begin : begin + size]
            begin += size
        return pieces if begin == len(rest) else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # begin again, which ends in the same bytes


@dataclass(frozen=True, slots=True)
class _Own:
    """A member's own checkpoints: one piece of the shelf."""

    shelf: Shelf
    name: str

    def load(self) -> bytes | None:
        return self.shelf.pieces.get(self.name)

    def save(self, state: bytes) -> None:
        self.shelf.change(put={self.name: state})


class Stages:
    """Trains members one after the other, and remembers those that are done.

    Parameters
    ----------
    count
        How many trainings there will be, for the progress.
    earlier
        Native files of earlier models that members are trained further from; folds begin anew, as an earlier
        model may have seen what they foretell.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        count: int,
        seed: int,
        progress: Progress,
        cancelled: Cancelled,
        earlier: Mapping[str, bytes],
    ) -> None:
        self._earlier = earlier
        self._shelf = shelf
        self._count = count
        self._seed = seed
        self._progress = progress
        self._cancelled = cancelled
        self._done = 0

    def fit(
        self,
        title: str,
        *,
        member: str,
        settings: Mapping[str, Any],
        train: TrainingRows,
        validation: TrainingRows,
    ) -> Fitted | None:
        """Train a member, or take it from the shelf; None if it finds no signal.

        Raises
        ------
        BadTrainingDataError, TrainingCancelledError
            As the member does.
        """
        if self._cancelled():
            raise TrainingCancelledError("asked to stop")
        facts = self._shelf.pieces.get(f"{title}/facts")
        if facts is None:
            self._train(title, member=member, settings=settings, train=train, validation=validation)
            facts = self._shelf.pieces[f"{title}/facts"]
        self._done += 1
        self._progress(self._done / self._count, f"{title} is trained")
        found = json.loads(facts)
        if found is None:
            return None
        return Fitted(
            native=self._shelf.pieces[f"{title}/native"],
            graph=self._shelf.pieces[f"{title}/graph"],
            best_iteration=found["best_iteration"],
            window=found["window"],
            metrics=found["metrics"],
            importance={int(feature): share for feature, share in found["importance"].items()},
        )

    def _train(
        self,
        title: str,
        *,
        member: str,
        settings: Mapping[str, Any],
        train: TrainingRows,
        validation: TrainingRows,
    ) -> None:
        begun, count = self._done, self._count
        state = f"{title}/state"
        try:
            fitted = families.load(member).fit(
                train=train,
                validation=validation,
                settings=settings,
                seed=self._seed,
                progress=lambda done, text: self._progress((begun + done) / count, f"{title}: {text}"),
                cancelled=self._cancelled,
                checkpoints=_Own(self._shelf, state),
                start_from=self._earlier.get(title),
            )
        except NoSignalError:
            self._shelf.change(put={f"{title}/facts": b"null"}, drop=state)
            return
        facts = {
            "best_iteration": fitted.best_iteration,
            "window": fitted.window,
            "metrics": dict(fitted.metrics),
            "importance": dict(fitted.importance),
        }
        pieces = {"facts": json.dumps(facts).encode(), "native": fitted.native, "graph": fitted.graph}
        self._shelf.change(put={f"{title}/{name}": piece for name, piece in pieces.items()}, drop=state)


def fingerprint(settings: Any, seed: int, *parts: TrainingRows, start_from: bytes | None) -> str:
    """Give a digest of everything that a training depends on."""
    digest = hashlib.sha256(f"{_FORMAT} {settings} {seed}".encode())
    digest.update(hashlib.sha256(start_from or b"").digest())
    for rows in parts:
        for array in (rows.vectors, rows.target_pct, rows.open_time_ms, rows.symbol_index):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
