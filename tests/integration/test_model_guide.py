"""Which models serve, and when inference waits for them, against a real registry."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import numpy as np
import pytest
import structlog

from artifacts.store import ArtifactStore
from db.repositories import challenges, checkpoints, jobs, models, terms
from db.repositories.checkpoints import Checkpoint, Position
from domain.models import dissimilarity
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.card import ModelCard
from domain.models.graph import with_card
from domain.models.last_value import FAMILY
from domain.models.model import TrainingRows
from pipeline.inference_stage import ServingModel
from runtime.model_guide import GuideSettings, ModelGuide
from runtime.sources import Batch
from schemas.frames import MINUTE_MS, FeatureFrame

T0 = 1_617_321_600_000
NAMES = ("a", "b")
WINDOW, EVERY, DELAY = 60, 10_080, 2


def at(minute: int) -> int:
    return T0 + minute * MINUTE_MS


def batch(*minutes: int, age_ms: int = 0) -> Batch:
    times = np.array([at(minute) for minute in minutes], np.int64)
    count = len(minutes)
    frame = FeatureFrame(
        symbols=("BTCUSDT",),
        symbol_index=np.zeros(count, np.int32),
        open_time_ms=times,
        ohlcv=np.ones((count, 5)),
        origin=np.zeros(count, np.int8),
        vector=np.zeros((count, len(NAMES)), np.float32),
        is_complete=np.ones(count, np.bool_),
        complete_to_ms=int(times.max()) if count else T0,
        schema_hash="h",
        as_of_ms=times + MINUTE_MS + age_ms,
    )
    return Batch(frame=frame, rows=count, after=Position(2, 0))


class Stand:
    """A guide, its store and its registry."""

    def __init__(self, connection: asyncpg.Connection, folder: Path) -> None:
        self.connection = connection
        self.store = ArtifactStore(folder)
        self.served: list[ServingModel] = []
        self.beside: list[ServingModel] = []

    def guide(self, *, replay: bool = True, **changes: Any) -> ModelGuide:
        values: dict[str, Any] = {
            "partition": 0,
            "trainer_partition": 0,
            "trained": ("ALL",),
            "replay": replay,
            "window_minutes": WINDOW,
            "every_minutes": EVERY,
            "delay_minutes": DELAY,
            "feature_names": NAMES,
        }
        return ModelGuide(
            settings=GuideSettings(**values | changes),
            store=self.store,
            log=structlog.get_logger(),
            serve=self._serve,
            shadow=self._shadow,
        )

    def _serve(self, found: list[ServingModel]) -> None:
        self.served = found

    def _shadow(self, found: list[ServingModel]) -> None:
        self.beside = found

    @property
    def names(self) -> list[str]:
        return [model.version for model in self.served]

    async def commit(self, service: str, minute: int | None, *, partition: int = 0, **summary: Any) -> None:
        """Say how far a service is."""
        await checkpoints.count_start(self.connection, service, partition)
        old = await checkpoints.load(self.connection, service, partition)
        new = Checkpoint(
            position=Position(old.position.sequence + 1, 0),
            event_time_ms=None if minute is None else at(minute),
        )
        await checkpoints.advance(self.connection, service, partition, old=old, new=new, summary=summary)

    async def trainer(self, minute: int, partition: int = 0) -> None:
        await self.commit("ml_trainer", minute, partition=partition, first_minute_ms=T0)

    async def ask(self, minute: int, symbol: str = "ALL") -> int:
        number = await jobs.enqueue(
            self.connection,
            jobs.TrainRequest(
                symbol=symbol,
                forecast_horizon=5,
                model_type="xgboost",
                train_at_ms=at(minute),
                train_start_ms=T0,
                train_end_ms=at(minute),
            ),
        )
        assert number is not None
        return number

    async def end(self, *, failed: bool = False, job_type: str = "TRAIN") -> None:
        job = await jobs.claim(self.connection, "me", (job_type,))
        assert job is not None
        if failed:
            await jobs.fail(self.connection, job, "no luck")
        else:
            await jobs.finish(self.connection, job)

    async def promote(self, version: str, minute: int, *, tampered: bool = False) -> None:
        """Put a model into production from a minute's event time on."""
        async with self.connection.transaction():
            number = await self.register(version, minute)
            await models.promote(self.connection, number, at(minute))
        if tampered:
            file = self.store.folder / f"{version}.onnx"
            file.write_bytes(file.read_bytes()[:-10])

    async def register(self, version: str, minute: int) -> int:
        """Write a model and its file down."""
        payload = graph(version)
        self.store.write(f"{version}.onnx", payload)
        return await models.register(
            self.connection,
            models.NewModel(
                model_version=version,
                model_type="xgboost",
                symbol="ALL",
                forecast_horizon=5,
                train_start_ms=T0,
                train_end_ms=at(minute),
                artifact_path=f"{version}.onnx",
                artifact_sha256=hashlib.sha256(payload).hexdigest(),
                schema_hash="h",
                rmse=1.0,
                mae=1.0,
                baseline_rmse=2.0,
            ),
        )


