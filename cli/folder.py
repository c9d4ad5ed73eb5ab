"""The options that most commands share: which folder, which settings, which form of answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import psycopg
import typer

from config.errors import ConfigurationError, Mistake
from config.ml_config import Check, Settings, load
from db.migrate import pending
from runtime.causality import check_causality
from runtime.directory import Directory, DirectoryError
from runtime.extra_indicators import check_extra_indicators
from runtime.servers import check_servers, postgres_for
from runtime.stack import settings_file

#: Read by the launcher of servers; the settings know nothing of them.
_NO_SETTINGS = ("TIDECAST_POSTGRES_BIN", "TIDECAST_REDIS_SERVER")


def folder_named(text: str | Path) -> Path:
    """Read a folder's name from the command line.

    Raises
    ------
    typer.BadParameter
        If it is empty, which would be the current folder unawares, or names a file.
    """
    if not str(text).strip():
        raise typer.BadParameter("is empty: name a folder (`.` is the current one), or leave the option out")
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"Directory '{path}' is a file.")
    return path


FolderOption = Annotated[
    Path,
    typer.Option(
        "--dir",
        envvar="TIDECAST_DIR",
        help="The pipeline's folder.",
        parser=folder_named,
        metavar="DIRECTORY",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="TIDECAST_CONFIG", help="A TOML file of settings.", dir_okay=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]

DEFAULT_FOLDER = Path("var")

#: What was typed for a setting: a mistake in it is told in those words, with the setting's own name if it is
#: one that a file would have.
_TYPED = {
    "market.exchange": "--exchange",
    "market.speed": "--speed",
    "market.from_ms": "--from",
    "market.to_ms": "--to",
    "symbols": "--symbols",
    "training.forecast_horizons": "--horizons",
}
_ONLY_TYPED = frozenset({"market.from_ms", "market.to_ms"})
#: A table or a column that is not there.
_ABSENT = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
)


def settings_for_start(config: Path | None, overrides: dict[str, Any], *, gated: bool = True) -> Settings:
    """Load the settings for a new start: defaults, file, environment, command line.

    Parameters
    ----------
    config, overrides
        See `config.ml_config.load`.
    gated
        Whether an added indicator that changes its past is a mistake; else the caller tells.

    Raises
    ------
    config.errors.ConfigurationError
        With every mistake at once.
    """
    checks: list[Check] = [check_extra_indicators, lambda settings: check_servers(settings.servers)]
    if gated:
        checks.append(check_causality)
    return _loaded(config, overrides, checks)


def existing_folder(path: Path, config: Path | None) -> tuple[Directory, Settings]:
    """Open a folder with the settings of its last start, unless a file says otherwise.

    Raises
    ------
    runtime.directory.DirectoryError
        If there is no pipeline in it.
    config.errors.ConfigurationError
        If the settings are wrong.
    """
    directory = Directory.open(path)
    last = settings_file(directory)
    if config is None and last.exists():
        return directory, load(last, _environ(), {})
    return directory, _loaded(config, {})


@contextlib.contextmanager
def database_of(
    directory: Directory, settings: Settings, purpose: str, *, newest: bool = False
) -> Iterator[str]:
    """Have the pipeline's PostgreSQL for the length of a block, whether or not it runs; gives its URL.

    Parameters
    ----------
    directory, settings, purpose
        See `runtime.servers.postgres_for`.
    newest
        Whether the tables have to be as new as this program, and not only to hold what is asked for.

    Raises
    ------
    runtime.directory.DirectoryError
        If migrations are missing that the block needs.
    """
    with postgres_for(directory, settings.servers, purpose) as url:
        if newest:
            _check_migrated(directory, url)
        try:
            yield url
        except _ABSENT:
            _check_migrated(directory, url)
            raise


def _check_migrated(directory: Directory, url: str) -> None:
    if missing := pending(url):
        count = "1 migration is" if len(missing) == 1 else f"{len(missing)} migrations are"
        path = directory.path
        raise DirectoryError(f"{count} missing in {path}: run `tidecast migrate --dir {path}`")


def _loaded(config: Path | None, overrides: Mapping[str, Any], checks: Sequence[Check] = ()) -> Settings:
    """Load settings; mistakes are told in the words of the command line where they were made there."""
    try:
        return load(config, _environ(), overrides, checks)
    except ConfigurationError as error:
        raise ConfigurationError([_as_typed(each, config) for each in error.mistakes]) from None


def _as_typed(mistake: Mistake, config: Path | None) -> Mistake:
    if config is not None and mistake.key == str(config):
        return replace(mistake, key=f"--config {config}")
    if mistake.source != "command line" or mistake.key not in _TYPED:
        return mistake
    problem = mistake.problem
    for key in _ONLY_TYPED:
        problem = problem.replace(key, _TYPED[key])
    return replace(
        mistake,
        key=f"{_TYPED[mistake.key]} {mistake.value}",
        value=None,
        problem=problem,
        source=None if mistake.key in _ONLY_TYPED else mistake.key,
    )


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NO_SETTINGS}
