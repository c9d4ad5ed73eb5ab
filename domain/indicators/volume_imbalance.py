"""Volume imbalance: the share of volume with rising closes less that with falling ones."""

from __future__ import annotations

import math

from domain.indicators.base.compiled import compiled
from domain.indicators.base.spec import CLOSE, VOLUME, IndicatorSpec
from domain.indicators.base.window import push, total
from schemas.frames import Float64

SPEC = IndicatorSpec(
    title="Volume imbalance",
    outputs=("volume_imbalance",),
    parameters={"period": 20},
    state_size=lambda period: 2 + 2 * period,
    warm_up=lambda period: period + 1,
    unit="share, -1 to 1",
    formula="Σ sign(close - previous close)·volume / Σ volume over n candles; 0 where nothing was traded",
    source="definition",
)

# state: candles seen, previous close, the newest signed volumes, the newest volumes


@compiled
def update(state: Float64, candle: Float64, out: Float64, period: int) -> None:
    """Take in one candle; `out` is the imbalance."""
    change = candle[CLOSE] - state[1]
    state[0] += 1.0
    state[1] = candle[CLOSE]
    signed = state[2 : 2 + period]
    volumes = state[2 + period : 2 + 2 * period]
    volume = candle[VOLUME]
    push(signed, volume if change > 0.0 else -volume if change < 0.0 else 0.0)
    push(volumes, volume)
    if state[0] <= period:
        out[0] = math.nan
        return
    traded = total(volumes)
    out[0] = total(signed) / traded if traded > 0.0 else 0.0
