"""The parity gate: the graph must say what the model says.

Asked of real rows (whose values sit on the thresholds of trees), of the same rows with values missing and one
step of float32 off, and of rows off the beaten track; all at once and one by one. A model that fails is not
registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from domain.models import serving
from domain.models.calibration import Calibration
from domain.models.dissimilarity import Dissimilarity
from domain.models.model import SERVED_OUTPUTS, Family, Fitted, ParityError, TrainingRows
from domain.models.serving import Answers
from schemas.frames import Bool, Float32, Float64

RELATIVE = 1e-4
#: Of the target's standard deviation.
OF_DEVIATION = 1e-5
PROBABILITY = 1e-4
#: As many probes as there are rows, within these bounds; fewer where each is a whole window.
_FEWEST_PROBES, _PROBES = 2_000, 10_000
_WINDOW_PROBES = 1_000
#: Rows that are also asked for alone and in small batches.
_ALONE = 64
_SMALL_BATCHES = (2, 3, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How close the graph came.

    Attributes
    ----------
    rows
        Probes compared.
    worst_change, worst_probability
        Largest absolute differences.
    """

    rows: int
    worst_change: float
    worst_probability: float


def probe_rows(inputs: Float32, *, seed: int, count: int = _PROBES) -> Float32:
    """Make the vectors or windows that a graph is asked about, from real ones.

    A quarter each: real ones; with a fifth of the values missing (some altogether); one step of float32 up or
    down; every feature drawn on its own.
    """
    chance = np.random.default_rng(seed)
    quarter = max(1, count // 4)
    real = inputs[chance.integers(0, len(inputs), quarter)]
    missing = real.copy()
    missing[chance.random(missing.shape) < 0.2] = np.nan
    missing[:10] = np.nan
    towards = np.where(chance.random(real.shape) < 0.5, np.float32(np.inf), np.float32(-np.inf))
    beside = np.nextafter(real, towards)
    # a step beyond the largest float32 would be infinite, which no feature ever is
    beside = np.where(np.isinf(beside), real, beside)
    rows = chance.integers(0, len(inputs), (quarter, inputs.shape[-1]))
    mixed = np.stack([inputs[rows[:, k], ..., k] for k in range(inputs.shape[-1])], axis=-1)
    return np.ascontiguousarray(np.concatenate([real, missing, beside, mixed]), np.float32)


def probes_of(rows: TrainingRows, *, window: int, seed: int) -> Float32:
    """Make probes from training rows, fewer of them where each is a whole window."""
    if not window:
        count = min(max(len(rows), _FEWEST_PROBES), _PROBES)
        return probe_rows(rows.vectors, seed=seed, count=count)
    chosen = np.random.default_rng(seed).choice(len(rows), min(len(rows), _WINDOW_PROBES), replace=False)
    return probe_rows(rows.take(np.sort(chosen)).inputs(window), seed=seed, count=_WINDOW_PROBES)


def check(
    *,
    family: Family,
    fitted: Fitted,
    served_graph: bytes,
    calibration: Calibration,
    unlike: Dissimilarity,
    rows: TrainingRows,
    seed: int,
) -> ParityReport:
    """Hold the graph that is to serve against the native model and its calibration.

    Raises
    ------
    ParityError
        If any value differs by more than the limits, is not a number, or depends on the rows beside it.
    """
    probes = probes_of(rows, window=fitted.window, seed=seed)
    native = family.predict(native=fitted.native, inputs=probes)
    own = probes[:, -1] if fitted.window else probes
    expected = native.predicted_pct, calibration.apply(native.log_odds_up), unlike.apply(own)
    session = serving.open_session(served_graph)
    found = _ask(session, probes)
    deviation = np.nanstd(rows.target_pct, axis=0)
    limits = (
        RELATIVE * np.abs(native.predicted_pct.astype(np.float64)) + OF_DEVIATION * deviation,
        np.full(expected[1].shape, PROBABILITY),
        RELATIVE * expected[2] + RELATIVE,
    )
    worst = []
    for name, want, got, limit in zip(SERVED_OUTPUTS, expected, found, limits, strict=True):
        if got.shape != want.shape:
            raise ParityError(f"{name}: the graph answers {got.shape}, the model {want.shape}")
        difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
        _refuse(name, ~(difference <= limit), difference)  # not-a-number compares false, so it is refused
        worst.append(float(difference.max()))
    if not ((found.probability_up >= 0) & (found.probability_up <= 1)).all():
        raise ParityError("probability_up leaves 0..1")
    _check_batches(session, probes, found)
    return ParityReport(rows=len(probes), worst_change=worst[0], worst_probability=worst[1])


def _ask(session: Any, inputs: Float32) -> Answers:
    try:
        return serving.ask(session, inputs)
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise ParityError(f"the graph fails on {len(inputs)} rows: {error}") from error


def _refuse(name: str, bad: Bool, difference: Float64) -> None:
    if bad.any():
        raise ParityError(
            f"{name}: the graph differs from the model on {int(bad.sum())} of {bad.size} values, by up to"
            f" {np.nanmax(difference, initial=0.0):.3g}; the model is not registered"
        )


def _check_batches(session: Any, probes: Float32, together: Answers) -> None:
    chosen = np.linspace(0, len(probes) - 1, _ALONE).astype(np.int64)
    pieces = [chosen[i : i + 1] for i in range(len(chosen))]
    pieces += [chosen[:size] for size in _SMALL_BATCHES]
    for piece in pieces:
        got = _ask(session, probes[piece])
        for name, alone, full in zip(SERVED_OUTPUTS, got, together, strict=True):
            if not np.array_equal(alone, full[piece]):
                raise ParityError(
                    f"{name}: a row's value depends on the rows beside it (batch of {len(piece)}); a"
                    " replay in other batches would differ"
                )
