"""Figures as a table in Markdown, and the generated part of the page about them."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from cli.benches.base.bench import NotMeasuredError
from cli.benches.base.figure import Figure, rounded

BEGIN = "<!-- figures: written by `tidecast bench --into`, do not edit by hand -->"
END = "<!-- end of figures -->"
_HEAD = (
    "| figure | value | unit | reference | ratio | promise | holds | measured |\n"
    "|---|---|---|---|---|---|---|---|"
)


def as_markdown(figures: Sequence[Figure]) -> str:
    """Write a table."""
    return "\n".join([_HEAD, *(_row(figure) for figure in figures)])


def put_into(page: Path, figures: Sequence[Figure]) -> None:
    """Put figures into a page's table; rows of figures that were not measured now stay.

    Raises
    ------
    NotMeasuredError
        If the page has no place for them.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise NotMeasuredError(f"{page} has no part between {BEGIN} and {END}")
    rows = {row.split("|")[1].strip(): row for row in old.splitlines() if row.startswith("| ")}
    rows.pop("figure", None)
    rows |= {f"`{figure.name}`": _row(figure) for figure in figures if figure.error is None}
    table = "\n".join([_HEAD, *rows.values()])
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def _row(figure: Figure) -> str:
    cells = [
        f"`{figure.name}`",
        _number(figure.value),
        figure.unit,
        _number(figure.reference),
        _number(figure.ratio),
        figure.promise or "",
        {True: "yes", False: "no", None: ""}[figure.holds],
        _circumstances(),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{rounded(value):,}"


def _circumstances() -> str:
    # A figure of a busy machine says little; the load of the last minutes tells.
    today = datetime.datetime.now(datetime.UTC).date()
    load = os.getloadavg()[1]
    return f"{today}, {os.cpu_count()} cores ({platform.machine()}), load {load:.1f}"
