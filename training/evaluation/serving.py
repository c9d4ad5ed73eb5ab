"""What trained models would have said: predictions, forecasts and trades, by the stages of production."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from domain.models.serving import ServedModel
from schemas.frames import MINUTE_MS, NULL_MS, Bool, Float32, Float64, Int8, Int16, Int64, PredictionFrame
from training.evaluation.history import History, Stage
from training.evaluation.trained import TrainedModel
from training.settings import TrainingPlan

FORECASTS, TRADES = "persistentForecasts", "tradeSimulations"
PRICE = "price_direction"
BOUNDS = ("lower_80", "upper_80", "lower_95", "upper_95")
#: Told the fraction done (0..1).
Tell = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A model as the inference stage is given it.

    Attributes
    ----------
    model
        Which.
    from_ms
        The event time from which it serves.
    served
        Its graph, opened.
    """

    model: TrainedModel
    from_ms: int
    served: ServedModel

    @property
    def column(self) -> int:
        """Its horizon among those that the graph answers."""
        return self.served.card.horizons.index(self.model.horizon_minutes)


class Stages(Protocol):
    """Makes the stages behind the features, fresh, as the workers would."""

    def inference(self, models: Sequence[Serving], *, watched: bool) -> Stage:
        """Make the stage that predicts, with these models at hand; `watched` for drift, as when served."""
        ...

    def forecasts(self) -> Stage:
        """Make the stage that states forecasts."""
        ...

    def trades(self) -> Stage:
        """Make the stage that trades."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said at every row of a history; arrays of shape (rows, horizons).

    Attributes
    ----------
    has_model
        Whether a model spoke; elsewhere the no-change forecast stands.
    is_stated
        Shape (rows,): whether forecasts were made at the row.
    predicted_pct
        As stated in the forecasts.
    probability_up
        Of a rise: the stated confidence turned to that side; what the model itself said where it predicted no
        change, and a half where no model spoke.
    bounds
        By name as `BOUNDS`; NaN where there is none.
    model_index, models
        Which model spoke; `models[0]` is the baseline.
    regime, regimes
        Shape (rows,): the number of each row's regime, -1 where none, and their names.
    trades
        All trades as the table would hold them at the end.
    """

    horizons: tuple[int, ...]
    has_model: Bool
    is_stated: Bool
    predicted_pct: Float64
    confidence: Float64
    probability_up: Float64
    bounds: Mapping[str, Float64]
    model_index: Int16
    models: tuple[str, ...]
    regime: Int8
    regimes: tuple[str, ...]
    trades: tuple[Mapping[str, Any], ...]


def always(models: Sequence[TrainedModel]) -> list[tuple[TrainedModel, int]]:
    """Let every model serve from when it could, promoted or not."""
    return [(model, model.effective_from_ms) for model in models]


def promoted(models: Sequence[TrainedModel]) -> list[tuple[TrainedModel, int]]:
    """Let models serve as production would have."""
    return [(model, model.served_from_ms) for model in models if model.served_from_ms is not None]


def opened(
    models: Sequence[tuple[TrainedModel, int]],
    plan: TrainingPlan,
    sessions: dict[str, ServedModel] | None = None,
) -> list[Serving]:
    """Open the graphs of models with their beginnings; those that share a file share a session."""
    sessions = {} if sessions is None else sessions
    for model, _ in models:
        if model.sha256 not in sessions:
            sessions[model.sha256] = ServedModel.from_bytes(
                model.graph,
                sha256=model.sha256,
                feature_names=plan.feature_names,
                schema_hash=plan.schema_hash,
            )
    return [Serving(model=model, from_ms=from_ms, served=sessions[model.sha256]) for model, from_ms in models]


def replay(
    history: History,
    models: Sequence[Serving],
    stages: Stages,
    horizons: tuple[int, ...],
    *,
    watched: bool = True,
    tell: Tell,
) -> Said:
    """Let models predict, forecast and trade over a whole history, each from its own beginning on.

    Where they are watched, what follows from drift follows as the settings say.
    """
    inference = stages.inference(models, watched=watched)
    forecasts, trades = stages.forecasts(), stages.trades()
    found = _Collected(history, horizons)
    for number, batch in enumerate(history.batches(), start=1):
        predicted: PredictionFrame = inference.step(batch).out
        found.add(predicted, forecasts.step(predicted).rows, trades.step(predicted).rows)
        tell(number / len(history.stops))
    return found.said()


