"""`tidecast sql` reads, and nothing that is typed makes it write but --write."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from cli.main import app
from runtime.directory import Directory

DO = "DO $$ BEGIN {}; DELETE FROM kept; END $$"


@pytest.fixture
def words(tmp_path: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command on a folder whose database is this test's, with one row in it."""
    Directory.create(tmp_path / "pipeline")
    monkeypatch.setenv("TIDECAST_POSTGRES_URL", empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    return ["sql", "--dir", str(tmp_path / "pipeline")]


def rows_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM kept",
        "COMMIT; BEGIN READ WRITE; DELETE FROM kept; COMMIT",
        "SET transaction_read_only = off; DELETE FROM kept",
        "SET default_transaction_read_only = off; COMMIT; DELETE FROM kept",
        "WITH gone AS (DELETE FROM kept RETURNING 1) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM kept",
        "TRUNCATE kept",
        DO.format("NULL"),
        DO.format("PERFORM set_config('transaction_read_only', 'off', true)"),
        DO.format("SET TRANSACTION READ WRITE"),
        DO.format("COMMIT; SET TRANSACTION READ WRITE"),
    ],
)
def test_nothing_is_written_without_the_option(words: list[str], empty_database_url: str, query: str) -> None:
    result = CliRunner().invoke(app, [*words, query])
    assert result.exit_code != 0
    assert rows_in(empty_database_url) == 1


@pytest.mark.parametrize("query", ["SET transaction_read_only = off", "COMMIT AND CHAIN", "BEGIN"])
def test_what_a_lone_command_sets_ends_with_it(words: list[str], empty_database_url: str, query: str) -> None:
    CliRunner().invoke(app, [*words, query])
    assert CliRunner().invoke(app, [*words, "DELETE FROM kept"]).exit_code != 0
    assert rows_in(empty_database_url) == 1


def test_several_statements_that_only_read_are_refused_with_what_to_do(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "SELECT 1; SELECT 2"])
    assert result.exit_code == 2
    assert "one at a time" in result.stderr
    assert "--write" in result.stderr


def test_a_wrong_statement_is_told_as_the_server_tells_it(words: list[str]) -> None:
    assert isinstance(CliRunner().invoke(app, [*words, "SELEC 1"]).exception, psycopg.errors.SyntaxError)


def test_one_statement_reads_with_a_semicolon_and_signs_of_percent(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--json", "SELECT 7 % 4 AS rest, number AS n FROM kept;"])
    assert json.loads(result.stdout) == {
        "columns": ["rest", "n"],
        "rows": [[3, 1]],
        "status": "SELECT 1",
    }


def test_with_the_option_several_statements_write_and_the_last_is_shown(
    words: list[str], empty_database_url: str
) -> None:
    several = "SELECT 1; INSERT INTO kept VALUES (2); SELECT count(*) AS held FROM kept"
    result = CliRunner().invoke(app, [*words, "--write", "--json", several])
    assert json.loads(result.stdout)["rows"] == [[2]]
    assert "3 statements were run" in result.stderr
    assert rows_in(empty_database_url) == 2


def test_times_without_end_are_told_as_words(words: list[str]) -> None:
    query = "SELECT 'infinity'::timestamptz AS a, '-infinity'::date AS b, '2024-05-06'::timestamp AS c"
    told = CliRunner().invoke(app, [*words, query, "--json"])
    assert told.exit_code == 0
    assert json.loads(told.output)["rows"] == [["infinity", "-infinity", "2024-05-06T00:00:00"]]
