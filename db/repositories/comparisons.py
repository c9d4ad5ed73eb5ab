"""Comparisons of two models on the same rows, as the training service's document has them."""

from __future__ import annotations

import asyncpg

from db.repositories.checkpoints import moment


async def insert(
    connection: asyncpg.Connection,
    *,
    incumbent_id: int,
    challenger_id: int,
    from_ms: int,
    until_ms: int,
    rows: int,
    incumbent_accuracy: float | None,
    challenger_accuracy: float | None,
    winner_id: int,
) -> int:
    """Write a comparison down: model A was in production, model B challenged; returns its id."""
    number: int = await connection.fetchval(
        """
        INSERT INTO ml_comparisons (model_a_id, model_b_id, test_start, test_end, num_samples, a_accuracy,
                                    b_accuracy, winner_id)
        VALUES ($1, $2, $3, $4, $5, $6::float8::numeric, $7::float8::numeric, $8)
        RETURNING id
        """,
        incumbent_id,
        challenger_id,
        moment(from_ms),
        moment(until_ms),
        rows,
        incumbent_accuracy,
        challenger_accuracy,
        winner_id,
    )
    return number
