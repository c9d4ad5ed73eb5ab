"""What each way to begin a retraining is worth, against beginning anew on the same minutes.

Worth, intervals and verdicts are those of `training.evaluation.contrasts`: differences of skills in
percentage points, with every p-value of the page held against Holm's steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.contrasts import Contrast, Level, differences, judged, level, with_all_together
from training.evaluation.modes import BATCH, ONLINE, OWN, RESEEDED, TRANSFER, Tried

#: Each way, and the one that it is compared with.
AGAINST = {RESEEDED: BATCH, ONLINE: BATCH, TRANSFER: OWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain(Contrast):
    """What one way is worth: its skill less that of the way that it is compared with."""

    family: str
    way: str
    against: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How good the models of one way are."""

    family: str
    way: str
    level: Level


def standings(tried: Sequence[Tried], *, seed: int) -> list[Standing]:
    """Measure the skill of every way, by recording, family and horizon."""
    return [
        Standing(family=each.family, way=way, level=level(each, way, horizon, seed=seed))
        for each in tried
        for way in each.predicted_pct
        for horizon in each.horizons
    ]


def gains(tried: Sequence[Tried], *, seed: int) -> list[Gain]:
    """Measure what every way is worth, on each recording and on all together, and judge all at once."""
    families = dict.fromkeys(each.family for each in tried)
    return judged(
        [
            Gain(recording=recording, family=family, way=way, against=against, **each._asdict())
            for family in families
            for way, against in AGAINST.items()
            for recording, members in with_all_together(
                [each for each in tried if each.family == family and way in each.predicted_pct]
            )
            for each in differences(members, model=way, against=against, seed=seed)
        ]
    )
