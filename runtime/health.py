"""How a worker is: `/health` and `/metrics` on a loopback port of its own."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from config.ml_config import Settings
from runtime.logs import SIMULATED
from runtime.metrics import Metrics
from runtime.process import Log, StoppedError, wait_for
from runtime.trouble import Trouble

__all__ = ["Health", "HealthServer", "Metrics", "serve"]

Status = Literal["starting", "running", "stopping"]
LOOPBACK = "127.0.0.1"
# The text format that Prometheus asks for.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True, kw_only=True)
class Health:
    """What a worker knows about itself; the worker writes it, the server reads it.

    Attributes
    ----------
    waits
        What it cannot work without at the moment, in words, by who waits: the feed, the stage.
    trouble
        What is wrong with it although it runs.
    last_event_time_ms
        Open time of the last processed minute.
    lag_s, lag_rows
        Event time and rows between the newest input and what is processed.
    """

    worker: str
    market: str
    is_simulated: bool
    status: Status = "starting"
    waits: dict[str, str] = field(default_factory=dict)
    trouble: Trouble = field(default_factory=Trouble)
    last_event_time_ms: int | None = None
    lag_s: float | None = None
    lag_rows: int | None = None
    partitions: tuple[int, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, settings: Settings, worker: str) -> Health:
        """Begin the health of a worker under these settings."""
        market = settings.market
        name = SIMULATED if market.is_simulated else market.exchange
        return cls(worker=worker, market=name, is_simulated=market.is_simulated)

    def wait(self, who: str, what: str | None) -> None:
        """Note what a part of the worker waits for; None for nothing any more."""
        if what is None:
            self.waits.pop(who, None)
        else:
            self.waits[who] = what

    @property
    def waiting_for(self) -> str | None:
        """What is waited for, in words; None if nothing is."""
        return "; ".join(dict.fromkeys(self.waits.values())) or None

    @property
    def problems(self) -> list[str]:
        """What is wrong although it runs, in words."""
        return self.trouble.problems(time.monotonic())

    @property
    def is_well(self) -> bool:
        """Whether it runs, waits for nothing and gets on."""
        return self.status == "running" and not self.waits and not self.problems

    def as_json(self) -> dict[str, Any]:
        """Describe it in JSON values."""
        last = self.last_event_time_ms
        return {
            **self.details,
            "worker": self.worker,
            "pid": os.getpid(),
            "status": self.status,
            "waiting_for": self.waiting_for,
            "problems": self.problems,
            "last_event_time": None if last is None else datetime.fromtimestamp(last / 1000, UTC).isoformat(),
            "last_event_time_ms": last,
            "lag_s": self.lag_s,
            "lag_rows": self.lag_rows,
            "partitions": list(self.partitions),
            "market": self.market,
            "simulated": self.is_simulated,
            "started_at": self.started_at.isoformat(),
        }


class HealthServer:
    """The server; an asynchronous context manager, listening while inside.

    Parameters
    ----------
    port
        0 takes any free one; `port` then says which.
    """

    def __init__(self, health: Health, metrics: Metrics, *, port: int = 0) -> None:
        self._health, self._metrics = health, metrics
        self.port = port
        app = web.Application()
        app.router.add_get("/health", self._show_health)
        app.router.add_get("/metrics", self._show_metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handle_signals=False)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, self.port)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _show_health(self, request: web.Request) -> web.Response:
        return web.json_response(self._health.as_json(), status=200 if self._health.is_well else 503)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": _METRICS_TYPE})


async def serve(health: Health, metrics: Metrics, *, port: int, stop: asyncio.Event, log: Log) -> None:
    """Serve until `stop` is set; a port in use is waited for, since the work goes on without it.

    A task for `runtime.process.main_loop`.
    """

    async def start() -> HealthServer:
        return await HealthServer(health, metrics, port=port).__aenter__()

    try:
        server = await wait_for(f"port {port} for /health and /metrics", start, stop=stop, log=log)
    except StoppedError:
        return
    health.details["port"] = server.port
    log.info(f"/health and /metrics are on port {server.port}", action="serve", port=server.port)
    try:
        await stop.wait()
    finally:
        await server.__aexit__(None, None, None)
