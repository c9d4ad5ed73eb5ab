"""Charts of the report as inline SVG: drawn here, styled by the page, readable without any script.

Colours are the page's variables, so that a chart follows light and dark. Every mark says its value when
pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from schemas.frames import Float64

WIDTH = 560
#: Room for the labels of the axes, and above.
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 14, 40
#: A line of more points than this shows no more.
MOST_POINTS = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a chart.

    Attributes
    ----------
    css
        Class of its colour: `s1` .. `s6`, or `reference`.
    dots
        Whether its points are marked.
    sizes
        Relative areas of the dots; empty for equal ones.
    """

    name: str
    x: Float64
    y: Float64
    css: str
    dots: bool = False
    sizes: Sequence[float] = field(default=())
    filled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """An estimate with its interval, one row of a chart."""

    label: str
    value: float
    low: float
    high: float
    css: str
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values onto pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Choose round values inside a span: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(
    values: Iterable[float], *, include: Sequence[float] = (), share: float = 0.06
) -> tuple[float, float]:
    """Give a span that holds all finite values with some room."""
    known = [float(value) for value in (*values, *include) if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    x_ticks: Sequence[float] | None = None,
    y_span: tuple[float, float] | None = None,
    x_span: tuple[float, float] | None = None,
    baseline: float | None = None,
    diagonal: bool = False,
    height: int = 270,
    width: int = WIDTH,
) -> str:
    """Draw lines over a common axis; `title` is what a screen reader says."""
    shown = [_thinned(line) for line in lines]
    x_low, x_high = x_span or padded((v for line in shown for v in line.x), share=0.0)
    extra = () if baseline is None else (baseline,)
    y_low, y_high = y_span or padded((v for line in shown for v in line.y), include=extra)
    if not x_high > x_low:
        x_low, x_high = x_low - 1.0, x_high + 1.0
    x = _Scale(x_low, x_high, _LEFT, width - _RIGHT)
    y = _Scale(y_low, y_high, height - _BOTTOM, _TOP)
    parts = [_y_axis(y, ticks(y_low, y_high), y_text, width, y_label, height)]
    marks = list(x_ticks) if x_ticks is not None else ticks(x_low, x_high, about=6)
    parts.append(_x_axis(x, [v for v in marks if x_low <= v <= x_high], x_text, height, x_label, width))
    if baseline is not None:
        parts.append(_rule(_LEFT, width - _RIGHT, y(baseline)))
    if diagonal:
        begin, end = max(x_low, y_low), min(x_high, y_high)
        if end > begin:
            parts.append(
                f'<line class="reference" x1="{x(begin):.1f}" y1="{y(begin):.1f}" x2="{x(end):.1f}"'
                f' y2="{y(end):.1f}" stroke-dasharray="4 4"/>'
            )
    floor = y(max(y_low, min(0.0, y_high)))
    parts += [_drawn(line, x, y, x_text, y_text, floor) for line in shown]
    return _svg(width, height, title, parts)


def bar_chart(
    bars: Mapping[str, float], *, title: str, text: Callable[[float], str], x_label: str, css: str = "s1"
) -> str:
    """Draw horizontal bars from zero, in the order given, each with its value behind it."""
    left, row = 150, 20
    height = _TOP + row * len(bars) + _BOTTOM
    highest = max((value for value in bars.values() if math.isfinite(value)), default=0.0) or 1.0
    x = _Scale(0.0, highest, left, WIDTH - 70)
    parts = [_x_axis(x, ticks(0.0, highest, about=4), _plain, height, x_label, WIDTH, left=left)]
    for number, (name, value) in enumerate(bars.items()):
        top = _TOP + row * number
        length = max(x(value) - left, 0.5)
        parts.append(
            f"<g><title>{escape(name)}: {text(value)}</title>"
            f'<text class="label" x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>'
            f'<path class="bar {css}" d="{_bar(left, top + 3, length, row - 6)}"/>'
            f'<text class="value" x="{left + length + 6:.1f}" y="{top + 13}">{text(value)}</text></g>'
        )
    return _svg(WIDTH, height, title, parts)


