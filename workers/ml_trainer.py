"""The trainer: vectors in, training samples and models out.

Reads the stream `features`; writes `"mlTrainingSamples"` and the queue `ml_jobs`. Beside it, the queue's jobs
are carried out in other processes and leave `ml_models`, `"mlTrainingBatches"` and model files. A restart goes
on from the position in `"recoveryState"`; a training that was cut off is done again and ends in the same model.
"""

from __future__ import annotations

from functools import partial

from domain.features.schema import NAMES
from domain.partitioning import owned_symbols
from pipeline.sample_stage import Retraining, SampleStage
from runtime.sources import StreamSource
from runtime.stage_runner import StageRunner
from runtime.worker import Tasks, Worker, main
from schemas.frames import FeatureFrame

SERVICE = "ml_trainer"


async def build(worker: Worker) -> Tasks:
    """Wire one runner per partition, and the queue."""
    settings, training = worker.settings, worker.settings.training
    retraining = Retraining(
        window_minutes=training.window_size,
        every_minutes=training.retrain_every_minutes,
        horizons=training.forecast_horizons,
        model_types=training.installed_model_types,
        per_symbol=training.per_symbol,
    )

    def make_stage(partition: int) -> SampleStage:
        return SampleStage(
            symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
            feature_names=NAMES,
            horizons=training.forecast_horizons,
            thinning_minutes=settings.data.sample_thinning_minutes,
            retraining=retraining,
        )

    runners = [
        StageRunner(
            service=SERVICE,
            partition=partition,
            make_stage=partial(make_stage, partition),
            source=StreamSource(
                topic="features",
                partition=partition,
                key=worker.key("features", partition),
                frame_type=FeatureFrame,
                client=worker.redis,
                max_minutes=settings.pipeline.max_batch_minutes,
            ),
            out_topic=None,
            out_key=None,
            connect=worker.connect,
            client=worker.redis,
            settings=worker.runner_settings(),
            observer=worker.observer,
        )
        for partition in worker.partitions
    ]
    return {f"partition {runner.partition}": runner.run(worker.stop) for runner in runners}


if __name__ == "__main__":
    main(SERVICE, build)
