"""One minute's predictions of an ensemble of trees and a network, for four horizons."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cli.benches.base import made_up
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.timing import quantile
from domain.models import families
from domain.models.model import Predictions
from schemas.frames import Float32

if TYPE_CHECKING:
    from training.fitting import TrainedModel

GIVES = ("inference_p50", "inference_p99", "inference_1000")
TAKES = "1 minute"
ON_REQUEST = False

_SYMBOLS, _MANY = 6, 1_000
_HORIZONS = (5, 15, 30, 60)
_FEATURES, _WINDOW = 72, 60
_MINUTES = 4_000
_TIMES, _TIMES_MANY = 600, 15
#: As many trees as the default settings allow, and a network of the default size.
_SETTINGS = {
    "members": ["xgboost", "lstm"],
    "weighting": "equal",
    "xgboost": {"early_stopping_patience": 200, "learning_rate": 0.02},
    "lstm": {"max_epochs": 4, "lookback_minutes": _WINDOW},
}
_SAYS = (
    "predict of XGBoost and PyTorch with their models loaded, one thread as here, and the weighted sums;"
    " without calibration"
)

#: Windows of shape (symbols, minutes, features) in, anything out.
_Predict = Callable[[Float32], Any]


@dataclass(frozen=True, slots=True)
class _Times:
    """Milliseconds of each call: by the wall, and of the processor."""

    served: list[float]
    native: list[float]
    processor: list[float]


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Train an ensemble, then ask it and the libraries of its members about the same windows in turn."""
    if not families.is_installed("lstm"):
        raise NotMeasuredError("PyTorch is not installed: pip install 'tidecast[deep]'")
    trained = _trained()
    served, native = _served(trained), _native(trained.native)
    more = {"horizons": len(_HORIZONS), "trees": _trees(trained.native), "window_minutes": _WINDOW}
    chance = np.random.default_rng(1)
    few = [_windows(chance, _SYMBOLS) for _ in range(50)]
    _check_same(served(few[0]), native(few[0]))
    if {"inference_p50", "inference_p99"}.intersection(wanted):
        times = _timed(served, native, few, _TIMES)
        for name, share, bound in (("inference_p50", 0.5, 3.0), ("inference_p99", 0.99, 8.0)):
            if name in wanted:
                yield _figure(name, times, share, bound, {"symbols": _SYMBOLS, **more})
    if "inference_1000" in wanted:
        symbols = sizes.symbols or _MANY
        times = _timed(served, native, [_windows(chance, symbols)], _TIMES_MANY)
        yield _figure("inference_1000", times, 0.5, 400.0, {"symbols": symbols, **more})


def _figure(name: str, times: _Times, share: float, bound: float, more: dict[str, Any]) -> Figure:
    return Figure(
        name=name,
        value=quantile(times.served, share),
        unit="ms",
        reference=quantile(times.native, share),
        bound=bound,
        says=_SAYS,
        more={**more, "fastest_ms": min(times.served), "processor_ms": quantile(times.processor, share)},
    )


def _trained() -> TrainedModel:
    """Train on a made-up market as production does, calibration and checks included."""
    from training.fitting import fit

    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(_MINUTES, _FEATURES)).astype(np.float32)
    # a drift that is seen, and lasts
    for minute in range(1, _MINUTES):
        vectors[minute, 0] = 0.98 * vectors[minute - 1, 0] + 0.2 * vectors[minute, 0]
    steps = 0.05 * chance.normal(size=_MINUTES)
    steps[1:] += 0.03 * vectors[:-1, 0]
    with tempfile.TemporaryDirectory() as folder:
        request = made_up.request(
            Path(folder) / "rows", vectors, steps, family="ensemble", settings=_SETTINGS, horizons=_HORIZONS
        )
        result = fit(request, progress=lambda done, text: None, cancelled=lambda: False)
    if result.model is None or len(json.loads(result.model.native)["members"]) < 2:
        raise NotMeasuredError(f"a member learned nothing from the made-up market: {result.reason}")
    return result.model


