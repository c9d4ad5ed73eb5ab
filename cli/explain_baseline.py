"""Why the no-change forecast stood in for a model: which one was silenced by drift, or why none served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from config.ml_config import Settings
from db.repositories import serving_history
from domain.partitioning import partition_of
from pipeline.drift_stage import LAG_MINUTES
from runtime.drift_wiring import label_of
from schemas.frames import ALL_SYMBOLS
from training.settings import joint_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a forecast is of: a symbol, minutes ahead, and the event time at which it was made."""

    symbol: str
    horizon_minutes: int
    made_at: datetime

    def scopes(self) -> list[str]:
        """Name what a model may be of that serves here."""
        return [ALL_SYMBOLS, self.symbol]


async def silenced(connection: asyncpg.Connection, settings: Settings, place: Place) -> dict[str, Any] | None:
    """Name the model that drift has silenced, the check that found it, and the settings behind it.

    None if no model is known to have been in production; `check` is None where its row is gone.
    """
    terms = await _in_production(connection, settings, place)
    for term in terms:
        check = await _first_drift(connection, settings, place, term["model_version"])
        if check is not None:
            break
    else:
        if not terms:
            return None
        term, check = terms[0], None
    drift = settings.drift
    of_detector = (
        {"drift.threshold": drift.threshold}
        if drift.detector == "page_hinkley"
        else {"drift.adwin_error_rate": drift.adwin_error_rate}
    )
    return {
        "model_version": term["model_version"],
        "in_production_from": term["effective_from"],
        "check": check,
        "settings": {
            "drift.detector": drift.detector,
            **of_detector,
            "drift.reactions": list(drift.reactions),
        },
    }


def silence_words(found: dict[str, Any] | None) -> str:
    """Say in one sentence who was silenced, since when and why."""
    if found is None:
        return 'the model had been worse than no change for too long; it is not in "modelTimeline" any more'
    why = f"{found['model_version']} was in production and silenced, because it had been worse for too long"
    check = found["check"]
    if check is None:
        return f'{why}; the row of "driftChecks" that found it is gone'
    what = "errors" if check["kind"] == "error" else "probabilities"
    setting = next(name for name in found["settings"] if name not in ("drift.detector", "drift.reactions"))
    return (
        f"{why}: the statistic {check['statistic']} of its {what} came to {check['value']:.4g} at"
        f" {check['at']:%Y-%m-%d %H:%M}Z, the threshold being {check['threshold']:.4g} ({setting});"
        " drift.reactions has baseline, so the no-change forecast stands in until another version serves"
    )


async def unserved(connection: asyncpg.Connection, settings: Settings, place: Place) -> list[dict[str, Any]]:
    """Say of every family that is asked for a horizon why none of its models served.

    Returns
    -------
    list of dict
        By family, in the order of `training.model_types`: why, and of the last training known by then when it
        was, its version, and whether it was promoted. Empty where no family is trained for this horizon.
    """
    if place.horizon_minutes not in settings.training.forecast_horizons:
        return []
    return [
        {"family": family, **await _of_family(connection, settings, place, family)}
        for family in settings.training.installed_model_types
    ]


def unserved_words(families: list[dict[str, Any]], horizon_minutes: int) -> str:
    """Say in one sentence why no model served."""
    stands = "the forecast is the no-change one"
    if not families:
        return (
            f"no model of this horizon is trained: {horizon_minutes} is not in training.forecast_horizons;"
            f" {stands}"
        )
    told = "; ".join(f"{each['family']}: {each['why']}" for each in families)
    return f"no model of this horizon served then, {stands}. {told}"


async def _in_production(
    connection: asyncpg.Connection, settings: Settings, place: Place
) -> list[asyncpg.Record]:
    """Read what was in production then, what is asked first before the others."""
    found = await serving_history.in_production(
        connection, symbols=place.scopes(), horizon_minutes=place.horizon_minutes, at=place.made_at
    )
    ranks = settings.training.installed_model_types
    return sorted(
        found,
        key=lambda term: (
            ranks.index(term["family"]) if term["family"] in ranks else -1,
            term["symbol"] != ALL_SYMBOLS,
            term["effective_from"],
        ),
        reverse=True,
    )


async def _first_drift(
    connection: asyncpg.Connection, settings: Settings, place: Place, version: str
) -> dict[str, Any] | None:
    """Read the check by which a version was first called drifted, if that was known by then."""
    partition = partition_of(place.symbol, settings.pipeline.partitions)
    row = await serving_history.first_drift(
        connection,
        model_version=version,
        symbols=[place.symbol, label_of(settings, partition)],
        horizon_minutes=place.horizon_minutes,
        # A block is judged so many minutes after its end, with the candle that begins then.
        before=place.made_at - timedelta(minutes=LAG_MINUTES),
    )
    return None if row is None else dict(row)


async def _of_family(
    connection: asyncpg.Connection, settings: Settings, place: Place, family: str
) -> dict[str, Any]:
    batch = await serving_history.last_training(
        connection,
        family=family,
        symbols=place.scopes(),
        horizon_minutes=place.horizon_minutes,
        at=place.made_at,
    )
    if batch is None:
        return {"why": await _untrained(connection, settings, place, family)}
    term = await serving_history.next_term(
        connection,
        family=family,
        symbols=place.scopes(),
        horizon_minutes=place.horizon_minutes,
        at=place.made_at,
    )
    told = dict(batch)
    if term is not None and term["effective_from"] > place.made_at and batch["promoted"]:
        told["why"] = f"{term['model_version']} serves only from {term['effective_from']:%Y-%m-%d %H:%M}Z on"
    elif term is not None and term["effective_from"] <= place.made_at:
        told["why"] = (
            f"no model since a rollback: {term['reason']}"
            if term["model_version"] == "last_value"
            else f"{term['model_version']} was in production, but could not be asked: its file was refused,"
            ' or is of other features (see "systemLogs")'
        )
    return told


async def _untrained(connection: asyncpg.Connection, settings: Settings, place: Place, family: str) -> str:
    """Say why a family has no training that ended well by then."""
    training = settings.training
    longest = max(training.forecast_horizons)
    joint = family in joint_types(settings)
    failed = await serving_history.last_failure(
        connection,
        family=family,
        symbols=place.scopes(),
        horizon_minutes=longest if joint else place.horizon_minutes,
        at=place.made_at,
    )
    if failed is not None:
        return f"its training failed: {failed}"
    return f"not trained by then; the first training waits for {training.window_size} minutes"
