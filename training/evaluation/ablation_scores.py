"""What each group of features is worth, from what models with and without it said on the same minutes.

Worth is how much more skill the model with all features has than the one without the group
(`training.evaluation.contrasts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.ablation import FULL, Ablated
from training.evaluation.contrasts import Contrast, Level, differences, judged, level, with_all_together


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth(Contrast):
    """What one group, of so many features, is worth: the model with all features against one without it."""

    group: str
    features: int


def levels(ablated: Sequence[Ablated], *, seed: int) -> list[Level]:
    """Measure the skill of the model with all features, by recording and horizon."""
    return [level(each, FULL, horizon, seed=seed) for each in ablated for horizon in each.horizons]


def worths(ablated: Sequence[Ablated], *, seed: int) -> list[Worth]:
    """Measure what every group is worth, on each recording and on all together, and judge all at once."""
    return judged(
        [
            Worth(recording=name, group=variant, features=features, **each._asdict())
            for name, members in with_all_together(ablated)
            for variant, features in members[0].hidden.items()
            if variant != FULL
            for each in differences(members, model=FULL, against=variant, seed=seed)
        ]
    )
