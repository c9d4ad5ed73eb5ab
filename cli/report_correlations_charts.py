"""Heat maps and cross-correlations as inline SVG, in the colours of the page."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from domain.evaluation.bootstrap import Interval
from domain.evaluation.correlations import LeadLag, View
from training.evaluation.report_html_charts import ticks

#: What the page's style sheet lacks for these charts.
LEGEND_CSS = """
svg .cell.up { fill: var(--s1); } svg .cell.down { fill: var(--s5); }
svg .cell.none { fill: none; stroke: var(--grid); }
svg text.value { fill: var(--ink); font-size: 13px; }
svg .bounds { fill: var(--faint); opacity: 0.22; } .swatch.band { background: var(--faint); opacity: 0.5; }
svg .lag { stroke-width: 3; } svg .lag.s1 { stroke: var(--s1); } svg .lag.s5 { stroke: var(--s5); }
"""
_WIDTH, _HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 22, 8, 34


def heat_map(view: View) -> str:
    """Draw a square of correlations: Pearson's above the diagonal, those of ranks below."""
    names = [symbol.removesuffix("USDT") or symbol for symbol in view.symbols]
    size, left, top = 64, 64, 26
    found = {(each.first, each.second): each for each in view.correlations}
    parts = [
        f'<text class="label" x="{left + size * (k + 0.5)}" y="16" text-anchor="middle">{escape(name)}</text>'
        f'<text class="label" x="{left - 8}" y="{top + size * (k + 0.5) + 4}" text-anchor="end">'
        f"{escape(name)}</text>"
        for k, name in enumerate(names)
    ]
    for k, row in enumerate(view.symbols):
        for j, column in enumerate(view.symbols):
            each = found.get((row, column) if k < j else (column, row))
            place = (left + size * j, top + size * k, size)
            if k == j or each is None:
                parts.append(_square(*place, "none", 1.0))
            else:
                kind, interval = ("Pearson", each.pearson) if k < j else ("ranks", each.rank)
                parts.append(_cell(*place, f"{names[k]} and {names[j]}, {kind}", interval))
    width, height = left + size * len(names) + 2, top + size * len(names) + 2
    title = f"correlations of returns over {view.timeframe_minutes} minutes"
    return _svg(width, height, title, parts)


def _cell(x: float, y: float, size: float, words: str, interval: Interval) -> str:
    value = interval.estimate
    if not math.isfinite(value):
        return _square(x, y, size, "none", 1.0)
    said = f"{words}: {value:.3f}"
    if math.isfinite(interval.low):
        said += f" ({interval.low:.3f} to {interval.high:.3f})"
    square = _square(x, y, size, "up" if value >= 0 else "down", 0.04 + 0.7 * value * value)
    return (
        f"<g><title>{escape(said)}</title>{square}"
        f'<text class="value" x="{x + size / 2}" y="{y + size / 2 + 5}" text-anchor="middle">'
        f"{value:.2f}</text></g>"
    )


def _square(x: float, y: float, size: float, css: str, opacity: float) -> str:
    return (
        f'<rect class="cell {css}" x="{x + 1}" y="{y + 1}" width="{size - 2}" height="{size - 2}" rx="3"'
        f' fill-opacity="{opacity:.3f}"/>'
    )


def lag_chart(each: LeadLag, timeframe_minutes: int) -> str:
    """Draw the cross-correlations of a pair at all lags but 0, over their bounds."""
    others = each.lags != 0
    shown = np.concatenate([each.correlation[others], each.bound[others], -each.bound[others]])
    most = float(np.nanmax(np.abs(shown), initial=0.01)) * 1.1
    first, last = int(each.lags[0]), int(each.lags[-1])

    def x(lag: float) -> float:
        return _LEFT + (lag - first + 0.5) / (last - first + 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (most - value) / (2 * most) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y(mark) + 3.5:.1f}" text-anchor="end">{mark:.2g}</text>'
        for mark in ticks(-most, most, about=4)
    ]
    step = (x(1) - x(0)) / 2
    for lag, value, bound in zip(
        each.lags.tolist(), each.correlation.tolist(), each.bound.tolist(), strict=True
    ):
        if lag == 0 or not math.isfinite(value):
            continue
        if math.isfinite(bound):
            parts.append(
                f'<rect class="bounds" x="{x(lag) - step:.1f}" y="{y(bound):.1f}" width="{2 * step:.1f}"'
                f' height="{y(-bound) - y(bound):.1f}"/>'
            )
        css = "s5" if abs(value) > bound else "s1"
        parts.append(
            f'<line class="lag {css}" x1="{x(lag):.1f}" x2="{x(lag):.1f}" y1="{y(0):.1f}"'
            f' y2="{y(value):.1f}"><title>{lag * timeframe_minutes:+d} minutes: {value:.4f},'
            f" bound {bound:.4f}</title></line>"
        )
    parts.append(f'<line class="frame" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    parts += [
        f'<text class="tick" x="{x(lag):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">'
        f"{lag * timeframe_minutes:+d}</text>"
        for lag in (first, first // 2, last // 2, last)
    ]
    later = f"minutes that {each.second.removesuffix('USDT')} is looked at later"
    parts.append(
        f'<text class="axis" x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(later)}</text>"
    )
    return _svg(_WIDTH, _HEIGHT, f"cross-correlations of {each.first} and {each.second}", parts)


def _svg(width: float, height: float, title: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
