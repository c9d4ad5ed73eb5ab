"""The options that most commands share: which folder, which settings, which form of answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from config.ml_config import Settings, load
from runtime.directory import Directory
from runtime.extra_indicators import check_extra_indicators
from runtime.stack import settings_file

#: Read by the launcher of servers; the settings know nothing of them.
_NO_SETTINGS = ("TIDECAST_POSTGRES_BIN", "TIDECAST_REDIS_SERVER")

FolderOption = Annotated[
    Path, typer.Option("--dir", envvar="TIDECAST_DIR", help="The pipeline's folder.", file_okay=False)
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="TIDECAST_CONFIG", help="A TOML file of settings.", dir_okay=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]

DEFAULT_FOLDER = Path("var")


def settings_for_start(config: Path | None, overrides: dict[str, Any]) -> Settings:
    """Load the settings for a new start: defaults, file, environment, command line.

    Raises
    ------
    config.errors.ConfigurationError
        With every mistake at once.
    """
    settings = load(config, _environ(), overrides)
    check_extra_indicators(settings)
    return settings


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
        config = last
    return directory, load(config, _environ(), {})


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NO_SETTINGS}
