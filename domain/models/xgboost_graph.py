"""Turn XGBoost's own JSON model into ONNX nodes.

Written here, and not taken from a converter, because the general converters carry known silent faults (a
first tree without split, a base score in the wrong space) and put random names into the graph; the parity
gate holds the result against the library either way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from domain.models import graph
from domain.models.model import INPUT, OUTPUTS


def build(*, change: dict[str, Any], rise: dict[str, Any], features: int) -> bytes:
    """Make one graph of the two heads."""
    nodes = [
        _ensemble(change, "change", base=_base_score(change)),
        helper.make_node("Reshape", ["change", "flat"], [OUTPUTS[0]], name="flatten_change"),
        _ensemble(rise, "rise", base=_logit(_base_score(rise))),
        helper.make_node("Sigmoid", ["rise"], ["rise_probability"], name="to_probability"),
        helper.make_node("Reshape", ["rise_probability", "flat"], [OUTPUTS[1]], name="flatten_rise"),
    ]
    flat = numpy_helper.from_array(np.array([-1], np.int64), "flat")
    return graph.build(nodes=nodes, initializers=[flat], features=features)


def _ensemble(model: dict[str, Any], output: str, *, base: float) -> Any:
    attributes: dict[str, list[Any]] = defaultdict(list)
    for number, tree in enumerate(model["learner"]["gradient_booster"]["model"]["trees"]):
        _add_tree(attributes, number, tree)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        [output],
        domain="ai.onnx.ml",
        name=f"trees_{output}",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[base],
        **dict(sorted(attributes.items())),
    )


def _add_tree(attributes: dict[str, list[Any]], number: int, tree: dict[str, Any]) -> None:
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
            attributes["target_ids"].append(0)
            attributes["target_weights"].append(float(condition))


def _base_score(model: dict[str, Any]) -> float:
    return float(str(model["learner"]["learner_model_param"]["base_score"]).strip("[]"))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
