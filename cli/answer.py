"""How a command answers: a JSON object or text on standard output; progress goes to standard error."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

#: For what is no answer: progress, hints, errors.
progress = Console(stderr=True, highlight=False, soft_wrap=True)
# A table cut to a pipe's supposed 80 columns would lose values.
_screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)


def say(text: str) -> None:
    """Print a line of the answer for people."""
    _screen.print(text, markup=False)


def give_json(answer: Mapping[str, Any]) -> None:
    """Print the whole answer as one JSON object."""
    sys.stdout.write(json.dumps(_finite(answer), default=plain, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else _text(value) for value in row))
    _screen.print(table, soft_wrap=False)


def _finite(value: Any) -> Any:
    """Put null where JSON has no number: for NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


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
