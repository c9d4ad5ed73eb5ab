"""The stages of an evaluation, wired from settings as the workers wire theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config.ml_config import Settings
from domain.models.families import LOOKING_BACK
from domain.trading.costs import Costs
from domain.trading.trade import Exits
from pipeline.chain import Chain
from pipeline.forecast_stage import ForecastStage
from pipeline.inference_stage import InferenceStage, ServingModel
from pipeline.sample_stage import Retraining
from pipeline.stage import Stage
from pipeline.trade_stage import Strategy, TradeStage
from runtime.drift_wiring import coverage_settings, drift_stage
from training.evaluation.schedule import Learns
from training.evaluation.serving import Serving
from training.settings import joint_types


class WiredStages:
    """Makes the stages behind the features, over all symbols at once: partitions change no row.

    Parameters
    ----------
    settings
        Of the deployment that is evaluated.
    strategies
        By horizon, the name of the strategy that trades it; the deployment's own among them.
    """

    def __init__(self, settings: Settings, strategies: Mapping[int, str]) -> None:
        self._settings = settings
        self._strategies = dict(strategies)

    def inference(self, models: Sequence[Serving], *, watched: bool) -> Stage[Any]:
        """Make the stage that predicts, with these models at hand; `watched` for drift, as when served."""
        settings = self._settings
        looks_back = LOOKING_BACK.intersection(settings.training.model_types)
        stage = InferenceStage(
            horizons=settings.training.forecast_horizons,
            max_prediction_age_s=settings.inference.max_prediction_age,
            window_minutes=settings.training.lookback_minutes if looks_back else 0,
            dissimilarity_limit=settings.inference.dissimilarity_limit,
        )
        stage.serve([_serving_model(each) for each in models])
        if not (watched and settings.drift.enabled):
            return stage
        return Chain(stage, drift_stage(settings, settings.symbols))

    def forecasts(self) -> ForecastStage:
        """Make the stage that states forecasts; horizons that are evaluated are stated, too."""
        settings = self._settings
        horizons = {*settings.forecasting.horizons, *settings.training.forecast_horizons}
        return ForecastStage(
            symbols=settings.symbols,
            horizons=sorted(horizons),
            update_frequency_s=settings.forecasting.update_frequency,
            confidence_threshold=settings.inference.confidence_threshold,
            regimes=settings.forecasting.market_regimes,
            coverage=coverage_settings(settings),
        )

    def trades(self) -> TradeStage:
        """Make the stage that trades: the deployment's strategy, and one like it for every other horizon."""
        trading = self._settings.trading
        return TradeStage(
            symbols=self._settings.symbols,
            strategies=tuple(
                Strategy(
                    name=name,
                    horizon_minutes=horizon,
                    confidence_threshold=self._settings.inference.confidence_threshold,
                )
                for horizon, name in self._strategies.items()
            ),
            costs=costs_of(self._settings),
            exits=Exits(take_profit_atr=trading.take_profit_atr, stop_loss_atr=trading.stop_loss_atr),
            enabled=trading.enabled,
        )


def costs_of(settings: Settings) -> Costs:
    """Read what a fill costs off the settings."""
    return Costs(fee_bps=settings.trading.fee_bps, slippage_bps=settings.trading.slippage_bps)


def learns_of(settings: Settings) -> tuple[Learns, ...]:
    """List what every point trains, as the trainer asks for it."""
    training = settings.training
    retraining = Retraining(
        horizons=training.forecast_horizons,
        model_types=training.model_types,
        joint_types=joint_types(settings),
    )
    return tuple(retraining.trainings())


def strategies_of(settings: Settings) -> dict[int, str]:
    """Name a strategy for every horizon; the deployment's own has its name."""
    trading = settings.trading
    return {
        horizon: trading.strategy if horizon == trading.horizon_minutes else f"{trading.strategy}-{horizon}"
        for horizon in settings.training.forecast_horizons
    }


def _serving_model(each: Serving) -> ServingModel:
    model = each.model
    return ServingModel(
        version=model.version,
        symbol=model.symbol,
        horizon_minutes=model.horizon_minutes,
        effective_from_ms=each.from_ms,
        schema_hash=each.served.card.schema_hash,
        artifact=model.sha256,
        column=each.column,
        window=each.served.window,
        ask=each.served.predict,
    )
