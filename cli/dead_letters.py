"""`tidecast dead-letters`: input that was refused, and another try for it once the reason is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import asyncpg
import psycopg
import typer
from psycopg.rows import dict_row

from cli.answer import give_json, say, show_table
from cli.commands import HELP_OPTIONS
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from db.repositories import dead_letters

app = typer.Typer(
    help="List input that was refused, or have it tried again.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=HELP_OPTIONS,
)

_SHOWN_RAW_BYTES = 200
# A letter that was asked for again has the time `infinity` until the feed has read it anew.
_STATE = """CASE WHEN replayed_at IS NULL THEN 'kept'
                 WHEN replayed_at = 'infinity' THEN 'to be replayed'
                 ELSE 'replayed' END"""


@app.command("list")
def list_letters(
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show refused input, the newest first."""
    which = "" if everything else "WHERE replayed_at IS NULL OR replayed_at = 'infinity'"
    query = (
        f"SELECT id, kind, exchange, symbol, received_at, {_STATE} AS state, error, "  # noqa: S608  # constants
        f"substr(raw, 1, {_SHOWN_RAW_BYTES}) AS raw FROM dead_letters {which} "
        f"ORDER BY id DESC LIMIT {limit:d}"
    )
    directory, settings = existing_folder(folder, config)
    with (
        database_of(directory, settings, "dead-letters") as url,
        psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection,
    ):
        letters = connection.execute(query.encode()).fetchall()
    for letter in letters:
        letter["raw"] = bytes(letter["raw"]).decode("utf-8", "backslashreplace")
    if as_json:
        give_json({"dead_letters": letters})
    elif letters:
        show_table(list(letters[0]), [list(letter.values()) for letter in letters])
    else:
        say("no dead letters")


@app.command("replay")
def replay_letters(
    ids: Annotated[list[int] | None, typer.Argument(help="Which ones; without any, --all is needed.")] = None,
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have the feed read refused input again; it does so while it runs, or at its next start."""
    if not ids and not everything:
        raise typer.BadParameter("name the ids to replay, or use --all")
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "dead-letters") as url:
        found = asyncio.run(_ask_for(url, None if everything else ids))
    missing = sorted(set(ids or []) - set(found))
    if as_json:
        give_json({"asked": found, "not_kept": missing})
    else:
        say(f"{len(found)} to be replayed" + (f"; not kept: {missing}" if missing else ""))
    if missing:
        raise typer.Exit(1)


async def _ask_for(url: str, ids: Sequence[int] | None) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        return await dead_letters.ask_for(connection, ids)
    finally:
        await connection.close()
