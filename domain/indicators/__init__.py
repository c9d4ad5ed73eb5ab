"""Technical indicators: one file, one compiled update rule on a small state, found by the file's name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from domain.indicators.base.spec import IndicatorSpec
from schemas.frames import Float64


class Indicator(Protocol):
    """What a file of this folder holds."""

    SPEC: IndicatorSpec

    def update(self, state: Float64, candle: Float64, out: Float64, *parameters: float) -> None:
        """Take in one candle and write the outputs."""
        ...


@cache
def names() -> tuple[str, ...]:
    """Name every indicator: the files of this folder, in alphabetical order."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.ispkg))


def load(name: str) -> Indicator:
    """Get an indicator by the name of its file.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    if name not in names():
        raise ValueError(f"no indicator {name!r}; there are: {', '.join(names())}")
    return cast(Indicator, import_module(f"{__name__}.{name}"))
