from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from domain.models import dissimilarity, parity
from domain.models.assembly import assemble
from domain.models.calibration import Calibration
from domain.models.model import Fitted, ModelRefusedError, ParityError, TrainingRows
from domain.models.xgboost import FAMILY

Make = Callable[..., TrainingRows]
CALIBRATION = Calibration(slopes=(0.8,), intercepts=(0.05,))


@pytest.fixture(scope="module")
def fitted(make_rows: Make) -> tuple[Fitted, TrainingRows]:
    rows = make_rows(seed=1)
    model = FAMILY.fit(
        train=rows,
        validation=make_rows(rows=400, seed=2),
        settings={"rounds": 30, "learning_rate": 0.2, "min_leaf_rows": 5},
        seed=5,
        progress=lambda done, text: None,
        cancelled=lambda: False,
    )
    return model, rows


def _check(fitted: tuple[Fitted, TrainingRows], graph: bytes) -> parity.ParityReport:
    model, rows = fitted
    return parity.check(
        family=FAMILY,
        fitted=model,
        served_graph=graph,
        calibration=CALIBRATION,
        unlike=dissimilarity.fit(rows.vectors),
        rows=rows,
        seed=1,
    )


@pytest.fixture(scope="module")
def served(fitted: tuple[Fitted, TrainingRows]) -> bytes:
    return assemble(fitted[0].graph, calibrated_by=CALIBRATION, unlike=dissimilarity.fit(fitted[1].vectors))


def _sabotaged(graph: bytes, change: Callable[[Any], None]) -> bytes:
    model = onnx.ModelProto.FromString(graph)
    change(model)
    payload: bytes = model.SerializeToString()
    return payload


def _attribute(model: Any, node: str, name: str) -> Any:
    return next(
        attribute
        for found in model.graph.node
        if found.name == node
        for attribute in found.attribute
        if attribute.name == name
    )


def test_a_true_graph_passes_with_almost_no_difference(
    fitted: tuple[Fitted, TrainingRows], served: bytes
) -> None:
    report = _check(fitted, served)
    assert report.rows == len(parity.probes_of(fitted[1], window=0, seed=1)) >= 2_000
    assert report.worst_change < 1e-6
    assert report.worst_probability < 1e-6


def _wrong_leaf(model: Any) -> None:
    _attribute(model, "trees_change0", "target_weights").floats[0] += 0.01


def _wrong_direction_of_missing_values(model: Any) -> None:
    flags = _attribute(model, "trees_change0", "nodes_missing_value_tracks_true").ints
    flags[:] = [1 - flag for flag in flags]


def _threshold_one_step_off(model: Any) -> None:
    values = _attribute(model, "trees_change0", "nodes_values").floats
    values[:] = np.nextafter(np.array(values, np.float32), np.float32(np.inf)).tolist()


def _no_sigmoid(model: Any) -> None:
    node = next(found for found in model.graph.node if found.op_type == "Sigmoid")
    node.op_type = "Identity"


def _wrong_base(model: Any) -> None:
    _attribute(model, "trees_rise0", "base_values").floats[0] = 0.5


def _not_a_number(model: Any) -> None:
    _attribute(model, "trees_change0", "target_weights").floats[0] = float("nan")


def _fixed_to_one_row(model: Any) -> None:
    last = next(found for found in model.graph.node if "predicted_pct" in found.output)
    last.output[0] = "free"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1], np.int64), "one_row"))
    model.graph.node.append(helper.make_node("Reshape", ["free", "one_row"], ["predicted_pct"]))


def _depends_on_the_rows_beside_it(model: Any) -> None:
    # the change, less a hair of the mean of the batch
    last = next(found for found in model.graph.node if "predicted_pct" in found.output)
    last.output[0] = "alone"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e-6], np.float32), "hair"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["alone"], ["mean"], keepdims=1, axes=[0]),
            helper.make_node("Mul", ["mean", "hair"], ["little"]),
            helper.make_node("Sub", ["alone", "little"], ["predicted_pct"]),
        ]
    )


@pytest.mark.parametrize(
    "sabotage",
    [
        _wrong_leaf,
        _wrong_direction_of_missing_values,
        _threshold_one_step_off,
        _no_sigmoid,
        _wrong_base,
        _not_a_number,
    ],
)
def test_a_sabotaged_graph_is_caught(
    fitted: tuple[Fitted, TrainingRows], served: bytes, sabotage: Callable[[Any], None]
) -> None:
    with pytest.raises(ParityError):
        _check(fitted, _sabotaged(served, sabotage))


def test_a_graph_whose_rows_depend_on_one_another_is_caught(
    fitted: tuple[Fitted, TrainingRows], served: bytes
) -> None:
    with pytest.raises(ParityError, match="beside it"):
        _check(fitted, _sabotaged(served, _depends_on_the_rows_beside_it))


def test_a_graph_that_takes_only_one_row_is_caught(
    fitted: tuple[Fitted, TrainingRows], served: bytes
) -> None:
    with pytest.raises(ParityError, match=r"fails on \d{4} rows"):
        _check(fitted, _sabotaged(served, _fixed_to_one_row))


def test_a_graph_cut_short_is_refused(fitted: tuple[Fitted, TrainingRows], served: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="not a readable model graph"):
        _check(fitted, served[:-100])


def test_probes_hold_real_missing_and_neighbouring_values() -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    probes = parity.probe_rows(vectors, seed=0, count=400)
    real, missing, beside, mixed = np.split(probes, 4)
    assert np.isin(real, vectors).all()
    assert np.isnan(missing[:10]).all()
    assert 0.1 < np.isnan(missing[10:]).mean() < 0.3
    assert (beside != real).all()
    np.testing.assert_allclose(beside, real, rtol=1e-6)
    assert np.isin(mixed, vectors).all()


@pytest.mark.parametrize(("rows", "probes"), [(300, 2_000), (4_000, 4_000), (12_000, 10_000)])
def test_there_are_as_many_probes_as_rows_within_bounds(make_rows: Make, rows: int, probes: int) -> None:
    assert len(parity.probes_of(make_rows(rows=rows), window=0, seed=1)) == probes
