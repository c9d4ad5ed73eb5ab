"""`tidecast models`: what serves, what served, and what runs in shadow, with scores and reasons."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row

from cli.answer import give_json, say, show_table
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from config.ml_config import Settings
from db.connect import connect
from db.repositories import live_gaps
from runtime.gap_watch import judge, last_day_over

_TIMELINE = """
    SELECT term.symbol, term.forecast_horizon, term.family, term.model_version, term.effective_from,
           NULLIF(term.effective_until, 'infinity') AS effective_until,
           model.rmse::float8 AS rmse, model.baseline_rmse::float8 AS baseline_rmse,
           model.training_accuracy::float8 AS accuracy, model.rolled_back_at, term.decided_by AS by,
           term.reason AS why
    FROM "modelTimeline" AS term LEFT JOIN ml_models AS model USING (model_version)
    ORDER BY term.symbol, term.forecast_horizon, term.family, term.effective_from
"""
_CHALLENGES = """
    SELECT challenge.symbol, challenge.forecast_horizon, challenge.model_type AS family,
           challenge.model_version, challenge.challenger_from, challenge.challenger_until,
           lower(challenge.outcome) AS outcome, challenge.incumbent, challenge.is_refresh,
           model.rmse::float8 AS rmse, model.baseline_rmse::float8 AS baseline_rmse,
           model.training_accuracy::float8 AS accuracy, challenge.evidence,
           COALESCE(challenge.reason, model.description) AS why
    FROM model_challenges AS challenge JOIN ml_models AS model USING (model_version)
    ORDER BY challenge.symbol, challenge.forecast_horizon, family, challenge.challenger_from
"""
_LIVE = """
    SELECT live.*, EXISTS (SELECT FROM model_terms AS term WHERE term.model_version = live.model_version
                           AND term.superseded_at IS NULL) AS serves
    FROM "liveAgainstWalkForward" AS live ORDER BY live.symbol, live.forecast_horizon, live.family,
         live.first_scored_at
"""


def models(
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what served or challenged before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which models serve or challenge, and how live differs from validation; --all adds the history."""
    directory, settings = existing_folder(folder, config)
    with (
        database_of(directory, settings, "models", newest=True) as url,
        psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection,
    ):
        terms = connection.execute(_TIMELINE.encode()).fetchall()
        challenges = connection.execute(_CHALLENGES.encode()).fetchall()
        live = connection.execute(_LIVE.encode()).fetchall()
        worse = asyncio.run(_worse_since(url, settings))
    for row in live:
        row["worse_since"] = worse.get((row["model_version"], row["forecast_horizon"]))
    if as_json:
        give_json(
            {
                "serving": [term for term in terms if term["effective_until"] is None],
                "served": [term for term in terms if term["effective_until"] is not None],
                "challengers": [each for each in challenges if each["outcome"] == "running"],
                "decided": [each for each in challenges if each["outcome"] != "running"],
                "live_against_walk_forward": live,
            }
        )
        return
    if not everything:
        terms = [term for term in terms if term["effective_until"] is None]
        challenges = [each for each in challenges if each["outcome"] == "running"]
        live = [row for row in live if row["serves"]]
    if not terms and not challenges:
        say(
            "no model serves yet: the no-change forecast stands" if not everything else "no model ever served"
        )
        return
    _show("In production", terms, _SERVING)
    _show("Challengers", challenges, _CHALLENGING)
    _show("Live against walk-forward validation (z: standard errors by which live is worse)", live, _COMPARED)


async def _worse_since(url: str, settings: Settings) -> dict[tuple[str, int], datetime]:
    """Tell since when models are called worse than their validation, by version and horizon."""
    connection = await connect(url, give_up_s=5)
    try:
        last = await last_day_over(connection)
        models = [] if last is None else await live_gaps.live_models(connection)
    finally:
        await connection.close()
    found = {}
    for model in models:
        told = judge(model, last or 0, settings.drift.gap_error_rate, settings.training.promotion_error_rate)
        if told and told[-1].worse:
            since = datetime.fromtimestamp((told[-1].gap.day + 1) * 86_400, UTC)
            found[model.model_version, model.horizon_minutes] = since
    return found


_SERVING = {
    "symbol": "symbol",
    "forecast_horizon": "horizon",
    "family": "family",
    "model_version": "version",
    "effective_from": "from",
    "effective_until": "until",
    "rmse": "rmse",
    "baseline_rmse": "no change",
    "accuracy": "accuracy",
    "by": "by",
    "why": "why",
}
_CHALLENGING = {
    "symbol": "symbol",
    "forecast_horizon": "horizon",
    "family": "family",
    "model_version": "version",
    "challenger_from": "from",
    "challenger_until": "until",
    "outcome": "outcome",
    "incumbent": "against",
    "rmse": "rmse",
    "baseline_rmse": "no change",
    "accuracy": "accuracy",
    "why": "why",
}
_COMPARED = {
    "symbol": "symbol",
    "forecast_horizon": "horizon",
    "family": "family",
    "model_version": "version",
    "n": "outcomes",
    "live_skill": "skill live",
    "walk_forward_skill": "validated",
    "skill_z": "z",
    "live_accuracy": "accuracy live",
    "walk_forward_accuracy": "validated",
    "live_brier": "Brier live",
    "walk_forward_brier": "validated",
    "brier_z": "z",
    "worse_since": "worse since",
}


def _show(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    if rows:
        shown = [[_short(row[name]) for name in columns] for row in rows]
        show_table(list(columns.values()), shown, title=title)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:%Y-%m-%d %H:%M}Z" if hasattr(value, "strftime") else value