def graph(version: str) -> bytes:
    rows = TrainingRows(
        vectors=np.zeros((4, len(NAMES)), np.float32),
        target_pct=np.array([[1.0], [1.0], [-1.0], [1.0]]),
        open_time_ms=np.arange(4) * MINUTE_MS,
        symbol_index=np.zeros(4, np.int32),
    )
    fitted = FAMILY.fit(
        train=rows,
        validation=rows,
        settings={},
        seed=1,
        progress=lambda fraction, message: None,
        cancelled=lambda: False,
    )
    card = ModelCard(
        family="last_value",
        symbol="ALL",
        horizons=(5,),
        window=0,
        trained_to_ms=T0,
        feature_names=NAMES,
        schema_hash="h",
        seed=1,
        settings={"version": version},
        best_iteration=0,
        native_sha256="0" * 64,
    )
    calibration = Calibration(slopes=(1.0,), intercepts=(0.0,))
    unlike = dissimilarity.fit(rows.vectors)
    return with_card(assemble(fitted.graph, calibrated_by=calibration, unlike=unlike), card)


@pytest.fixture
def stand(database: asyncpg.Connection, tmp_path: Path) -> Stand:
    return Stand(database, tmp_path / "models")


# --- in a replay ---


async def test_nothing_is_served_before_the_trainer_has_begun(stand: Stand) -> None:
    guide = stand.guide()
    assert await guide.allow(stand.connection, batch(0, 1)) == 0
    await stand.trainer(0)
    assert await guide.allow(stand.connection, batch(0, 1)) == 2


async def test_a_batch_ends_before_the_minute_at_which_a_model_may_begin(stand: Stand) -> None:
    guide = stand.guide()
    await stand.trainer(40)
    # Trained at minute 60, in use 2 minutes later: that is the event time of candle 61.
    assert await guide.allow(stand.connection, batch(*range(50, 70))) == 11
    assert await guide.allow(stand.connection, batch(*range(50, 61))) == 11


async def test_a_late_symbol_at_the_end_of_a_batch_does_not_hide_the_point(stand: Stand) -> None:
    guide = stand.guide()
    await stand.trainer(40)
    assert await guide.allow(stand.connection, batch(59, 60, 61, 62, 10)) == 2


async def test_inference_waits_until_the_trainer_has_come_and_its_trainings_have_ended(
    stand: Stand,
) -> None:
    guide = stand.guide()
    connection = stand.connection
    await stand.trainer(59)
    assert await guide.allow(connection, batch(61, 62)) == 0, "the trainer has not come to minute 60"
    await stand.ask(60)
    await stand.trainer(60)
    assert await guide.allow(connection, batch(61, 62)) == 0, "the training is under way"
    await stand.promote("m1", 62)
    await stand.end()
    assert await guide.allow(connection, batch(61, 62)) == 2
    assert stand.names == ["m1"]


