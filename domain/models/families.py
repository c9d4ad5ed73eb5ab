"""The model families, found by file name and checked against this list."""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.util import find_spec

from domain.models.model import Family, UnknownFamilyError

NAMES: tuple[str, ...] = ("ensemble", "last_value", "lstm", "ridge", "xgboost")
#: Those that usually learn all horizons at once, and those that look back.
JOINT = frozenset({"ensemble", "last_value", "lstm", "ridge"})
LOOKING_BACK = frozenset({"ensemble", "lstm"})
#: Those with a search space, known without loading their libraries.
TUNABLE = frozenset({"lstm", "ridge", "xgboost"})
#: The library of a family that does not come with the program, and how it is installed.
_EXTRAS = {"lstm": ("torch", "pip install 'tidecast[deep]'")}


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


def is_installed(name: str) -> bool:
    """Tell whether the family's library is there, without loading it."""
    library, _ = _EXTRAS.get(name, ("", ""))
    return not library or find_spec(library) is not None


def load(name: str) -> Family:
    """Load the family of this name, with its training library.

    Raises
    ------
    UnknownFamilyError
        If there is none, or its library is not installed.
    """
    check_name(name)
    library, remedy = _EXTRAS.get(name, ("", ""))
    try:
        family: Family = import_module(f"domain.models.{name}").FAMILY
    except ModuleNotFoundError as error:
        if not library or error.name != library:
            raise
        raise UnknownFamilyError(
            f"the model family {name!r} needs {library}, which is not installed: {remedy}"
        ) from error
    return family
