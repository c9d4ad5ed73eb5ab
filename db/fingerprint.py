"""One digest per table: equal where two databases tell the same story."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import asyncpg

from db.partitions import existing
from db.tables import DAY_MS, TABLES

# ruff: noqa: S608 - the names in these statements come from `db.tables`


class Digest(TypedDict):
    """Rows of a table and the digest over them."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What of a table counts: columns left out, columns told differently, and which rows."""

    without: frozenset[str]
    instead: dict[str, str]
    only: str = "true"


def _told(without: str = "", *, only: str = "true", **instead: str) -> _Told:
    return _Told(without=frozenset(without.split()) | {"id", "written_at"}, instead=instead, only=only)


# Serial numbers, the wall clock, who did the work and where the files lie may differ between two equal runs.
_TOLD: dict[str, _Told] = {
    "rollingChartData": _told(origin="CASE origin WHEN 'backfilled' THEN 'traded' ELSE origin END"),
    "ml_features": _told(),
    "mlTrainingSamples": _told(),
    "mlTrainingBatches": _told("model_path"),
    "ml_jobs": _told(
        "created_at started_at completed_at heartbeat_at worker_id attempts progress progress_msg error_msg "
        "result_model_id test_model_id result_test_id compare_model_a_id compare_model_b_id "
        "result_comparison_id",
        only="job_type = 'TRAIN' AND train_at IS NOT NULL",
    ),
    "ml_models": _told(
        "created_at updated_at deleted_at model_file_path train_seconds", only="model_version IS NOT NULL"
    ),
    "model_terms": _told(),
    "model_challenges": _told(),
    "challengerForecasts": _told(),
    "persistentForecasts": _told(),
    "forecastScoreSums": _told(),
    "tradeSimulations": _told(),
}


async def fingerprint(connection: asyncpg.Connection) -> dict[str, Digest]:
    """Digest the tables that a replay must bring about again, as of one moment.

    Each over its rows in the order of the key; of tables with day partitions, day by day.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL work_mem = '128MB'")
        return {name: await _digest(connection, name) for name in _TOLD}


async def _digest(connection: asyncpg.Connection, name: str) -> Digest:
    table, told = TABLES[name], _TOLD[name]
    columns = ", ".join(told.instead.get(c, f'"{c}"') for c in table.columns if c not in told.without)
    # By time first: that is nearly how the rows lie, so the server has little to sort.
    key = sorted(table.key, key=lambda column: column != table.day)
    order = ", ".join(f'"{column}"' + _byte_order(table.columns[column]) for column in key)
    spans: Sequence[str] = ["true"]
    if table.day is not None:
        # Day by day: what is sorted stays small however long the history is.
        spans = [_span(table.day, day) for day in await existing(connection, name)]
    digest = hashlib.sha256()
    rows = 0
    for span in spans:
        query = f'SELECT {columns} FROM "{name}" WHERE {told.only} AND {span} ORDER BY {order}'
        found, part = await _digest_of(connection, query)
        # An empty partition is as good as none.
        if found:
            digest.update(part)
            rows += found
    return Digest(rows=rows, digest=digest.hexdigest())


async def _digest_of(connection: asyncpg.Connection, query: str) -> tuple[int, bytes]:
    digest = hashlib.sha256()

    async def take(piece: bytes) -> None:
        digest.update(piece)

    status: str = await connection.copy_from_query(query, output=take, format="binary")
    return int(status.split()[-1]), digest.digest()


def _byte_order(kind: str) -> str:
    return ' COLLATE "C"' if kind.startswith("varchar") else ""


def _span(column: str, day: int) -> str:
    first, end = (datetime.fromtimestamp(d * DAY_MS / 1000, UTC).isoformat() for d in (day, day + 1))
    return f"\"{column}\" >= timestamptz '{first}' AND \"{column}\" < timestamptz '{end}'"


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Name the tables in which two fingerprints differ."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]
