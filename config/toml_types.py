"""Whether a value of a TOML file has the type that its key wants: TOML has types, so nothing is parsed twice.

Text from the environment and the command line has no type, and is parsed by the models instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from config.base import TakesDates

_PLAIN: Mapping[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    Path: (str,),
    SecretStr: (str,),
}


def has_type_of(field: FieldInfo, value: Any) -> bool:
    """Say whether a value has a type that a field takes; whether it may have that value is not asked."""
    return _fits(field.annotation, field.metadata, value)


def _fits(wanted: Any, about: list[Any] | tuple[Any, ...], value: Any) -> bool:
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _fits(parts[0], wanted.__metadata__, value)
    if origin in (Union, UnionType):
        return any(_fits(part, (), value) for part in parts if part is not NoneType)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(parts[0], (), each) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(parts[1], (), each) for each in value.values())
    if any(isinstance(each, TakesDates) for each in about) and isinstance(value, (str, date)):
        return True
    if origin is Literal:
        return isinstance(value, str)
    if wanted not in _PLAIN:
        return True
    # Python counts True among the whole numbers.
    return isinstance(value, _PLAIN[wanted]) and (wanted is bool or not isinstance(value, bool))


def is_quoted(field: FieldInfo, value: Any) -> bool:
    """Say whether what is wrong may be no more than quotes around a number, true or false."""
    if get_origin(field.annotation) is tuple:
        return isinstance(value, (list, tuple)) and any(isinstance(each, str) for each in value)
    return isinstance(value, str) and get_origin(field.annotation) is not Mapping