def whisker_chart(
    rows: Sequence[Whisker],
    *,
    title: str,
    x_label: str,
    text: Callable[[float], str],
    nominal: Sequence[float],
) -> str:
    """Draw estimates with intervals, one row each; dashed lines mark the nominal values."""
    left, row = 150, 24
    height = _TOP + row * len(rows) + _BOTTOM
    values = [v for each in rows for v in (each.value, each.low, each.high)]
    low, high = padded(values, include=nominal)
    x = _Scale(low, high, left, WIDTH - _RIGHT)
    parts = [_x_axis(x, ticks(low, high, about=5), text, height, x_label, WIDTH, left=left)]
    parts += [
        f'<line class="reference" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}"'
        f' y2="{height - _BOTTOM}" stroke-dasharray="4 4"/>'
        for value in nominal
    ]
    for number, each in enumerate(rows):
        middle = _TOP + row * number + row / 2
        parts.append(
            f'<text class="label" x="{left - 8}" y="{middle + 4}" text-anchor="end">'
            f"{escape(each.label)}</text>"
        )
        if not math.isfinite(each.value):
            parts.append(f'<text class="value" x="{left + 6}" y="{middle + 4}">not known</text>')
            continue
        has_interval = math.isfinite(each.low) and math.isfinite(each.high)
        said = f"{each.label}: {text(each.value)}"
        if has_interval:
            said += f", {text(each.low)} to {text(each.high)}"
        whisker = (
            f'<line class="{each.css} whisker" x1="{x(each.low):.1f}" x2="{x(each.high):.1f}" y1="{middle}"'
            f' y2="{middle}"/>'
            if has_interval
            else ""
        )
        kind = "hollow" if each.hollow else "dot"
        parts.append(
            f"<g><title>{escape(said)}</title>{whisker}"
            f'<circle class="{kind} {each.css}" cx="{x(each.value):.1f}" cy="{middle}" r="4.5"/></g>'
        )
    return _svg(WIDTH, height, title, parts)


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Name the colours of a chart: (class, name)."""
    items = "".join(
        f'<span class="key"><i class="swatch {css}"></i>{escape(name)}</span>' for css, name in entries
    )
    return f'<p class="legend">{items}</p>'


def _thinned(line: Line) -> Line:
    """Keep so many points as can be seen, the lowest and highest of every stretch among them."""
    count = len(line.x)
    if count <= MOST_POINTS:
        return line
    kept = {0, count - 1}
    for part in np.array_split(np.arange(count), MOST_POINTS // 2):
        kept |= {int(part[np.argmin(line.y[part])]), int(part[np.argmax(line.y[part])])}
    chosen = np.array(sorted(kept))
    return Line(
        name=line.name,
        x=line.x[chosen],
        y=line.y[chosen],
        css=line.css,
        dots=line.dots,
        filled=line.filled,
    )


def _drawn(
    line: Line,
    x: _Scale,
    y: _Scale,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    floor: float,
) -> str:
    places = [
        (x(a), y(b), a, b)
        for a, b in zip(line.x.tolist(), line.y.tolist(), strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not places:
        return ""
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b, _, _ in places)
    last = f"{escape(line.name)}: {y_text(places[-1][3])} at {x_text(places[-1][2])}"
    drawn = ""
    if line.filled:
        drawn += (
            f'<path class="area {line.css}" d="{path}L{places[-1][0]:.1f} {floor:.1f}'
            f'L{places[0][0]:.1f} {floor:.1f}Z"/>'
        )
    drawn += f'<path class="line {line.css}" d="{path}"><title>{last}</title></path>'
    if line.dots:
        largest = max(line.sizes, default=1.0) or 1.0
        sizes = list(line.sizes) or [largest] * len(places)
        drawn += "".join(
            f'<circle class="dot {line.css}" cx="{a:.1f}" cy="{b:.1f}"'
            f' r="{2.5 + 2.5 * math.sqrt(size / largest):.1f}">'
            f"<title>{escape(line.name)}: {y_text(vb)} at {x_text(va)}</title></circle>"
            for (a, b, va, vb), size in zip(places, sizes, strict=False)
        )
    return drawn


def _bar(left: float, top: float, length: float, thick: float) -> str:
    """Outline of a bar: square where it begins, rounded where it ends."""
    r = min(3.0, length / 2, thick / 2)
    return (
        f"M{left:.1f} {top:.1f}h{length - r:.1f}q{r:.1f} 0 {r:.1f} {r:.1f}v{thick - 2 * r:.1f}"
        f"q0 {r:.1f} -{r:.1f} {r:.1f}h-{length - r:.1f}Z"
    )


def _y_axis(
    y: _Scale, marks: Sequence[float], text: Callable[[float], str], width: int, label: str, height: int
) -> str:
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y(v) + 3.5:.1f}" text-anchor="end">{text(v)}</text>'
        for v in marks
    )
    middle = (_TOP + height - _BOTTOM) / 2
    return (
        f'{grid}<text class="axis" transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(label)}</text>"
    )


def _x_axis(
    x: _Scale,
    marks: Sequence[float],
    text: Callable[[float], str],
    height: int,
    label: str,
    width: int,
    *,
    left: int = _LEFT,
) -> str:
    bottom = height - _BOTTOM
    drawn = f'<line class="frame" x1="{left}" x2="{width - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    for v in marks:
        drawn += (
            f'<line class="frame" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
            f'<text class="tick" x="{x(v):.1f}" y="{bottom + 16}" text-anchor="middle">{text(v)}</text>'
        )
    middle = (left + width - _RIGHT) / 2
    return (
        drawn
        + f'<text class="axis" x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(label)}</text>'
    )


def _plain(value: float) -> str:
    return f"{value:.6g}"


def _rule(first: float, last: float, at: float) -> str:
    return f'<line class="frame" x1="{first}" x2="{last}" y1="{at:.1f}" y2="{at:.1f}"/>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
