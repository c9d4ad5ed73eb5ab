"""What share of outcomes the intervals cover on recorded candles, forecast by forecast.

    python -m tests.recorded.interval_coverage FOLDER_OF_RECORDINGS [NAME ...]

prints a table in Markdown. Prices are forecast by "no change", so what is measured are the intervals alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from domain.evaluation.bootstrap import Interval, mean_interval
from pipeline.forecast_rows import TYPES
from pipeline.forecast_stage import ForecastStage
from schemas.frames import MINUTE_MS, PredictionFrame

RECORDINGS = ("six-2021-04", "kucoin-2023-03", "futures-2023-07")
HORIZONS = (5, 15, 30, 60, 240, 1440)
#: Minutes until the chart's indicators are warm.
WARM = 35
_BATCH = 4000
_VALUES = ("actual_value", "lower_80", "upper_80", "lower_95", "upper_95")


@dataclass(frozen=True)
class Coverage:
    """The share of outcomes inside the intervals of one type and horizon, with its bootstrap interval."""

    recording: str
    forecast_type: str
    horizon: int
    level: int
    share: Interval
    worst_symbol: float
    best_symbol: float


def coverages(folder: Path) -> list[Coverage]:
    """Drive the forecaster's stage over every symbol of a recording."""
    files = sorted(folder.glob("*-1m.parquet"))
    symbols = [_outcomes(file) for file in files]
    found = []
    for t, forecast_type in enumerate(TYPES):
        for j, horizon in enumerate(HORIZONS):
            told = [(minute, values[:, j, t]) for minute, values in symbols]
            known = [(minute[~np.isnan(v[:, 0])], v[~np.isnan(v[:, 0])]) for minute, v in told]
            for level, column in ((80, 1), (95, 3)):
                hits = [(v[:, column] <= v[:, 0]) & (v[:, 0] <= v[:, column + 1]) for _, v in known]
                shares = [float(hit.mean()) for hit in hits]
                share = mean_interval(
                    values=np.concatenate(hits).astype(float),
                    open_time_ms=np.concatenate([minute for minute, _ in known]) * MINUTE_MS,
                    horizon_minutes=horizon,
                    seed=1,
                )
                found.append(
                    Coverage(folder.name, forecast_type, horizon, level, share, min(shares), max(shares))
                )
    return found


def _outcomes(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give minutes, and the outcomes and bounds of the forecasts made at them: (rows, horizons, types, 5)."""
    table = pq.read_table(file, columns=["timestamp", "close"])
    minute = table["timestamp"].cast("int64").to_numpy() // MINUTE_MS
    stage = ForecastStage(symbols=("X",), horizons=HORIZONS)
    values = np.full((len(minute), len(HORIZONS), len(TYPES), len(_VALUES)), np.nan)
    for frame in _frames(minute, table["close"].to_numpy().astype(float)):
        for rows in stage.step(frame).rows:
            if rows.table == "persistentForecasts":
                _put(values, minute, rows.columns)
    return minute, values


def _put(values: np.ndarray, minute: np.ndarray, columns: Mapping[str, Any]) -> None:
    row = np.searchsorted(minute, columns["created_at"] // MINUTE_MS - 1)
    horizon = np.searchsorted(HORIZONS, columns["forecast_horizon"])
    forecast_type = np.array([TYPES.index(name) for name in columns["forecast_type"]])
    for k, name in enumerate(_VALUES):
        if name in columns:
            values[row, horizon, forecast_type, k] = columns[name]


def _frames(minute: np.ndarray, close: np.ndarray) -> Iterator[PredictionFrame]:
    for first in range(0, len(minute), _BATCH):
        m, c = minute[first : first + _BATCH], close[first : first + _BATCH]
        n = len(m)
        yield PredictionFrame(
            symbols=("X",),
            symbol_index=np.zeros(n, np.int32),
            open_time_ms=m * MINUTE_MS,
            ohlcv=np.stack([c, c, c, c, np.ones(n)], axis=1),
            origin=np.zeros(n, np.int8),
            vector=np.zeros((n, 1), np.float32),
            is_complete=m >= minute[0] + WARM,
            complete_to_ms=int(m[-1]) * MINUTE_MS,
            schema_hash="none",
            horizons=(),
            predicted_pct=np.zeros((n, 0), np.float32),
            probability_up=np.zeros((n, 0), np.float32),
            model_index=np.zeros((n, 0), np.int16),
            reason=np.zeros((n, 0), np.int8),
            models=("last_value",),
        )


def markdown(found: list[Coverage]) -> str:
    """Lay the shares out, in percent."""
    lines = [
        "| recording | type | minutes | level | covered | block bootstrap, 95 % | by symbol |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        share = each.share
        lines.append(
            f"| {each.recording} | {each.forecast_type} | {each.horizon} | {each.level} "
            f"| {100 * share.estimate:.1f} | {100 * share.low:.1f} to {100 * share.high:.1f} "
            f"| {100 * each.worst_symbol:.1f} to {100 * each.best_symbol:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    names = sys.argv[2:] or RECORDINGS
    told = markdown([each for name in names for each in coverages(Path(sys.argv[1]) / name)])
    sys.stdout.write(told + "\n")
