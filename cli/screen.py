"""What `tidecast up` shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.status import complaints, read_health
from db.connect import LOST_ANSWER
from db.repositories.overview import Overview, read_overview
from runtime.servers import servers_of
from runtime.stack import Plan, Program, programs

_REFRESH_S = 1.0
_LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A supervised process and what it says of itself."""

    program: Program
    health: dict[str, Any] | None

    @property
    def state(self) -> str:
        """One word or two: how it is."""
        if self.program.state != "RUNNING":
            code = self.program.exit_code
            return "configured wrongly" if code == 78 else self.program.state.lower()
        if self.program.group != "workers":
            return "running"
        if self.health is None:
            return "starting"
        return "; ".join(complaints(self.health)) or str(self.health.get("status", "running"))

    @property
    def summary(self) -> str:
        """The lag, and what is wrong if something is."""
        wrong = "; ".join(complaints(self.health)) if self.health else ""
        return ", ".join(word for word in (self.lag, wrong) if word) or self.state

    @property
    def lag(self) -> str:
        """Seconds of event time behind its input."""
        lag_s = (self.health or {}).get("lag_s")
        return "" if lag_s is None else f"{float(lag_s):.1f} s"


class Screen:
    """Shows a running plan.

    Parameters
    ----------
    plan
        What runs.
    console
        Where to; standard output by default.
    """

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or Console(highlight=False)
        self._connection: asyncpg.Connection | None = None
        self._newest: Overview | None = None
        market = plan.settings.market
        self._market: str = market.exchange
        if market.is_simulated:
            pace = "full speed" if market.speed == "max" else f"{market.speed:g}x"
            self._market = f"SIMULATED at {pace}"

    async def show(self, check: Callable[[], None], stop: asyncio.Event) -> None:
        """Show until `stop` is set; `check` raises when the processes have ended by themselves."""
        try:
            if self._console.is_terminal:
                await self._show_table(check, stop)
            else:
                await self._print_lines(check, stop)
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _show_table(self, check: Callable[[], None], stop: asyncio.Event) -> None:
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            while not stop.is_set():
                check()
                rows, overview = await self._rows(), await self._overview()
                live.update(Group(*self._picture(rows, overview)), refresh=True)
                await _pause(stop, _REFRESH_S)

    async def _print_lines(self, check: Callable[[], None], stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        next_line_s = 0.0
        while not stop.is_set():
            check()
            if loop.time() >= next_line_s:
                next_line_s = loop.time() + _LINE_EVERY_S
                self._console.print(
                    self._line(await self._rows(), await self._overview()), soft_wrap=True, markup=False
                )
            await _pause(stop, _REFRESH_S)

    # --- what is known ----------------------------------------------------------------------------

    async def _rows(self) -> list[Row]:
        return await asyncio.to_thread(self._read_rows)

    def _read_rows(self) -> list[Row]:
        directory = self._plan.directory
        meant = [each for each in programs(directory) if each.state != "STOPPED"]
        return [
            Row(program=each, health=read_health(directory, each) if each.group == "workers" else None)
            for each in meant
        ]

    async def _overview(self) -> Overview | None:
        if not self._plan.workers:
            return None
        try:
            if self._connection is None or self._connection.is_closed():
                url = servers_of(self._plan.directory, self._plan.settings.servers).postgres_url
                self._connection = await asyncpg.connect(url, timeout=2, command_timeout=5)
            self._newest = await read_overview(self._connection)
        except LOST_ANSWER:
            # The server is restarting; the rows below say so, and the next second tries again.
            return self._newest
        return self._newest

    # --- how it looks -----------------------------------------------------------------------------

    def _picture(self, rows: Sequence[Row], overview: Overview | None) -> list[Any]:
        head = Text(
            f"Tidecast  {self._market}",
            style="bold black on yellow" if "SIMULATED" in self._market else "bold",
        )
        parts: list[Any] = [head]
        if overview is not None:
            numbers = Table.grid(padding=(0, 3))
            for name, value in self._numbers(overview):
                numbers.add_row(Text(name, style="dim"), value)
            parts.append(numbers)
        table = Table("process", "state", "lag", "pid")
        for row in rows:
            table.add_row(row.program.name, row.state, row.lag, str(row.program.pid or ""))
        parts.append(table)
        parts.append(Text(f"{self._plan.directory.path}   Ctrl-C ends everything", style="dim"))
        return parts

    def _line(self, rows: Sequence[Row], overview: Overview | None) -> str:
        words = [f"{datetime.now(UTC):%H:%M:%S}Z", self._market]
        if overview is not None:
            words += [f"{name} {value}" for name, value in self._numbers(overview)]
        words += [f"{row.program.name}: {row.summary}" for row in rows if row.program.group == "workers"]
        if not self._plan.workers:
            words += [f"{row.program.name}: {row.state}" for row in rows]
        return " | ".join(words)

    def _numbers(self, overview: Overview) -> list[tuple[str, str]]:
        share = overview.completeness
        return [
            ("event time", "-" if overview.event_time is None else f"{overview.event_time:%Y-%m-%d %H:%M}Z"),
            ("candles", f"{overview.candles:,}"),
            ("complete", "-" if share is None else f"{100 * share:.1f}%"),
            ("models in production", str(overview.models_in_production)),
            ("forecasts", f"{overview.forecasts:,}"),
            ("trades", f"{overview.open_trades} open, {overview.ended_trades} ended"),
            ("PnL, sum of trades", f"{overview.pnl_pct:+.2f}%"),
        ]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
