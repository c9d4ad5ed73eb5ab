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

from cli.answer import give_json, progress, say
from cli.commands import HELP_OPTIONS, Commands
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
    cls=Commands,
    help="Live candles in, forecasts and simulated trades out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
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
