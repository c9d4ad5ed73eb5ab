"""What an ensemble is made of, and how its members are weighed: every setting and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from domain.models import families
from domain.models.model import BadSettingsError, UnknownFamilyError

#: Members unless others are asked for, as far as their libraries are installed.
MEMBERS = ("xgboost", "lstm", "ridge")
WEIGHTINGS = ("skill", "regime", "stacked", "equal")
#: No members: the ensemble itself, and the no-change forecast, to which all weight that is left over belongs.
NEVER_MEMBERS = frozenset({"ensemble", "last_value"})
_FOLDS = range(2, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSettings:
    """How an ensemble is made.

    Attributes
    ----------
    members
        Names of families; each has its own settings as a mapping under its name.
    weighting
        `skill`: by how much each gains over no change on rows that it has not learned from; `regime`: the
        same in each regime; `stacked`: by least squares on what models of earlier rows say of later ones;
        `equal`.
    weights
        By family name; where given, they decide and not `weighting`. A member without one has none.
    folds
        Parts of the training rows that are foretold by models of the rows before them, for `stacked`.
    of_member
        The settings of each family.
    """

    members: tuple[str, ...]
    weighting: str = "skill"
    weights: Mapping[str, float] = field(default_factory=dict)
    folds: int = 3
    of_member: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EnsembleSettings:
        """Read settings, refusing what is unknown or not allowed, all at once; members check their own."""
        own = {f.name for f in fields(cls)} - {"of_member"}
        possible = {name for name in families.NAMES if name not in NEVER_MEMBERS}
        wrong = [
            f"{key!r} is unknown{_hint(key, own | possible)}" for key in values if key not in own | possible
        ]
        members = tuple(values.get("members", default_members()))
        wrong += _wrong_members(members, possible)
        weighting, folds = values.get("weighting", "skill"), values.get("folds", 3)
        if weighting not in WEIGHTINGS:
            wrong.append(f"weighting = {weighting!r} must be one of {', '.join(WEIGHTINGS)}")
        if isinstance(folds, bool) or folds not in _FOLDS:
            wrong.append(f"folds = {folds!r} must be a whole number in {_FOLDS.start}..{_FOLDS.stop - 1}")
        weights = values.get("weights") or {}
        wrong += _wrong_weights(weights, members)
        of_member = {key: value for key, value in values.items() if key in possible}
        wrong += _wrong_settings(of_member, members if not wrong else ())
        if wrong:
            raise BadSettingsError("ensemble: " + "; ".join(wrong))
        return cls(
            members=members,
            weighting=weighting,
            weights={name: float(weights.get(name, 0.0)) for name in members} if weights else {},
            folds=int(folds),
            of_member={name: dict(of_member.get(name, {})) for name in members},
        )


def default_members() -> tuple[str, ...]:
    """Name those of `MEMBERS` that this installation can train."""
    return tuple(name for name in MEMBERS if families.is_installed(name))


def _wrong_members(members: tuple[Any, ...], possible: set[str]) -> list[str]:
    can = ", ".join(sorted(possible))
    wrong = [
        f"{name!r} cannot be a member{_hint(name, possible)}; {can} can"
        for name in members
        if name not in possible
    ]
    if not members or len(set(members)) < len(members):
        wrong.append(f"members = {list(members)!r} must name at least one family, each once")
    return wrong


def _wrong_weights(weights: Any, members: tuple[str, ...]) -> list[str]:
    if not isinstance(weights, Mapping):
        return [f"weights = {weights!r} must be a weight for each family"]
    wrong = [f"weight of {name!r}, which is no member" for name in weights if name not in members]
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight < 0:
            wrong.append(f"weight of {name!r} = {weight!r} must be a number of at least 0")
    if weights and not wrong and not any(weights.values()):
        wrong.append("at least one weight must be more than 0")
    return wrong


def _wrong_settings(of_member: Mapping[str, Any], members: tuple[str, ...]) -> list[str]:
    wrong = [
        f"{name} = {settings!r} must be a mapping of its settings"
        for name, settings in of_member.items()
        if not isinstance(settings, Mapping)
    ]
    for name in members if not wrong else ():
        try:
            families.load(name).check_settings(of_member.get(name, {}))
        except (BadSettingsError, UnknownFamilyError) as error:
            wrong.append(str(error))
    return wrong


def _hint(name: Any, known: set[str]) -> str:
    near = difflib.get_close_matches(str(name), sorted(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""
