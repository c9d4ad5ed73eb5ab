"""What every model earned live, by day, beside the score of its validation; and what was told of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from domain.evaluation.live_gap import DayScore
from domain.evaluation.walk_forward_score import WalkForwardScore

_MODELS = """
    WITH daily AS (
        SELECT model_version, forecast_horizon, (EXTRACT(EPOCH FROM day) / 86400)::integer AS day,
               sum(n)::double precision AS n, sum(moved)::double precision AS moved, sum(hits) AS hits,
               sum(sum_squared_error) AS squared_error, sum(sum_no_change_squared) AS no_change_squared,
               sum(sum_brier) AS brier
        FROM "forecastScores" WHERE forecast_type = 'price_direction' GROUP BY 1, 2, 3
    )
    SELECT model.model_version, model.symbol, model.forecast_horizon, model.model_type,
           model.metrics->'walk_forward' AS walk_forward,
           (SELECT jsonb_agg(jsonb_build_array(EXTRACT(EPOCH FROM term.effective_from) * 1000,
                                               EXTRACT(EPOCH FROM term.superseded_at) * 1000))
            FROM model_terms AS term WHERE term.model_version = model.model_version) AS terms,
           jsonb_agg(jsonb_build_array(day, n, moved, hits, squared_error, no_change_squared, brier)
                     ORDER BY day) AS days
    FROM ml_models AS model JOIN daily USING (model_version, forecast_horizon)
    WHERE model.metrics ? 'walk_forward'
    GROUP BY model.id ORDER BY model.forecast_horizon, model.symbol, model.model_type, model.id
"""
_TOLD = """
    SELECT context->>'model_version' AS model_version,
           (context->>'horizon_minutes')::integer AS horizon_minutes,
           (context->>'day')::integer AS day, (context->>'worse')::boolean AS worse
    FROM "systemLogs" WHERE category = $1 AND subcategory = $2 AND context ? 'model_version'
"""


class ToldVerdict(NamedTuple):
    """A verdict that was told: that a model is, or is no longer, worse live, from the end of a day on."""

    model_version: str
    horizon_minutes: int
    day: int
    worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """A model that has made forecasts whose outcome is known.

    Attributes
    ----------
    walk_forward
        The score of its validation.
    days
        Its live sums, in the order of time; the last day may not be over.
    terms
        Event times in milliseconds from which, and up to which, it was in production; None is for ever.
    """

    model_version: str
    model_type: str
    symbol: str
    horizon_minutes: int
    walk_forward: WalkForwardScore
    days: tuple[DayScore, ...]
    terms: tuple[tuple[float, float | None], ...]

    def serves(self, event_time_ms: int) -> bool:
        """Tell whether it is in production at an event time."""
        return any(
            first <= event_time_ms and (until is None or event_time_ms < until) for first, until in self.terms
        )


async def live_models(connection: asyncpg.Connection) -> list[LiveModel]:
    """Read every model with live scores and a stored validation, by horizon, symbol and family."""
    return [
        LiveModel(
            model_version=row["model_version"],
            model_type=row["model_type"],
            symbol=row["symbol"],
            horizon_minutes=row["forecast_horizon"],
            walk_forward=_score(row["walk_forward"]),
            days=tuple(_day(values) for values in row["days"]),
            terms=tuple((first, until) for first, until in row["terms"] or ()),
        )
        for row in await connection.fetch(_MODELS)
    ]


async def told_verdicts(
    connection: asyncpg.Connection, *, category: str, subcategory: str
) -> set[ToldVerdict]:
    """Read off the log which verdicts were told, in lines of this category and subcategory."""
    return {ToldVerdict(**dict(row)) for row in await connection.fetch(_TOLD, category, subcategory)}


def _score(stored: Mapping[str, Any]) -> WalkForwardScore:
    # what is not a number is stored as null
    values: dict[str, Any] = {
        name: float("nan") if value is None else value for name, value in stored.items()
    }
    return WalkForwardScore(**values)


def _day(values: list[float]) -> DayScore:
    day, n, moved, hits, squared_error, no_change_squared, brier = values
    return DayScore(
        day=int(day),
        n=n,
        moved=moved,
        hits=hits,
        squared_error=squared_error,
        no_change_squared=no_change_squared,
        brier=brier,
    )
