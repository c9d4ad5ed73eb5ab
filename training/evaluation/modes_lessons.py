"""One training of a comparison of training modes, and one question to its model, each in a pool's process."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from domain.evaluation.walk_forward import TooFewRowsError
from domain.models.model import ModelError, TrainingRows
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from schemas.frames import Float32, Int64
from training.fitting import FitRequest, fit, in_pieces
from training.parts import parts_of
from training.rows import save_rows, saved_rows

#: How a training begins; `anew after all` where the earlier model saw the rows by which it would be judged.
Beginning = Literal["anew", "further", "anew after all"]


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
        None if there was nothing to learn, or the rows could not be learned from.
    began
        From nothing, from an earlier model, or from nothing because that one saw the validation rows.
    failed
        Whether the rows could not be learned from: too few, for the most part.
    cpu_s
        Seconds of processor time, of fit, calibration, export, checks and scores.
    """

    model: Made | None
    began: Beginning
    failed: bool
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
        began: Beginning = "anew" if request.start_from is None else "further"
        begun_s = time.process_time()
        try:
            if request.start_from is not None and not _is_honest(request):
                began = "anew after all"
            begun_s = time.process_time()
            made = fit(request, progress=progress, cancelled=cancelled)
        except (ModelError, TooFewRowsError):
            # as in the trainer's queue: the job fails, and what served goes on serving
            cpu_s = time.process_time() - begun_s
            return Learned(model=None, began=began, failed=True, cpu_s=cpu_s)
    cpu_s = time.process_time() - begun_s
    model = None
    if made.model is not None:
        model = Made(graph=made.model.graph, sha256=made.model.sha256, native=made.model.native)
    return Learned(model=model, began=began, failed=False, cpu_s=cpu_s)


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
    columns = saved_rows(Path(question.folder))
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


def _is_honest(request: FitRequest) -> bool:
    """Tell whether the validation rows are new to the earlier model; where not, `fit` begins anew."""
    assert request.start_seen_to_ms is not None
    return request.start_seen_to_ms < int(parts_of(request).validation.open_time_ms.min())


def _cut(source: Path, own: Path, lesson: Lesson) -> None:
    columns = saved_rows(source)
    times, index = columns["open_time_ms"], columns["symbol_index"]
    chosen = np.flatnonzero(
        (times >= lesson.from_ms) & (times <= lesson.request.train_at_ms) & np.isin(index, lesson.symbols)
    )
    save_rows(own, **{name: values[chosen] for name, values in columns.items()})
