"""The model families, found by file name and checked against this list."""

from __future__ import annotations

import difflib
from importlib import import_module

from domain.models.model import Family, UnknownFamilyError

NAMES: tuple[str, ...] = ("ensemble", "last_value", "ridge", "xgboost")
#: Those that usually learn all horizons at once, and those that look back.
JOINT = frozenset({"ensemble", "last_value", "ridge"})
LOOKING_BACK: frozenset[str] = frozenset()


def check_name(name: str) -> None:
    """Check that there is a family of this name, without loading its library.

    Raises
    ------
    UnknownFamilyError
        If there is none.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownFamilyError(f"no model family {name!r}, there is {', '.join(NAMES)}{hint}")


def load(name: str) -> Family:
    """Load the family of this name, with its training library.

    Raises
    ------
    UnknownFamilyError
        If there is none.
    """
    check_name(name)
    family: Family = import_module(f"domain.models.{name}").FAMILY
    return family
