"""What every model family promises; a new file in `domain/models` is held to it without a line here."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import domain.models
from domain.models import dissimilarity, families, parity, serving
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.model import (
    BadSettingsError,
    Family,
    Fitted,
    ModelError,
    TrainingRows,
)
from domain.models.windows import Windows
from schemas.frames import MINUTE_MS

FEATURES = 72

#: Each family is trained, some several times.
pytestmark = pytest.mark.slow


def _rows(seed: int, rows: int = 900) -> TrainingRows:
    """Make rows of two symbols with targets of two horizons, one of them not always known."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(rows, FEATURES)).astype(np.float32)
    target = 0.1 * np.sign(vectors[:, :2]) + 0.2 * chance.normal(size=(rows, 2))
    target[-20:, 1] = np.nan
    vectors[chance.random(vectors.shape) < 0.05] = np.nan
    symbol = np.arange(rows, dtype=np.int32) % 2
    times = np.arange(rows) // 2 * MINUTE_MS
    return TrainingRows(
        vectors=vectors,
        target_pct=target,
        open_time_ms=times,
        symbol_index=symbol,
        history=Windows(vectors=vectors, symbol_index=symbol, open_time_ms=times),
    )


#: Networks learn the same way in few steps; a family that is not named here runs as it comes.
_LSTM = {"lookback_minutes": 8, "hidden_size": 8, "max_epochs": 4}
_QUICK: dict[str, dict[str, Any]] = {
    "lstm": _LSTM,
    "ensemble": {"lstm": _LSTM, "xgboost": {"rounds": 40}},
}


#: Besides every family as it comes: settings that make another graph of it.
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ensemble by regime": ("ensemble", {"weighting": "regime"}),
}
_CASES = {**{name: (name, {}) for name in families.NAMES}, **_VARIANTS}


def _fit(family: Family, settings: dict[str, Any], seed: int = 1) -> Fitted:
    return family.fit(
        train=_rows(1),
        validation=_rows(2, 400),
        settings=settings,
        seed=seed,
        progress=lambda done, text: None,
        cancelled=lambda: False,
    )


@pytest.fixture(scope="module", params=_CASES)
def case(request: pytest.FixtureRequest) -> tuple[Family, dict[str, Any]]:
    name, more = _CASES[request.param]
    if not families.is_installed(name):
        pytest.skip(f"the library of {name} is not installed")
    return families.load(name), {**_QUICK.get(name, {}), **more}


@pytest.fixture(scope="module")
def family(case: tuple[Family, dict[str, Any]]) -> Family:
    return case[0]


@pytest.fixture(scope="module")
def settings(case: tuple[Family, dict[str, Any]]) -> dict[str, Any]:
    return case[1]


@pytest.fixture(scope="module")
def fitted(family: Family, settings: dict[str, Any]) -> Fitted:
    return _fit(family, settings)


def test_every_file_with_a_family_is_in_the_list_under_its_own_name() -> None:
    folder = Path(str(domain.models.__file__)).parent
    lacking = {name for name in families.NAMES if not families.is_installed(name)}
    found = {
        path.stem
        for path in folder.glob("*.py")
        if path.stem != "__init__"
        and not path.stem.startswith(tuple(lacking))
        and hasattr(import_module(f"domain.models.{path.stem}"), "FAMILY")
    }
    assert found == set(families.NAMES) - lacking
    assert all(families.load(name).name == name for name in found)


def test_the_same_training_gives_the_same_bytes(
    family: Family, settings: dict[str, Any], fitted: Fitted
) -> None:
    again = _fit(family, settings)
    assert again.native == fitted.native
    assert again.graph == fitted.graph


def test_the_graph_says_what_the_model_says(family: Family, fitted: Fitted) -> None:
    calibration = Calibration(slopes=(0.7, 0.2), intercepts=(0.1, -0.1))
    unlike = dissimilarity.fit(_rows(1).vectors)
    parity.check(
        family=family,
        fitted=fitted,
        served_graph=assemble(fitted.graph, calibrated_by=calibration, unlike=unlike),
        calibration=calibration,
        unlike=unlike,
        rows=_rows(1),
        seed=0,
    )


def test_a_row_has_the_same_value_in_every_batch(fitted: Fitted) -> None:
    session = serving.open_session(fitted.graph)
    inputs = _rows(3, 300).inputs(fitted.window)
    whole = serving.run(session, inputs)
    for size in (1, 5, 64, 200):
        parts = [serving.run(session, inputs[k : k + size]) for k in range(0, len(inputs), size)]
        for column in range(2):
            joined = np.concatenate([part[column] for part in parts])
            assert joined.tobytes() == whole[column].tobytes()


def test_predictions_are_finite_and_of_every_horizon(fitted: Fitted) -> None:
    session = serving.open_session(fitted.graph)
    inputs = _rows(3, 300).inputs(fitted.window).copy()
    inputs[:50] = np.nan
    for said in serving.run(session, inputs):
        assert said.shape == (300, 2)
        assert np.isfinite(said).all()


def test_the_native_format_is_text(fitted: Fitted, family: Family) -> None:
    assert fitted.native.decode("utf-8").isprintable()
    assert family.native_suffix.isalnum()


def test_the_graph_holds_no_path_and_no_time(fitted: Fitted) -> None:
    for text in (b"/tmp", b"/home", str(Path(__file__).parent.parent.parent).encode(), b"T00:"):
        assert text not in fitted.graph


def test_an_unknown_setting_is_refused(family: Family) -> None:
    with pytest.raises(BadSettingsError, match="no_such_setting"):
        family.check_settings({"no_such_setting": 1})


def test_a_target_that_never_changes_is_refused(family: Family, settings: dict[str, Any]) -> None:
    rows = _rows(1)
    flat = replace(rows, target_pct=np.zeros(rows.target_pct.shape))
    with pytest.raises(ModelError):
        family.fit(
            train=flat,
            validation=flat,
            settings=settings,
            seed=1,
            progress=lambda done, text: None,
            cancelled=lambda: False,
        )


def test_progress_ends_at_one(family: Family, settings: dict[str, Any]) -> None:
    seen: list[float] = []
    family.fit(
        train=_rows(1),
        validation=_rows(2, 400),
        settings=settings,
        seed=1,
        progress=lambda done, text: seen.append(done),
        cancelled=lambda: False,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
