"""Which scores are kept for how long."""

from __future__ import annotations

import asyncpg

from config.sections import DataSettings
from db.repositories import terms
from db.repositories.checkpoints import moment
from db.repositories.terms import Key
from runtime.housekeeping import forget
from schemas.frames import MINUTE_MS

from .test_db_models import promoted

DAY_MS = 1440 * MINUTE_MS
#: 2021-04-02 00:00 UTC.
T = 1_617_321_600_000
KEY = Key(symbol="ALL", forecast_horizon=5, model_type="xgboost")
SUMS = [100, 90, 50.0, 1.25, 2.5, 1.5, 20.0, 80, 95, 3.0, 4.0, 5.0, 6.0, 26_955_360, 26_956_799]


def day(number: int) -> int:
    return T + number * DAY_MS


async def scored(connection: asyncpg.Connection, number: int, *versions: str) -> None:
    """Write the scores of a day: of the rule for volatility, and of price forecasts by these versions."""
    entries = [["volatility", "har_v1", SUMS], *(["price_direction", version, SUMS] for version in versions)]
    await connection.execute(
        'INSERT INTO "forecastScoreSums" (symbol, forecast_horizon, day, sums) VALUES ($1, 5, $2, $3)',
        "BTCUSDT",
        moment(day(number)),
        entries,
    )


async def kept(connection: asyncpg.Connection) -> dict[int, list[str]]:
    rows = await connection.fetch('SELECT day, model_version FROM "forecastScores" ORDER BY day, 2')
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(round((row["day"].timestamp() * 1000 - T) / DAY_MS), []).append(row["model_version"])
    return found


async def served(connection: asyncpg.Connection) -> None:
    """Let one model serve 20 days and the next from then on; the scores are of every tenth day."""
    await promoted(connection, "a", day(0))
    await promoted(connection, "b", day(20))
    for number, versions in {
        0: ("a", "last_value"), 10: ("a",), 20: ("a", "b"), 30: ("b",), 40: ("b", "last_value")
    }.items():  # fmt: skip
        await scored(connection, number, *versions)


async def test_scores_of_a_model_stay_together_for_as_long_as_it_serves_and_for_so_many_days_more(
    database: asyncpg.Connection,
) -> None:
    await served(database)
    whole = await kept(database)
    data = DataSettings(score_retention_days=30, retention_days=10)
    await forget(database, data, day(30) + 5)
    assert await kept(database) == whole, "no day is too old yet"
    await forget(database, data, day(49))
    assert await kept(database) == {**whole, 0: ["a"], 10: ["a"]}, "the model served 29 days ago"
    await forget(database, data, day(50))
    assert await kept(database) == {**{n: whole[n] for n in (30, 40)}, 20: ["a", "b", "har_v1"]}
    await forget(database, data, day(51))
    assert await kept(database) == {20: ["b"], 30: whole[30], 40: whole[40]}
    await forget(database, data, day(5000))
    assert await kept(database) == {20: ["b"], 30: ["b"], 40: ["b"]}
    last = (await terms.of_key(database, KEY))[-1]
    async with database.transaction():
        await terms.roll_back(database, last, to=None, from_ms=day(5000), reason="", decided_by="ann")
    await forget(database, data, day(5031))
    assert await kept(database) == {}
    assert await database.fetchval('SELECT count(*) FROM "forecastScoreSums"') == 0


async def test_what_is_kept_keeps_its_numbers_and_retention_of_candles_is_the_least(
    database: asyncpg.Connection,
) -> None:
    await served(database)
    before = await database.fetch('SELECT * FROM "forecastScores" WHERE model_version = $1 ORDER BY day', "b")
    data = DataSettings(score_retention_days=1, retention_days=60)
    await forget(database, data, day(50))
    assert len(await kept(database)) == 5
    await forget(database, data, day(300))
    after = await database.fetch('SELECT * FROM "forecastScores" WHERE model_version = $1 ORDER BY day', "b")
    assert after == before
