"""The command `tidecast`."""

from __future__ import annotations

import sys
import traceback
from importlib.metadata import version
from typing import Annotated, NoReturn

import asyncpg
import psycopg
import typer
from typer._click.exceptions import ClickException

from cli import (
    backfill,
    bench,
    check_features,
    dead_letters,
    doctor,
    down,
    dsn,
    evaluate,
    explain,
    fingerprint,
    migrate,
    models,
    recover,
    replay,
    report,
    rollback,
    sql,
    status,
    up,
)
from cli.answer import give_json, progress, say
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


def _say_version(wanted: bool) -> None:
    if wanted:
        say(f"tidecast {version('tidecast')}")
        raise typer.Exit


@app.callback()
def _any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Live candles in, forecasts and simulated trades out."""


app.command("up")(up.up)
app.command("down")(down.down)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("replay")(replay.replay)
app.command("recover")(recover.recover)
app.command("evaluate")(evaluate.evaluate)
app.command("sql")(sql.sql)
app.command("dsn")(dsn.dsn)
app.command("explain")(explain.explain)
app.command("models")(models.models)
app.command("rollback")(rollback.rollback)
app.command("fingerprint")(fingerprint.fingerprint)
app.command("migrate")(migrate.migrate)
app.command("backfill")(backfill.backfill)
app.command("bench")(bench.bench)
app.command("check-features")(check_features.check_features)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(report.app, name="report")

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
    # Where one JSON object is wanted, that is what a wrong word on the command line is answered with, too.
    in_words = "--json" not in sys.argv
    code: object = 0
    try:
        code = app(standalone_mode=in_words)
    except ConfigurationError as error:
        _fail(str(error), EX_CONFIG)
    except _EXPECTED as error:
        _fail(redact(str(error).strip()), 1)
    except ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except Exception as error:
        if in_words:
            raise
        progress.print(redact(traceback.format_exc()), markup=False)
        give_json({"error": redact(f"{type(error).__name__}: {error}"), "exit_code": 1})
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    if "--json" in sys.argv:
        give_json({"error": message, "exit_code": code})
    progress.print(message, style="red", markup=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
