"""Turn XGBoost's own JSON model into ONNX nodes.

Written here, and not taken from a converter, because the general converters carry known silent faults (a
first tree without split, a base score in the wrong space) and put random names into the graph; the parity
gate holds the result against the library either way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from onnx import helper

from domain.models import graph
from domain.models.model import INPUT, OUTPUTS


def build(*, changes: list[dict[str, Any]], rises: list[dict[str, Any]], features: int) -> bytes:
    """Make one graph of all heads, one of each kind a horizon."""
    change = _ensemble(changes, "change", [_base_score(model) for model in changes])
    rise = _ensemble(rises, "rise", [_logit(_base_score(model)) for model in rises])
    nodes = [
        change,
        helper.make_node("Identity", ["change"], [OUTPUTS[0]], name="name_change"),
        rise,
        helper.make_node("Identity", ["rise"], [OUTPUTS[1]], name="name_rise"),
    ]
    return graph.build(nodes=nodes, initializers=[], features=features, horizons=len(changes))


def _ensemble(models: list[dict[str, Any]], output: str, bases: list[float]) -> Any:
    attributes: dict[str, list[Any]] = defaultdict(list)
    number = 0
    for target, model in enumerate(models):
        for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
            _add_tree(attributes, number, target, tree)
            number += 1
    return helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        [output],
        domain="ai.onnx.ml",
        name=f"trees_{output}",
        n_targets=len(models),
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=bases,
        **dict(sorted(attributes.items())),
    )


def _add_tree(attributes: dict[str, list[Any]], number: int, target: int, tree: dict[str, Any]) -> None:
    left, right = tree["left_children"], tree["right_children"]
    for node, condition in enumerate(tree["split_conditions"]):
        leaf = left[node] == -1
        attributes["nodes_treeids"].append(number)
        attributes["nodes_nodeids"].append(node)
        attributes["nodes_featureids"].append(0 if leaf else int(tree["split_indices"][node]))
        attributes["nodes_modes"].append("LEAF" if leaf else "BRANCH_LT")
        attributes["nodes_values"].append(0.0 if leaf else float(condition))
        attributes["nodes_truenodeids"].append(0 if leaf else int(left[node]))
        attributes["nodes_falsenodeids"].append(0 if leaf else int(right[node]))
        attributes["nodes_missing_value_tracks_true"].append(0 if leaf else int(tree["default_left"][node]))
        attributes["nodes_hitrates"].append(1.0)
        if leaf:
            attributes["target_treeids"].append(number)
            attributes["target_nodeids"].append(node)
            attributes["target_ids"].append(target)
            attributes["target_weights"].append(float(condition))


def _base_score(model: dict[str, Any]) -> float:
    return float(str(model["learner"]["learner_model_param"]["base_score"]).strip("[]"))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
