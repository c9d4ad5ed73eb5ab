from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import pytest

from domain.models import ensemble_rows, families, parity, serving
from domain.models.ensemble import FAMILY
from domain.models.ensemble_graph import MEMBER_OUTPUTS
from domain.models.ensemble_settings import default_members
from domain.models.model import (
    OUTPUTS,
    BadSettingsError,
    BadTrainingDataError,
    Fitted,
    NoSignalError,
    TrainingCancelledError,
    TrainingRows,
)
from domain.models.windows import Windows
from schemas.frames import MINUTE_MS

FEATURES, WINDOW = 12, 6
TREES = {"rounds": 30, "chunk_rounds": 10, "learning_rate": 0.3, "max_depth": 3, "colsample_bytree": 1.0}
SETTINGS: dict[str, Any] = {"members": ["xgboost", "ridge"], "xgboost": TREES}
NETWORK = {
    "lookback_minutes": WINDOW,
    "hidden_size": 8,
    "max_epochs": 12,
    "learning_rate": 0.02,
    "batch_size": 250,
}
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed: no lstm")


def _rows(
    *, minutes: int, seed: int, first: int = 0, line: float = 0.0, corner: float = 0.0, past: float = 0.0
) -> TrainingRows:
    """Make a market in which some effects are planted, beside noise of 1 %.

    `line` is spread over all features, `corner` is a product of two signs, and `past` is said by a feature
    some minutes before. The second horizon is the first with more noise.
    """
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(minutes, FEATURES)).astype(np.float32)
    signal = line * vectors.sum(axis=1) / np.sqrt(FEATURES)
    signal = signal + corner * np.sign(vectors[:, 0] * vectors[:, 1])
    signal = signal + past * np.convolve(vectors[:, 2], [0, 0, 1, 1, 1])[:minutes]
    noise = chance.normal(size=(minutes, 2))
    times = (first + np.arange(minutes)) * MINUTE_MS
    symbols = np.zeros(minutes, np.int32)
    return TrainingRows(
        vectors=vectors,
        target_pct=np.stack([signal + noise[:, 0], signal + 1.3 * noise[:, 1]], axis=1),
        open_time_ms=times,
        symbol_index=symbols,
        history=Windows(vectors=vectors, symbol_index=symbols, open_time_ms=times),
    )


