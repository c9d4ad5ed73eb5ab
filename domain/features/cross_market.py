"""Cross-market: how a symbol moves with, behind and against the others, as they stood one minute earlier."""

from __future__ import annotations

import math

from domain.features.feature import Feature
from domain.features.market import (
    BREADTH_1,
    BREADTH_15,
    LEADER_1,
    LEADER_5,
    LEADER_15,
    MEAN_15,
    MEAN_60,
    MINUTES_KEPT,
    Market,
    is_known,
)
from domain.indicators.base.compiled import compiled
from domain.indicators.base.window import push
from schemas.frames import Float64

WINDOW = 60
FEWEST_PAIRS = 30
_MASK = MINUTES_KEPT - 1
_THEN = "through the minute before this candle's"

FEATURES = (
    Feature(
        name="leader_beta",
        unit="percent per percent of the leader",
        formula=f"cov(own, leader)/var(leader) of 1-minute log returns over the {WINDOW} candles before "
        f"this one; 0 where the leader did not move; NaN below {FEWEST_PAIRS} pairs",
        source="W. F. Sharpe, Capital Asset Prices (1964)",
        warm_up=WINDOW + 2,
    ),
    Feature(
        name="leader_correlation",
        unit="correlation, -1 to 1",
        formula="Pearson correlation of the same pairs; 0 where one of the two did not move",
        source="definition",
        warm_up=WINDOW + 2,
    ),
    Feature(
        name="leader_lead",
        unit="correlation, -1 to 1",
        formula="Pearson correlation of own 1-minute log returns with the leader's one minute earlier, "
        f"over the newest {WINDOW} candles; 0 where one of the two did not move; NaN below {FEWEST_PAIRS} "
        "pairs",
        source="lead-lag correlation, A. W. Lo and A. C. MacKinlay (1990)",
        warm_up=WINDOW + 2,
    ),
    *(
        Feature(
            name=f"leader_return_{span}",
            unit="percent",
            formula=f"100·ln(leader's close/its close {span} minute{'s' if span > 1 else ''} earlier), "
            f"{_THEN}",
            source="log return",
            warm_up=span + 2,
        )
        for span in (1, 5, 15)
    ),
    *(
        Feature(
            name=f"breadth_{span}",
            unit="share, -1 to 1",
            formula=f"share of the reference symbols that rose over {span} "
            f"minute{'s' if span > 1 else ''} less share that fell, {_THEN}",
            source="advance-decline breadth",
            warm_up=span + 2,
        )
        for span in (1, 15)
    ),
    Feature(
        name="market_return_15",
        unit="percent",
        formula=f"mean log return of the reference symbols over 15 minutes, {_THEN}",
        source="definition",
        warm_up=17,
    ),
    Feature(
        name="relative_strength_60",
        unit="percent",
        formula=f"return_60 less the mean log return of the reference symbols over 60 minutes, {_THEN}",
        source="definition",
        warm_up=62,
    ),
)

# state: the previous candle's return (NaN if the minute before it had none), then pairs of the leader's
# return and the own one: of the same minute, and with the leader's one minute earlier.
_SAME_LEADER = 1
_SAME_OWN = _SAME_LEADER + WINDOW
_LAGGED_LEADER = _SAME_OWN + WINDOW
_LAGGED_OWN = _LAGGED_LEADER + WINDOW
CROSS_STATE = _LAGGED_OWN + WINDOW
#: Sums of squared percent returns below this are rounding: no price moves by a hundred-millionth of a
#: percent.
_STILL = 1e-14


@compiled
def _co_moments(xs: Float64, ys: Float64) -> tuple[int, float, float, float]:
    pairs = 0
    sx = sy = sxx = sxy = syy = 0.0
    for i in range(len(xs)):
        x = xs[i]
        y = ys[i]
        if not math.isnan(x * y):
            pairs += 1
            sx += x
            sy += y
            sxx += x * x
            sxy += x * y
            syy += y * y
    n = max(pairs, 1)
    return pairs, sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n


@compiled
def _correlation(vx: float, cxy: float, vy: float) -> float:
    if vx <= _STILL or vy <= _STILL:
        return 0.0
    return max(-1.0, min(1.0, cxy / (math.sqrt(vx) * math.sqrt(vy))))


@compiled
def _leader_return(market: Market, minute: int) -> float:
    if not is_known(market, minute):
        return math.nan
    return float(market.minutes[minute & _MASK, LEADER_1])


@compiled
def _co_movement(state: Float64, candles: int, out: Float64) -> None:
    out[0] = math.nan
    out[1] = math.nan
    out[2] = math.nan
    if candles < WINDOW + 2:
        return
    same_leader = state[_SAME_LEADER:_SAME_OWN]
    pairs, vx, cxy, vy = _co_moments(same_leader, state[_SAME_OWN:_LAGGED_LEADER])
    if pairs >= FEWEST_PAIRS:
        out[0] = cxy / vx if vx > _STILL else 0.0
        out[1] = _correlation(vx, cxy, vy)
    pairs, vx, cxy, vy = _co_moments(state[_LAGGED_LEADER:_LAGGED_OWN], state[_LAGGED_OWN:])
    if pairs >= FEWEST_PAIRS:
        out[2] = _correlation(vx, cxy, vy)


@compiled
def update(
    state: Float64,
    market: Market,
    candles: int,
    minute: int,
    previous_minute: int,
    return_1: float,
    return_60: float,
    out: Float64,
) -> None:
    """Take in one candle, the `candles`-th; minutes count since 1970."""
    before = minute - 1
    if candles > 1:
        own = return_1 if previous_minute == before else math.nan
        if candles > 2:
            push(state[_SAME_LEADER:_SAME_OWN], _leader_return(market, previous_minute))
            push(state[_SAME_OWN:_LAGGED_LEADER], state[0])
        push(state[_LAGGED_LEADER:_LAGGED_OWN], _leader_return(market, before))
        push(state[_LAGGED_OWN:CROSS_STATE], own)
        state[0] = own
    _co_movement(state[:CROSS_STATE], candles, out)
    if not is_known(market, before):
        out[3:10] = math.nan
        return
    row = market.minutes[before & _MASK]
    out[3] = row[LEADER_1]
    out[4] = row[LEADER_5]
    out[5] = row[LEADER_15]
    out[6] = row[BREADTH_1]
    out[7] = row[BREADTH_15]
    out[8] = row[MEAN_15]
    out[9] = return_60 - row[MEAN_60]
