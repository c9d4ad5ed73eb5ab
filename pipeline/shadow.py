"""What challengers would have said: rows of their own, which nobody acts on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stage import Rows
from schemas.frames import ALL_SYMBOLS, MINUTE_MS, Bool, FeatureFrame, Float32, Int64

if TYPE_CHECKING:
    from pipeline.inference_stage import ServingModel

TABLE = "challengerForecasts"

#: A model and the rows it is asked about -> percent change, probability of a rise and dissimilarity.
AskRows = Callable[["ServingModel", Int64], tuple[Float32, Float32, Float32]]


def shadow_rows(batch: FeatureFrame, models: Sequence[ServingModel], ask: AskRows) -> list[Rows]:
    """Ask challengers about the minutes of their shadow.

    Parameters
    ----------
    batch
        The candles.
    models
        Challengers; each is asked from its beginning up to, and without, its end.
    ask
        As the serving models are asked; challengers that share a file are asked once.
    """
    wanted = [(model, _in_shadow(batch, model)) for model in models]
    files: dict[str, Bool] = {}
    for model, rows in wanted:
        files[model.artifact] = files.get(model.artifact, np.zeros(len(batch), np.bool_)) | rows
    said: dict[str, tuple[Float32, Float32, Float32]] = {}
    columns: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in _COLUMNS}
    names = np.array(batch.symbols, object)
    for model, rows in wanted:
        if not rows.any():
            continue
        asked = np.flatnonzero(files[model.artifact])
        if model.artifact not in said:
            said[model.artifact] = ask(model, asked)
        predicted, up, _ = said[model.artifact]
        mine = rows[asked]
        count = int(mine.sum())
        columns["symbol"].append(names[batch.symbol_index[rows]])
        columns["forecast_horizon"].append(np.full(count, model.horizon_minutes, np.int64))
        columns["created_at"].append(batch.open_time_ms[rows] + MINUTE_MS)
        columns["model_version"].append(np.full(count, model.version, object))
        columns["predicted_value"].append(predicted[mine, model.column].astype(np.float64))
        columns["probability_up"].append(up[mine, model.column].astype(np.float64))
    if not columns["symbol"]:
        return []
    joined: dict[str, np.ndarray[Any, Any]] = {name: np.concatenate(parts) for name, parts in columns.items()}
    return [Rows(table=TABLE, op="insert", columns=joined)]


_COLUMNS = (
    "symbol",
    "forecast_horizon",
    "created_at",
    "model_version",
    "predicted_value",
    "probability_up",
)


def _in_shadow(batch: FeatureFrame, model: ServingModel) -> Bool:
    event_time = batch.open_time_ms + MINUTE_MS
    rows: Bool = batch.is_complete & (event_time >= model.effective_from_ms)
    if model.until_ms is not None:
        rows &= event_time < model.until_ms
    if model.schema_hash != batch.schema_hash:
        rows[:] = False
    elif model.symbol != ALL_SYMBOLS:
        known = model.symbol in batch.symbols
        rows &= (batch.symbol_index == batch.symbols.index(model.symbol)) if known else np.False_
    return rows