def _parts(*, minutes: int = 1500, seed: int = 0, **planted: float) -> tuple[TrainingRows, TrainingRows]:
    train = _rows(minutes=minutes, seed=2 * seed, **planted)
    return train, _rows(minutes=minutes // 2, seed=2 * seed + 1, first=minutes + 5, **planted)


def _fit(
    parts: tuple[TrainingRows, TrainingRows], settings: Mapping[str, Any] = SETTINGS, **options: Any
) -> Fitted:
    return FAMILY.fit(
        train=parts[0],
        validation=parts[1],
        settings=settings,
        seed=options.pop("seed", 3),
        progress=options.pop("progress", lambda done, text: None),
        cancelled=options.pop("cancelled", lambda: False),
        **options,
    )


def _weights(fitted: Fitted) -> dict[str, dict[str, list[float]]]:
    return {member["family"]: member["weights"] for member in json.loads(fitted.native)["members"]}


def _skill(fitted: Fitted, rows: TrainingRows) -> Any:
    said = serving.run(serving.open_session(fitted.graph), rows.inputs(fitted.window)).predicted_pct
    return 1 - np.mean((rows.target_pct - said) ** 2, axis=0) / np.mean(rows.target_pct**2, axis=0)


def _skill_alone(parts: tuple[TrainingRows, TrainingRows], name: str, fresh: TrainingRows) -> Any:
    settings = {"members": [name], name: SETTINGS.get(name, {}), "weighting": "equal"}
    try:
        return _skill(_fit(parts, settings), fresh)
    except NoSignalError:
        return np.zeros(2)


def _check_parity(fitted: Fitted, rows: TrainingRows) -> None:
    probes = parity.probes_of(rows, window=fitted.window, seed=0)
    said = serving.run(serving.open_session(fitted.graph), probes)
    native = FAMILY.predict(native=fitted.native, inputs=probes)
    for one, other in zip(said, native, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def mixed() -> tuple[TrainingRows, TrainingRows]:
    """Give rows in which the trees see what the line cannot, and a line that the trees see less of."""
    return _parts(line=0.25, corner=0.25)


@pytest.fixture(scope="module")
def fitted(mixed: tuple[TrainingRows, TrainingRows]) -> Fitted:
    return _fit(mixed)


def test_the_same_training_gives_the_same_bytes(mixed: Any, fitted: Fitted) -> None:
    again = _fit(mixed)
    assert again.native == fitted.native
    assert again.graph == fitted.graph


def test_the_graph_says_what_the_members_libraries_say(mixed: Any, fitted: Fitted) -> None:
    _check_parity(fitted, mixed[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weighting", "planted"),
    [
        ("skill", {"line": 0.3}),
        ("skill", {"corner": 0.35}),
        ("skill", {"line": 0.25, "corner": 0.25}),
        ("stacked", {"line": 0.25, "corner": 0.25}),
    ],
)
def test_it_is_about_as_good_as_the_best_whoever_that_is(weighting: str, planted: dict[str, float]) -> None:
    parts = _parts(minutes=3000, seed=4, **planted)
    fresh = _rows(minutes=6000, seed=99, **planted)
    best = np.max([_skill_alone(parts, name, fresh) for name in SETTINGS["members"]], axis=0)
    together = _skill(_fit(parts, {**SETTINGS, "weighting": weighting}), fresh)
    assert np.min(best) > 0.02, "something can be found"
    assert (together > 0.8 * best).all()
    assert np.mean(together) > 0.9 * np.mean(best)


@pytest.mark.slow
@pytest.mark.parametrize(("weighting", "seed"), [("skill", 0), ("skill", 1), ("skill", 2), ("stacked", 0)])
def test_on_noise_it_stays_at_no_change(weighting: str, seed: int) -> None:
    parts = _parts(seed=10 + seed)
    try:
        found = _fit(parts, {**SETTINGS, "weighting": weighting})
    except NoSignalError:
        return
    said = serving.run(serving.open_session(found.graph), parts[1].vectors)
    assert np.std(said.predicted_pct) < 0.05 * np.std(parts[1].target_pct)
    assert np.std(said.log_odds_up) < 0.1


def test_a_member_without_signal_is_left_out() -> None:
    settings = {**SETTINGS, "xgboost": {**TREES, "min_leaf_rows": 10**6}}
    found = _fit(_parts(line=0.4), settings)
    assert list(_weights(found)) == ["ridge"]
    assert not any("xgboost" in node.name for node in onnx.ModelProto.FromString(found.graph).graph.node)


def test_where_no_member_has_signal_there_is_no_model() -> None:
    settings = {"members": ["xgboost"], "xgboost": {**TREES, "min_leaf_rows": 10**6}}
    with pytest.raises(NoSignalError, match="xgboost"):
        _fit(_parts(line=0.4), settings)


def test_given_weights_decide_and_what_weighs_nothing_is_not_trained(mixed: Any) -> None:
    trained: list[str] = []
    found = _fit(
        mixed,
        {**SETTINGS, "weighting": "skill", "weights": {"ridge": 2.0}},
        progress=lambda done, text: trained.append(text),
    )
    assert _weights(found) == {"ridge": {"change": [1.0, 1.0], "rise": [1.0, 1.0]}}
    assert not any("xgboost" in text for text in trained)
    shared = _fit(mixed, {**SETTINGS, "weights": {"ridge": 1, "xgboost": 3}})
    assert _weights(shared)["xgboost"]["change"] == [0.75, 0.75]


def test_equal_weights_leave_the_share_of_a_silent_member_to_no_change() -> None:
    settings = {
        "members": ["xgboost", "ridge"],
        "weighting": "equal",
        "xgboost": {**TREES, "min_leaf_rows": 10**6},
    }
    assert _weights(_fit(_parts(line=0.4), settings)) == {"ridge": {"change": [0.5, 0.5], "rise": [0.5, 0.5]}}


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_in_the_same_bytes(mixed: Any, memory: Any) -> None:
    settings = {
        **SETTINGS,
        "weighting": "stacked",
        "folds": 2,
        "xgboost": {**TREES, "rounds": 10, "chunk_rounds": 4},
    }
    whole = _fit(mixed, settings, checkpoints=memory)
    saved = memory.states
    assert len(saved) > 12
    for kept in (1, len(saved) // 2, len(saved) - 3):
        resumed = type(memory)()
        resumed.states = saved[:kept]
        again = _fit(mixed, settings, checkpoints=resumed)
        assert (again.native, again.graph) == (whole.native, whole.graph)
        assert len(resumed.states) == len(saved), "it went on inside the member, and did not begin again"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda state: state[:-50], lambda state: b"", lambda state: b"[1]\n2"])
def test_a_damaged_state_begins_again(mixed: Any, fitted: Fitted, memory: Any, damage: Any) -> None:
    _fit(mixed, checkpoints=memory)
    torn = type(memory)()
    torn.states = [damage(memory.states[-1])]
    assert _fit(mixed, checkpoints=torn).graph == fitted.graph


def test_a_state_of_another_seed_is_not_taken_over(mixed: Any, fitted: Fitted, memory: Any) -> None:
    other = _fit(mixed, seed=4, checkpoints=memory)
    assert other.native != fitted.native
    assert _fit(mixed, checkpoints=memory).native == fitted.native


def test_it_stops_when_asked_whichever_member_is_at_work(mixed: Any, memory: Any) -> None:
    with pytest.raises(TrainingCancelledError):
        _fit(mixed, cancelled=lambda: len(memory.states) >= 5, checkpoints=memory)
    assert len(memory.states) == 5


def test_progress_never_goes_back_and_ends_at_one(mixed: Any) -> None:
    seen: list[float] = []
    settings = {**SETTINGS, "weighting": "stacked", "folds": 2, "xgboost": {**TREES, "rounds": 10}}
    _fit(mixed, settings, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_target_that_moves_one_way_only_is_refused(mixed: Any) -> None:
    one_way = tuple(replace(rows, target_pct=np.abs(rows.target_pct)) for rows in mixed)
    with pytest.raises(BadTrainingDataError):
        _fit(one_way)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"membrs": ["ridge"]}, "'membrs' is unknown, did you mean 'members'"),
        ({"members": ["rige"]}, "'rige' cannot be a member, did you mean 'ridge'"),
        ({"members": ["ensemble"]}, "'ensemble' cannot be a member"),
        ({"members": ["last_value"]}, "'last_value' cannot be a member"),
        ({"members": []}, "at least one family"),
        ({"members": ["ridge", "ridge"]}, "each once"),
        ({"weighting": "best"}, "weighting = 'best'"),
        ({"members": ["ridge"], "folds": 1}, "folds = 1"),
        ({"members": ["ridge"], "weights": {"xgboost": 1}}, "weight of 'xgboost'"),
        ({"members": ["ridge"], "weights": {"ridge": -1}}, "weight of 'ridge' = -1"),
        ({"members": ["ridge"], "weights": {"ridge": 0}}, "at least one weight"),
        ({"members": ["xgboost"], "xgboost": {"max_dept": 3}}, "did you mean 'max_depth'"),
        ({"members": ["ridge"], "ridge": 3}, "ridge = 3 must be a mapping"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettingsError, match="ensemble: ") as caught:
        FAMILY.check_settings(settings)
    assert said in str(caught.value)


def test_members_are_by_default_all_that_are_installed() -> None:
    expected = ["xgboost", "lstm", "ridge"] if find_spec("torch") else ["xgboost", "ridge"]
    assert list(default_members()) == expected
    assert all(families.is_installed(name) for name in default_members())


def test_what_the_splitter_left_out_is_purged_again() -> None:
    train, validation = _parts(line=0.1)
    purge, _ = ensemble_rows.reach(train, validation)
    assert purge == 6
    halves = ensemble_rows.halves(validation.open_time_ms, purge_minutes=purge)
    assert halves is not None
    stop, judge = (validation.open_time_ms[part] // MINUTE_MS for part in halves)
    assert judge.min() - stop.max() > purge


def test_explanations_can_ask_what_each_member_says(mixed: Any, fitted: Fitted) -> None:
    session = serving.open_session(fitted.graph)
    vectors = mixed[1].vectors[:50]
    changes, total = session.run([MEMBER_OUTPUTS[0], OUTPUTS[0]], {"features": vectors})
    weights = np.stack([entry["change"] for entry in _weights(fitted).values()])
    np.testing.assert_allclose((changes * weights).sum(axis=1), total, rtol=1e-4, atol=1e-6)


# With a network


@pytest.mark.slow
@needs_torch
def test_an_ensemble_that_looks_back_sees_what_the_last_minute_does_not_tell(memory: Any) -> None:
    planted = {"corner": 0.3, "past": 0.35}
    parts = _parts(seed=6, **planted)
    settings = {"members": ["xgboost", "lstm"], "xgboost": TREES, "lstm": NETWORK}
    found = _fit(parts, settings, checkpoints=memory)
    assert found.window == WINDOW
    _check_parity(found, parts[0])
    resumed = type(memory)()
    resumed.states = memory.states[: len(memory.states) - 4]
    again = _fit(parts, settings, checkpoints=resumed)
    assert (again.native, again.graph) == (found.native, found.graph)
    fresh = _rows(minutes=4000, seed=97, **planted)
    trees = _skill_alone(parts, "xgboost", fresh)
    assert (_skill(found, fresh) > trees + 0.02).all()
    inputs = parts[0].take(np.arange(40)).inputs(WINDOW)
    session = serving.open_session(found.graph)
    whole = serving.run(session, inputs)
    for size in (1, 7):
        pieces = [serving.run(session, inputs[k : k + size]) for k in range(0, 40, size)]
        for kind in (0, 1):
            assert np.concatenate([piece[kind] for piece in pieces]).tobytes() == whole[kind].tobytes()


@pytest.mark.slow
def test_its_members_are_trained_further_and_weighed_anew(mixed: Any, fitted: Fitted) -> None:
    parts = _parts(seed=9, corner=0.8, line=0.5)
    further = _fit(parts, start_from=fitted.native)
    old, new = (
        next(m["native"] for m in json.loads(native)["members"] if m["family"] == "xgboost")
        for native in (fitted.native, further.native)
    )
    trees = [
        [
            len(head["learner"]["gradient_booster"]["model"]["trees"])
            for head in json.loads(each)["heads"].values()
        ]
        for each in (old, new)
    ]
    assert all(a <= b for a, b in zip(*trees, strict=True))
    assert sum(trees[1]) > sum(trees[0])
    assert _fit(parts, start_from=fitted.native).native == further.native
    assert _fit(parts).native != further.native