async def test_a_training_that_failed_is_waited_for_no_longer(stand: Stand) -> None:
    guide = stand.guide()
    await stand.ask(60)
    await stand.trainer(60)
    assert await guide.allow(stand.connection, batch(61)) == 0
    await stand.end(failed=True)
    assert await guide.allow(stand.connection, batch(61)) == 1
    assert stand.names == []


async def test_trainings_of_other_points_and_symbols_are_not_waited_for(stand: Stand) -> None:
    await stand.ask(600)
    await stand.ask(60, symbol="ETHUSDT")
    await stand.trainer(700)
    assert await stand.guide().allow(stand.connection, batch(61)) == 1


async def test_the_partition_that_asks_for_the_trainings_is_the_one_that_is_waited_for(
    stand: Stand,
) -> None:
    guide = stand.guide(partition=2, trainer_partition=1)
    await stand.trainer(600, partition=2)
    assert await guide.allow(stand.connection, batch(61)) == 0
    await stand.trainer(60, partition=1)
    assert await guide.allow(stand.connection, batch(61)) == 1


async def test_a_pooled_training_is_given_out_once_every_partition_has_come_to_its_time(
    stand: Stand,
) -> None:
    connection = stand.connection
    await stand.ask(60)
    await stand.commit("feature_calculator", 75, partition=0)
    assert await jobs.claim(connection, "me", partitions=[0, 2]) is None
    await stand.commit("feature_calculator", 59, partition=2)
    assert await jobs.claim(connection, "me", partitions=[0, 2]) is None
    await stand.commit("feature_calculator", 60, partition=2)
    assert await jobs.claim(connection, "me", partitions=[0, 2]) is not None


async def test_a_restart_brings_the_models_that_served_before_it_relives(stand: Stand) -> None:
    await stand.trainer(100)
    await stand.promote("m1", 62)
    guide = stand.guide()
    await guide.relive(stand.connection, batch(70).frame)
    assert stand.names == ["m1"]


async def test_a_tampered_model_is_refused_and_its_predecessor_goes_on(stand: Stand) -> None:
    await stand.trainer(100)
    await stand.promote("m1", 62)
    await stand.promote("m2", 70, tampered=True)
    guide = stand.guide()
    await guide.allow(stand.connection, batch(80))
    assert stand.names == ["m1"]


async def test_what_a_person_rolled_back_does_not_serve_where_its_successor_is_refused(stand: Stand) -> None:
    connection = stand.connection
    await stand.trainer(100)
    await stand.promote("m1", 40, tampered=True)
    await stand.promote("m2", 50)
    last = (await terms.timeline(connection))[-1]
    async with connection.transaction():
        await terms.roll_back(connection, last, to="m1", from_ms=at(62), reason="odd", decided_by="ann")
    await stand.guide().allow(connection, batch(80))
    spans = [(served.version, served.effective_from_ms, served.until_ms) for served in stand.served]
    assert spans == [("m2", at(50), at(62))]


async def test_a_rollback_in_a_replay_begins_behind_the_symbol_that_is_furthest(stand: Stand) -> None:
    connection = stand.connection
    await stand.trainer(100)
    await stand.promote("m1", 40)
    # one symbol's minute has come, the others' have not: the frame is complete to the minute before only
    assert await stand.guide().allow(connection, batch(80)) == 1
    last = (await terms.timeline(connection))[-1]
    async with connection.transaction():
        done = await terms.roll_back(
            connection, last, to=None, from_ms=at(80), reason="odd", decided_by="ann"
        )
    assert done.from_ms == at(82), "the candle of minute 80 has the event time 81, and was asked about"


# --- live ---


async def test_live_a_late_model_begins_with_the_next_minute_and_that_is_recorded(stand: Stand) -> None:
    connection = stand.connection
    guide = stand.guide(replay=False)
    await stand.ask(60)
    assert await guide.allow(connection, batch(90)) == 1, "nothing is waited for"
    await stand.promote("m1", 62)
    guide._looked_s = float("-inf")
    assert await guide.allow(connection, batch(91)) == 1
    model = await models.by_version(connection, "m1")
    assert model is not None
    assert model.effective_from_ms == at(92), "the event time of the candle at hand"
    assert [served.effective_from_ms for served in stand.served] == [at(92)]


