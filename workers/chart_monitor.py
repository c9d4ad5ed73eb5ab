"""The chart monitor: watches that all of it is complete, fresh and sane.

Reads the stream `features`; raises alerts (log, webhook) and asks the feed for back-fill. A restart goes on
from the position in `"recoveryState"`. Also keeps house: drops and packs old days.
"""

from __future__ import annotations

import os
import time
from functools import partial

from domain.partitioning import owned_symbols
from domain.quality.check import Limits
from pipeline.quality_stage import QualityStage
from runtime.alerts import AlertObserver
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

    def make_stage(partition: int) -> QualityStage:
        return QualityStage(
            symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
            limits=Limits(
                completeness_threshold=monitoring.completeness_threshold,
                missing_data=monitoring.alert_thresholds.missing_data,
                stale_data_s=monitoring.alert_thresholds.stale_data,
                invalid_values=monitoring.alert_thresholds.invalid_values,
            ),
            check_interval_s=monitoring.check_interval,
        )

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
    tasks["webhook"] = alerts.post()
    return tasks


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    # It wakes on the same message as the inference worker, and nobody waits for it.
    os.nice(NICENESS)
    main(SERVICE, build)
