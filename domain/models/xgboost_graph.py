"""Turn XGBoost's own JSON model into ONNX nodes.

Written here, and not taken from a converter, because the general converters carry known silent faults (a
first tree without split, a base score in the wrong space) and put random names into the graph; the parity
gate holds the result against the library either way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import AttributeProto, helper

from domain.models import graph, xgboost_text
from domain.models.model import INPUT, OUTPUTS


def build(*, changes: list[dict[str, Any]], rises: list[dict[str, Any]], features: int) -> bytes:
    """Make one graph of all heads, one of each kind a horizon."""
    nodes = []
    for kind, output, models in zip(("change", "rise"), OUTPUTS, (changes, rises), strict=True):
        bases = [_base_score(model) for model in models]
        if kind == "rise":
            bases = [_logit(base) for base in bases]
        # a node a head: the runtime adds up one number a row faster than several
        heads = [f"{kind}{number}" for number in range(len(models))]
        nodes += [_ensemble(*each) for each in zip(models, heads, bases, strict=True)]
        nodes.append(helper.make_node("Concat", heads, [output], name=f"name_{kind}", axis=1))
    return graph.build(nodes=nodes, initializers=[], features=features, horizons=len(changes))


def _ensemble(model: dict[str, Any], output: str, base: float) -> Any:
    node = helper.make_node(
        "TreeEnsembleRegressor", [INPUT], [output], domain="ai.onnx.ml", name=f"trees_{output}"
    )
    attributes = {
        "n_targets": 1,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "base_values": [base],
    }
    # written as they are: the general way looks at every one of the many numbers several times
    node.attribute.extend(
        sorted(
            [helper.make_attribute(name, value) for name, value in attributes.items()] + _trees(model),
            key=lambda attribute: attribute.name,
        )
    )
    return node


def _trees(model: dict[str, Any]) -> list[Any]:
    """Write the nodes of all trees, one behind the other."""
    trees = xgboost_text.trees(model)

    def together(name: str, kind: Any) -> Any:
        return np.concatenate([np.zeros(0, kind), *(np.array(tree[name], kind) for tree in trees)])

    sizes = [len(tree["split_conditions"]) for tree in trees]
    number = np.repeat(np.arange(len(trees)), sizes)
    place = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])
    left, value = together("left_children", np.int64), together("split_conditions", np.float64)
    leaf = left == -1

    def of_splits(values: Any) -> Any:
        return np.where(leaf, 0, values)

    ints = {
        "nodes_treeids": number,
        "nodes_nodeids": place,
        "nodes_featureids": of_splits(together("split_indices", np.int64)),
        "nodes_truenodeids": of_splits(left),
        "nodes_falsenodeids": of_splits(together("right_children", np.int64)),
        "nodes_missing_value_tracks_true": of_splits(together("default_left", np.int64)),
        "target_treeids": number[leaf],
        "target_nodeids": place[leaf],
        "target_ids": np.zeros(int(leaf.sum()), np.int64),
    }
    floats = {
        "nodes_values": of_splits(value),
        "nodes_hitrates": np.ones(len(leaf)),
        "target_weights": value[leaf],
    }
    modes = [b"LEAF" if each else b"BRANCH_LT" for each in leaf.tolist()]
    kinds = AttributeProto
    return [
        *(AttributeProto(name=name, type=kinds.INTS, ints=each.tolist()) for name, each in ints.items()),
        *(
            AttributeProto(name=name, type=kinds.FLOATS, floats=each.tolist())
            for name, each in floats.items()
        ),
        AttributeProto(name="nodes_modes", type=kinds.STRINGS, strings=modes),
    ]


def _base_score(model: dict[str, Any]) -> float:
    return float(str(model["learner"]["learner_model_param"]["base_score"]).strip("[]"))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