async def test_live_the_next_candle_is_announced_before_it_comes_and_need_not_wait(stand: Stand) -> None:
    connection = stand.connection
    guide = stand.guide(replay=False)
    await guide.allow(connection, batch(90))
    await guide.before_read(connection, Checkpoint(position=Position(1, 0), event_time_ms=at(90)))
    await stand.promote("m1", 62)
    assert await guide.allow(connection, batch(91)) == 1
    assert stand.names == [], "nothing was asked: it counts from the candle after this one on"
    await guide.allow(connection, batch(92))
    assert [served.effective_from_ms for served in stand.served] == [at(93)]


async def test_live_a_model_in_time_begins_as_planned(stand: Stand) -> None:
    guide = stand.guide(replay=False)
    await guide.allow(stand.connection, batch(90))
    await stand.promote("m1", 120)
    guide._looked_s = float("-inf")
    await guide.allow(stand.connection, batch(95))
    assert [served.effective_from_ms for served in stand.served] == [at(120)]


async def test_what_became_ready_while_nobody_looked_begins_behind_the_last_minute_that_was_served(
    stand: Stand,
) -> None:
    await stand.promote("old", 40)
    await stand.guide(replay=False).allow(stand.connection, batch(80))
    await stand.promote("late", 62)
    guide = stand.guide(replay=False)
    await guide.relive(stand.connection, batch(70).frame)
    begins = {served.version: served.effective_from_ms for served in stand.served}
    assert begins == {"old": at(40), "late": at(82)}


async def test_live_start_up_history_waits_as_a_replay_does(stand: Stand) -> None:
    guide = stand.guide(replay=False)
    await stand.trainer(59)
    assert await guide.allow(stand.connection, batch(61, age_ms=3_600_000)) == 0
    await stand.trainer(60)
    assert await guide.allow(stand.connection, batch(61, age_ms=3_600_000)) == 1


# --- challengers and rollbacks ---


async def challenge(stand: Stand, version: str, begin: int, end: int) -> None:
    """Let a registered model run in shadow."""
    await stand.register(version, begin)
    model = await models.by_version(stand.connection, version)
    assert model is not None
    async with stand.connection.transaction():
        await challenges.begin(stand.connection, model, from_ms=at(begin), until_ms=at(end))


async def test_in_a_replay_a_batch_ends_where_a_comparison_may_change_the_model(stand: Stand) -> None:
    await stand.trainer(200)
    await challenge(stand, "m2", 62, 100)
    guide = stand.guide()
    # Decided at minute 100, in use 2 minutes later: that is the event time of candle 101.
    assert await guide.allow(stand.connection, batch(*range(90, 110))) == 11
    assert await guide.allow(stand.connection, batch(101, 102)) == 0, "the comparison is not done"
    await stand.end(job_type="COMPARE")
    assert await guide.allow(stand.connection, batch(101, 102)) == 2


async def test_a_comparison_that_failed_is_waited_for_no_longer_and_its_shadow_runs_to_its_end(
    stand: Stand,
) -> None:
    await stand.trainer(200)
    await challenge(stand, "m2", 62, 100)
    guide = stand.guide()
    assert await guide.allow(stand.connection, batch(101, 102)) == 0
    await stand.end(job_type="COMPARE", failed=True)
    assert await guide.allow(stand.connection, batch(101, 102)) == 2
    assert stand.names == []
    earlier = stand.guide()
    await earlier.allow(stand.connection, batch(80))
    assert [c.version for c in stand.beside] == ["m2"], "the rows of the shadow are the same in every replay"


