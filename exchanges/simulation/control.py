"""The control side of the simulated exchange, under /sim: state, acknowledgement, clock, faults, truth."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from exchanges.simulation.clock import MAX_SPEED, VirtualClock
from exchanges.simulation.faults import BadFaultError, Faults
from exchanges.simulation.hub import Hub
from exchanges.simulation.market import last_minute
from exchanges.simulation.pump import Pump
from exchanges.simulation.tape import Tape


def speed_of(value: Any) -> float:
    """Read a speed: a number above 0, or `max`."""
    if value == "max":
        return MAX_SPEED
    try:
        speed = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"speed {value!r} is neither a number nor max") from error
    if not (speed > 0 and math.isfinite(speed)):
        raise ValueError(f"speed {value!r} is not above 0; use max for as fast as possible")
    return speed


class Control:
    """Answers the requests of those who run and test the exchange.

    Parameters
    ----------
    clock, tape, hub, faults, pump
        The parts of one exchange.
    """

    def __init__(self, clock: VirtualClock, tape: Tape, hub: Hub, faults: Faults, pump: Pump) -> None:
        self._clock = clock
        self._tape = tape
        self._hub = hub
        self._faults = faults
        self._pump = pump

    def add_routes(self, app: web.Application) -> None:
        """Put the control paths into an application."""
        app.router.add_get("/sim/state", self._get_state)
        app.router.add_get("/sim/candles", _checked(self._candles))
        app.router.add_post("/sim/ack", _checked(self._acknowledge))
        app.router.add_post("/sim/clock", _checked(self._set_clock))
        app.router.add_post("/sim/faults", _checked(self._set_faults))

    def state(self) -> dict[str, Any]:
        """Describe where the exchange stands."""
        clock = self._clock
        return {
            "now_ms": clock.now_ms(),
            "first_ms": self._tape.first_ms,
            "last_ms": last_minute(self._tape.market),
            "end_ms": clock.end_ms,
            "ended": clock.ended,
            "speed": "max" if clock.is_max else clock.speed,
            "acknowledged_ms": clock.acknowledged_ms,
            "window_minutes": clock.window_minutes,
            "market": self._tape.market.description,
            "symbols": list(self._tape.market.symbols),
            "clients": [
                {
                    "protocol": client.protocol.name,
                    "topics": client.said.topics.count(),
                    "frames_sent": client.frames_sent,
                }
                for client in self._hub.clients
            ],
            "candles_sent": self._pump.candles_sent,
            "faults": {"on": self._faults.active(), "counts": self._faults.counts},
        }

    async def _get_state(self, _: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _candles(self, request: web.Request) -> web.Response:
        symbol = request.query.get("symbol", "")
        if symbol not in self._tape.market.symbols:
            raise ValueError(f"symbol {symbol!r} is not in this market")
        from_ms = int(request.query.get("from", self._tape.first_ms))
        to_ms = int(request.query.get("to", self._clock.now_ms() // 60_000 * 60_000))
        return web.json_response(self._tape.truth(symbol, from_ms, to_ms))

    async def _acknowledge(self, request: web.Request) -> web.Response:
        self._clock.acknowledge(_whole(await _body(request), "open_time_ms"))
        self._hub.changed.set()
        return web.json_response({"acknowledged_ms": self._clock.acknowledged_ms})

    async def _set_clock(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if "speed" not in body:
            raise ValueError('send {"speed": N} or {"speed": "max"}')
        self._clock.set_speed(speed_of(body["speed"]))
        self._hub.changed.set()
        return await self._get_state(request)

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._faults.set(await _body(request))
        if self._faults.lasts("cut"):
            for client in list(self._hub.clients):
                client.abort()
        return web.json_response({"on": self._faults.active(), "counts": self._faults.counts})


def _checked(
    answer: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        try:
            return await answer(request)
        except (BadFaultError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return handler


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise ValueError(f"the body is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise ValueError("the body is no JSON object")  # noqa: TRY004 - all mistakes are answered alike
    return body


def _whole(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f'send {{"{name}": whole milliseconds}}, not {value!r}')  # noqa: TRY004
    return value
