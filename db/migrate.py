"""Numbered SQL migrations, applied once each under a lock.

The files in `db/migrations` are run by yoyo. Two things are stricter than in yoyo itself: the lock is
PostgreSQL's own, so a process that died while migrating leaves nothing locked, and a migration is marked as
applied in the transaction that applies it, so it is never half there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

FOLDER = Path(__file__).with_name("migrations")
_MIGRATION_TABLE = "_yoyo_migration"
_ADVISORY_LOCK = 7_414_501


class NewerDatabaseError(RuntimeError):
    """The database was migrated by a newer program; this one would not understand it."""


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:
        """Run a migration and mark it, in one transaction."""
        self.ensure_internal_schema_updated()
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.mark_one(migration)


def migrate(dsn: str) -> list[str]:
    """Bring the database up to date; returns the names of the migrations applied.

    Several processes may do this at once: one works, the others wait and find nothing left to do.

    Raises
    ------
    NewerDatabaseError
        If the database holds a migration that this program does not have.
    """
    with _backend(dsn) as backend:
        backend.init_database()
        # We hold the real lock, so whoever left yoyo's own row behind is dead.
        backend.break_lock()
        missing = _missing(backend)
        with backend.lock():
            backend.apply_migrations(missing)
        return [migration.id for migration in missing]


def pending(dsn: str) -> list[str]:
    """Name the migrations that the database still lacks, changing nothing.

    Raises
    ------
    NewerDatabaseError
        If the database holds a migration that this program does not have.
    """
    with _backend(dsn) as backend:
        return [migration.id for migration in _missing(backend)]


def _missing(backend: _Backend) -> Any:
    known = read_migrations(str(FOLDER))
    if _MIGRATION_TABLE not in backend.list_tables():
        return known
    rows = backend.execute(f'SELECT migration_id FROM "{_MIGRATION_TABLE}"').fetchall()  # noqa: S608 - a constant
    applied = {row[0] for row in rows}
    unknown = sorted(applied - {migration.id for migration in known})
    if unknown:
        raise NewerDatabaseError(
            f"the database has migration {unknown[-1]!r}, which this program does not know: "
            "install the newer program, or use another database"
        )
    return known.filter(lambda migration: migration.id not in applied)


@contextmanager
def _backend(dsn: str) -> Iterator[_Backend]:
    parts = urlsplit(dsn)
    uri = parse_uri(urlunsplit(parts._replace(scheme="postgresql+psycopg")))
    with _Backend(uri, _MIGRATION_TABLE) as backend:
        backend.execute(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
        yield backend
