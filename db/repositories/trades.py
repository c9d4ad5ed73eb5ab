"""Simulated trades whose owner has lost its state."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg


async def give_up(connection: asyncpg.Connection, symbols: Sequence[str]) -> int:
    """End the open trades of some symbols at their last known price; returns how many there were.

    Nobody moves them any more, and each stands in the way of the next one of its symbol and strategy.
    """
    answer: str = await connection.execute(
        """
        UPDATE "tradeSimulations"
        SET is_active = false, exit_reason = 'given_up', exit_price = current_price,
            completed_at = GREATEST(created_at, last_candle_at + interval '1 minute')
        WHERE is_active AND symbol = ANY($1)
        """,
        list(symbols),
    )
    return int(answer.split()[-1])
