"""Weights of an ensemble by regime: who counts how much where it trends, ranges or is volatile.

The regime of a row is told by the rule of `domain.forecasting.regime` from the row's own vector, so it is the
same in training, live and in an evaluation, and it is told inside the graph. The rule wants volatilities and
the efficiency of closes; what of them is no feature is read off what is:

- the last hour's volatility is `volatility_60`;
- a day's is `atr_60m` / 11, until that is warm that of four hours, `atr_15m` / 5.6: mean true ranges of hours
  and of quarter hours, which are about that many times the volatility of a minute;
- the efficiency is |`return_60`| / (45 `volatility_60`): 60 moves of mean size 0.75 deviations.

The three numbers are medians over recorded candles (2021-04, 2023-03, 2023-07); there the regime so told is
that of the forecaster, which has the closes themselves, in 93 to 94 of 100 minutes.

Weights begin as those of all rows (`ensemble_weights.by_skill`) and move towards those that the rows of the
regime alone would give as far as it is believed that these are better there. The rows that judge are those
that found the weights, which flatters, so that is doubted as much as a member that was stopped by its judges;
and few independent outcomes are no evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from domain.features.schema import NAMES
from domain.forecasting.regime import REGIMES, TRENDING_EFFICIENCY, VOLATILE_RATIO, classify
from domain.models.ensemble_weights import STOPPED_BY, Judged, Weights, by_skill, counting, cut
from domain.models.model import MIN_ROWS, BadTrainingDataError
from schemas.frames import Float32, Float64, Int8

_DAY, _FOUR_HOURS, _PATH = np.float32(11.0), np.float32(5.6), np.float32(45.0)
_HOUR_FEATURE, _DAY_FEATURE, _FOUR_HOURS_FEATURE, _MOVE_FEATURE = (
    "volatility_60",
    "atr_60m",
    "atr_15m",
    "return_60",
)
#: Which of the two a row is decides with tensors of these names, shape (rows, 1); else it is ranging.
_IS = {name: f"regime_is_{name}" for name in ("trending", "volatile")}


def of(vectors: Float32) -> Int8:
    """Tell the regime of each vector, as positions in `REGIMES`.

    Raises
    ------
    BadTrainingDataError
        If they are not the vectors of this program, whose features the rule reads.
    """
    if vectors.shape[1] != len(NAMES):
        raise BadTrainingDataError(
            f"weighting = 'regime' reads the regime off the vector of {len(NAMES)} features; these rows have"
            f" {vectors.shape[1]}: use weighting = 'skill'"
        )
    hour, day, four_hours, move = (
        vectors[:, NAMES.index(name)].astype(np.float32)
        for name in (_HOUR_FEATURE, _DAY_FEATURE, _FOUR_HOURS_FEATURE, _MOVE_FEATURE)
    )
    # Each step in single precision, as in the graph.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return classify(
            hour_volatility_pct=hour,
            four_hour_volatility_pct=four_hours / _FOUR_HOURS,
            day_volatility_pct=day / _DAY,
            efficiency=np.abs(move) / (_PATH * hour),
        )


def by_regime(judged: Judged, *, doubt: float) -> Weights:
    """Weigh by what each member gains over no change, in each regime; shape (2, regimes, horizons) each."""
    overall = by_skill(judged, doubt=doubt)
    nothing = np.zeros((2, judged.rows.horizons))
    found = {
        name: np.repeat(overall.get(name, nothing)[:, None], len(REGIMES), axis=1) for name in judged.said
    }
    regime = of(judged.rows.vectors)
    for number in range(len(REGIMES)):
        there = np.flatnonzero(regime == number)
        if len(there) < MIN_ROWS:
            continue
        part = judged.only(there)
        own = by_skill(part, doubt=doubt)
        for kind in range(2):
            for column in range(judged.rows.horizons):
                usual, moved = (
                    np.array([weights.get(name, nothing)[kind, column] for name in judged.said])
                    for weights in (overall, own)
                )
                rows = part.of(kind, column)
                trust = rows.better(rows.forecasts @ moved, rows.forecasts @ usual, STOPPED_BY)
                for name, weight in zip(judged.said, usual + trust * (moved - usual), strict=True):
                    found[name][kind, number, column] = weight
    return counting({name: cut(weights) for name, weights in found.items()})


def chosen(weights: Float64, inputs: Float32) -> Float64:
    """Pick the weights of each row, from those of shape (regimes, horizons), by its vector or window."""
    picked: Float64 = weights[of(inputs if inputs.ndim == 2 else inputs[:, -1])]
    return picked


def rule(vectors: str) -> tuple[list[Any], list[Any]]:
    """Make the nodes and constants that tell the regime of the tensor of vectors of this name."""
    numbers = {
        "day_times": _DAY,
        "four_hours_times": _FOUR_HOURS,
        "path_times": _PATH,
        "ratio": np.float32(VOLATILE_RATIO),
        "efficient": np.float32(TRENDING_EFFICIENCY),
    }
    constants = [numpy_helper.from_array(np.array(v, np.float32), f"regime_{k}") for k, v in numbers.items()]
    columns = {
        "hour": _HOUR_FEATURE,
        "day_range": _DAY_FEATURE,
        "four_hours_range": _FOUR_HOURS_FEATURE,
        "move": _MOVE_FEATURE,
    }
    nodes = []
    for name, feature in columns.items():
        place = np.array([NAMES.index(feature)], np.int64)
        constants.append(numpy_helper.from_array(place, f"regime_{name}_place"))
        nodes.append(
            helper.make_node("Gather", [vectors, f"regime_{name}_place"], [f"regime_{name}"], axis=1)
        )
    steps = (
        ("Div", ("day_range", "day_times"), "day"),
        ("Div", ("four_hours_range", "four_hours_times"), "four_hours"),
        ("IsNaN", ("day",), "no_day"),
        ("Where", ("no_day", "four_hours", "day"), "usual"),
        ("Mul", ("ratio", "usual"), "limit"),
        ("Greater", ("hour", "limit"), "is_volatile"),
        ("Abs", ("move",), "distance"),
        ("Mul", ("path_times", "hour"), "path"),
        ("Div", ("distance", "path"), "efficiency"),
        ("Greater", ("efficiency", "efficient"), "is_trending"),
    )
    nodes += [
        helper.make_node(op, [f"regime_{name}" for name in read], [f"regime_{out}"])
        for op, read, out in steps
    ]
    return nodes, constants


def choice(weights: Float64, name: str) -> tuple[list[Any], list[Any]]:
    """Make the nodes and constants that give each row its weights, as a tensor of this name.

    `weights` has shape (regimes, horizons); the tensor has shape (rows, horizons).
    """
    constants = [
        numpy_helper.from_array(weights[number].astype(np.float32)[None], f"{name}_{regime}")
        for number, regime in enumerate(REGIMES)
    ]
    calm = f"{name}_calm"
    nodes = [
        helper.make_node("Where", [_IS["trending"], f"{name}_trending", f"{name}_ranging"], [calm]),
        helper.make_node("Where", [_IS["volatile"], f"{name}_volatile", calm], [name]),
    ]
    return nodes, constants
