"""Pages with a part that a command writes: where it stands, and the pieces of Markdown that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from domain.evaluation.bootstrap import Interval
from training.evaluation.contrasts import Contrast


def check_page(into: Path | None, begin: str) -> None:
    """Say before the work that the tables could not be put into a page after it.

    Raises
    ------
    OSError
        If there is no such page, or it has no place for them.
    """
    if into is None:
        return
    if not into.is_file():
        raise OSError(f"--into {into}: there is no such page; it needs a line {begin}")
    if begin not in into.read_text(encoding="utf-8"):
        raise OSError(f"--into {into}: has no line {begin} to put the tables behind")


def put_into(page: Path, tables: str, *, begin: str, end: str) -> None:
    """Put tables into a page, in place of those that were there between two lines.

    Raises
    ------
    OSError
        If the page has no place for them.
    """
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise OSError(f"{page}: has no part between {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{tables}\n\n{end}{after}", encoding="utf-8")


def marked(each: Contrast) -> str:
    """Write what a comparison found, marked where its own interval leaves out 0."""
    return with_interval(each.worth) + ("¹" if each.stands_out else "")


def with_interval(interval: Interval) -> str:
    """Write an estimate with its bounds, where there are any."""
    if math.isnan(interval.low):
        return f"{interval.estimate:+.2f}"
    return f"{interval.estimate:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def day(time_ms: int) -> str:
    """Write the day of a time, UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)
