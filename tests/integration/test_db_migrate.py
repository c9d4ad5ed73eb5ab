from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest

from db.migrate import FOLDER, NewerDatabaseError, migrate, pending
from db.tables import TABLES

ALL = sorted(path.stem for path in FOLDER.glob("*.sql"))


def test_an_empty_database_lacks_everything_and_then_nothing(empty_database_url: str) -> None:
    assert pending(empty_database_url) == ALL
    assert migrate(empty_database_url) == ALL
    assert pending(empty_database_url) == []
    assert migrate(empty_database_url) == []


def test_processes_that_migrate_at_once_do_it_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(migrate, [empty_database_url] * 4))
    assert sorted(name for names in applied for name in names) == ALL


def test_a_process_that_died_while_migrating_leaves_nothing_locked(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    assert migrate(database_url) == []


def test_a_database_newer_than_the_program_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
            "VALUES ('x', '9999.from-the-future', now())"
        )
    with pytest.raises(NewerDatabaseError, match=r"9999\.from-the-future"):
        migrate(database_url)
    with pytest.raises(NewerDatabaseError):
        pending(database_url)


async def test_the_tables_are_as_the_writers_think(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT relname, attname, format_type(atttypid, atttypmod) AS kind
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relname = ANY($1) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum
        """,
        list(TABLES),
    )
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        short = kind.replace("character varying", "varchar").replace(
            "timestamp with time zone", "timestamptz"
        )
        found.setdefault(table, {})[column] = short
    assert found == {name: dict(table.columns) for name, table in TABLES.items()}
    assert [list(found[name]) for name in TABLES] == [list(table.columns) for table in TABLES.values()]


async def test_every_natural_key_is_unique_in_the_database(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT indrelid::regclass::name AS name,
               (SELECT array_agg(attname::text) FROM pg_attribute
                WHERE attrelid = indrelid AND attnum = ANY(indkey)) AS columns
        FROM pg_index WHERE indisunique AND indpred IS NULL
        """
    )
    unique = {(row["name"].strip('"'), frozenset(row["columns"])) for row in rows}
    for table in TABLES.values():
        assert (table.name, frozenset(table.key)) in unique


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            'INSERT INTO "tradeSimulations" (symbol, signal_type, entry_price, created_at, completed_at) '
            "VALUES ('A', 'LONG', 1, now(), now())",
            "trade_ended",
        ),
        (
            'INSERT INTO "tradeSimulations" (symbol, signal_type, entry_price, confidence) '
            "VALUES ('A', 'LONG', 1, 101)",
            "trade_confidence",
        ),
        ("INSERT INTO ml_jobs (job_type, status) VALUES ('TRAIN', 'DONE')", "job_status"),
        ("INSERT INTO ml_models (name, model_type) VALUES ('m', 'astrology')", "ml_models_model_type_fkey"),
        (
            "INSERT INTO ml_models (name, model_type, is_production) VALUES ('m', 'xgboost', true)",
            "model_production",
        ),
        ("INSERT INTO \"systemLogs\" (category, level, message) VALUES ('a', 'loud', 'b')", "log_level"),
    ],
)
async def test_what_must_hold_is_checked_by_the_database(
    connection: asyncpg.Connection, statement: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await connection.execute(statement)
    assert caught.value.constraint_name == constraint


async def test_what_a_confidence_is_stands_at_its_column(connection: asyncpg.Connection) -> None:
    said = await connection.fetchval(
        """
        SELECT col_description(attrelid, attnum) FROM pg_attribute
        WHERE attrelid = '"persistentForecasts"'::regclass AND attname = 'confidence'
        """
    )
    for words in (
        "sign of predicted_value is right",
        "below 50",
        "same to the last digit",
        "within a quarter",
    ):
        assert words in said


async def test_jobs_are_asked_for_as_the_training_service_documents_it(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        """
        INSERT INTO ml_jobs (job_type, status, priority, train_target_var, train_operator, train_value,
                             train_start, train_end, train_features_csv, train_phases_csv, train_model_type)
        VALUES ('TRAIN', 'PENDING', 5, 'market_cap_close', '>', 50000, '2024-01-01', '2024-03-01',
                'price_open,price_high', '1,2,3', 'random_forest')
        """
    )
    assert await connection.fetchval("SELECT count(*) FROM ref_model_types WHERE id <= 5") == 5
