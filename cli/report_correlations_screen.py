"""The report of correlations in the terminal: a coloured matrix per timeframe, leads and betas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cli.answer import say, show_table
from domain.evaluation.bootstrap import Interval
from domain.evaluation.correlations import LeadLag, View

#: Colours of a correlation of 1 and of -1; 0 is white.
_TOGETHER, _APART = (60, 130, 220), (220, 80, 80)


def show(told: Mapping[str, Any], views: Sequence[View]) -> None:
    """Print everything but the single lags and days."""
    say(f"{told['source']}, {told['from']} to {told['to']}")
    for view in views:
        _matrix(view)
    _leads(views)
    _betas(told["leader"], views)
    _stale(views)


def _matrix(view: View) -> None:
    """Print Pearson's correlations above the diagonal, those of ranks below."""
    if not view.correlations:
        say(f"{view.timeframe_minutes} minutes: no two symbols have enough returns at the same time")
        return
    found = {(each.first, each.second): each for each in view.correlations}
    rows = []
    for k, row in enumerate(view.symbols):
        cells = [row]
        for j, column in enumerate(view.symbols):
            each = found.get((row, column) if k < j else (column, row))
            if k == j or each is None:
                cells.append("")
            else:
                cells.append(_coloured(each.pearson if k < j else each.rank))
        rows.append(cells)
    unit = "minute" if view.timeframe_minutes == 1 else "minutes"
    show_table(
        ["", *view.symbols],
        rows,
        title=f"returns over {view.timeframe_minutes} {unit}: Pearson above the diagonal, ranks below, 95 %",
    )


def _coloured(interval: Interval) -> str:
    value = interval.estimate
    if not math.isfinite(value):
        return ""
    ends = _TOGETHER if value > 0 else _APART
    shade = ",".join(str(round(255 + (end - 255) * value * value)) for end in ends)
    text = f" {value:+.2f} "
    if math.isfinite(interval.low):
        text += f"{interval.low:.2f}..{interval.high:.2f} "
    return f"[black on rgb({shade})]{text}[/]"


def _leads(views: Sequence[View]) -> None:
    pairs = list(dict.fromkeys((each.first, each.second) for view in views for each in view.lead_lags))
    by_place = {
        (each.first, each.second, view.timeframe_minutes): each for view in views for each in view.lead_lags
    }
    rows = [
        (
            first,
            second,
            *(_lead(by_place.get((first, second, view.timeframe_minutes))) for view in views),
        )
        for first, second in pairs
    ]
    show_table(
        ["", "", *(f"{view.timeframe_minutes}-minute returns" for view in views)],
        rows,
        title="who leads, by how many minutes (correlation at that lag; at the opposite lag), beyond chance",
    )


def _lead(each: LeadLag | None) -> str:
    if each is None:
        return "too few returns"
    if not each.leader:
        return "nobody"
    opposite = each.lead_correlation - each.excess
    return f"[bold]{each.leader}[/] by {each.lead_minutes} ({each.lead_correlation:+.3f}; {opposite:+.3f})"


def _betas(leader: str, views: Sequence[View]) -> None:
    by_place = {(each.symbol, view.timeframe_minutes): each for view in views for each in view.betas}
    rows = []
    for symbol in dict.fromkeys(symbol for symbol, _ in by_place):
        cells = [symbol]
        for view in views:
            each = by_place.get((symbol, view.timeframe_minutes))
            cells.append(
                ""
                if each is None
                else f"{each.beta.estimate:.2f} ({each.beta.low:.2f} to {each.beta.high:.2f}),"
                f" {100 * each.r2:.0f} %"
            )
        rows.append(cells)
    show_table(
        ["", *(f"{view.timeframe_minutes} min" for view in views)],
        rows,
        title=f"beta to {leader} (95 %), and the share of the variance that it explains",
    )


def _stale(views: Sequence[View]) -> None:
    stale = [
        f"{symbol} ({100 * share:.0f} % of its {views[0].timeframe_minutes}-minute returns)"
        for symbol, share in views[0].unmoved.items()
        if share > 0.1
    ]
    if stale:
        say(f"Often unmoved, so that following may be no more than a stale price: {', '.join(stale)}")
