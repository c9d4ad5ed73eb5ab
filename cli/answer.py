"""How a command answers: a JSON object or text on standard output; progress goes to standard error."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

#: For what is no answer: progress, hints, errors.
progress = Console(stderr=True, highlight=False, soft_wrap=True)
_screen = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line of the answer for people."""
    _screen.print(text, markup=False)


def give_json(answer: Mapping[str, Any]) -> None:
    """Print the whole answer as one JSON object."""
    sys.stdout.write(json.dumps(answer, default=plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _text(value) for value in row))
    # A table cut to a pipe's supposed 80 columns would lose values.
    _screen.print(table, soft_wrap=False, width=None if _screen.is_terminal else 240)


def plain(value: Any) -> Any:
    """Turn a value from the database into one that JSON knows."""
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return str(value)


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=plain, ensure_ascii=False)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return str(value)
