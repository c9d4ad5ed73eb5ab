"""Boosted models in the library's JSON, several in one file: read, put together, taken apart.

The file keeps of a model what the library needs to load it again, numbers with all their digits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from schemas.frames import Float32

_FORMAT = "tidecast-xgboost-2"


def name(index: int) -> str:
    """Name a head by its place: two a horizon, for the change and for the chance of a rise."""
    return f"{('change', 'rise')[index % 2]}{index // 2}"


def join(models: Sequence[dict[str, Any]]) -> bytes:
    """Write all heads into one file."""
    heads = {name(number): model for number, model in enumerate(models)}
    return orjson.dumps({"format": _FORMAT, "heads": heads})


def split(native: bytes) -> list[dict[str, Any]]:
    """Read all heads of a file."""
    heads = orjson.loads(native)["heads"]
    return [heads[name(number)] for number in range(len(heads))]


def read(model: bytes) -> dict[str, Any]:
    """Read what the library wrote of one model."""
    found: dict[str, Any] = orjson.loads(model)
    return found


def write(model: dict[str, Any]) -> bytes:
    """Write one model for the library to load."""
    return orjson.dumps(model)


def trees(model: dict[str, Any]) -> list[dict[str, Any]]:
    """List the trees of a model."""
    found: list[dict[str, Any]] = model["learner"]["gradient_booster"]["model"]["trees"]
    return found


def joined(chunks: Sequence[dict[str, Any]], keep: int) -> dict[str, Any]:
    """Make one model of several that go on from each other: its first `keep` trees."""
    grown = [tree for chunk in chunks for tree in trees(chunk)][:keep]
    learner = chunks[0]["learner"]
    booster = learner["gradient_booster"]
    model = {
        **booster["model"],
        "gbtree_model_param": {**booster["model"]["gbtree_model_param"], "num_trees": str(keep)},
        "iteration_indptr": list(range(keep + 1)),
        "tree_info": [0] * keep,
        "trees": [{**tree, "id": number} for number, tree in enumerate(grown)],
    }
    return {**chunks[0], "learner": {**learner, "gradient_booster": {**booster, "model": model}}}


def leaf_values(model: dict[str, Any]) -> Iterator[Float32]:
    """Give of each tree what its nodes say; only of its leaves that means something."""
    for tree in trees(model):
        yield np.array(tree["split_conditions"], np.float32)


def importance(model: dict[str, Any]) -> dict[int, float]:
    """Tell which share of all that splits gained came from each feature; empty without any split."""
    gains: defaultdict[int, list[float]] = defaultdict(list)
    for tree in trees(model):
        for feature, gain, left in zip(
            tree["split_indices"], tree["loss_changes"], tree["left_children"], strict=True
        ):
            if left != -1:
                gains[feature].append(gain)
    total = math.fsum(gain for found in gains.values() for gain in found)
    if total <= 0:
        return {}
    return {feature: math.fsum(found) / total for feature, found in sorted(gains.items())}
