"""`tidecast fingerprint`: a digest per table, equal for two runs over the same input."""

from __future__ import annotations

import asyncio

import asyncpg

from cli.answer import give_json, show_table
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from db.fingerprint import Digest
from db.fingerprint import fingerprint as digest_tables


def fingerprint(
    folder: FolderOption = DEFAULT_FOLDER, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show a digest of every table that the pipeline decides, running or not."""
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "fingerprint", newest=True) as url:
        digests = asyncio.run(_digests(url))
    if as_json:
        give_json(digests)
    else:
        show_table(
            ["table", "rows", "digest"],
            [[name, told["rows"], told["digest"]] for name, told in digests.items()],
        )


async def _digests(url: str) -> dict[str, Digest]:
    connection = await asyncpg.connect(url)
    try:
        return await digest_tables(connection)
    finally:
        await connection.close()
