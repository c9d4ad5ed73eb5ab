"""The chart monitor: watches that all of it is complete, fresh and sane, and that it has not drifted.

Reads the stream `features`; raises alerts (log, webhook), asks the feed for back-fill, writes `anomalies`
and `"driftChecks"`. A restart goes on from the position in `"recoveryState"`. Also keeps house (drops and
packs old days), and says when a model is worse live than in its validation.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from domain.features.schema import NAMES
from domain.partitioning import owned_symbols
from domain.quality.check import Limits
from pipeline.beside import Beside
from pipeline.feature_drift_stage import FeatureDriftStage
from pipeline.quality_stage import QualityStage
from pipeline.stage import Stage
from runtime.alerts import AlertObserver
from runtime.drift_wiring import label_of
from runtime.gap_watch import watch_gaps
from runtime.housekeeping import keep_house
from runtime.worker import Tasks, Worker, main
from schemas.frames import FeatureFrame

#: Forecasts are waited for, this is not.
HEAD_START_S = 0.03
SERVICE = "chart_monitor"
#: Added to the priority number of the process.
NICENESS = 5


async def build(worker: Worker) -> Tasks:
    """Wire one runner per partition, the webhook and the upkeep of partitions."""
    settings, monitoring = worker.settings, worker.settings.monitoring
    alerts = AlertObserver(worker)

    def make_stage(partition: int) -> Stage[Any]:
        quality = QualityStage(
            symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
            limits=Limits(
                completeness_threshold=monitoring.completeness_threshold,
                missing_data=monitoring.alert_thresholds.missing_data,
                stale_data_s=monitoring.alert_thresholds.stale_data,
                invalid_values=monitoring.alert_thresholds.invalid_values,
            ),
            check_interval_s=monitoring.check_interval,
            spike_score=settings.drift.spike_score,
            burst_score=settings.drift.burst_score,
        )
        if not settings.drift.enabled:
            return quality
        return Beside(quality, _feature_drift(worker, partition))

    runners = [
        worker.runner(
            partition,
            partial(make_stage, partition),
            worker.source("features", partition, FeatureFrame),
            head_start_s=HEAD_START_S,
            observer=alerts,
            clock=None if settings.market.is_simulated else _wall_clock_ms,
        )
        for partition in worker.partitions
    ]
    tasks = {f"partition {runner.partition}": runner.run(worker.stop) for runner in runners}
    if worker.shard == 0:
        tasks["upkeep"] = keep_house(worker)
        if settings.drift.enabled:
            tasks["live scores"] = watch_gaps(worker, alerts)
    tasks["webhook"] = alerts.post()
    return tasks


def _feature_drift(worker: Worker, partition: int) -> FeatureDriftStage:
    settings, drift = worker.settings, worker.settings.drift
    return FeatureDriftStage(
        symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
        feature_names=NAMES,
        retraining_window_minutes=settings.training.window_size,
        retraining_every_minutes=settings.training.retrain_every_minutes,
        every_minutes=drift.check_every_minutes,
        reference_blocks=drift.reference_blocks,
        least_reference_blocks=drift.least_reference_blocks,
        psi_threshold=drift.psi_threshold,
        error_rate=drift.feature_error_rate,
        share=drift.feature_share,
        reactions=drift.reactions,
        label=label_of(settings, partition),
    )


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    # It wakes on the same message as the inference worker, and nobody waits for it.
    os.nice(NICENESS)
    main(SERVICE, build)
