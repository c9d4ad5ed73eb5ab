"""The trainer: vectors in, training samples and models out.

Reads the stream `features`; writes `"mlTrainingSamples"` and the queue `ml_jobs`. Beside it, the queue's jobs
are carried out in other processes and leave `ml_models`, `"mlTrainingBatches"` and model files. A restart
goes on from the position in `"recoveryState"`; a training that was cut off ends in the same model.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any

from artifacts.store import ArtifactStore
from config.ml_config import Settings
from db.connect import pool
from db.repositories.jobs import Job
from domain.features.schema import NAMES, schema_hash
from domain.partitioning import owned_partitions, owned_symbols
from pipeline.sample_stage import Retraining, SampleStage
from runtime.compute import ComputePool
from runtime.feature_wiring import periods_of
from runtime.worker import Tasks, Worker, main
from schemas.frames import FeatureFrame
from training.comparing import CompareHandler
from training.handler import TrainHandler
from training.queue import TrainingQueue
from training.rows import RowFiles
from training.settings import joint_types, plan_of

#: Forecasts are waited for, this is not.
HEAD_START_S = 0.03
SERVICE = "ml_trainer"
#: Added to the priority number of the process.
NICENESS = 5


async def build(worker: Worker) -> Tasks:
    """Wire one runner per partition, and the queue."""
    settings, training = worker.settings, worker.settings.training
    everywhere = owned_partitions(settings.symbols, settings.pipeline.partitions, 0, 1)

    def make_stage(partition: int) -> SampleStage:
        return SampleStage(
            symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
            feature_names=NAMES,
            horizons=training.forecast_horizons,
            thinning_minutes=settings.data.sample_thinning_minutes,
            retraining=Retraining(
                window_minutes=training.window_size,
                every_minutes=training.retrain_every_minutes,
                # A pooled training is asked for once, by the first partition.
                horizons=training.forecast_horizons
                if training.per_symbol or partition == everywhere[0]
                else (),
                model_types=training.installed_model_types,
                joint_types=joint_types(settings),
                per_symbol=training.per_symbol,
            ),
        )

    runners = [
        worker.runner(
            partition,
            partial(make_stage, partition),
            worker.source("features", partition, FeatureFrame),
            head_start_s=HEAD_START_S,
        )
        for partition in worker.partitions
    ]
    tasks = {f"partition {runner.partition}": runner.run(worker.stop) for runner in runners}
    tasks["trainings"] = _train(worker, everywhere)
    return tasks


def _at_once(settings: Settings) -> int:
    """Count the trainings at the same time: live, one processor stays free for what is waited for."""
    wanted = settings.system.max_concurrent_workers
    if settings.pipeline.replay:
        return wanted
    return min(wanted, max(1, len(os.sched_getaffinity(0)) - 1))


async def _train(worker: Worker, everywhere: tuple[int, ...]) -> None:
    """Carry out the queue's jobs in other processes until the worker is asked to stop."""
    url = worker.servers.postgres_url
    settings = worker.settings
    concurrent = _at_once(settings)
    scratch = worker.directory.path / "training"
    connections = await pool(url, min_size=1, max_size=concurrent + 3)
    # In a replay everybody waits for a training; live, forecasts go first.
    compute_pool = ComputePool(max_workers=concurrent, leftovers=not settings.pipeline.replay)
    async with connections, compute_pool as compute:
        rows = RowFiles(scratch=scratch / f"rows-{worker.shard}", postgres_url=url, compute=compute)
        plan = plan_of(settings, schema_hash=schema_hash(periods_of(settings)))
        store = ArtifactStore(worker.directory.models)
        handler = TrainHandler(
            plan=plan, pool=connections, compute=compute, store=store, rows=rows, scratch=scratch
        )
        queue = TrainingQueue(
            pool=connections,
            handler=handler,
            comparisons=CompareHandler(plan=plan, pool=connections, compute=compute, store=store, rows=rows),
            max_concurrent=concurrent,
            # A replay stands still until its trainings have ended; live, nobody notices a second.
            poll_s=0.2 if settings.pipeline.replay else 1.0,
            on_event=partial(_tell, worker),
            partitions=everywhere,
        )
        running = asyncio.create_task(queue.run())
        stopped = asyncio.create_task(worker.stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not worker.stop.is_set():
            await running
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await rows.close()


def _tell(worker: Worker, event: str, job: Job, values: dict[str, Any]) -> None:
    """Log what became of a job, and measure it."""
    level = {"failed": "error", "lost": "warning", "requeued": "warning"}.get(event, "info")
    told = {name: value for name, value in values.items() if name != "exception"}
    what = "comparison" if job.job_type == "COMPARE" else "training"
    if event == "completed" and job.job_type == "TRAIN":
        worker.metrics.training(float(values["seconds"]), str(job.model_type))
    getattr(worker.log, level)(
        f"{what} {event}",
        action=f"{what}_{event}",
        job=job.id,
        symbol=job.symbol,
        horizon_minutes=job.forecast_horizon,
        model_type=job.model_type,
        exc_info=values.get("exception"),
        **told,
    )


if __name__ == "__main__":
    # It wakes on the same message as the inference worker, and nobody waits for it.
    os.nice(NICENESS)
    main(SERVICE, build)
