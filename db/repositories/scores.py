"""Scores that nobody needs any more are taken out of `"forecastScoreSums"`."""

from __future__ import annotations

import asyncpg

from db.repositories.checkpoints import moment


async def drop_before(connection: asyncpg.Connection, event_time_ms: int) -> int:
    """Take out the scores of days before an event time, of versions that were no longer in production then.

    All scores of a model are needed to judge it, so none goes while it serves; what is no model of a term, as
    the no-change forecast and the rules, goes by its day. Returns how many rows were deleted or made smaller.
    """
    changed: int = await connection.fetchval(
        """
        WITH old AS (
            SELECT symbol, forecast_horizon, day, count(entry) AS all_of_them,
                   jsonb_agg(entry ORDER BY place) FILTER (WHERE EXISTS (
                       SELECT FROM model_terms AS term WHERE term.model_version = entry->>1
                          AND (term.superseded_at IS NULL OR term.superseded_at > $1))) AS kept
            FROM "forecastScoreSums"
            LEFT JOIN LATERAL jsonb_array_elements(sums) WITH ORDINALITY AS place (entry, place) ON true
            WHERE day < $1 GROUP BY symbol, forecast_horizon, day
        ), deleted AS (
            DELETE FROM "forecastScoreSums" AS score USING old
            WHERE score.symbol = old.symbol AND score.forecast_horizon = old.forecast_horizon
              AND score.day = old.day AND kept IS NULL
            RETURNING 1
        ), lessened AS (
            UPDATE "forecastScoreSums" AS score SET sums = kept FROM old
            WHERE score.symbol = old.symbol AND score.forecast_horizon = old.forecast_horizon
              AND score.day = old.day AND jsonb_array_length(kept) < all_of_them
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM deleted) + (SELECT count(*) FROM lessened)
        """,
        moment(event_time_ms),
    )
    return changed