async def test_challengers_are_handed_on_until_their_shadow_ends(stand: Stand) -> None:
    await stand.trainer(200)
    await stand.promote("m1", 40)
    await challenge(stand, "m2", 62, 100)
    await stand.end(job_type="COMPARE")
    guide = stand.guide()
    await guide.allow(stand.connection, batch(80))
    assert stand.names == ["m1"]
    assert [(c.version, c.effective_from_ms, c.until_ms) for c in stand.beside] == [("m2", at(62), at(100))]
    later = stand.guide()
    await later.allow(stand.connection, batch(110))
    assert stand.beside == []


async def test_live_a_challenger_is_found_within_seconds(stand: Stand) -> None:
    guide = stand.guide(replay=False)
    await guide.allow(stand.connection, batch(90))
    assert stand.beside == []
    await challenge(stand, "m2", 92, 200)
    guide._looked_s = float("-inf")
    await guide.allow(stand.connection, batch(95))
    assert [c.version for c in stand.beside] == ["m2"]
    assert stand.names == []


async def test_live_a_rollback_counts_from_the_next_minute_on_and_is_recorded_so(stand: Stand) -> None:
    connection = stand.connection
    await stand.promote("m1", 40)
    await stand.promote("m2", 60)
    guide = stand.guide(replay=False)
    await guide.allow(connection, batch(90))
    last = (await terms.timeline(connection))[-1]
    await guide.allow(connection, batch(94))
    async with connection.transaction():
        # asked for minute 92, but by then it is minute 95
        await terms.roll_back(connection, last, to="m1", from_ms=at(92), reason="odd", decided_by="ann")
    guide._looked_s = float("-inf")
    await guide.allow(connection, batch(95))
    spans = [(s.version, s.effective_from_ms, s.until_ms) for s in stand.served]
    assert spans == [("m1", at(40), at(60)), ("m2", at(60), at(96)), ("m1", at(96), None)]
    assert [(t.name, t.effective_from_ms, t.superseded_at_ms) for t in await terms.timeline(connection)] == [
        ("m1", at(40), at(60)),
        ("m2", at(60), at(96)),
        ("m1 2", at(96), None),
    ]


async def test_a_rollback_to_no_model_leaves_the_minutes_to_the_baseline(stand: Stand) -> None:
    connection = stand.connection
    await stand.trainer(200)
    await stand.promote("m1", 40)
    async with connection.transaction():
        last = (await terms.timeline(connection))[-1]
        await terms.roll_back(connection, last, to=None, from_ms=at(80), reason="odd", decided_by="ann")
    await stand.guide().allow(connection, batch(100))
    assert [(s.version, s.until_ms) for s in stand.served] == [("m1", at(80))]


async def test_two_models_that_were_late_together_follow_each_other_without_a_gap(stand: Stand) -> None:
    connection = stand.connection
    guide = stand.guide(replay=False)
    await guide.allow(connection, batch(94))
    await stand.promote("m1", 60)
    await stand.promote("m2", 70)
    guide._looked_s = float("-inf")
    await guide.allow(connection, batch(95))
    assert [(s.version, s.effective_from_ms) for s in stand.served] == [("m2", at(96))]


# --- several partitions ---


class Partition:
    """A guide of its own, and what its stage would serve with."""

    def __init__(self, stand: Stand, number: int) -> None:
        self._stand, self._number = stand, number
        self.rows: dict[int, str] = {}
        self.start()

    def start(self) -> None:
        """Begin in another process."""
        self._guide = self._stand.guide(replay=False, partition=self._number)
        self._guide._serve = self._take
        self._models: list[ServingModel] = []

    def _take(self, models: list[ServingModel]) -> None:
        self._models = models

    async def look(self, minute: int) -> None:
        """Look for new models behind the candle of a minute, as between two candles."""
        self._guide._looked_s = float("-inf")
        at_place = Checkpoint(position=Position(1, 0), event_time_ms=at(minute))
        await self._guide.before_read(self._stand.connection, at_place)

    async def serve(self, *minutes: int, looks: bool = True, age_ms: int = 0) -> None:
        """Serve candles, and remember which model did; it looks for models every few seconds only."""
        self._guide._looked_s = float("-inf") if looks else time.monotonic()
        allowed = await self._guide.allow(self._stand.connection, batch(*minutes, age_ms=age_ms))
        for minute in minutes[:allowed]:
            self.rows[minute] = version_at(self._models, at(minute) + MINUTE_MS)