class _Collected:
    """The arrays that are filled batch by batch."""

    def __init__(self, history: History, horizons: tuple[int, ...]) -> None:
        rows, n = len(history.frame), len(horizons)
        self._horizons = horizons
        self._row = 0
        self._models: dict[str, int] = {}
        self._regimes: dict[str, int] = {}
        self._trades: dict[tuple[str, str, int], Mapping[str, Any]] = {}
        self._model = np.zeros((rows, n), np.int16)
        self._stated = np.zeros(rows, np.bool_)
        self._regime = np.full(rows, -1, np.int8)
        self._predicted = np.zeros((rows, n))
        self._confidence = np.full((rows, n), np.nan)
        self._probability = np.full((rows, n), 0.5)
        self._bounds = {name: np.full((rows, n), np.nan) for name in BOUNDS}

    def add(
        self, predicted: PredictionFrame, forecast_rows: Sequence[Any], trade_rows: Sequence[Any]
    ) -> None:
        """Take in what one batch came to."""
        here = slice(self._row, self._row + len(predicted))
        self._row += len(predicted)
        columns = [predicted.horizons.index(horizon) for horizon in self._horizons]
        names = np.array([self._models.setdefault(name, len(self._models)) for name in predicted.models])
        self._model[here] = names[predicted.model_index[:, columns]]
        said_up = predicted.probability_up[:, columns]
        for rows in forecast_rows:
            if rows.table == FORECASTS and rows.op == "insert" and len(rows):
                self._forecasts(predicted, rows.columns, here, said_up)
        for rows in trade_rows:
            if rows.table == TRADES:
                self._take_trades(rows.columns)

    def _forecasts(
        self, predicted: PredictionFrame, columns: Mapping[str, Any], here: slice, said_up: Float32
    ) -> None:
        horizon = np.asarray(columns["forecast_horizon"])
        is_price = np.asarray(columns["forecast_type"], object) == PRICE
        for place, wanted in enumerate(self._horizons):
            chosen = np.flatnonzero(is_price & (horizon == wanted))
            if not len(chosen):
                continue
            at = here.start + _rows_of(predicted, columns, chosen)
            said = np.asarray(columns["predicted_value"], np.float64)[chosen]
            sure = np.asarray(columns["confidence"], np.float64)[chosen]
            up = np.where(said > 0.0, sure / 100.0, 1.0 - sure / 100.0)
            model_up = said_up[at - here.start, place]
            unsided = np.where(np.isfinite(model_up), model_up, 0.5)
            self._predicted[at, place] = said
            self._confidence[at, place] = sure
            self._probability[at, place] = np.where(said == 0.0, unsided, up)
            for name in BOUNDS:
                if name in columns:
                    self._bounds[name][at, place] = np.asarray(columns[name], np.float64)[chosen]
            if place == 0:
                self._stated[at] = True
                named = np.asarray(columns["regime"], object)[chosen].tolist()
                self._regime[at] = [self._regimes.setdefault(name, len(self._regimes)) for name in named]

    def _take_trades(self, columns: Mapping[str, Any]) -> None:
        names = list(columns)
        for values in zip(*(np.asarray(columns[name], object).tolist() for name in names), strict=True):
            trade = dict(zip(names, values, strict=True))
            self._trades[trade["symbol"], trade["strategy"], trade["created_at"]] = trade

    def said(self) -> Said:
        """Hand out what was filled in."""
        return Said(
            horizons=self._horizons,
            has_model=self._model > 0,
            is_stated=self._stated,
            predicted_pct=self._predicted,
            confidence=self._confidence,
            probability_up=self._probability,
            bounds=self._bounds,
            model_index=self._model,
            models=tuple(self._models),
            regime=self._regime,
            regimes=tuple(self._regimes),
            trades=tuple(trade for _, trade in sorted(self._trades.items())),
        )


def _rows_of(predicted: PredictionFrame, columns: Mapping[str, Any], chosen: Int64) -> Int64:
    """Find the rows of a frame that forecasts were made at."""
    symbols = {name: place for place, name in enumerate(predicted.symbols)}
    names = np.asarray(columns["symbol"], object)[chosen].tolist()
    symbol = np.fromiter((symbols[name] for name in names), np.int64, len(chosen))
    minute = np.asarray(columns["created_at"], np.int64)[chosen] // MINUTE_MS - 1
    many = len(predicted.symbols)
    key = predicted.open_time_ms // MINUTE_MS * many + predicted.symbol_index
    found: Int64 = np.searchsorted(key, minute * many + symbol)
    return found


def completed(trades: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep the trades that have ended."""
    return [trade for trade in trades if trade["completed_at"] != NULL_MS]
