"""How much more skill one model had than another, where both spoke about the same rows.

That is a difference of skills, in percentage points: how much more of the no-change forecast's squared error
(or of a coin's log loss) the one takes away than the other. The rows are paired and drawn together in blocks
of minutes, because outcomes overlap and symbols move together.

One page holds many comparisons, so some look remarkable by chance alone. The verdicts therefore hold all
p-values of the page against Holm's (1979) steps: the chance of *any* wrong verdict stays below 5 %, however
the comparisons depend on each other. The intervals are those of each comparison for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from scipy.special import stdtr

from domain.evaluation.bootstrap import Interval, minute_sums, ratio_interval, standard_error_of_mean
from schemas.frames import Float64, Int64

Loss = Literal["squared error", "log loss"]
LOSSES: tuple[Loss, ...] = ("squared error", "log loss")
#: The recordings together, each weighing the same.
POOLED = "all recordings"
#: Chance of any wrong verdict on a page.
FAMILY_WISE_ERROR = 0.05
HELPS, HURTS, UNKNOWN = "helps", "hurts", "no evidence"
#: No probability counts as surer than this, or one row would decide everything.
_SUREST = 1e-6


class Spoken(Protocol):
    """What several models said about the same rows of a recording, and what became of them."""

    @property
    def recording(self) -> str:
        """Its name."""
        ...

    @property
    def horizons(self) -> tuple[int, ...]:
        """Minutes ahead, in the order of the columns."""
        ...

    @property
    def open_time_ms(self) -> Int64:
        """Shape (rows,)."""
        ...

    @property
    def actual_pct(self) -> Float64:
        """Shape (rows, horizons); NaN where it is not known."""
        ...

    @property
    def predicted_pct(self) -> Mapping[str, Float64]:
        """By model, of the same shape."""
        ...

    @property
    def probability_up(self) -> Mapping[str, Float64]:
        """By model, of the same shape."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How much more skill one model had than another, at one horizon of one recording.

    Attributes
    ----------
    worth
        Skill of the one less skill of the other, percentage points, with its 95 % interval.
    p_value
        Two-sided, of no difference at all; 1 where it cannot be told.
    adjusted_p
        After all that the page compares.
    verdict
        `helps`, `hurts` or `no evidence`.
    """

    recording: str
    horizon: int
    loss: Loss
    worth: Interval
    p_value: float
    adjusted_p: float = 1.0
    verdict: str = UNKNOWN

    @property
    def stands_out(self) -> bool:
        """Whether its own interval leaves out 0, which one in twenty does by chance."""
        return self.worth.low > 0.0 or self.worth.high < 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How good a model is at one horizon: skill in percent, with 95 % intervals."""

    recording: str
    horizon: int
    rows: int
    squared_error: Interval
    log_loss: Interval


class Difference(NamedTuple):
    """Of two skills, in percentage points, and the p-value of there being none."""

    horizon: int
    loss: Loss
    worth: Interval
    p_value: float


_Spoken = TypeVar("_Spoken", bound=Spoken)
_Contrast = TypeVar("_Contrast", bound=Contrast)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Losses of paired rows: shape (rows,), and what their sums are shares of."""

    model: Float64
    against: Float64
    reference: Float64
    open_time_ms: Int64


def level(each: Spoken, model: str, horizon: int, *, seed: int) -> Level:
    """Measure the skill of one model at one horizon."""
    losses = {loss: _rows(each, model, model, horizon, loss) for loss in LOSSES}
    return Level(
        recording=each.recording,
        horizon=horizon,
        rows=len(losses["squared error"].reference),
        squared_error=_skill(losses["squared error"], horizon, seed),
        log_loss=_skill(losses["log loss"], horizon, seed),
    )


def with_all_together(spoken: Sequence[_Spoken]) -> list[tuple[str, list[_Spoken]]]:
    """List recordings by name, and before them all together where there are several."""
    alone = [(each.recording, [each]) for each in spoken]
    return [(POOLED, list(spoken)), *alone] if len(spoken) > 1 else alone


def differences(members: Sequence[Spoken], *, model: str, against: str, seed: int) -> Iterator[Difference]:
    """Measure how much more skill a model had than another, on recordings together, by horizon and loss."""
    for horizon in members[0].horizons:
        for loss in LOSSES:
            rows = _pooled([_rows(each, model, against, horizon, loss) for each in members])
            yield Difference(horizon, loss, _difference(rows, horizon, seed), _p_value(rows, horizon))


def judged(found: Sequence[_Contrast], *, error: float = FAMILY_WISE_ERROR) -> list[_Contrast]:
    """Give every comparison its verdict, in the order given, by Holm's steps over all of them."""
    answer: dict[int, _Contrast] = {}
    highest = 0.0
    for step, place in enumerate(sorted(range(len(found)), key=lambda at: found[at].p_value)):
        each = found[place]
        highest = min(1.0, max(highest, each.p_value * (len(found) - step)))
        verdict = UNKNOWN
        if highest < error:
            verdict = HELPS if each.worth.estimate > 0.0 else HURTS
        answer[place] = replace(each, adjusted_p=highest, verdict=verdict)
    return [answer[place] for place in range(len(found))]


