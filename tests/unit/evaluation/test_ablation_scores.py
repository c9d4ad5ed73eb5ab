from __future__ import annotations

import numpy as np
import pytest

from domain.evaluation.bootstrap import Interval
from schemas.frames import MINUTE_MS, Float64
from training.evaluation.ablation import FULL, RESEEDED, Ablated, variants_of
from training.evaluation.ablation_scores import Worth, levels, worths
from training.evaluation.contrasts import HELPS, HURTS, POOLED, UNKNOWN, judged
from training.evaluation.weekly import check_step

ROWS = 6000


def ablated(name: str = "one", *, scale: float = 1.0, seed: int = 1, helpful: float = 0.3) -> Ablated:
    """A market whose change is half foretold by a feature; without `good` only noise is said."""
    chance = np.random.default_rng(seed)
    signal, noise = chance.normal(size=(2, ROWS, 1))
    actual = scale * (helpful * signal + noise)
    said = scale * helpful * signal
    worse = np.zeros_like(said)
    predicted = {FULL: said, RESEEDED: said + 0.01 * scale * chance.normal(size=said.shape), "good": worse}
    predicted["harmful"] = scale * (helpful * signal + 0.3 * noise)
    return Ablated(
        recording=name,
        symbols=("A",),
        horizons=(5,),
        hidden={FULL: 0, RESEEDED: 0, "good": 3, "harmful": 2},
        span_ms=(0, (ROWS - 1) * 5 * MINUTE_MS),
        open_time_ms=(np.arange(ROWS, dtype=np.int64) + seed * 10_000) * 5 * MINUTE_MS,
        actual_pct=actual,
        predicted_pct=predicted,
        probability_up={key: sure(values / scale) for key, values in predicted.items()},
        trainings=4,
        without_model=0,
        seconds=1.0,
    )


def sure(predicted: Float64) -> Float64:
    up: Float64 = 1.0 / (1.0 + np.exp(-1.7 * predicted))
    return up


def by_group(found: list[Worth], recording: str = "one") -> dict[tuple[str, str], Worth]:
    return {(each.group, each.loss): each for each in found if each.recording == recording}


def test_a_group_that_carries_the_signal_helps_and_one_that_hides_it_hurts() -> None:
    found = by_group(worths([ablated()], seed=1))
    for loss in ("squared error", "log loss"):
        assert found["good", loss].verdict == HELPS
        assert found["harmful", loss].verdict == HURTS
        assert found[RESEEDED, loss].verdict == UNKNOWN
    good = found["good", "squared error"]
    # what the signal takes away of the variance: 0.09 of 1.09
    assert good.worth.low < 100 * 0.09 / 1.09 < good.worth.high
    assert good.features == 3


def test_the_level_of_the_whole_model_is_told_in_percent() -> None:
    (level,) = levels([ablated()], seed=1)
    assert level.rows == ROWS
    assert level.squared_error.low < 100 * 0.09 / 1.09 < level.squared_error.high
    assert 0.0 < level.log_loss.low < level.log_loss.estimate


def test_a_wild_recording_weighs_no_more_than_a_calm_one() -> None:
    calm, wild = ablated("calm", helpful=0.3), ablated("wild", seed=2, scale=100.0, helpful=0.0)
    pooled = by_group(worths([calm, wild], seed=1), POOLED)["good", "squared error"]
    alone = by_group(worths([calm], seed=1), "calm")["good", "squared error"]
    assert pooled.worth.estimate == pytest.approx(alone.worth.estimate / 2, abs=0.2)


def test_rows_without_an_outcome_and_without_a_direction_are_left_out() -> None:
    whole = ablated()
    whole.actual_pct[:100] = np.nan
    whole.actual_pct[100:300] = 0.0
    (level,) = levels([whole], seed=1)
    assert level.rows == ROWS - 100
    assert np.isfinite(level.log_loss.estimate)


def worth(p_value: float, estimate: float = 1.0) -> Worth:
    return Worth(
        recording="one",
        group="group",
        features=1,
        horizon=5,
        loss="log loss",
        worth=Interval(estimate=estimate, low=0.0, high=2.0, level=0.95, blocks=50),
        p_value=p_value,
    )


def test_verdicts_follow_the_steps_of_holm() -> None:
    found = judged([worth(0.02), worth(0.001, -1.0), worth(0.03), worth(0.9)])
    assert [each.adjusted_p for each in found] == pytest.approx([0.06, 0.004, 0.06, 0.9])
    assert [each.verdict for each in found] == [UNKNOWN, HURTS, UNKNOWN, UNKNOWN]


def test_where_nothing_differs_hardly_any_page_says_otherwise() -> None:
    chance = np.random.default_rng(3)
    pages = [judged([worth(p) for p in chance.uniform(size=40)]) for _ in range(200)]
    wrong = sum(any(each.verdict != UNKNOWN for each in page) for page in pages)
    assert wrong <= 20  # 10 of 200 are allowed; more than 20 have a chance of one in 900


def test_a_step_that_leaves_no_label_is_refused() -> None:
    check_step(5, (5, 15, 60))
    with pytest.raises(ValueError, match="a step of 10 minutes does not divide the horizon of 15 minutes"):
        check_step(10, (15, 60))


def test_groups_are_hidden_one_by_one_and_together() -> None:
    found = variants_of({"a": ["x", "y"], "b": ["z"]}, hidden_together=[("a", "b")])
    assert [(each.name, each.hidden, each.seed) for each in found] == [
        (FULL, (), 0),
        (RESEEDED, (), 1),
        ("a", ("x", "y"), 0),
        ("b", ("z",), 0),
        ("a + b", ("x", "y", "z"), 0),
    ]
