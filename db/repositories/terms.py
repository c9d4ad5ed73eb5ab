"""Terms: which model was in production when, why, and who decided so.

The terms of one symbol, horizon and model type follow each other without a gap: the next begins when the one
before ends. A term without a model says that none of this type serves, after a rollback. `ml_models` repeats
of each model its last term, for those who look only there.

What serves live announces how far it goes with the terms that it has read; what begins, or ends, does so
behind everything that is announced. So every row agrees with the terms, however many processes serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from db.repositories.checkpoints import milliseconds, moment
from schemas.frames import ALL_SYMBOLS, MINUTE_MS

#: Who decides terms by itself; everybody else is a person.
TRAINING, COMPARISON = "training", "comparison"
#: Names the lock under which terms change; any number that nothing else in the database takes.
_LOCK = 7_414_508


class StaleTermError(RuntimeError):
    """The term is not the last of its key any more: something else began meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What models follow each other in: a symbol or `ALL`, minutes ahead, and the model type."""

    symbol: str
    forecast_horizon: int
    model_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A span of event time in which one model, or none, is in production.

    Attributes
    ----------
    number
        Of its key's terms, from 1.
    name
        Unique: the model's version, with a number behind it where the model was brought back.
    model_version
        None for no model.
    effective_from_ms, superseded_at_ms
        It counts from the first up to, and without, the second; None while it is the last.
    """

    key: Key
    number: int
    name: str
    model_version: str | None
    effective_from_ms: int
    superseded_at_ms: int | None
    reason: str
    decided_by: str

    @property
    def is_by_hand(self) -> bool:
        """Tell whether a person began it."""
        return self.decided_by not in (TRAINING, COMPARISON)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """What a rollback did.

    Attributes
    ----------
    from_ms
        Event time from which on it counts.
    ended
        Versions that serve no more from then on, in the order of their terms.
    never_served
        Those of them that were about to begin.
    """

    from_ms: int
    ended: tuple[str, ...]
    never_served: tuple[str, ...]


async def begin(
    connection: asyncpg.Connection,
    key: Key,
    *,
    model_version: str | None,
    from_ms: int,
    reason: str,
    decided_by: str,
) -> int:
    """Begin a term, in the caller's transaction; returns from when on it counts.

    That is not before anything that may have been served, see `announce`. The one before ends then. One that
    had not begun yet never counts, and the new one begins at its time. But what a person decided counts for a
    minute at least before training or comparison replace it: the record would not show it otherwise.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    from_ms = await _unserved(connection, key, from_ms)
    before = await connection.fetchrow(
        """
        UPDATE model_terms
        SET superseded_at = GREATEST($4, effective_from
            + CASE WHEN $5 = ANY($6) AND decided_by <> ALL($6) THEN interval '1 minute' ELSE interval '0' END)
        WHERE symbol = $1 AND forecast_horizon = $2 AND model_type = $3 AND superseded_at IS NULL
        RETURNING number, superseded_at
        """,
        *_values(key),
        moment(from_ms),
        decided_by,
        [TRAINING, COMPARISON],
    )
    start = moment(from_ms) if before is None else before["superseded_at"]
    await connection.execute(
        """
        INSERT INTO model_terms (symbol, forecast_horizon, model_type, number, model_version, effective_from,
                                 reason, decided_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        *_values(key),
        1 if before is None else before["number"] + 1,
        model_version,
        start,
        reason,
        decided_by,
    )
    await _repeat(connection, key)
    return milliseconds(start)


async def announce(
    connection: asyncpg.Connection, partition: int, to_ms: int, *, trained: Sequence[str] = (ALL_SYMBOLS,)
) -> None:
    """Say up to which event time a partition may serve by terms that it reads after this, and not before.

    Whatever is decided from then on begins behind it: for all symbols together, and for those of `trained`,
    which are any where `ALL` is one of them.
    """
    async with connection.transaction():
        # Partitions need not wait for each other, only for what changes the terms.
        await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
        await connection.execute(
            """
            INSERT INTO serving_marks (partition, trained, served_to) VALUES ($1, $2, $3)
            ON CONFLICT (partition) DO UPDATE
            SET served_to = GREATEST(serving_marks.served_to, EXCLUDED.served_to),
                trained = EXCLUDED.trained, written_at = now()
            """,
            partition,
            list(trained),
            moment(to_ms),
        )


async def _unserved(connection: asyncpg.Connection, key: Key, from_ms: int) -> int:
    """Give an event time, or the first later one that nobody has announced."""
    served_to = await connection.fetchval(
        "SELECT max(served_to) FROM serving_marks WHERE $1 = $2 OR trained && ARRAY[$1, $2]::varchar[]",
        key.symbol,
        ALL_SYMBOLS,
    )
    return from_ms if served_to is None else max(from_ms, milliseconds(served_to) + MINUTE_MS)


async def timeline(connection: asyncpg.Connection) -> list[Term]:
    """Read all terms, in the order in which they began."""
    rows = await connection.fetch(
        "SELECT * FROM model_terms ORDER BY effective_from, forecast_horizon, symbol, model_type, number"
    )
    return _named(rows)


async def of_key(connection: asyncpg.Connection, key: Key) -> list[Term]:
    """Read the terms of a key, in order."""
    rows = await connection.fetch(
        """
        SELECT * FROM model_terms WHERE symbol = $1 AND forecast_horizon = $2 AND model_type = $3
        ORDER BY number
        """,
        *_values(key),
    )
    return _named(rows)


