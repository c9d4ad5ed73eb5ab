"""The forecaster: predictions in, `"persistentForecasts"` out.

Reads the stream `predictions`; writes forecasts of price, volatility and trend, their outcomes once known,
and whether their intervals hold (`"driftChecks"`). A restart goes on from the position in `"recoveryState"`.
Nothing reads what it sends.
"""

from __future__ import annotations

from functools import partial

from db.repositories import deployment
from domain.partitioning import owned_symbols
from pipeline.forecast_stage import ForecastStage
from runtime.alerts import AlertObserver
from runtime.drift_wiring import coverage_settings
from runtime.worker import Tasks, Worker, main
from schemas.frames import PredictionFrame

SERVICE = "forecaster"


async def build(worker: Worker) -> Tasks:
    """Tell the view how confidence decays, and wire one runner per partition and the webhook."""
    settings = worker.settings
    connection = await worker.connect()
    try:
        await deployment.set_confidence_decay(connection, settings.forecasting.confidence_decay)
    finally:
        await connection.close()

    def make_stage(partition: int) -> ForecastStage:
        return ForecastStage(
            symbols=owned_symbols(settings.symbols, partition, settings.pipeline.partitions),
            horizons=settings.forecasting.horizons,
            update_frequency_s=settings.forecasting.update_frequency,
            confidence_threshold=settings.inference.confidence_threshold,
            regimes=settings.forecasting.market_regimes,
            coverage=coverage_settings(settings, partition),
        )

    alerts = AlertObserver(worker)
    runners = [
        worker.runner(
            partition,
            partial(make_stage, partition),
            worker.source("predictions", partition, PredictionFrame),
            observer=alerts,
        )
        for partition in worker.partitions
    ]
    tasks = {f"partition {runner.partition}": runner.run(worker.stop) for runner in runners}
    tasks["webhook"] = alerts.post()
    return tasks


if __name__ == "__main__":
    main(SERVICE, build)
