from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from domain.evaluation.metrics import directional_accuracy
from domain.models import families, serving
from domain.models.model import (
    BadSettingsError,
    BadTrainingDataError,
    Fitted,
    ModelRefusedError,
    NoSignalError,
    Predictions,
    TrainingCancelledError,
    TrainingRows,
    UnknownFamilyError,
)
from domain.models.windows import Windows
from domain.models.xgboost import FAMILY as XGBOOST
from schemas.frames import MINUTE_MS

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'tidecast[deep]'")

from domain.models import lstm_graph, lstm_network  # noqa: E402
from domain.models.lstm import FAMILY  # noqa: E402
from domain.models.lstm_model import Model, Scaling, Shape  # noqa: E402
from domain.models.lstm_settings import LSTMSettings  # noqa: E402

#: A network learns for seconds.
pytestmark = pytest.mark.slow

WINDOW, FEATURES = 8, 4
SETTINGS = {
    "lookback_minutes": WINDOW,
    "hidden_size": 8,
    "batch_size": 100,
    "max_epochs": 4,
    "learning_rate": 0.02,
    "averaged_steps": 10,
    "device": "cpu",
}
BRIEF = {**SETTINGS, "max_epochs": 2}


def _rows(seed: int = 0, rows: int = 600, signal: float = 1.0) -> TrainingRows:
    """Make rows of two symbols whose two targets follow the sum of a feature over five minutes."""
    chance = np.random.default_rng(seed)
    each = rows // 2
    vectors = chance.normal(size=(2, each, FEATURES)).astype(np.float32)
    sums = np.stack([np.convolve(own[:, 0], np.ones(5))[:each] for own in vectors]) / np.sqrt(5)
    target = 0.2 * (signal * sums[..., None] + 0.7 * chance.normal(size=(2, each, 2)))
    vectors[chance.random(vectors.shape) < 0.02] = np.nan
    target[chance.random(target.shape) < 0.02] = 0.0
    target[:, -each // 10 :, 1] = np.nan
    symbol = np.repeat(np.arange(2, dtype=np.int32), each)
    times = np.tile(np.arange(each) * MINUTE_MS, 2)
    flat = vectors.reshape(-1, FEATURES)
    return TrainingRows(
        vectors=flat,
        target_pct=target.reshape(-1, 2),
        open_time_ms=times,
        symbol_index=symbol,
        history=Windows(vectors=flat, symbol_index=symbol, open_time_ms=times),
    )


def _with_vectors(rows: TrainingRows, vectors: Any) -> TrainingRows:
    history = Windows(vectors=vectors, symbol_index=rows.symbol_index, open_time_ms=rows.open_time_ms)
    return replace(rows, vectors=vectors, history=history)


def _fit(*, seed: int = 5, settings: dict[str, Any] = SETTINGS, **options: Any) -> Fitted:
    return FAMILY.fit(
        train=options.pop("train", None) or _rows(1),
        validation=options.pop("validation", None) or _rows(2, 300),
        settings=settings,
        seed=seed,
        progress=options.pop("progress", lambda done, text: None),
        cancelled=options.pop("cancelled", lambda: False),
        **options,
    )


def _ask(fitted: Fitted, rows: TrainingRows) -> Predictions:
    return serving.run(serving.open_session(fitted.graph), rows.inputs(fitted.window))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return _fit()


def test_a_signal_that_only_the_sequence_shows_is_found_where_trees_on_the_last_minute_find_little(
    fitted: Fitted,
) -> None:
    unseen = _rows(3, 2000)
    found = _ask(fitted, unseen)
    trees = XGBOOST.fit(
        train=_rows(1).of_horizon(0),
        validation=_rows(2, 300).of_horizon(0),
        settings={"rounds": 50},
        seed=1,
        progress=lambda done, text: None,
        cancelled=lambda: False,
    )
    seen_by_trees = XGBOOST.predict(native=trees.native, inputs=unseen.vectors).predicted_pct[:, 0]
    known = np.isfinite(unseen.target_pct)
    for column in range(2):
        own, actual = known[:, column], unseen.target_pct[:, column]
        hits = directional_accuracy(actual=actual[own], predicted=found.predicted_pct[own, column])
        assert hits > 0.74, "the best possible is 0.80"
        rises = (found.log_odds_up[own, column] > 0) == (actual[own] > 0)
        assert rises[actual[own] != 0].mean() > 0.74
    first = unseen.target_pct[:, 0]
    assert directional_accuracy(actual=first, predicted=seen_by_trees) < 0.67


def test_on_noise_it_says_next_to_nothing() -> None:
    said = []
    for seed in range(3):
        train, stop = _rows(10 + seed, signal=0.0), _rows(20 + seed, 300, signal=0.0)
        try:
            noise = _fit(train=train, validation=stop, seed=seed)
        except NoSignalError:
            said.append(0.0)
            continue
        found = _ask(noise, _rows(30, signal=0.0))
        # a sign that is right by chance may be believed a little, a forecast as large as the moves never
        said.append(float(found.predicted_pct.std()) / 0.14)
    assert max(said) < 0.3


def test_the_same_training_gives_the_same_bytes_and_another_seed_others(fitted: Fitted) -> None:
    again = _fit()
    assert again.native == fitted.native
    assert again.graph == fitted.graph
    assert _fit(seed=6, settings=BRIEF).native != _fit(settings=BRIEF).native


@pytest.mark.parametrize(
    "settings", [SETTINGS, {**SETTINGS, "attention": True, "layers": 2, "dropout": 0.3}], ids=["one", "two"]
)
def test_a_training_killed_after_any_epoch_ends_in_the_same_bytes(
    memory: Any, settings: dict[str, Any]
) -> None:
    settings = {**settings, "max_epochs": 3}
    whole = _fit(settings=settings, checkpoints=memory)
    assert len(memory.states) == 3
    for kept in (1, 2, 3):
        resumed = type(memory)()
        resumed.states = memory.states[:kept]
        again = _fit(settings=settings, checkpoints=resumed)
        assert again.native == whole.native
        assert again.graph == whole.graph
        assert len(resumed.states) == 3, "it went on, and did not begin again"


@pytest.mark.parametrize("damage", [lambda state: state[:500], lambda state: b"", lambda state: b"[1]"])
def test_a_damaged_state_begins_again_and_ends_in_the_same_bytes(
    memory: Any, damage: Callable[[bytes], bytes]
) -> None:
    whole = _fit(settings=BRIEF, checkpoints=memory)
    memory.states = [damage(memory.states[0])]
    assert _fit(settings=BRIEF, checkpoints=memory).native == whole.native


def test_a_state_of_other_rows_settings_or_seed_is_not_taken_over(memory: Any) -> None:
    _fit(settings=BRIEF, checkpoints=memory)
    others: tuple[dict[str, Any], ...] = (
        {"settings": BRIEF, "train": _rows(9)},
        {"settings": {**BRIEF, "dropout": 0.5}},
        {"settings": BRIEF, "seed": 6},
    )
    for other in others:
        before = type(memory)()
        before.states = memory.states[:1]
        assert _fit(checkpoints=before, **other).native == _fit(**other).native


def test_a_training_stops_within_an_epoch_when_it_is_asked_to(memory: Any) -> None:
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 30

    with pytest.raises(TrainingCancelledError):
        _fit(cancelled=cancelled, checkpoints=memory)
    assert len(asked) == 31
    assert len(memory.states) == 1


def test_progress_only_ever_rises_to_one() -> None:
    seen: list[float] = []
    _fit(settings=BRIEF, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_training_leaves_the_process_as_it_found_it() -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.mkldnn.enabled,
            torch.get_rng_state().numpy().tobytes(),
        )

    before = state()
    _fit(settings={**SETTINGS, "max_epochs": 1, "threads": 3})
    assert state() == before


def test_features_that_were_missing_or_constant_in_training_are_not_looked_at() -> None:
    rows, stop = _rows(1), _rows(2, 300)
    for part in (rows, stop):
        part.vectors[:, 2] = np.nan
        part.vectors[:, 3] = 7.0
    learned = _fit(train=rows, validation=stop, settings=BRIEF)
    unseen = _rows(3, 200)
    alive = _ask(learned, unseen)
    hidden = unseen.vectors.copy()
    hidden[:, 2:] = np.nan
    without = _ask(learned, _with_vectors(unseen, hidden))
    assert alive.predicted_pct.tobytes() == without.predicted_pct.tobytes()
    assert alive.log_odds_up.tobytes() == without.log_odds_up.tobytes()


def test_wild_values_are_pulled_in(fitted: Fitted) -> None:
    unseen = _rows(3, 200)
    wild = unseen.vectors * np.float32(1e30)
    assert np.isfinite(_ask(fitted, _with_vectors(unseen, wild)).predicted_pct).all()


def test_the_unit_of_the_targets_changes_nothing_but_the_unit() -> None:
    train, stop = (replace(rows, target_pct=1024.0 * rows.target_pct) for rows in (_rows(1), _rows(2, 300)))
    large = _ask(_fit(train=train, validation=stop, settings=BRIEF), _rows(3, 200))
    small = _ask(_fit(settings=BRIEF), _rows(3, 200))
    np.testing.assert_allclose(large.predicted_pct, 1024.0 * small.predicted_pct, rtol=1e-3, atol=1e-2)


def _made_up(shape: Shape, seed: int = 0) -> Model:
    chance = np.random.default_rng(seed)
    features = shape.features
    return Model(
        shape=shape,
        scaling=Scaling(
            centre=chance.normal(size=features).astype(np.float32),
            scale=np.where(np.arange(features) == 1, 0, 0.5).astype(np.float32),
            deviation=np.linspace(0.1, 0.9, shape.horizons).astype(np.float32),
        ),
        weights={
            name: (0.5 * chance.normal(size=values.shape)).astype(np.float32)
            for name, values in lstm_network.Network(shape).weights().items()
        },
    )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("missing_share", [False, True])
def test_the_graph_says_what_the_network_says_and_the_same_in_every_batch(
    layers: int, attention: bool, missing_share: bool
) -> None:
    model = _made_up(
        Shape(
            features=5,
            window=7,
            horizons=3,
            hidden_size=6,
            layers=layers,
            attention=attention,
            missing_share=missing_share,
        )
    )
    chance = np.random.default_rng(1)
    windows = 3 * chance.normal(size=(50, 7, 5)).astype(np.float32)
    windows[chance.random(windows.shape) < 0.2] = np.nan
    windows[:5, :4] = np.nan
    windows[5] = np.nan
    native = FAMILY.predict(native=model.to_bytes(), inputs=windows)
    session = serving.open_session(lstm_graph.build(model))
    served = serving.run(session, windows)
    for said, wanted in zip(served, native, strict=True):
        np.testing.assert_allclose(said, wanted, atol=2e-6)
    for size in (1, 3, 16, 33):
        pieces = [serving.run(session, windows[k : k + size]) for k in range(0, 50, size)]
        for column, whole in enumerate(served):
            assert np.concatenate([piece[column] for piece in pieces]).tobytes() == whole.tobytes()


def test_what_it_learned_from_is_what_it_is_asked_about() -> None:
    # the windows of the training are gathered from a table, those of a prediction come whole
    from domain.models.lstm_rows import Table, fit_scaling

    rows = _rows(1)
    gaps = rows.take(np.flatnonzero(np.arange(len(rows)) % 7 != 0))
    history = Windows(vectors=gaps.vectors, symbol_index=gaps.symbol_index, open_time_ms=gaps.open_time_ms)
    shape = _made_up(Shape(**_SHAPE)).shape
    scaling = fit_scaling(rows)
    table = Table(history, shape=shape, scaling=scaling, device="cpu")
    gathered = table.windows(gaps.symbol_index[:40], gaps.open_time_ms[:40], WINDOW)
    whole = replace(gaps, history=history).take(np.arange(40)).inputs(WINDOW)
    expected = lstm_network.standardise(torch.from_numpy(whole), scaling, missing_share=True)
    assert torch.equal(gathered.transpose(0, 1), expected)


_SHAPE: dict[str, Any] = {
    "features": FEATURES,
    "window": WINDOW,
    "horizons": 2,
    "hidden_size": 8,
    "layers": 1,
    "attention": False,
    "missing_share": True,
}


def test_learning_goes_on_from_a_given_model(fitted: Fitted) -> None:
    little = {**SETTINGS, "max_epochs": 1, "learning_rate": 1e-5}
    unseen = _rows(3, 400)
    further = _fit(train=_rows(4), settings=little, start_from=fitted.native)
    anew = _fit(train=_rows(4), settings={**little, "learning_rate": 1e-3})
    before, after = _ask(fitted, unseen).predicted_pct[:, 0], _ask(further, unseen).predicted_pct[:, 0]
    assert np.corrcoef(before, after)[0, 1] > 0.99
    target = unseen.target_pct[:, 0]
    assert (
        np.corrcoef(after, target)[0, 1] > np.corrcoef(_ask(anew, unseen).predicted_pct[:, 0], target)[0, 1]
    )


def test_steps_that_make_a_given_model_worse_are_not_taken(fitted: Fitted) -> None:
    wild = {**SETTINGS, "max_epochs": 2, "learning_rate": 1.0}
    further = _fit(train=_rows(4, signal=0.0), settings=wild, start_from=fitted.native)
    assert further.best_iteration == 0
    before, after = (_ask(model, _rows(3, 400)).predicted_pct[:, 0] for model in (fitted, further))
    assert np.corrcoef(before, after)[0, 1] > 0.999


def test_a_model_of_another_shape_or_another_kind_cannot_be_gone_on_from(fitted: Fitted) -> None:
    with pytest.raises(BadSettingsError, match="another shape"):
        _fit(settings={**SETTINGS, "hidden_size": 9}, start_from=fitted.native)
    for native in (b"{}", b"no text", b'{"format":"tidecast-xgboost-2"}'):
        with pytest.raises(ModelRefusedError):
            _fit(start_from=native)


def test_rows_without_a_history_are_refused() -> None:
    with pytest.raises(BadTrainingDataError, match="history"):
        _fit(train=replace(_rows(1), history=None))


def test_a_target_that_only_rises_is_refused() -> None:
    rows = _rows(1)
    with pytest.raises(BadTrainingDataError, match="one way"):
        _fit(train=replace(rows, target_pct=np.abs(rows.target_pct)))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BadSettingsError, match="no GPU"):
        _fit(settings={**SETTINGS, "device": "cuda"})


def test_all_wrong_settings_are_reported_at_once_with_the_nearest_name() -> None:
    with pytest.raises(BadSettingsError) as caught:
        LSTMSettings.of(
            {"hidden": 3, "layers": 0, "dropout": "all", "threads": True, "attention": 1, "device": "gpu"}
        )
    text = str(caught.value)
    assert "did you mean 'hidden_size'" in text
    for wrong in ("layers = 0", "dropout = 'all'", "threads = True", "attention = 1", "device = 'gpu'"):
        assert wrong in text


def test_without_pytorch_the_family_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("domain.models.lstm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnknownFamilyError, match=r"pip install 'tidecast\[deep\]'"):
        families.load("lstm")
