"""Compile an update rule to machine code, once, and keep it on disk until any rule changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

Rule = TypeVar("Rule", bound=Callable[..., Any])

_DOMAIN = Path(__file__).parents[2]


@cache
def rules_digest() -> str:
    """Hash the sources of all compiled rules and of what they freeze."""
    digest = hashlib.sha256()
    for folder in ("indicators", "features"):
        for path in sorted((_DOMAIN / folder).rglob("*.py")):
            source = path.read_bytes()
            if b"@compiled" in source:
                digest.update(path.name.encode() + b"\0" + source)
    return digest.hexdigest()


class _RuleCache(FunctionCache):  # type: ignore[misc]  # numba carries no types
    # numba looks only at the file of the function itself. A loop that was compiled with an older version of a
    # rule in another file would go on being served from the cache, so all of the sources are in the key.
    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), rules_digest())


def compiled(rule: Rule) -> Rule:
    """Compile a rule: arithmetic in the written order, x/0 gives inf or NaN, no interpreter lock.

    No `fastmath`, so no caller and no vector width changes a bit of the result.
    """
    dispatcher = njit(error_model="numpy", nogil=True)(rule)
    dispatcher._cache = _RuleCache(rule)  # what njit(cache=True) does, with our key
    return dispatcher  # type: ignore[no-any-return]
