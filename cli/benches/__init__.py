"""The benches of `tidecast bench`: one file each, found by its name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from cli.benches.base.bench import Bench


class UnknownBenchError(ValueError):
    """No bench and no figure is called so."""


def names() -> tuple[str, ...]:
    """Name every bench: the files of this folder, in alphabetical order."""
    return tuple(sorted(module.name for module in iter_modules(__path__) if not module.ispkg))


def load(name: str) -> Bench:
    """Get a bench by the name of its file."""
    return cast(Bench, import_module(f"{__name__}.{name}"))


def chosen(wanted: list[str]) -> dict[str, tuple[Bench, tuple[str, ...]]]:
    """Find the benches for names of benches or figures, with the figures that are wanted of each.

    Without names it is all but those that take long.

    Raises
    ------
    UnknownBenchError
        Naming what there is.
    """
    benches = {name: load(name) for name in names()}
    if not wanted:
        return {name: (bench, bench.GIVES) for name, bench in benches.items() if not bench.ON_REQUEST}
    known = {*benches, *(figure for bench in benches.values() for figure in bench.GIVES)}
    if strangers := [name for name in wanted if name not in known]:
        raise UnknownBenchError(f"no bench {', '.join(strangers)}; there are {', '.join(sorted(known))}")
    picked = {}
    for name, bench in benches.items():
        figures = tuple(figure for figure in bench.GIVES if name in wanted or figure in wanted)
        if figures:
            picked[name] = (bench, figures)
    return picked
