"""The known keys, and how they may be spelled."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

#: Short spellings of some keys.
SYNONYMS = {
    "market.from": "market.from_ms",
    "market.to": "market.to_ms",
    "market.start": "market.start_ms",
    "servers.postgres": "servers.postgres_url",
    "servers.redis": "servers.redis_url",
}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake(name: str) -> str:
    """Spell one part of a key in snake_case: ``macdFast`` and ``MACD_FAST`` become ``macd_fast``."""
    return name.lower() if name.isupper() else _HUMP.sub("_", name).lower()


class KnownKeys:
    """All keys of a settings model.

    Attributes
    ----------
    fields
        Dotted name to field, for every key that holds a value.
    sections
        Dotted names of what is a table of its own.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self.fields: dict[str, FieldInfo] = {}
        self.sections: set[str] = set()
        self._walk(model, "")
        #: Keys that hold a secret, and every table around one.
        self._secret = {
            key[:end]
            for key, info in self.fields.items()
            if _is_secret(info)
            for end in (*(place for place, letter in enumerate(key) if letter == "."), len(key))
        }

    def _walk(self, model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            inner = info.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                self.sections.add(prefix + name)
                self._walk(inner, f"{prefix}{name}.")
            else:
                self.fields[prefix + name] = info

    def is_secret(self, key: str) -> bool:
        """Whether a key holds a secret, or is a table in which there are some."""
        return key in self._secret

    def holds_table(self, key: str) -> bool:
        """Whether a key's value is a table with names that the user chooses."""
        info = self.fields.get(key)
        return info is not None and getattr(info.annotation, "__origin__", None) in _MAPPINGS

    def holds_list(self, key: str) -> bool:
        """Whether a key's value is a list."""
        info = self.fields.get(key)
        return info is not None and getattr(info.annotation, "__origin__", None) is tuple

    def nearest(self, key: str) -> str | None:
        """Find the known key that a mistyped one probably meant."""
        names = [*self.fields, *self.sections]
        near = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
        if near:
            return near[0]
        # The right name in the wrong section.
        last = key.rpartition(".")[2]
        by_last: dict[str, str] = {}
        for name in self.fields:
            by_last.setdefault(name.rpartition(".")[2], name)
        near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.65)
        return by_last[near[0]] if near else None


_MAPPINGS: tuple[Any, ...] = (dict, Mapping)


def _is_secret(info: FieldInfo) -> bool:
    return info.annotation is SecretStr or SecretStr in get_args(info.annotation)


@cache
def known_keys(model: type[BaseModel]) -> KnownKeys:
    """Collect the keys of a model, once."""
    return KnownKeys(model)