async def roll_back(
    connection: asyncpg.Connection, term: Term, *, to: str | None, from_ms: int, reason: str, decided_by: str
) -> RolledBack:
    """End what a key has in production by hand, in the caller's transaction.

    What was about to begin never does. The models that it ends are not promoted again by themselves.

    Parameters
    ----------
    term
        The last of its key.
    to
        The version that serves from then on, another one; None for no model.
    from_ms
        From when on at the earliest: not before anything that may have been served, see `announce`.

    Raises
    ------
    StaleTermError
        If something else began meanwhile.
    ValueError
        If it would serve on.
    """
    if to == term.model_version:
        raise ValueError(f"{to or 'no model'} serves already")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    from_ms = await _unserved(connection, term.key, from_ms)
    every = await of_key(connection, term.key)
    if every[-1].number != term.number:
        raise StaleTermError(f"{term.model_version or 'no model'} is not in production any more")
    to_come = [each for each in every if each.effective_from_ms >= from_ms and _counts(each)]
    until_then = [each for each in every if each not in to_come and _counts_at(each, from_ms)]
    await _call_off(connection, term.key, from_ms)
    start_ms = await begin(
        connection, term.key, model_version=to, from_ms=from_ms, reason=reason, decided_by=decided_by
    )
    ended = _versions([*until_then, *to_come], without=to)
    await connection.execute(
        "UPDATE ml_models SET rolled_back_at = $2, updated_at = now() WHERE model_version = ANY($1)",
        list(ended),
        moment(start_ms),
    )
    return RolledBack(from_ms=start_ms, ended=ended, never_served=_versions(to_come, without=to))


def _counts(term: Term) -> bool:
    return term.superseded_at_ms is None or term.superseded_at_ms > term.effective_from_ms


def _counts_at(term: Term, event_time_ms: int) -> bool:
    if term.effective_from_ms > event_time_ms:
        return False
    return term.superseded_at_ms is None or term.superseded_at_ms > event_time_ms


def _versions(found: Sequence[Term], *, without: str | None) -> tuple[str, ...]:
    named = (term.model_version for term in found)
    return tuple(dict.fromkeys(version for version in named if version is not None and version != without))


async def _call_off(connection: asyncpg.Connection, key: Key, from_ms: int) -> None:
    """Let what begins behind an event time end as it begins."""
    await connection.execute(
        """
        UPDATE model_terms
        SET effective_from = LEAST(effective_from, $4),
            superseded_at = CASE WHEN superseded_at IS NULL THEN NULL ELSE LEAST(superseded_at, $4) END
        WHERE symbol = $1 AND forecast_horizon = $2 AND model_type = $3
          AND (effective_from > $4 OR superseded_at > $4)
        """,
        *_values(key),
        moment(from_ms),
    )


def _values(key: Key) -> tuple[str, int, str]:
    return key.symbol, key.forecast_horizon, key.model_type


def _named(rows: list[asyncpg.Record]) -> list[Term]:
    times: Counter[tuple[Key, str | None]] = Counter()
    found = []
    for row in rows:
        key = Key(
            symbol=row["symbol"],
            forecast_horizon=row["forecast_horizon"],
            model_type=row["model_type"],
        )
        version = row["model_version"]
        times[key, version] += 1
        name = version or f"none {key.symbol} {key.forecast_horizon} {key.model_type}"
        again = times[key, version]
        found.append(
            Term(
                key=key,
                number=row["number"],
                name=name if again == 1 else f"{name} {again}",
                model_version=version,
                effective_from_ms=milliseconds(row["effective_from"]),
                superseded_at_ms=None if row["superseded_at"] is None else milliseconds(row["superseded_at"]),
                reason=row["reason"],
                decided_by=row["decided_by"],
            )
        )
    return found


async def _repeat(connection: asyncpg.Connection, key: Key) -> None:
    """Repeat the last term of every model in its own row, and in the batches' flag."""
    last = """
        (SELECT DISTINCT ON (model_version) model_version, effective_from, superseded_at FROM model_terms
         WHERE symbol = $1 AND forecast_horizon = $2 AND model_type = $3 AND model_version IS NOT NULL
         ORDER BY model_version, number DESC)
    """
    # Only one may be in production at any moment: who leaves goes first.
    for condition in ("IS NOT NULL", "IS NULL"):
        await connection.execute(
            f"""
            UPDATE ml_models AS model
            SET is_production = term.superseded_at IS NULL, effective_from = term.effective_from,
                superseded_at = term.superseded_at, updated_at = now(),
                rolled_back_at = CASE WHEN term.superseded_at IS NULL THEN NULL ELSE rolled_back_at END
            FROM {last} AS term
            WHERE model.model_version = term.model_version AND term.superseded_at {condition}
              AND (model.effective_from, model.superseded_at, model.is_production)
                  IS DISTINCT FROM (term.effective_from, term.superseded_at, term.superseded_at IS NULL)
            """,  # noqa: S608 - constants
            *_values(key),
        )
    await connection.execute(
        """
        UPDATE "mlTrainingBatches" AS batch SET is_production = model.is_production
        FROM ml_models AS model
        WHERE model.symbol = $1 AND model.forecast_horizon = $2 AND model.model_type = $3
          AND model.model_version = batch.model_version AND batch.is_production <> model.is_production
        """,
        *_values(key),
    )
