"""The report of correlations as one page that needs nothing else: no network, no script, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np

from cli.report_correlations_charts import LEGEND_CSS, heat_map, lag_chart
from domain.evaluation.correlations import MOST_LAGS, View
from training.evaluation.report_html_charts import Line, Whisker, legend, line_chart, whisker_chart
from training.evaluation.report_html_pieces import cell, charts, figure, number, table
from training.evaluation.report_html_style import STYLE

_COLOURS = ("s1", "s2", "s3", "s4", "s5", "s6")
_OWN_STYLE = f"""
{LEGEND_CSS}
.charts.small {{ grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)); }}
.chips {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0; }}
"""
#: Days a line of daily correlations needs.
_FEWEST_DAYS = 3
_STALE_SHARE = 0.1


def page(told: Mapping[str, Any], views: Sequence[View]) -> str:
    """Write the page, from the plain answer and the views that it was made of."""
    sections = [
        _head(told),
        _together(views),
        _leads(told, views),
        *(_curves(view, is_open=number == 0) for number, view in enumerate(views)),
        _days(told, views),
        _betas(told, views),
        _method(told),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Correlations of {escape(str(told['source']))}</title>"
        f"<style>{STYLE}{_OWN_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(told: Mapping[str, Any]) -> str:
    leads = told["leads"]
    words = (
        "; ".join(
            f"{each['leader']} leads {each['follower']} by {_minutes(each['minutes'])}"
            f" ({each['timeframe']}-minute returns)"
            for each in leads
        )
        + "."
        if leads
        else "Nobody leads anybody, beyond chance."
    )
    small = (
        f"Of {told['looked_at']} pairs and timeframes, at {MOST_LAGS} lags each; the chance of any false"
        f" leader among all of them is held below {100 * told['family_wise_error']:g} %."
    )
    return (
        f"<h1>How {len(told['symbols'])} symbols move together</h1>"
        f'<p class="soft">{escape(str(told["source"]))} · {told["from"]} to {told["to"]} ·'
        f" {escape(', '.join(told['symbols']))}</p>"
        f'<div class="verdict {"yes" if leads else "no"}">{escape(words)}<small>{escape(small)}</small></div>'
    )


def _together(views: Sequence[View]) -> str:
    drawn = [
        figure(
            f"{view.timeframe_minutes}-minute returns",
            f"{max(view.returns.values()):,} returns at most; point at a cell for its interval",
            heat_map(view),
        )
        for view in views
        if view.correlations
    ]
    return (
        "<h2>Correlation of returns</h2>"
        "<p>Above the diagonal Pearson's correlation, below it that of ranks, which single jumps cannot"
        " move. The deeper the colour, the larger the share of the variance in common.</p>" + charts(*drawn)
    )


def _leads(told: Mapping[str, Any], views: Sequence[View]) -> str:
    rows = [
        [
            f'<td class="text">{escape(each["leader"])}</td>',
            f'<td class="text">{escape(each["follower"])}</td>',
            cell(each["minutes"]),
            cell(each["timeframe"]),
            cell(number(each["correlation"], 3)),
            cell(number(each["correlation"] - each["excess"], 3)),
            cell(f"{each['adjusted_p']:.2g}"),
        ]
        for each in told["leads"]
    ]
    stale = [
        f"{symbol} ({100 * share:.0f} %)"
        for symbol, share in views[0].unmoved.items()
        if share > _STALE_SHARE
    ]
    note = (
        f'<p class="note">Returns over {_minutes(views[0].timeframe_minutes)} that are exactly 0:'
        f" {escape(', '.join(stale))}. A symbol that is seldom traded reacts when it trades: that it follows"
        " may be no more than a stale price, which nobody can trade on.</p>"
        if stale
        else ""
    )
    found = (
        table(
            [
                "leader",
                "follower",
                "minutes",
                "returns over, min",
                "correlation there",
                "the other way",
                "p, after all looked at",
            ],
            rows,
            texts=2,
        )
        if rows
        else "<p>No pair's cross-correlations differ between the two directions by more than chance"
        " explains.</p>"
    )
    return f"<h2>Who leads whom</h2>{found}{note}"


def _curves(view: View, *, is_open: bool) -> str:
    if not view.lead_lags:
        return ""
    drawn = "".join(
        figure(
            f"{_short(each.first)} and {_short(each.second)}",
            (
                f"{each.leader} leads by {_minutes(each.lead_minutes)}"
                if each.leader
                else "nobody leads, beyond chance"
            )
            + f"; at once {each.correlation[MOST_LAGS]:.2f}",
            lag_chart(each, view.timeframe_minutes),
        )
        for each in view.lead_lags
    )
    keys = legend([("s1", "inside the bounds"), ("s5", "beyond them"), ("band", "bounds")])
    return (
        f"<details{' open' if is_open else ''}><summary>Cross-correlations of"
        f" {view.timeframe_minutes}-minute returns</summary>"
        "<p>On the right the second symbol is looked at later: bars there are moves of the first that the"
        " second repeats. The correlation at once, which dwarfs all others, is left out and told in words."
        f" One symbol leads where the two sides differ.</p>{keys}"
        f'<div class="charts small">{drawn}</div></details>'
    )


def _days(told: Mapping[str, Any], views: Sequence[View]) -> str:
    leader = told["leader"]
    drawn = []
    for view in views:
        mine = [each for each in view.daily if leader in (each.first, each.second)]
        if not mine or max(int(np.isfinite(each.correlation).sum()) for each in mine) < _FEWEST_DAYS:
            continue
        lines = [
            Line(
                name=name,
                x=each.day_ms.astype(np.float64),
                y=each.correlation,
                css=_colour(told, name),
            )
            for each in mine
            for name in (each.second if each.first == leader else each.first,)
        ]
        drawn.append(
            figure(
                f"{view.timeframe_minutes}-minute returns",
                f"correlation with {leader} on each day, UTC",
                legend([(line.css, line.name) for line in lines])
                + line_chart(
                    lines,
                    title=f"daily correlation with {leader}",
                    x_label="UTC",
                    y_label="correlation",
                    x_text=_day,
                    y_text=lambda v: f"{v:.2f}",
                    x_ticks=_some(lines[0].x),
                    baseline=0.0,
                ),
            )
        )
    if not drawn:
        return ""
    return (
        "<h2>Day by day</h2><p>Correlations are no constants: a model that relies on one relies on it"
        " staying. Days of few returns, as of 24 hours, scatter by chance alone.</p>" + charts(*drawn)
    )


def _betas(told: Mapping[str, Any], views: Sequence[View]) -> str:
    rows = [
        Whisker(
            label=f"{_short(each.symbol)}, {view.timeframe_minutes} min",
            value=each.beta.estimate,
            low=each.beta.low,
            high=each.beta.high,
            css=_colour(told, symbol),
        )
        for symbol in told["symbols"]
        for view in views
        for each in view.betas
        if each.symbol == symbol
    ]
    if not rows:
        return ""
    drawn = whisker_chart(
        rows,
        title=f"beta to {told['leader']}",
        x_label=f"percent per percent of {told['leader']}",
        text=lambda v: f"{v:.2f}",
        nominal=(1.0,),
    )
    shares = [
        [f'<td class="text">{escape(symbol)}</td>', *(cell(_share(view, symbol)) for view in views)]
        for symbol in told["symbols"]
        if symbol != told["leader"]
    ]
    return f"<h2>Beta to {escape(told['leader'])}</h2>" + charts(
        figure("Beta", "with its 95 % interval; dashed: as much as the leader", drawn),
        figure(
            "Explained by the leader",
            "percent of the variance",
            table(["", *(f"{view.timeframe_minutes} min" for view in views)], shares),
        ),
    )


def _method(told: Mapping[str, Any]) -> str:
    return (
        "<h2>How to read this</h2>"
        "<p>Returns are logarithms between the closes of whole bars of the clock (UTC). Nothing is filled: a"
        " return exists where both of its ends have a candle, and a pair is looked at where both symbols have"
        " one.</p><p>Intervals (95 %) are from blocks of days drawn anew, because volatility and correlation"
        " persist for hours. The bounds of the cross-correlations come from their spread over blocks of bars,"
        " which sees autocorrelation and shared bursts, and are widened for every pair, lag and timeframe"
        f" looked at ({told['looked_at'] * 2 * MOST_LAGS:,} in all).</p>"
        "<p>A lead is a difference between the two directions, not one large correlation: symbols that share"
        " an autocorrelated market have equal correlations both ways, and nobody leads.</p>"
    )


def _colour(told: Mapping[str, Any], symbol: str) -> str:
    return _COLOURS[told["symbols"].index(symbol) % len(_COLOURS)]


def _share(view: View, symbol: str) -> str:
    return next((f"{100 * each.r2:.0f}" for each in view.betas if each.symbol == symbol), "–")


def _some(days: Any) -> list[float]:
    """Choose up to six days for the axis."""
    every = [float(day) for day in days]
    return every[:: max(1, -(-len(every) // 6))]


def _day(at_ms: float) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%b %d}"


def _short(symbol: str) -> str:
    return symbol.removesuffix("USDT") or symbol


def _minutes(count: int) -> str:
    return "1 minute" if count == 1 else f"{count} minutes"
