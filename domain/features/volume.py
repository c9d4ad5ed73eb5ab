"""Volume: how unusual it is, which way it pushes, and what was paid on average."""

from __future__ import annotations

from domain.features.feature import Feature
from domain.features.periods import (
    IMBALANCE_PERIOD,
    OBV_PERIOD,
    VOLUME_LONG,
    VOLUME_SHORT,
    VWAP_LONG,
    VWAP_SHORT,
)
from domain.indicators.base.compiled import compiled
from schemas.frames import Float64

FEATURES = (
    Feature(
        name="obv_slope",
        unit="mean volumes per candle",
        formula="least-squares slope of the on-balance volume over 20 candles / mean(volume, 20); 0 "
        "without volume",
        source="Joseph Granville (1963), for OBV",
        warm_up=OBV_PERIOD,
    ),
    Feature(
        name="vwap_distance_15",
        unit="percent of the VWAP",
        formula="100·(close/VWAP(15) - 1), VWAP = Σ (high + low + close)/3·volume / Σ volume; 0 without "
        "volume",
        source="definition over a moving window",
        warm_up=VWAP_SHORT,
    ),
    Feature(
        name="vwap_distance_60",
        unit="percent of the VWAP",
        formula="100·(close/VWAP(60) - 1); 0 without volume",
        source="definition over a moving window",
        warm_up=VWAP_LONG,
    ),
    Feature(
        name="volume_zscore_20",
        unit="standard deviations",
        formula="(volume - mean(volume, 20))/σ(volume, 20); 0 where all are equal",
        source="definition",
        warm_up=VOLUME_SHORT,
    ),
    Feature(
        name="volume_zscore_60",
        unit="standard deviations",
        formula="(volume - mean(volume, 60))/σ(volume, 60); 0 where all are equal",
        source="definition",
        warm_up=VOLUME_LONG,
    ),
    Feature(
        name="volume_ratio",
        unit="ratio, 0 to 3",
        formula="mean(volume, 20)/mean(volume, 60); 1 without volume",
        source="definition",
        warm_up=VOLUME_LONG,
    ),
    Feature(
        name="volume_imbalance",
        unit="share, -1 to 1",
        formula="Σ sign(close - previous close)·volume / Σ volume over 20 candles; 0 without volume",
        source="definition",
        warm_up=IMBALANCE_PERIOD + 1,
    ),
)


@compiled
def update(
    obv_slope: float,
    vwap_distances: Float64,
    zscores_and_means: Float64,
    imbalance: float,
    out: Float64,
) -> None:
    """Take in what the indicators say; the four are z-score and mean over the short, then the long window."""
    out[0] = obv_slope
    out[1] = vwap_distances[0]
    out[2] = vwap_distances[1]
    out[3] = zscores_and_means[0]
    out[4] = zscores_and_means[2]
    long_mean = zscores_and_means[3]
    # Not `long_mean > 0`: a NaN must stay one.
    out[5] = 1.0 if long_mean == 0.0 else zscores_and_means[1] / long_mean
    out[6] = imbalance
