"""One training of a comparison of training modes, and one question to its model, each in a pool's process."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import ModelError, TrainingRows
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from schemas.frames import Float32, Int64
from training.fitting import FitRequest, fit, in_pieces, parts_of
from training.rows import save_rows

_COLUMNS = ("vectors", "symbol_index", "open_time_ms", "close", "is_complete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is to be learned.

    Attributes
    ----------
    request
        The training; its folder holds the rows of the whole recording.
    symbols
        Positions of the symbols whose rows it is given.
    from_ms
        Open time of the first row that it is given; the last one is that at which it trains.
    """

    request: FitRequest
    symbols: tuple[int, ...]
    from_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model: what serves, and what a further training goes on from."""

    graph: bytes = field(repr=False)
    sha256: str
    native: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What came of a training.

    Attributes
    ----------
    model
        None if there was nothing to learn, or too little to learn it from.
    went_on
        Whether it went on from an earlier model.
    cpu_s
        Seconds of processor time, of fit, calibration, export, checks and scores.
    """

    model: Made | None
    went_on: bool
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Rows, by position in the recording, that a model is asked about."""

    folder: str
    rows: Int64
    feature_names: tuple[str, ...]
    schema_hash: str


def learn(lesson: Lesson, *, progress: Any, cancelled: Any) -> Learned:
    """Train on the rows that production would read for it, and on no others."""
    source = Path(lesson.request.folder)
    with tempfile.TemporaryDirectory(prefix="lesson-", dir=source) as own:
        _cut(source, Path(own), lesson)
        request = replace(lesson.request, folder=own)
        went_on = False
        begun_s = time.process_time()
        try:
            went_on = _goes_on(request)
            begun_s = time.process_time()
            made = fit(request, progress=progress, cancelled=cancelled)
        except (ModelError, TooFewRowsError):
            # as in the trainer's queue: the job fails, and what served goes on serving
            return Learned(model=None, went_on=went_on, cpu_s=time.process_time() - begun_s)
    cpu_s = time.process_time() - begun_s
    if made.model is None:
        return Learned(model=None, went_on=went_on, cpu_s=cpu_s)
    model = Made(graph=made.model.graph, sha256=made.model.sha256, native=made.model.native)
    return Learned(model=model, went_on=went_on, cpu_s=cpu_s)


def answers(question: Question, model: Made, *, progress: Any, cancelled: Any) -> tuple[Float32, Float32]:
    """Ask the graph of a model.

    Returns
    -------
    Percent change and probability of a rise, shape (rows, horizons).
    """
    served = ServedModel.from_bytes(
        model.graph,
        sha256=model.sha256,
        feature_names=question.feature_names,
        schema_hash=question.schema_hash,
    )
    columns = _columns(Path(question.folder))
    keys = {"symbol_index": columns["symbol_index"], "open_time_ms": columns["open_time_ms"]}
    everything = TrainingRows(
        vectors=columns["vectors"],
        target_pct=np.full((len(columns["vectors"]), len(served.card.horizons)), np.nan),
        **keys,
        history=Windows(vectors=columns["vectors"], **keys),
    )

    def say(inputs: Float32) -> Float32:
        answered = served.predict(inputs)
        return np.concatenate([answered.predicted_pct, answered.probability_up], axis=1)

    said = in_pieces(say, everything.take(question.rows), served.window)
    predicted_pct, probability_up = np.split(said, 2, axis=1)
    return predicted_pct, probability_up


def _goes_on(request: FitRequest) -> bool:
    """Tell whether `fit` will go on from the earlier model: not where that one saw the validation rows."""
    if request.start_from is None:
        return False
    return request.start_seen_to_ms < int(parts_of(request).validation.open_time_ms.min())


def _cut(source: Path, own: Path, lesson: Lesson) -> None:
    columns = _columns(source)
    times, index = columns["open_time_ms"], columns["symbol_index"]
    chosen = np.flatnonzero(
        (times >= lesson.from_ms) & (times <= lesson.request.train_at_ms) & np.isin(index, lesson.symbols)
    )
    save_rows(own, **{name: values[chosen] for name, values in columns.items()})


def _columns(folder: Path) -> dict[str, Any]:
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _COLUMNS}
