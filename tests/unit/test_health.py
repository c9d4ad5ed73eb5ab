"""What a worker tells about itself, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.status import _part
from config.ml_config import load
from runtime.directory import Directory
from runtime.health import Health, HealthServer, serve
from runtime.metrics import Metrics
from runtime.ports import free_ports
from runtime.stack import Program


def health() -> Health:
    return Health.of(load(), "forecaster")


async def get(port: int, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, answer.content_type, await answer.text()


async def get_health(port: int) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("status", "waiting_for", "code"),
    [
        ("starting", None, 503),
        ("running", None, 200),
        ("running", "PostgreSQL", 503),
        ("stopping", None, 503),
    ],
)
async def test_only_a_worker_that_runs_and_waits_for_nothing_is_well(
    status: Any, waiting_for: str | None, code: int
) -> None:
    own = health()
    own.status = status
    own.wait("stage", waiting_for)
    async with HealthServer(own, Metrics("forecaster")) as server:
        answered, body = await get_health(server.port)
    assert answered == code
    assert (body["status"], body["waiting_for"]) == (status, waiting_for)


async def test_health_says_who_where_how_far_and_that_the_market_is_simulated() -> None:
    own = health()
    own.status, own.partitions = "running", (0, 2)
    own.last_event_time_ms, own.lag_s, own.lag_rows = 1_617_235_200_000, 61.5, 6
    own.details["pid"] = "no detail hides a fact"
    async with HealthServer(own, Metrics("forecaster")) as server:
        _, body = await get_health(server.port)
    assert body["worker"] == "forecaster"
    assert body["pid"] == os.getpid()
    assert body["last_event_time"] == "2021-04-01T00:00:00+00:00"
    assert (body["lag_s"], body["lag_rows"], body["partitions"]) == (61.5, 6, [0, 2])
    assert (body["market"], body["simulated"]) == ("SIMULATED", True)


async def test_a_worker_that_runs_and_parks_events_is_not_well_and_says_why() -> None:
    own = health()
    own.status, own.trouble.parked = "running", 2
    async with HealthServer(own, Metrics("forecaster")) as server:
        answered, body = await get_health(server.port)
    assert answered == 503
    assert body["problems"] == ["2 events parked in the last hour: see `tidecast dead-letters list`"]


def test_what_one_part_no_longer_waits_for_another_may_still_wait_for() -> None:
    own = health()
    own.wait("feed", "binanceus")
    own.wait("stage", "postgres")
    assert own.waiting_for == "binanceus; postgres"
    own.wait("stage", None)
    assert own.waiting_for == "binanceus"
    own.wait("feed", None)
    assert own.waiting_for is None


async def test_status_says_what_a_worker_complains_of_and_is_not_well(tmp_path: Path) -> None:
    directory = Directory.create(tmp_path)
    program = Program(name="forecaster-0", group="workers", state="RUNNING", pid=1, exit_code=0, up_s=9.0)
    own = health()
    own.status, own.last_event_time_ms = "running", 1_617_235_200_000
    async with HealthServer(own, Metrics("forecaster"), port=directory.port("forecaster")):
        well = await asyncio.to_thread(_part, directory, program)
        own.trouble.parked = 1
        parking = await asyncio.to_thread(_part, directory, program)
        own.wait("stage", "postgres")
        waiting = await asyncio.to_thread(_part, directory, program)
    assert (well["well"], well["note"]) == (True, "running")
    assert well["event_time"] == "2021-04-01T00:00:00+00:00"
    assert (parking["well"], parking["note"].split(":")[0]) == (False, "1 event parked in the last hour")
    assert not waiting["well"]
    assert waiting["note"].startswith("waits for postgres; 1 event parked")


def test_a_live_market_is_not_called_simulated() -> None:
    own = Health.of(load(None, {}, {"market.exchange": "coinbase"}), "forecaster")
    assert (own.market, own.is_simulated) == ("coinbase", False)


async def test_metrics_are_readable_by_prometheus_and_carry_what_was_measured() -> None:
    metrics = Metrics("forecaster")
    metrics.candle_to_row(0.004)
    metrics.candle_to_row(0.2)
    metrics.step(0.01)
    metrics.events(6)
    metrics.rows("persistentForecasts", 108)
    metrics.error("poison")
    metrics.dead_letter("truncated", 2)
    metrics.logs_dropped(3)
    metrics.lag(60.0, 12)
    metrics.event_time(1_617_235_200_000)
    metrics.recovered(1.5)
    metrics.completeness(0.99)
    metrics.open_trades(4)
    metrics.training(2.5, "xgboost")
    async with HealthServer(health(), metrics) as server:
        status, kind, page = await get(server.port, "/metrics")
    assert (status, kind) == (200, "text/plain")
    samples = {
        (sample.name, *(value for name, value in sample.labels.items() if name != "worker")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert samples[("tidecast_candle_to_row_seconds_count",)] == 2
    assert samples[("tidecast_candle_to_row_seconds_bucket", "0.005")] == 1
    assert samples[("tidecast_events_total", "input")] == 6
    assert samples[("tidecast_rows_total", "persistentForecasts")] == 108
    assert samples[("tidecast_errors_total", "poison")] == 1
    assert samples[("tidecast_dead_letters_total", "truncated")] == 2
    assert samples[("tidecast_log_records_dropped_total",)] == 3
    assert samples[("tidecast_lag_seconds",)] == 60
    assert samples[("tidecast_lag_rows",)] == 12
    assert samples[("tidecast_event_time_seconds",)] == 1_617_235_200
    assert samples[("tidecast_recovery_seconds",)] == 1.5
    assert samples[("tidecast_completeness_ratio",)] == 0.99
    assert samples[("tidecast_open_trades",)] == 4
    assert samples[("tidecast_training_seconds_sum", "xgboost")] == 2.5
    assert samples[("process_resident_memory_bytes",)] > 0
    values = metrics.values()
    assert values["tidecast_lag_rows"] == 12
    assert values["tidecast_events_total{stream=input}"] == 6


def test_two_workers_in_one_process_do_not_share_their_numbers() -> None:
    one, other = Metrics("a"), Metrics("b")
    one.events(1)
    assert "tidecast_events_total{stream=input}" not in other.values()


def test_metrics_need_no_server() -> None:
    code = "import sys, runtime.metrics; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_server_listens_on_loopback_only_and_is_gone_afterwards() -> None:
    async with HealthServer(health(), Metrics("w")) as server:
        assert [address[0] for address in server._runner.addresses] == ["127.0.0.1"]
        assert (await get(server.port, "/elsewhere"))[0] == 404
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(server.port, "/health")


class Heard:
    """A log that can be waited for."""

    def __init__(self) -> None:
        self.actions: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def info(self, event: str, *, action: str, **values: Any) -> None:
        self.actions[action].set()

    warning = error = exception = info

    async def until(self, action: str) -> None:
        await asyncio.wait_for(self.actions[action].wait(), 60)


async def test_serving_waits_for_a_port_in_use_and_ends_when_asked() -> None:
    own, stop, log = health(), asyncio.Event(), Heard()
    # not one that any outgoing connection might take as soon as it is given back
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        serving = asyncio.create_task(serve(own, Metrics("w"), port=port, stop=stop, log=log))
        await log.until("wait")
    await log.until("serve")
    assert own.details["port"] == port
    assert (await get_health(port))[0] == 503
    stop.set()
    await asyncio.wait_for(serving, 60)


async def test_serving_that_never_got_its_port_ends_when_asked() -> None:
    stop = asyncio.Event()
    stop.set()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await asyncio.wait_for(serve(health(), Metrics("w"), port=port, stop=stop, log=Heard()), 60)
