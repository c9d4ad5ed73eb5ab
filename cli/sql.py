"""`tidecast sql`: ask the folder's database, running or not."""

from __future__ import annotations

from typing import Annotated, Any

import psycopg
import typer
from psycopg.adapt import Buffer
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

from cli.answer import give_json, progress, say, show_table
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder

#: The result's columns and rows, and what the server says of the statement.
Answer = tuple[list[str], list[tuple[Any, ...]], str]


class _Date(DateLoader):
    """Dates, and the two words that are none in Python."""

    def load(self, data: Buffer) -> Any:
        return _word(data) or super().load(data)


class _Timestamp(TimestampLoader):
    """Times without a zone, and the two words."""

    def load(self, data: Buffer) -> Any:
        return _word(data) or super().load(data)


class _Timestamptz(TimestamptzLoader):
    """Times, and the two words: a model in production serves until `infinity`."""

    def load(self, data: Buffer) -> Any:
        return _word(data) or super().load(data)


def _word(data: Buffer) -> str | None:
    text = bytes(data)
    return text.decode() if text in (b"infinity", b"-infinity") else None


def sql(
    query: Annotated[
        str, typer.Argument(help="One statement; with --write several, and the last one's result.")
    ],
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    write: Annotated[
        bool, typer.Option("--write", help="Let statements change tables; without it one statement reads.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run SQL in the pipeline's database; its server is started for it if nothing runs."""
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "sql") as url:
        columns, rows, message = _write(url, query) if write else _read(url, query)
    if as_json:
        give_json({"columns": columns, "rows": rows, "status": message})
    elif columns:
        show_table(columns, rows)
    else:
        say(message)


def _read(url: str, query: str) -> Answer:
    # A slip of the hand in a running pipeline would cost it its checkpoints.
    with psycopg.connect(url) as connection, _cursor(connection) as cursor:
        connection.read_only = True
        # After its first query a transaction cannot be made one that writes any more.
        cursor.execute("SELECT 1")
        try:
            # What is prepared is one statement, so none can follow the transaction's end.
            cursor.execute(query.encode(), prepare=True)
        except psycopg.errors.SyntaxError as error:
            # The message may be in any language; this function of the server has no other syntax error.
            if error.diag.source_function != "exec_parse_message":
                raise
            raise typer.BadParameter(
                "these are several statements: give one at a time, or --write, which lets them change tables"
            ) from None
        answer = _answer(cursor)
        connection.rollback()
        return answer


def _write(url: str, query: str) -> Answer:
    with psycopg.connect(url, autocommit=True) as connection, _cursor(connection) as cursor:
        cursor.execute(query.encode())
        statements = 1
        while cursor.nextset():
            statements += 1
        if statements > 1:
            progress.print(f"{statements} statements were run; the result of the last one follows")
        return _answer(cursor)


def _cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    for name, loader in (("date", _Date), ("timestamp", _Timestamp), ("timestamptz", _Timestamptz)):
        connection.adapters.register_loader(name, loader)
    return connection.cursor()


def _answer(cursor: psycopg.Cursor[Any]) -> Answer:
    columns = [column.name for column in cursor.description or ()]
    return columns, cursor.fetchall() if columns else [], cursor.statusmessage or ""
