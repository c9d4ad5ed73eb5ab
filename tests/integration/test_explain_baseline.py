"""Why the no-change forecast stood in: which model was silenced, or why no family served."""

from __future__ import annotations

from typing import Any

import asyncpg

from cli.explain_baseline import Place, silence_words, silenced, unserved, unserved_words
from config.drift import DriftSettings
from config.ml_config import Settings
from config.sections import TrainingSettings
from db.copy import Columns, write
from db.repositories import terms
from db.repositories.checkpoints import moment
from pipeline.drift_rows import DriftCheck, rows_of
from schemas.frames import MINUTE_MS, NULL_MS

from .served_models import DAY, DAY_MS, HORIZON, serve

SETTINGS = Settings(
    training=TrainingSettings(model_types=("xgboost",), forecast_horizons=(HORIZON, 15)),
    drift=DriftSettings(reactions=("warn", "baseline"), threshold=16.0),
)


def place(minute: int, horizon: int = HORIZON) -> Place:
    made_at = moment(DAY * DAY_MS + minute * MINUTE_MS)
    return Place(symbol="AAA", horizon_minutes=horizon, made_at=made_at)


async def found_drift(connection: asyncpg.Connection, version: str, minute: int) -> None:
    check = DriftCheck(
        at_ms=DAY * DAY_MS + minute * MINUTE_MS,
        symbol="ALL",
        kind="brier",
        subject=version,
        horizon_minutes=HORIZON,
        statistic="page_hinkley",
        value=17.5,
        threshold=16.0,
        drifted=True,
        reaction="warn,baseline",
        train_at_ms=NULL_MS,
    )
    for rows in rows_of([check]):
        await write(connection, rows)


async def trained(connection: asyncpg.Connection, minute: int, **changes: Any) -> None:
    row: dict[str, Any] = {
        "batch_id": f"b{minute}", "symbol": "ALL", "model_type": "xgboost", "training_samples": 9,
        "validation_samples": 9, "created_at": DAY * DAY_MS + minute * MINUTE_MS, "forecast_horizon": HORIZON,
        "model_version": f"x{minute}", "promoted": False, "promotion_reason": "not better than no change",
    } | changes  # fmt: skip
    columns = {name: [value] for name, value in row.items()}
    await write(connection, Columns(table="mlTrainingBatches", op="insert", columns=columns))


async def why(connection: asyncpg.Connection, minute: int) -> str:
    (family,) = await unserved(connection, SETTINGS, place(minute))
    assert family["family"] == "xgboost"
    return str(family["why"])


async def test_the_silenced_model_is_the_one_in_production_whose_drift_was_known(
    database: asyncpg.Connection,
) -> None:
    await serve(database, "before", from_day=DAY - 2)
    await serve(database, "now", from_day=DAY)
    await found_drift(database, "before", -600)
    await found_drift(database, "now", 600)
    await found_drift(database, "now", 660)
    # It is known with the candle that begins twelve minutes behind the block, and made a minute later.
    found = await silenced(database, SETTINGS, place(613))
    assert found is not None
    assert found["model_version"] == "now"
    assert (found["check"]["at"], found["check"]["value"]) == (place(600).made_at, 17.5)
    said = silence_words(found)
    for word in ("now was in production", "probabilities", "17.5", "drift.threshold", "drift.reactions"):
        assert word in said
    too_early = await silenced(database, SETTINGS, place(612))
    assert too_early is not None
    assert too_early["check"] is None


async def test_a_silenced_model_whose_rows_are_gone_is_said_to_be_so(database: asyncpg.Connection) -> None:
    assert await silenced(database, SETTINGS, place(600)) is None
    assert "modelTimeline" in silence_words(None)
    await serve(database, "now", from_day=DAY)
    found = await silenced(database, SETTINGS, place(600))
    assert found is not None
    assert "is gone" in silence_words(found)


async def test_adwin_names_its_own_setting(database: asyncpg.Connection) -> None:
    settings = SETTINGS.model_copy(update={"drift": DriftSettings(detector="adwin")})
    await serve(database, "now", from_day=DAY)
    await found_drift(database, "now", 600)
    assert "drift.adwin_error_rate" in silence_words(await silenced(database, settings, place(700)))


async def test_a_family_without_a_model_says_what_its_last_training_came_to(
    database: asyncpg.Connection,
) -> None:
    assert await why(database, 10) == "not trained by then; the first training waits for 600 minutes"
    await trained(database, 60)
    await trained(database, 120, promotion_reason="worse than no change")
    assert await why(database, 100) == "not better than no change"
    assert await why(database, 120) == "worse than no change"
    families = await unserved(database, SETTINGS, place(120))
    assert families[0]["model_version"] == "x120"
    assert "xgboost: worse than no change" in unserved_words(families, HORIZON)


async def test_a_training_that_failed_says_why(database: asyncpg.Connection) -> None:
    job = {
        "job_type": ["TRAIN"], "symbol": ["ALL"], "forecast_horizon": [HORIZON], "status": ["FAILED"],
        "train_model_type": ["xgboost"], "train_at": [DAY * DAY_MS], "error_msg": ["too few rows"],
    }  # fmt: skip
    await write(database, Columns(table="ml_jobs", op="insert", columns=job))
    assert await why(database, 10) == "its training failed: too few rows"


async def test_a_model_that_serves_later_and_one_that_was_rolled_back_are_told_apart(
    database: asyncpg.Connection,
) -> None:
    await serve(database, "late", from_day=DAY)
    await trained(database, -5, promoted=True, model_version="late")
    assert (await why(database, -2)).startswith("late serves only from")
    (term,) = await terms.timeline(database)
    async with database.transaction():
        await terms.roll_back(
            database,
            term,
            to=None,
            from_ms=DAY * DAY_MS + 60 * MINUTE_MS,
            reason="it was wrong",
            decided_by="somebody",
        )
    assert await why(database, 70) == "no model since a rollback: it was wrong"
    assert "could not be asked" in await why(database, 30)


async def test_a_horizon_that_nobody_trains_says_so(database: asyncpg.Connection) -> None:
    assert await unserved(database, SETTINGS, place(10, horizon=240)) == []
    assert "240 is not in training.forecast_horizons" in unserved_words([], 240)
