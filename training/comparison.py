"""Two models on the very rows of a shadow. Runs in a process of its own.

Both graphs are asked about the vectors that the shadow's minutes were served with, so they say the same bits
as there. Only outcomes that were known when the shadow ended count. Squared errors are taken in units of the
recent volatility, as it was known at each row: otherwise a few violent minutes would decide alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from domain.evaluation.metrics import directional_accuracy
from domain.evaluation.paired import PairedTest, paired_test
from domain.features.labels import percent_change_by_symbol
from domain.models.model import Cancelled, Progress, TrainingRows
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from schemas.frames import MINUTE_MS, Float64, Int32, Int64
from training.fitting import ServedBefore, in_pieces
from training.promotion import BRIER_MARGIN

#: Rows that make the recent volatility, and the long one that it is never far below.
VOLATILITY_MINUTES, LONG_MINUTES = 240, 1440
_LEAST_SHARE = 0.25
#: What is read before the shadow: for the volatility, and for models that look back.
LOOK_BACK_MINUTES = LONG_MINUTES
#: Brier score of a probability of one half.
_KNOWING_NOTHING = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """Everything that a comparison depends on.

    Attributes
    ----------
    folder
        Where `training.rows.save_rows` put the rows, those before the shadow included.
    challenger, incumbent
        The two graphs; no incumbent: the no-change forecast, and a probability of one half.
    from_ms, to_ms
        Open times of the first row of the shadow, and of the last candle that is known.
    margin
        What the challenger's error may be more, a share of that of the no-change forecast.
    """

    folder: str
    challenger: ServedBefore
    incumbent: ServedBefore | None
    horizon_minutes: int
    from_ms: int
    to_ms: int
    margin: float
    feature_names: tuple[str, ...]
    schema_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of a comparison.

    Attributes
    ----------
    error, brier
        The two paired tests.
    challenger_accuracy, incumbent_accuracy
        Directional accuracy on the same rows; NaN where nothing moved, 0.5 of the no-change forecast.
    """

    error: PairedTest
    brier: PairedTest
    challenger_accuracy: float
    incumbent_accuracy: float
    seconds: float


def compare_models(request: CompareRequest, *, progress: Progress, cancelled: Cancelled) -> Compared:
    """Compare a challenger with what is in production.

    Raises
    ------
    ModelRefusedError
        If a graph does not fit.
    """
    started = time.monotonic()
    rows, scale = _rows(request)
    progress(0.2, f"{len(rows)} rows of the shadow")
    actual = rows.target_pct[:, 0]
    predicted, up = _said(request, request.challenger, rows)
    progress(0.6, "the challenger was asked")
    if request.incumbent is None:
        reference, reference_up = np.zeros(len(rows)), np.full(len(rows), 0.5)
    else:
        reference, reference_up = _said(request, request.incumbent, rows)
    moved = actual != 0.0
    rose = (actual > 0.0).astype(np.float64)
    return Compared(
        error=paired_test(
            challenger=((actual - predicted) / scale) ** 2,
            incumbent=((actual - reference) / scale) ** 2,
            reference=(actual / scale) ** 2,
            margin=request.margin,
            open_time_ms=rows.open_time_ms,
            horizon_minutes=request.horizon_minutes,
        ),
        brier=paired_test(
            challenger=((up - rose) ** 2)[moved],
            incumbent=((reference_up - rose) ** 2)[moved],
            reference=np.full(int(moved.sum()), _KNOWING_NOTHING),
            margin=BRIER_MARGIN,
            open_time_ms=rows.open_time_ms[moved],
            horizon_minutes=request.horizon_minutes,
        ),
        challenger_accuracy=directional_accuracy(actual=actual, predicted=predicted),
        incumbent_accuracy=directional_accuracy(actual=actual, predicted=reference),
        seconds=time.monotonic() - started,
    )


def _rows(request: CompareRequest) -> tuple[TrainingRows, Float64]:
    """Give the rows of the shadow whose outcome is known, and the scale of each."""
    folder = Path(request.folder)
    symbol, times, close, complete = (
        np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("symbol_index", "open_time_ms", "close", "is_complete")
    )
    vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    known = times <= request.to_ms
    target = np.full(len(times), np.nan)
    target[known] = percent_change_by_symbol(
        symbol_index=symbol[known],
        open_time_ms=times[known],
        close=close[known],
        horizon_minutes=request.horizon_minutes,
    )
    scale = recent_volatility(symbol_index=symbol, open_time_ms=times, close=close)
    scale *= np.sqrt(request.horizon_minutes)
    chosen = np.flatnonzero(
        (times >= request.from_ms) & complete & np.isfinite(target) & np.isfinite(scale) & (scale > 0.0)
    )
    rows = TrainingRows(
        vectors=vectors,
        target_pct=target[:, None],
        open_time_ms=times,
        symbol_index=symbol,
        history=Windows(vectors=vectors, symbol_index=symbol, open_time_ms=times),
    )
    return rows.take(chosen), scale[chosen]


def recent_volatility(*, symbol_index: Int32, open_time_ms: Int64, close: Float64) -> Float64:
    """Compute each row's root mean square of the last one-minute returns of its symbol, in percent.

    Over the last 240 rows, and at least a quarter of that over the last 1,440, so that a price that stood
    still does not make the next move count for everything. It uses closes up to the row's own; NaN before the
    first return. Rows of one symbol must ascend in time.
    """
    found = np.full(len(close), np.nan)
    for symbol in np.unique(symbol_index):
        own = np.flatnonzero(symbol_index == symbol)
        prices = close[own]
        with np.errstate(divide="ignore", invalid="ignore"):
            squared = (100.0 * np.diff(np.log(prices))) ** 2
        usable = (np.diff(open_time_ms[own]) == MINUTE_MS) & np.isfinite(squared)
        short = _mean_square(np.where(usable, squared, 0.0), usable, VOLATILITY_MINUTES)
        long = _mean_square(np.where(usable, squared, 0.0), usable, LONG_MINUTES)
        found[own[1:]] = np.sqrt(np.fmax(short, _LEAST_SHARE**2 * long))
    return found


def _mean_square(
    squared: Float64, usable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rows: int
) -> Float64:
    total = np.concatenate([[0.0], np.cumsum(squared)])
    count = np.concatenate([[0], np.cumsum(usable)])
    first = np.maximum(np.arange(1, len(total)) - rows, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Float64 = (total[1:] - total[first]) / (count[1:] - count[first])
    return mean


def _said(request: CompareRequest, model: ServedBefore, rows: TrainingRows) -> tuple[Float64, Float64]:
    served = ServedModel.from_bytes(
        model.payload,
        sha256=model.sha256,
        feature_names=request.feature_names,
        schema_hash=request.schema_hash,
    )
    column = served.card.horizons.index(request.horizon_minutes)
    if not len(rows):
        return np.empty(0), np.empty(0)

    def both(
        inputs: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        answers = served.predict(inputs)
        return np.column_stack([answers.predicted_pct[:, column], answers.probability_up[:, column]])

    said = in_pieces(both, rows, served.window).astype(np.float64)
    return said[:, 0], said[:, 1]
