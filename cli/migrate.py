"""`tidecast migrate`: bring the database up to date."""

from __future__ import annotations

from cli.answer import give_json, say
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, settings_for_start
from db.migrate import migrate as apply_migrations
from runtime.directory import Directory
from runtime.servers import postgres_for


def migrate(
    folder: FolderOption = DEFAULT_FOLDER, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Apply the migrations that the database lacks; several at once do no harm."""
    settings = settings_for_start(config, {})
    if settings.servers.postgres_url is not None:
        # Before the first start there is no folder yet, and a database by URL needs none.
        applied = apply_migrations(settings.servers.postgres_url.get_secret_value())
    else:
        with postgres_for(Directory.open(folder), settings.servers, "migrate") as url:
            applied = apply_migrations(url)
    if as_json:
        give_json({"applied": applied})
    else:
        say(f"applied {', '.join(applied)}" if applied else "the database is up to date")
