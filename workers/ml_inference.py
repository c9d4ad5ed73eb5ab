"""The inference worker: vectors in, predictions and simulated trades out.

Reads the stream `features`; asks the models in production through ONNX Runtime, opens and moves
`"tradeSimulations"`, sends the stream `predictions`; what challengers would have said goes into
`"challengerForecasts"`. A restart goes on from the position in
`"recoveryState"`. Imports no training library.
"""

from __future__ import annotations

from functools import partial

from artifacts.store import ArtifactStore
from db.repositories import trades
from domain.features.schema import NAMES
from domain.models.families import LOOKING_BACK
from domain.partitioning import owned_partitions, owned_symbols
from domain.trading.costs import Costs
from domain.trading.trade import Exits
from pipeline.chain import Chain
from pipeline.inference_stage import InferenceStage, ServingModel
from pipeline.trade_stage import Strategy, TradeStage
from runtime.drift_trainings import DriftTrainings
from runtime.drift_wiring import drift_stage, label_of, trainings_of
from runtime.model_guide import GuideSettings, ModelGuide
from runtime.prediction_cache import CachingRunner
from runtime.stage_runner import StageRunner
from runtime.worker import Tasks, Worker, main
from schemas.frames import ALL_SYMBOLS, FeatureFrame

SERVICE = "ml_inference"


async def build(worker: Worker) -> Tasks:
    """Wire one runner per partition."""
    runners = [_runner(worker, partition) for partition in worker.partitions]
    return {f"partition {runner.partition}": runner.run(worker.stop) for runner in runners}


def _runner(worker: Worker, partition: int) -> StageRunner:
    settings = worker.settings
    per_symbol = settings.training.per_symbol
    everywhere = owned_partitions(settings.symbols, settings.pipeline.partitions, 0, 1)
    owned = owned_symbols(settings.symbols, partition, settings.pipeline.partitions)
    in_use: list[InferenceStage] = []
    at_hand: list[list[ServingModel]] = [[]]

    def serve(models: list[ServingModel]) -> None:
        at_hand[0] = models
        in_use[-1].serve(models)

    beside: list[list[ServingModel]] = [[]]

    def shadow(challengers: list[ServingModel]) -> None:
        beside[0] = challengers
        in_use[-1].shadow(challengers)

    guide = ModelGuide(
        settings=GuideSettings(
            partition=partition,
            trainer_partition=partition if per_symbol else everywhere[0],
            trained=owned if per_symbol else (ALL_SYMBOLS,),
            replay=settings.pipeline.replay,
            window_minutes=settings.training.window_size,
            every_minutes=settings.training.retrain_every_minutes,
            delay_minutes=settings.training.activation_delay_minutes,
            feature_names=NAMES,
            families=settings.training.installed_model_types,
        ),
        store=ArtifactStore(worker.directory.models),
        log=worker.log,
        serve=serve,
        shadow=shadow,
        drift=_drift_trainings(worker, partition, everywhere),
    )

    def make_stage() -> Chain:
        inference = InferenceStage(
            horizons=settings.training.forecast_horizons,
            max_prediction_age_s=settings.inference.max_prediction_age,
            window_minutes=settings.training.lookback_minutes
            if LOOKING_BACK.intersection(settings.training.installed_model_types)
            else 0,
            dissimilarity_limit=settings.inference.dissimilarity_limit,
        )
        inference.serve(at_hand[0])
        inference.shadow(beside[0])
        in_use[:] = [inference]
        trades = _trade_stage(worker, partition)
        if not settings.drift.enabled:
            return Chain(inference, trades)
        return Chain(Chain(inference, drift_stage(settings, owned, partition)), trades)

    return worker.runner(
        partition,
        make_stage,
        worker.source("features", partition, FeatureFrame),
        out_topic="predictions",
        kind=partial(CachingRunner, cache=settings.inference.prediction_cache, prefix=worker.prefix),
        guide=guide,
        give_up=partial(trades.give_up, symbols=owned),
    )


def _drift_trainings(worker: Worker, partition: int, everywhere: tuple[int, ...]) -> DriftTrainings | None:
    settings, training = worker.settings, worker.settings.training
    if not settings.drift.enabled or "retrain" not in settings.drift.reactions:
        return None
    own = owned_symbols(settings.symbols, partition, settings.pipeline.partitions)
    partitions = (partition,) if training.per_symbol else everywhere
    return DriftTrainings(
        every_minutes=settings.drift.check_every_minutes,
        partition=partition,
        partitions=partitions,
        trainer_partition=partition if training.per_symbol else everywhere[0],
        labels=(
            *(label_of(settings, each) for each in partitions),
            *(own if training.per_symbol else ()),
        ),
        trained=own if training.per_symbol else (ALL_SYMBOLS,),
        trainings=trainings_of(settings),
    )


def _trade_stage(worker: Worker, partition: int) -> TradeStage:
    settings, trading = worker.settings, worker.settings.trading
    return TradeStage(
        symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
        strategies=(
            Strategy(
                name=trading.strategy,
                horizon_minutes=trading.horizon_minutes,
                confidence_threshold=settings.inference.confidence_threshold,
            ),
        ),
        costs=Costs(fee_bps=trading.fee_bps, slippage_bps=trading.slippage_bps),
        exits=Exits(take_profit_atr=trading.take_profit_atr, stop_loss_atr=trading.stop_loss_atr),
        enabled=trading.enabled,
    )


if __name__ == "__main__":
    main(SERVICE, build)