def _served(trained: TrainedModel) -> _Predict:
    from domain.models.serving import ServedModel

    return ServedModel.from_bytes(
        trained.graph,
        sha256=trained.sha256,
        feature_names=made_up.names(_FEATURES),
        schema_hash=made_up.SCHEMA_HASH,
    ).predict


def _native(text: bytes) -> _Predict:
    """Load the members' models once, with one thread each."""
    asked: dict[str, Callable[[bytes], _Predict]] = {"xgboost": _trees_native, "lstm": _network_native}
    members: list[tuple[_Predict, Any, Any]] = []
    for member in json.loads(text)["members"]:
        change, rise = map(np.array, member["weights"].values())
        members.append((asked[member["family"]](member["native"].encode()), change, rise))

    def predict(windows: Float32) -> Predictions:
        said = [(ask(windows), change, rise) for ask, change, rise in members]
        return Predictions(
            sum(values[0] * change for values, change, _ in said),
            sum(values[1] * rise for values, _, rise in said),
        )

    return predict


def _trees_native(text: bytes) -> _Predict:
    import xgboost as xgb

    boosters = []
    for model in json.loads(text)["heads"].values():
        boosters.append(xgb.Booster({"nthread": 1}))
        boosters[-1].load_model(bytearray(json.dumps(model).encode()))

    def predict(windows: Float32) -> Predictions:
        rows = np.ascontiguousarray(windows[:, -1])
        said = [each.inplace_predict(rows, missing=np.nan, predict_type="margin") for each in boosters]
        return Predictions(np.stack(said[0::2], axis=1), np.stack(said[1::2], axis=1))

    return predict


def _network_native(text: bytes) -> _Predict:
    import torch

    from domain.models.lstm_model import Model
    from domain.models.lstm_network import Network, standardise

    model = Model.from_bytes(text)
    network = Network(model.shape)
    network.load(model.weights)
    network.learns(False)
    torch.set_num_threads(1)

    def predict(windows: Float32) -> Predictions:
        with torch.inference_mode():
            minutes = standardise(
                torch.from_numpy(windows), model.scaling, missing_share=model.shape.missing_share
            )
            change, rise = np.split(network(minutes.transpose(0, 1)).numpy(), 2, axis=1)
        return Predictions(change * model.scaling.deviation, rise)

    return predict


def _windows(chance: np.random.Generator, symbols: int) -> Float32:
    windows: Float32 = chance.normal(size=(symbols, _WINDOW, _FEATURES)).astype(np.float32)
    windows[chance.random(windows.shape) < 0.02] = np.nan
    return windows


def _check_same(served: Any, native: Predictions) -> None:
    if not np.allclose(served.predicted_pct, native.predicted_pct, rtol=1e-3, atol=1e-5):
        raise NotMeasuredError(
            "the graph and the libraries do not say the same: the figures would not compare"
        )


def _timed(served: _Predict, native: _Predict, windows: list[Float32], times: int) -> _Times:
    found = _Times([], [], [])
    gc.collect()
    gc.disable()
    try:
        for turn in range(times + len(windows)):
            rows = windows[turn % len(windows)]
            began, worked = time.perf_counter(), time.thread_time()
            served(rows)
            answered, done = time.perf_counter(), time.thread_time()
            native(rows)
            ended = time.perf_counter()
            # each batch is asked about once to warm up
            if turn >= len(windows):
                found.served.append(1e3 * (answered - began))
                found.native.append(1e3 * (ended - answered))
                found.processor.append(1e3 * (done - worked))
    finally:
        gc.enable()
    return found


def _trees(text: bytes) -> int:
    heads = next(
        json.loads(member["native"])["heads"]
        for member in json.loads(text)["members"]
        if member["family"] == "xgboost"
    )
    return sum(len(model["learner"]["gradient_booster"]["model"]["trees"]) for model in heads.values())
