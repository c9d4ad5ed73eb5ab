"""The command `tidecast`."""

from __future__ import annotations

import sys
from typing import NoReturn

import asyncpg
import psycopg
import typer

from cli import (
    backfill,
    bench,
    dead_letters,
    doctor,
    down,
    dsn,
    fingerprint,
    migrate,
    recover,
    replay,
    sql,
    status,
    up,
)
from cli.answer import give_json, progress
from config.errors import EX_CONFIG, ConfigurationError
from config.redaction import redact
from db.migrate import NewerDatabaseError
from db.repositories.deployment import OtherMarketError
from runtime.directory import DirectoryError
from runtime.embedded.binaries import NoBinaryError
from runtime.embedded.session import ServerError
from runtime.stack import StackError

app = typer.Typer(
    name="tidecast",
    help="Live candles in, forecasts and simulated trades out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("down")(down.down)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("replay")(replay.replay)
app.command("recover")(recover.recover)
app.command("sql")(sql.sql)
app.command("dsn")(dsn.dsn)
app.command("fingerprint")(fingerprint.fingerprint)
app.command("migrate")(migrate.migrate)
app.command("backfill")(backfill.backfill)
app.command("bench")(bench.bench)
app.add_typer(dead_letters.app, name="dead-letters")

#: Errors whose message says all that the user needs; anything else is a defect and shows its trace.
_EXPECTED = (
    DirectoryError,
    ServerError,
    StackError,
    NoBinaryError,
    NewerDatabaseError,
    OtherMarketError,
    psycopg.Error,
    asyncpg.PostgresError,
    OSError,
)


def main() -> NoReturn:
    """Run the command line; the exit code says whether it succeeded, 78 that the settings are wrong."""
    try:
        app()
    except ConfigurationError as error:
        _fail(str(error), EX_CONFIG)
    except _EXPECTED as error:
        _fail(redact(str(error).strip()), 1)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    if "--json" in sys.argv:
        give_json({"error": message, "exit_code": code})
    progress.print(message, style="red", markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
