"""Training samples and due trainings, worked out by hand."""

import numpy as np
import pytest

from pipeline.sample_stage import Retraining, SampleStage, few_digits
from pipeline.stage import Rows, StateVersionError
from schemas.frames import FeatureFrame

MINUTE = 60_000
NAMES = ("rsi_14", "return_5")


def frame(rows, *, complete_to: int, complete: bool = True, vector=(0.5, 2.0)) -> FeatureFrame:
    """Rows of (symbol number, minute, close)."""
    n = len(rows)
    close = np.array([row[2] for row in rows], float)
    return FeatureFrame(
        symbols=("BTC", "ETH"),
        symbol_index=np.array([row[0] for row in rows], np.int32),
        open_time_ms=np.array([row[1] * MINUTE for row in rows], np.int64),
        ohlcv=np.stack([close, close, close, close, np.ones(n)], axis=1).reshape(n, 5),
        origin=np.zeros(n, np.int8),
        vector=np.array([vector] * n, np.float32).reshape(n, len(vector)),
        is_complete=np.full(n, complete),
        complete_to_ms=complete_to * MINUTE,
        schema_hash="h1",
    )


def stage(**options) -> SampleStage:
    settings = {"symbols": ("BTC", "ETH"), "feature_names": NAMES, "horizons": (5,), "thinning_minutes": 5}
    return SampleStage(**{**settings, **options})


def of(table: str, result) -> Rows | None:
    return next((rows for rows in result.rows if rows.table == table), None)


def test_sample_is_written_when_its_target_minute_closes():
    one = stage()
    assert one.step(frame([(0, 10, 100.0)], complete_to=10)).rows == []
    assert one.step(frame([(0, m, 101.0) for m in range(11, 15)], complete_to=14)).rows == []
    samples = of("mlTrainingSamples", one.step(frame([(0, 15, 102.0)], complete_to=15)))
    assert samples is not None
    row = {name: column[0] for name, column in samples.columns.items()}
    assert row["symbol"] == "BTC"
    assert row["timestamp"] == 10 * MINUTE
    assert row["forecast_horizon"] == 5
    assert row["target"] == pytest.approx(2.0)
    # The close of minute 15 is known at its end.
    assert row["known_at"] == row["created_at"] == 16 * MINUTE
    assert row["features"] == {"rsi_14": 0.5, "return_5": 2.0}
    assert row["metadata"] == {"close": 100.0, "target_close": 102.0, "schema_hash": "h1"}


def test_absent_target_minute_makes_no_sample():
    one = stage()
    one.step(frame([(0, 10, 100.0)], complete_to=10))
    assert one.step(frame([(0, 16, 102.0)], complete_to=16)).rows == []
    assert one.summary()["waiting"] == 0


def test_only_minutes_of_the_thinning_grid_become_samples():
    rows = [(0, m, 100.0 + m) for m in range(10, 31)]
    samples = of("mlTrainingSamples", stage().step(frame(rows, complete_to=30)))
    assert samples is not None
    assert (samples.columns["timestamp"] // MINUTE).tolist() == [10, 15, 20, 25]
    every = of("mlTrainingSamples", stage(thinning_minutes=1).step(frame(rows, complete_to=30)))
    assert every is not None
    assert len(every) == 16


def test_minutes_whose_indicators_are_not_warm_are_left_out():
    rows = [(0, m, 100.0) for m in range(10, 20)]
    assert stage().step(frame(rows, complete_to=19, complete=False)).rows == []


def test_feature_that_is_not_warm_is_null():
    rows = [(0, 10, 100.0), (0, 15, 100.0)]
    samples = of("mlTrainingSamples", stage().step(frame(rows, complete_to=15, vector=(np.nan, 1.5))))
    assert samples is not None
    assert samples.columns["features"][0] == {"rsi_14": None, "return_5": 1.5}


def test_symbols_do_not_mix():
    one = stage()
    one.step(frame([(0, 10, 100.0), (1, 10, 50.0)], complete_to=10))
    samples = of("mlTrainingSamples", one.step(frame([(1, 15, 51.0)], complete_to=15)))
    assert samples is not None
    assert list(samples.columns["symbol"]) == ["ETH"]
    assert samples.columns["target"].tolist() == pytest.approx([2.0])


def test_training_is_asked_for_once_when_the_window_is_there():
    policy = Retraining(window_minutes=30, horizons=(5, 15), model_types=("xgboost",))
    one = stage(retraining=policy)
    assert of("ml_jobs", one.step(frame([(0, 100, 1.0)], complete_to=129))) is None
    jobs = of("ml_jobs", one.step(frame([], complete_to=130)))
    assert jobs is not None
    assert jobs.columns["forecast_horizon"].tolist() == [5, 15]
    assert jobs.columns["symbol"] == ["ALL", "ALL"]
    assert jobs.columns["train_at"].tolist() == [130 * MINUTE] * 2
    assert jobs.columns["created_at"].tolist() == [131 * MINUTE] * 2
    assert jobs.columns["train_start"].tolist() == [100 * MINUTE] * 2
    assert of("ml_jobs", one.step(frame([], complete_to=159))) is None


def test_per_symbol_trainings_wait_until_the_symbol_has_the_window_itself():
    policy = Retraining(window_minutes=30, every_minutes=60, horizons=(5,), per_symbol=True)
    one = stage(retraining=policy)
    one.step(frame([(0, 100, 1.0), (1, 160, 1.0)], complete_to=160))
    early = of("ml_jobs", one.step(frame([], complete_to=180)))
    late = of("ml_jobs", one.step(frame([], complete_to=240)))
    assert early is not None
    assert late is not None
    assert early.columns["symbol"] == ["BTC"]
    assert late.columns["symbol"] == ["BTC", "ETH"]


def test_numbers_for_json_are_short_and_keep_their_bits():
    chance = np.random.default_rng(3)
    exponents = chance.integers(-30, 30, 5000).astype(float)
    values = (chance.normal(size=5000) * 10.0**exponents).astype(np.float32)
    assert np.array_equal(few_digits(values).astype(np.float32), values)
    assert max(len(repr(v)) for v in few_digits(chance.random(500).astype(np.float32)).tolist()) <= 15
    special = few_digits(np.array([np.nan, np.inf, 0.0], np.float32))
    assert np.isnan(special[0])
    assert special[1:].tolist() == [np.inf, 0.0]


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ValueError, match="vectors of 3 features, expected 2"):
        stage().step(frame([(0, 10, 1.0)], complete_to=10, vector=(1.0, 2.0, 3.0)))


def test_snapshot_of_other_features_is_refused():
    with pytest.raises(StateVersionError, match="feature_names"):
        stage(feature_names=("a", "b")).restore(stage().snapshot())
