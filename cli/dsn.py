"""`tidecast dsn`: where the folder's PostgreSQL is, while it runs."""

from __future__ import annotations

import typer

from cli.answer import give_json, progress, say
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, existing_folder
from runtime.embedded.session import postgres_answers
from runtime.servers import servers_of


def dsn(
    folder: FolderOption = DEFAULT_FOLDER, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print the URL of the running PostgreSQL, password included."""
    directory, settings = existing_folder(folder, config)
    url = servers_of(directory, settings.servers).postgres_url
    problem = postgres_answers(url)
    if as_json:
        give_json({"dsn": None if problem else url, "running": problem is None})
    elif problem is None:
        say(url)
    if problem is not None:
        progress.print(
            f"PostgreSQL of {directory.path} is not running: "
            f"start it with `tidecast up --dir {folder} --no-workers`",
            markup=False,
        )
        raise typer.Exit(1)
