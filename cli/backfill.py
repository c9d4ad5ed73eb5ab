"""`tidecast backfill`: ask the feed to fetch a stretch of minutes again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import asyncpg
import typer

from cli.answer import give_json, say
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from config.errors import ConfigurationError, Mistake
from db.repositories import backfill as requests


def backfill(
    symbol: Annotated[str, typer.Argument(help="One of the configured symbols, such as BTCUSDT.")],
    start: Annotated[str, typer.Option("--from", metavar="ISO", help="First minute, UTC.")],
    end: Annotated[
        str, typer.Option("--to", metavar="ISO", help="Last minute, UTC, fetched too (replay's --to is not).")
    ],
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Leave a request for the feed, which looks for it every few seconds while it runs."""
    directory, settings = existing_folder(folder, config)
    first, last = _minute("--from", start), _minute("--to", end)
    _check(symbol, settings.symbols, first, last)
    with database_of(directory, settings, "backfill") as url:
        number = asyncio.run(_request(url, symbol, first, last))
    if as_json:
        give_json({"id": number, "symbol": symbol, "from": first, "to": last})
    elif number is None:
        say("an open request has these minutes already")
    else:
        say(f"request {number}: {symbol} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC")


async def _request(url: str, symbol: str, first: datetime, last: datetime) -> int | None:
    connection = await asyncpg.connect(url)
    try:
        first_ms, last_ms = (round(moment.timestamp()) * 1000 for moment in (first, last))
        return await requests.request(connection, symbol, first_ms, last_ms, requested_by="user")
    finally:
        await connection.close()


def _minute(option: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            [Mistake(key=option, value=text, problem="is no ISO time, such as 2021-04-02T00:00Z")]
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)


def _check(symbol: str, symbols: tuple[str, ...], first: datetime, last: datetime) -> None:
    mistakes = []
    if symbol not in symbols:
        mistakes.append(f"SYMBOL {symbol} must be one of {', '.join(symbols)}")
    if first > last:
        mistakes.append(f"--to {last.isoformat()} is before --from")
    if mistakes:
        raise typer.BadParameter("; ".join(mistakes))