def version_at(models: list[ServingModel], event_time_ms: int) -> str:
    serves = [
        model.version
        for model in models
        if model.effective_from_ms <= event_time_ms
        and (model.until_ms is None or event_time_ms < model.until_ms)
    ]
    return serves[-1] if serves else "last_value"


async def on_record(connection: asyncpg.Connection, minute: int) -> str:
    version: str | None = await connection.fetchval(
        'SELECT model_version FROM "modelTimeline" WHERE effective_from <= $1 AND $1 < effective_until',
        checkpoints.moment(at(minute + 1)),
    )
    return version or "last_value"


async def on_record_is_what_served(connection: asyncpg.Connection, *partitions: Partition) -> None:
    for partition in partitions:
        for minute, version in partition.rows.items():
            assert version == await on_record(connection, minute), minute


async def test_live_what_one_partition_has_served_with_a_new_model_no_other_takes_back(stand: Stand) -> None:
    one, other = Partition(stand, 0), Partition(stand, 1)
    await stand.promote("m1", 40)
    for partition in (one, other):
        await partition.serve(95)
    await stand.promote("m2", 62)
    await one.serve(96)
    await other.serve(96, looks=False)
    await other.serve(97)
    await one.serve(97, 98)
    await other.serve(98)
    await on_record_is_what_served(stand.connection, one, other)
    assert {one.rows[98], other.rows[98]} == {"m2"}


async def test_live_what_one_partition_has_served_with_the_old_model_no_other_serves_with_the_new(
    stand: Stand,
) -> None:
    ahead, behind = Partition(stand, 0), Partition(stand, 1)
    await stand.promote("m1", 40)
    await behind.serve(90)
    await ahead.serve(95)
    await stand.promote("m2", 93)
    await behind.serve(91, 92)
    await ahead.serve(96, looks=False)
    await behind.serve(93, 94, 95, 96)
    await ahead.serve(97)
    await behind.serve(97)
    await on_record_is_what_served(stand.connection, ahead, behind)
    assert {ahead.rows[97], behind.rows[97]} == {"m2"}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_live_every_row_is_of_the_model_on_record_whoever_is_slow_dies_or_changes_models(
    stand: Stand, seed: int
) -> None:
    chance = Random(seed)
    partitions = [Partition(stand, number) for number in range(3)]
    place = dict.fromkeys(partitions, 90)
    await stand.promote("m0", 40)
    promoted = 0
    for _ in range(150):
        partition = chance.choice(partitions)
        minute = place[partition]
        match chance.choices(["serve", "look", "start", "promote", "roll back"], [60, 20, 5, 10, 5])[0]:
            case "serve":
                count = chance.choice([1, 1, 1, 2, 5])
                await partition.serve(*range(minute, minute + count), looks=chance.random() < 0.5)
                place[partition] = minute + count
            case "look":
                await partition.look(minute - 1)
            case "start":
                partition.start()
            case "promote" if promoted < 12:
                promoted += 1
                await stand.promote(f"m{promoted}", minute + chance.randrange(-20, 10))
            case "roll back":
                every = await terms.timeline(stand.connection)
                to = None if every[-1].model_version else "m0"
                async with stand.connection.transaction():
                    await terms.roll_back(
                        stand.connection, every[-1], to=to, from_ms=at(minute), reason="", decided_by="ann"
                    )
    await on_record_is_what_served(stand.connection, *partitions)
    assert len({version for partition in partitions for version in partition.rows.values()}) > 3
    again = Partition(stand, 0)
    for minute, version in partitions[0].rows.items():
        await again._guide.relive(stand.connection, batch(minute).frame)
        assert version_at(again._models, at(minute) + MINUTE_MS) == version
