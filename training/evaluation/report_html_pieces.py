"""Pieces of the report: figures, tables, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np

from domain.evaluation.equity import EquityCurve
from training.evaluation.report_html_charts import Line, Whisker, line_chart

_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
#: Distances of the marks of a time axis.
_TIME_STEPS_MS = (
    *(minutes * _MINUTE_MS for minutes in (15, 30, 60, 120, 240, 480)),
    *(days * _DAY_MS for days in (1, 2, 5, 7, 14, 30, 90, 180)),
)
_MOST_TIMES = 8


def over_time(
    curves: Sequence[tuple[str, str, EquityCurve, Any]],
    *,
    y_label: str,
    baseline: float,
    filled: bool = False,
) -> str:
    """Draw curves over time."""
    first, last = float(curves[0][2].time_ms[0]), float(curves[0][2].time_ms[-1])
    step = next((s for s in _TIME_STEPS_MS if (last - first) / s <= _MOST_TIMES), _TIME_STEPS_MS[-1])
    begin, end = math.ceil(first / step), math.floor(last / step)
    marks = [float(k * step) for k in range(begin, end + 1)]
    text = _day if step >= _DAY_MS else _minute
    return line_chart(
        [
            Line(
                name=name,
                x=curve.time_ms.astype(np.float64),
                y=np.asarray(values, np.float64),
                css=colour,
                filled=filled and colour != "reference",
            )
            for name, colour, curve, values in curves
        ],
        title=y_label,
        x_label="UTC",
        y_label=y_label,
        x_text=text,
        y_text=lambda v: f"{v:,.6g}",
        x_ticks=marks,
        x_span=(first, last),
        baseline=baseline,
    )


def whisker(label: str, value: float, low: float, high: float, css: str) -> Whisker:
    """Make a row of a whisker chart from shares; shown in percent."""
    return Whisker(
        label=label,
        value=100 * or_nan(value),
        low=100 * or_nan(low),
        high=100 * or_nan(high),
        css=css,
    )


def figure(title: str, words: str, drawn: str) -> str:
    """Frame a chart under its title and a sentence about it."""
    return (
        f'<figure><figcaption><h3>{escape(title)}</h3><span class="note">{escape(words)}</span></figcaption>'
        f"{drawn}</figure>"
    )


def charts(*figures: str) -> str:
    """Lay figures out side by side."""
    return f'<div class="charts">{"".join(figures)}</div>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Write a table of cells; the first `texts` columns hold words."""
    head = "".join(
        f'<th class="text">{escape(title)}</th>' if k < texts else f"<th>{escape(title)}</th>"
        for k, title in enumerate(titles)
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """Write names and values below one another."""
    rows = [
        [
            f'<td class="text">{escape(key)}</td>',
            f'<td class="text long"><code>{escape(str(value))}</code></td>',
        ]
        for key, value in values.items()
    ]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def evidence_cell(each: Mapping[str, Any]) -> str:
    """Write whether there is evidence of skill; the sentence appears when pointed at."""
    said = "yes" if each["evidence"] else "no"
    return f'<td class="{said}" title="{escape(each["verdict"])}">{said}</td>'


def cell(value: object) -> str:
    """Write a cell that holds a number."""
    return f"<td>{escape(str(value))}</td>"


def number(value: float | None, digits: int, unit: str = "") -> str:
    """Write a number, or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}{unit}"


def percent(value: float | None, digits: int) -> str:
    """Write a share in percent, without the sign."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def interval(bounds: Sequence[float], digits: int) -> str:
    """Write two bounds."""
    low, high = bounds
    return "–" if not math.isfinite(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def or_nan(value: float | None) -> float:
    """Give NaN for nothing."""
    return float("nan") if value is None else value


def or_low(value: float | None) -> float:
    """Give a value to sort by, lowest for nothing."""
    return -math.inf if value is None or not math.isfinite(value) else value


def no_digit(value: float) -> str:
    """Write without decimals."""
    return f"{value:.0f}"


def one_digit(value: float) -> str:
    """Write with one decimal."""
    return f"{value:.1f}"


def two_digits(value: float) -> str:
    """Write with two decimals."""
    return f"{value:.2f}"


def _day(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%d %b").lstrip("0")


def _minute(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M")


def when(text: str) -> str:
    """Write a moment for people."""
    return escape(text.replace("T", " ").removesuffix("Z"))
