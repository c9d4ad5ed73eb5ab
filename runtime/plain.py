"""Any Python value as plain JSON values, whatever it is and however broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_DEEPEST = 8
_LONGEST_TEXT = 20_000
_MOST_ENTRIES = 1_000


def plain(value: Any, change: Callable[[str], str] | None = None, depth: int = 0) -> Any:
    """Turn a value into dicts, lists, text, numbers, booleans and None; never raises.

    Parameters
    ----------
    value
        Anything. What JSON does not know becomes text; a float that is no number becomes None; very long
        text, lists and deep nesting are cut.
    change
        Applied to every text, names included.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        item = value.item()
        # A long double's item is itself.
        return _text(item, change) if isinstance(item, np.generic) else plain(item, change, depth)
    if isinstance(value, int):
        return int(value) if -(2**53) <= value <= 2**53 else _text(value, change)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth < _DEEPEST and isinstance(value, (Mapping, list, tuple, set, frozenset)):
        try:
            return _container(value, change, depth + 1)
        except Exception:  # noqa: BLE001  changed by another thread meanwhile, or not what it claims to be
            return f"<{type(value).__name__} that cannot be read>"
    return _text(value, change)


def _container(value: Any, change: Callable[[str], str] | None, depth: int) -> Any:
    if isinstance(value, Mapping):
        entries = list(value.items())[:_MOST_ENTRIES]
        return {_text(name, change): plain(inner, change, depth) for name, inner in entries}
    return [plain(inner, change, depth) for inner in list(value)[:_MOST_ENTRIES]]


def _text(value: Any, change: Callable[[str], str] | None) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001  a value that cannot be shown must not cost the record it is in
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    if change is not None:
        text = change(text)
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}..."
    # Half a surrogate pair is legal in Python and in no encoding.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
