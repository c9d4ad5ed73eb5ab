"""An exchange on loopback that speaks as Binance.US, Bybit and Coinbase do, on a virtual clock.

    python -m exchanges.simulated --port 8900 --market generated --seed 7 --symbols BTCUSDT,ETHUSDT
    python -m exchanges.simulated --port 8900 --market recorded --path DIR --speed max

REST and websocket always agree: a minute is closed on the websocket first, and only then over REST. The
control side is under /sim (state, ack, clock, faults, candles).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from exchanges.generator import KNOWN, GeneratedMarket
from exchanges.recording import BadRecordingError, RecordedMarket
from exchanges.simulation.clock import ClockMark, VirtualClock
from exchanges.simulation.control import Control, speed_of
from exchanges.simulation.faults import Faults
from exchanges.simulation.gateway import Gateway
from exchanges.simulation.hub import Hub
from exchanges.simulation.lifetime import die_with_parent
from exchanges.simulation.market import DAY_MS, Market, first_minute, last_minute
from exchanges.simulation.protocols import PROTOCOLS
from exchanges.simulation.pump import Pump
from exchanges.simulation.symbols import split_symbol
from exchanges.simulation.tape import Tape
from schemas.frames import MINUTE_MS

#: After the last minute of a recording the clock goes on for so long, so that its close can be confirmed.
GRACE_MINUTES = 15
SAVE_EVERY_S = 1.0
#: Exit code for arguments that cannot be obeyed.
EXIT_CONFIG = 78


class SimulatedExchange:
    """The server: one market, one virtual clock, three protocols.

    Parameters
    ----------
    market
        What is played.
    port
        0 takes a free one; see `port` after the start.
    speed
        Virtual seconds per wall second, or `math.inf` for as fast as the client acknowledges.
    start_ms
        Virtual time at birth. By default now for a market without an end, else `history_days` after its first
        minute.
    history_days
        Days of history that exist at birth; for a recording everything before `start_ms` exists.
    clock_file
        Where the virtual time is kept over restarts; a clock found there goes on from where it stands.
    limited
        Whether the exchanges' request limits are kept.
    window_minutes
        At maximum speed, how far the clock may be ahead of the acknowledged minute.
    host
        Loopback address to listen on.

    Raises
    ------
    ValueError
        Where the clock file belongs to another market, or a symbol has no known quote.
    """

    def __init__(
        self,
        market: Market,
        *,
        port: int = 0,
        speed: float = 1.0,
        start_ms: int | None = None,
        history_days: float = 0.0,
        clock_file: Path | None = None,
        limited: bool = True,
        window_minutes: int = 1_500,
        host: str = "127.0.0.1",
    ) -> None:
        for symbol in market.symbols:
            split_symbol(symbol)
        self._host, self._wanted_port = host, port
        self._clock_file = clock_file
        mark = (ClockMark.load(clock_file) if clock_file else None) or _birth(market, start_ms, history_days)
        if mark.market != market.description:
            raise ValueError(
                f"clock file {clock_file} belongs to another market ({mark.market}, not "
                f"{market.description}); use another file, or delete it to start anew"
            )
        self._mark = mark
        last_ms = last_minute(market)
        self.clock = VirtualClock(
            now_ms=mark.now_ms,
            speed=speed,
            end_ms=None if last_ms is None else last_ms + (1 + GRACE_MINUTES) * MINUTE_MS,
            acknowledged_ms=mark.acknowledged_ms,
            window_minutes=window_minutes,
        )
        self.tape = Tape(market, first_ms=mark.first_ms)
        self.hub = Hub()
        self.faults = Faults()
        self.pump = Pump(self.clock, self.tape, self.hub, self.faults)
        self.control = Control(self.clock, self.tape, self.hub, self.faults, self.pump)
        self._limited = limited
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.port = port

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"http://{self._host}:{self.port}"

    async def start(self) -> None:
        """Listen, and start the clock."""
        app = web.Application()
        self.control.add_routes(app)
        for make in PROTOCOLS:
            gateway = Gateway(make(self.tape, self.clock), self.hub, self.faults, limited=self._limited)
            gateway.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted_port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.save_clock()
        self._tasks = [asyncio.create_task(self.pump.run(), name="pump")]
        if self._clock_file is not None:
            self._tasks.append(asyncio.create_task(self._keep_clock(), name="clock file"))

    async def wait(self) -> None:
        """Return only when a part of the exchange has died, with its error."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Stop the clock, save it, and drop all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self.save_clock()
        for client in list(self.hub.clients):
            client.abort()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> SimulatedExchange:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def save_clock(self) -> None:
        """Write the clock file, where there is one."""
        if self._clock_file is not None:
            ClockMark(
                market=self._mark.market,
                first_ms=self._mark.first_ms,
                start_ms=self._mark.start_ms,
                now_ms=self.clock.now_ms(),
                acknowledged_ms=self.clock.acknowledged_ms,
            ).save(self._clock_file)

    async def _keep_clock(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            self.save_clock()


def _birth(market: Market, start_ms: int | None, history_days: float) -> ClockMark:
    history_ms = int(history_days * DAY_MS)
    endless = last_minute(market) is None
    if start_ms is None:
        start_ms = int(time.time() * 1_000) if endless else first_minute(market) + history_ms
    first_ms = max(first_minute(market), start_ms - history_ms) if endless else first_minute(market)
    first_ms -= first_ms % MINUTE_MS
    return ClockMark(
        market=market.description,
        first_ms=first_ms,
        start_ms=start_ms,
        now_ms=start_ms,
        acknowledged_ms=start_ms - start_ms % MINUTE_MS - MINUTE_MS,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT."""
    options = _parser().parse_args(arguments)
    die_with_parent()
    try:
        exchange = _exchange_of(options)
    except (BadRecordingError, ValueError) as error:
        print(f"simulated exchange: {error}", file=sys.stderr)  # noqa: T201 - before any logging
        return EXIT_CONFIG
    return asyncio.run(_serve(exchange))


async def _serve(exchange: SimulatedExchange) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await exchange.start()
    except OSError as error:
        print(f"simulated exchange: cannot listen ({error})", file=sys.stderr)  # noqa: T201
        return 1
    _say("listening", url=exchange.url, **exchange.control.state())
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(exchange.wait())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()
        await exchange.stop()
    _say("stopped", now_ms=exchange.clock.now_ms())
    return 0


# One JSON line a message, as all processes write them.
def _say(event: str, **fields: object) -> None:
    line = {
        "timestamp": datetime.now(UTC).isoformat(),
        "level": "info",
        "event": event,
        "service": "simulated_exchange",
        **fields,
    }
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(line), flush=True)  # noqa: T201 - this is the log


def _exchange_of(options: argparse.Namespace) -> SimulatedExchange:
    symbols = [name for name in options.symbols.split(",") if name] if options.symbols else None
    market: Market
    if options.market == "recorded":
        if options.path is None:
            raise ValueError("--market recorded needs --path, a folder of SYMBOL-1m.parquet or csv files")
        market = RecordedMarket(
            options.path, symbols=symbols, from_ms=_moment(options.from_), to_ms=_moment(options.to)
        )
    else:
        market = GeneratedMarket(symbols or list(KNOWN), seed=options.seed, structure=options.structure)
    exchange = SimulatedExchange(
        market,
        port=options.port,
        speed=speed_of(options.speed),
        start_ms=options.start_ms,
        history_days=options.history_days,
        clock_file=options.clock_file,
        limited=not options.no_limits,
        window_minutes=options.window_minutes,
    )
    exchange.faults.set(options.faults)
    return exchange


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no ISO time, such as 2021-04-02T00:00Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exchanges.simulated", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one and logs it")
    add("--market", choices=("generated", "recorded"), default="generated")
    add("--seed", type=int, default=7, help="of the generated market")
    add("--structure", type=float, default=0.06, help="predictability of the generated market; 0: none")
    add("--symbols", help="ids such as BTCUSDT, separated by commas; by default all")
    add("--path", type=Path, help="folder of a recorded market")
    add("--from", dest="from_", metavar="ISO", help="first recorded minute to play")
    add("--to", metavar="ISO", help="end of the recording, not included")
    add("--history-days", type=float, default=0.0, help="days that are history at birth")
    add("--start-ms", type=int, help="virtual time at birth, milliseconds since 1970 UTC")
    add("--speed", default="1", help="virtual seconds per second, or max")
    add("--clock-file", type=Path, help="keeps the virtual time over restarts")
    add("--window-minutes", type=int, default=1_500, help="lead over the acknowledged minute at max speed")
    add("--no-limits", action="store_true", help="answer any number of requests")
    add(
        "--faults",
        type=json.loads,
        default={},
        help="switches that are on from the start, JSON as for /sim/faults",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
