"""What each group of features is worth, from what models with and without it said on the same minutes.

Worth is a difference of skills, in percentage points: how much more of the no-change forecast's squared error
(or of a coin's log loss) the model with all features takes away than the one without the group. The rows are
paired and drawn together in blocks of minutes, because outcomes overlap and symbols move together.

One page holds many comparisons, so some look remarkable by chance alone. The verdicts therefore hold all
p-values of the page against Holm's (1979) steps: the chance of *any* wrong verdict stays below 5 %, however
the comparisons depend on each other. The intervals are those of each comparison for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtr

from domain.evaluation.bootstrap import Interval, minute_sums, ratio_interval, standard_error_of_mean
from schemas.frames import Float64, Int64
from training.evaluation.ablation import FULL, Ablated

Loss = Literal["squared error", "log loss"]
LOSSES: tuple[Loss, ...] = ("squared error", "log loss")
#: The recordings together, each weighing the same.
POOLED = "all recordings"
#: Chance of any wrong verdict on a page.
FAMILY_WISE_ERROR = 0.05
HELPS, HURTS, UNKNOWN = "helps", "hurts", "no evidence"
#: No probability counts as surer than this, or one row would decide everything.
_SUREST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What one group is worth at one horizon of one recording.

    Attributes
    ----------
    worth
        Skill with all features less skill without the group, percentage points, with its 95 % interval.
    p_value
        Two-sided, of no worth at all; 1 where it cannot be told.
    adjusted_p
        After all that the page compares.
    verdict
        `helps`, `hurts` or `no evidence`.
    """

    recording: str
    group: str
    features: int
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
    """How good the model with all features is at one horizon: skill in percent, with 95 % intervals."""

    recording: str
    horizon: int
    rows: int
    squared_error: Interval
    log_loss: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Losses of paired rows: shape (rows,), and what their sums are shares of."""

    with_all: Float64
    without: Float64
    reference: Float64
    open_time_ms: Int64


def levels(ablated: Sequence[Ablated], *, seed: int) -> list[Level]:
    """Measure the skill of the model with all features, by recording and horizon."""
    found = []
    for each in ablated:
        for horizon in each.horizons:
            losses = {loss: _rows(each, FULL, horizon, loss) for loss in LOSSES}
            found.append(
                Level(
                    recording=each.recording,
                    horizon=horizon,
                    rows=len(losses["squared error"].reference),
                    squared_error=_skill(losses["squared error"], horizon, seed),
                    log_loss=_skill(losses["log loss"], horizon, seed),
                )
            )
    return found


def worths(ablated: Sequence[Ablated], *, seed: int) -> list[Worth]:
    """Measure what every group is worth, on each recording and on all together, and judge all at once."""
    found: list[Worth] = []
    recordings: list[tuple[str, list[Ablated]]] = [(each.recording, [each]) for each in ablated]
    if len(ablated) > 1:
        recordings.insert(0, (POOLED, list(ablated)))
    for name, members in recordings:
        for variant, features in members[0].hidden.items():
            if variant == FULL:
                continue
            for horizon in members[0].horizons:
                for loss in LOSSES:
                    rows = _pooled([_rows(each, variant, horizon, loss) for each in members])
                    found.append(
                        Worth(
                            recording=name,
                            group=variant,
                            features=features,
                            horizon=horizon,
                            loss=loss,
                            worth=_difference(rows, horizon, seed),
                            p_value=_p_value(rows, horizon),
                        )
                    )
    return judged(found)


def judged(found: Sequence[Worth], *, error: float = FAMILY_WISE_ERROR) -> list[Worth]:
    """Give every comparison its verdict, in the order given, by Holm's steps over all of them."""
    answer: dict[int, Worth] = {}
    highest = 0.0
    for step, place in enumerate(sorted(range(len(found)), key=lambda at: found[at].p_value)):
        each = found[place]
        highest = min(1.0, max(highest, each.p_value * (len(found) - step)))
        verdict = UNKNOWN
        if highest < error:
            verdict = HELPS if each.worth.estimate > 0.0 else HURTS
        answer[place] = replace(each, adjusted_p=highest, verdict=verdict)
    return [answer[place] for place in range(len(found))]


def _rows(each: Ablated, variant: str, horizon: int, loss: Loss) -> _Rows:
    column = each.horizons.index(horizon)
    actual = each.actual_pct[:, column]
    if loss == "squared error":
        chosen = np.isfinite(actual)
        went = actual[chosen]
        losses = [(went - said[chosen, column]) ** 2 for said in _both(each.predicted_pct, variant)]
        reference = went**2
    else:
        chosen = np.isfinite(actual) & (actual != 0.0)
        rose = actual[chosen] > 0.0
        given = [
            np.where(rose, said[chosen, column], 1.0 - said[chosen, column])
            for said in _both(each.probability_up, variant)
        ]
        losses = [-np.log(np.clip(probability, _SUREST, 1.0)) for probability in given]
        reference = np.full(int(chosen.sum()), math.log(2.0))
    return _Rows(
        with_all=losses[0], without=losses[1], reference=reference, open_time_ms=each.open_time_ms[chosen]
    )


def _both(said: Mapping[str, Float64], variant: str) -> tuple[Float64, Float64]:
    return said[FULL], said[variant]


def _pooled(parts: Sequence[_Rows]) -> _Rows:
    """Put recordings together so that each weighs by its rows, not by how wild its market was."""
    scales = [float(np.mean(part.reference)) for part in parts]
    return _Rows(
        with_all=np.concatenate([part.with_all / scale for part, scale in zip(parts, scales, strict=True)]),
        without=np.concatenate([part.without / scale for part, scale in zip(parts, scales, strict=True)]),
        reference=np.concatenate([part.reference / scale for part, scale in zip(parts, scales, strict=True)]),
        open_time_ms=np.concatenate([part.open_time_ms for part in parts]),
    )


def _difference(rows: _Rows, horizon: int, seed: int) -> Interval:
    return _percent(
        ratio_interval(
            numerator=rows.without - rows.with_all,
            denominator=rows.reference,
            open_time_ms=rows.open_time_ms,
            horizon_minutes=horizon,
            seed=seed,
        )
    )


def _skill(rows: _Rows, horizon: int, seed: int) -> Interval:
    return _percent(
        ratio_interval(
            numerator=rows.reference - rows.with_all,
            denominator=rows.reference,
            open_time_ms=rows.open_time_ms,
            horizon_minutes=horizon,
            seed=seed,
        )
    )


def _p_value(rows: _Rows, horizon: int) -> float:
    """Test against no difference (Diebold and Mariano 1995), with the standard error of blocks of minutes."""
    difference = rows.without - rows.with_all
    sums = minute_sums(columns=difference, open_time_ms=rows.open_time_ms, horizon_minutes=horizon)
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