def _rows(each: Spoken, model: str, against: str, horizon: int, loss: Loss) -> _Rows:
    column = each.horizons.index(horizon)
    actual = each.actual_pct[:, column]
    if loss == "squared error":
        chosen = np.isfinite(actual)
        went = actual[chosen]
        losses = [(went - each.predicted_pct[name][chosen, column]) ** 2 for name in (model, against)]
        reference = went**2
    else:
        chosen = np.isfinite(actual) & (actual != 0.0)
        rose = actual[chosen] > 0.0
        said = [each.probability_up[name][chosen, column] for name in (model, against)]
        given = [np.where(rose, up, 1.0 - up) for up in said]
        losses = [-np.log(np.clip(probability, _SUREST, 1.0)) for probability in given]
        reference = np.full(int(chosen.sum()), math.log(2.0))
    return _Rows(
        model=losses[0], against=losses[1], reference=reference, open_time_ms=each.open_time_ms[chosen]
    )


def _pooled(parts: Sequence[_Rows]) -> _Rows:
    """Put recordings together so that each weighs by its rows, not by how wild its market was."""
    scales = [float(np.mean(part.reference)) for part in parts]
    return _Rows(
        model=np.concatenate([part.model / scale for part, scale in zip(parts, scales, strict=True)]),
        against=np.concatenate([part.against / scale for part, scale in zip(parts, scales, strict=True)]),
        reference=np.concatenate([part.reference / scale for part, scale in zip(parts, scales, strict=True)]),
        open_time_ms=np.concatenate([part.open_time_ms for part in parts]),
    )


def _difference(rows: _Rows, horizon: int, seed: int) -> Interval:
    return _share(rows.against - rows.model, rows, horizon, seed)


def _skill(rows: _Rows, horizon: int, seed: int) -> Interval:
    return _share(rows.reference - rows.model, rows, horizon, seed)


def _share(less: Float64, rows: _Rows, horizon: int, seed: int) -> Interval:
    """Give how much less the squared error is, in percent of the reference."""
    return _percent(
        ratio_interval(
            numerator=less,
            denominator=rows.reference,
            open_time_ms=rows.open_time_ms,
            horizon_minutes=horizon,
            seed=seed,
        )
    )


def _p_value(rows: _Rows, horizon: int) -> float:
    """Test against no difference (Diebold and Mariano 1995), with the standard error of blocks of minutes."""
    gained = rows.against - rows.model
    sums = minute_sums(columns=gained, open_time_ms=rows.open_time_ms, horizon_minutes=horizon)
    error = standard_error_of_mean(sums)
    if not (math.isfinite(error) and error > 0.0):
        return 1.0
    deviations = float(sums.grid.mean()) / error
    return 2.0 * float(stdtr(sums.blocks - 1, -abs(deviations)))


def _percent(interval: Interval) -> Interval:
    return replace(
        interval,
        estimate=100.0 * interval.estimate,
        low=100.0 * interval.low,
        high=100.0 * interval.high,
    )
