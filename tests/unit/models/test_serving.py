from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from domain.models import dissimilarity, graph
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.card import ModelCard
from domain.models.last_value import FAMILY
from domain.models.model import OUTPUTS, ModelRefusedError, TrainingRows
from domain.models.serving import ServedModel

NAMES = tuple("abcdef")
CARD = ModelCard(
    family="last_value",
    symbol="ALL",
    horizons=(15,),
    window=0,
    trained_to_ms=1_000_020_000,
    feature_names=NAMES,
    schema_hash="hash",
    seed=1,
    settings={"rounds": 3},
    best_iteration=0,
    native_sha256="0" * 64,
)


@pytest.fixture(scope="module")
def bare(make_rows: Callable[..., TrainingRows]) -> bytes:
    rows = make_rows()
    fitted = FAMILY.fit(
        train=rows,
        validation=rows,
        settings={},
        seed=0,
        progress=lambda done, text: None,
        cancelled=lambda: False,
    )
    calibration = Calibration(slopes=(1.0,), intercepts=(0.0,))
    return assemble(fitted.graph, calibrated_by=calibration, unlike=dissimilarity.fit(rows.vectors))


@pytest.fixture(scope="module")
def payload(bare: bytes) -> bytes:
    return graph.with_card(bare, CARD)


def _load(
    payload: bytes, *, sha256: str | None = None, names: tuple[str, ...] = NAMES, schema: str = "hash"
) -> ServedModel:
    digest = hashlib.sha256(payload).hexdigest() if sha256 is None else sha256
    return ServedModel.from_bytes(payload, sha256=digest, feature_names=names, schema_hash=schema)


def test_a_served_model_knows_what_it_is(payload: bytes) -> None:
    assert _load(payload).card == CARD


def test_any_number_of_rows_is_answered_by_one_value_each(payload: bytes) -> None:
    model = _load(payload)
    for rows in (0, 1, 6, 1000):
        said = model.predict(np.zeros((rows, 6), np.float32))
        assert said.predicted_pct.shape == said.probability_up.shape == (rows, 1)
        assert said.dissimilarity.shape == (rows,)
        assert {values.dtype for values in said} == {np.dtype(np.float32)}


@pytest.mark.parametrize("shape", [(6,), (1, 5), (2, 7), (1, 1, 6)])
def test_vectors_of_another_shape_are_refused(payload: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expects"):
        _load(payload).predict(np.zeros(shape, np.float32))


def test_other_bytes_than_the_registry_says_are_refused(payload: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="changed or cut short"):
        _load(payload, sha256="0" * 64)


def test_other_feature_names_are_refused_by_name(payload: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="wants \\['f'\\] and lacks \\['x'\\]"):
        _load(payload, names=(*NAMES[:5], "x"))


def test_features_in_another_order_are_refused(payload: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="another order"):
        _load(payload, names=NAMES[::-1])


def test_another_schema_hash_is_refused(payload: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="schema"):
        _load(payload, schema="other")


@given(st.data())
def test_a_graph_cut_anywhere_is_refused_even_with_a_matching_digest(
    payload: bytes, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ModelRefusedError):
        _load(payload[:length])


def test_a_graph_without_a_card_is_refused(bare: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="format is None"):
        _load(bare)


def test_a_card_that_cannot_be_read_is_refused(payload: bytes) -> None:
    model = onnx.ModelProto.FromString(payload)
    next(entry for entry in model.metadata_props if entry.key == "seed").value = "{"
    with pytest.raises(ModelRefusedError, match="description"):
        _load(model.SerializeToString())


def test_a_graph_of_another_width_than_its_card_is_refused(bare: bytes) -> None:
    lying = graph.with_card(bare, replace(CARD, feature_names=NAMES[:5]))
    with pytest.raises(ModelRefusedError, match="expected features of shape"):
        _load(lying, names=NAMES[:5])


def test_a_graph_that_points_to_another_file_is_refused(payload: bytes) -> None:
    model = onnx.ModelProto.FromString(payload)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)
    node = next(found for found in model.graph.node if "predicted_pct" in found.output)
    node.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "w"], ["predicted_pct"]))
    with pytest.raises(ModelRefusedError):
        _load(model.SerializeToString())


def test_a_card_survives_its_way_through_a_graph() -> None:
    assert ModelCard.from_metadata(CARD.to_metadata()) == CARD
    assert json.loads(CARD.to_metadata()["settings"]) == {"rounds": 3}


def test_serving_imports_no_training_library() -> None:
    code = (
        "import sys, domain.models.serving\n"
        "heavy = {'xgboost', 'sklearn', 'torch', 'onnx', 'onnxmltools', 'pandas', 'scipy', 'training'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=600
    )
    assert done.stdout.strip() == "[]"


def _looking_back(*, at_the_others: bool) -> bytes:
    """Make a graph over windows that adds up its row, and if asked to the mean of the rows beside it."""
    make = helper.make_node
    constants = {
        "nothing": np.float32(0.0),
        "inner": np.array([1, 2], np.int64),
        "last": np.array([1], np.int64),
    }
    nodes = [
        make("IsNaN", ["window"], ["missing"]),
        make("Where", ["missing", "nothing", "window"], ["filled"]),
        make("ReduceSum", ["filled", "inner"], ["sum"], keepdims=0),
        make("Unsqueeze", ["sum", "last"], ["own"]),
        make("ReduceMean", ["own"], ["mean"], axes=[0], keepdims=1),
        make("Add", ["own", "mean"], ["with_others"]),
        make("Identity", ["with_others" if at_the_others else "own"], [OUTPUTS[0]]),
        make("Identity", ["own"], [OUTPUTS[1]]),
    ]
    inside = graph.build(
        nodes=nodes,
        initializers=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        features=len(NAMES),
        horizons=1,
        window=4,
    )
    assembled = assemble(
        inside,
        calibrated_by=Calibration(slopes=(1.0,), intercepts=(0.0,)),
        unlike=dissimilarity.fit(np.random.default_rng(0).normal(size=(100, len(NAMES))).astype(np.float32)),
    )
    return graph.with_card(assembled, replace(CARD, window=4))


@pytest.mark.parametrize("at_the_others", [False, True])
def test_windows_go_through_in_larger_pieces_only_where_that_changes_no_bit(at_the_others: bool) -> None:
    model = _load(_looking_back(at_the_others=at_the_others))
    windows = np.random.default_rng(5).normal(size=(203, 4, len(NAMES))).astype(np.float32)

    together = model.predict(windows)

    for size in (8, 40, 64, 72):
        pieces = [model.predict(windows[first : first + size]) for first in range(0, 203, size)]
        for whole, parts in zip(together, zip(*pieces, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), whole)
