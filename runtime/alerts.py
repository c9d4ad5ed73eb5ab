"""Alerts go where somebody sees them: the log, and a webhook where the settings name one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from pipeline.stage import LogEntry
from runtime.observer import WorkerObserver

if TYPE_CHECKING:
    from runtime.worker import Worker

DATA_QUALITY = "data_quality"
MARKET_DATA = "market_data"
DRIFT = "drift"
_TRIES = 5
_QUEUE = 1000
_TIMEOUT_S = 10.0


class AlertObserver(WorkerObserver):
    """Passes on what a runner tells, and posts warnings and errors about the data to a webhook."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(log=worker.log, metrics=worker.metrics, health=worker.health)
        self._worker = worker
        self._waiting: asyncio.Queue[LogEntry] = asyncio.Queue(_QUEUE)

    def log(self, entry: LogEntry, stack_trace: str | None = None) -> None:
        """Write the line, and queue it for the webhook if it is news about the data, good or bad."""
        super().log(entry, stack_trace)
        if entry.category in (DATA_QUALITY, MARKET_DATA, DRIFT):
            self.offer(entry)

    def offer(self, entry: LogEntry) -> None:
        """Queue an entry for the webhook, if there is one."""
        if self._worker.settings.monitoring.webhook_url is None:
            return
        try:
            self._waiting.put_nowait(entry)
        except asyncio.QueueFull:
            self._worker.metrics.error("webhook_queue_full")

    async def post(self) -> None:
        """Post alerts one by one until the process stops; a failing webhook holds nothing else up."""
        url = self._worker.settings.monitoring.webhook_url
        if url is None:
            await self._worker.stop.wait()
            return
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._worker.stop.is_set():
                try:
                    entry = await asyncio.wait_for(self._waiting.get(), 0.5)
                except TimeoutError:
                    continue
                await self._send(session, url.get_secret_value(), entry)

    async def _send(self, session: aiohttp.ClientSession, url: str, entry: LogEntry) -> None:
        body = orjson.dumps(self._body(entry))
        for attempt in range(_TRIES):
            try:
                async with session.post(
                    url, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    if answer.status < 400:
                        return
                    problem = f"answered {answer.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = type(error).__name__
            if self._worker.stop.is_set():
                break
            await asyncio.sleep(min(2.0**attempt * 0.5, 5.0))
        self._worker.metrics.error("webhook")
        self._worker.log.warning("an alert did not reach the webhook", action="webhook", problem=problem)

    def _body(self, entry: LogEntry) -> dict[str, Any]:
        market = self._worker.settings.market
        return {
            "level": entry.level,
            "category": entry.category,
            "subcategory": entry.subcategory,
            "message": entry.message,
            "symbol": entry.symbol,
            "context": dict(entry.context),
            "market": "SIMULATED" if market.is_simulated else market.exchange,
        }
