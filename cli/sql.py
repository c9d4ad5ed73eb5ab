"""`tidecast sql`: ask the folder's database, running or not."""

from __future__ import annotations

from typing import Annotated, Any

import psycopg
import typer

from cli.answer import give_json, say, show_table
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder


def sql(
    query: Annotated[str, typer.Argument(help="One or more SQL statements; the last one's result is shown.")],
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    write: Annotated[
        bool, typer.Option("--write", help="Let statements change tables; without it they only read.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run SQL in the pipeline's database; its server is started for it if nothing runs."""
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "sql") as url:
        columns, rows, message = _run(url, query, write)
    if as_json:
        give_json({"columns": columns, "rows": rows, "status": message})
    elif columns:
        show_table(columns, rows)
    else:
        say(message)


def _run(url: str, query: str, write: bool) -> tuple[list[str], list[tuple[Any, ...]], str]:
    # A slip of the hand in a running pipeline would cost it its checkpoints.
    options = "-c default_transaction_read_only=" + ("off" if write else "on")
    with (
        psycopg.connect(url, autocommit=True, options=options) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query.encode())
        while cursor.nextset():
            pass
        columns = [column.name for column in cursor.description or ()]
        return columns, cursor.fetchall() if columns else [], cursor.statusmessage or ""
