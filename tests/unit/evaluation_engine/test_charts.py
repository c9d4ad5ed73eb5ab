"""Charts of the report: well-formed, with round marks, and honest about what is not known."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.report_html_charts import (
    MOST_POINTS,
    Line,
    Whisker,
    bar_chart,
    line_chart,
    ticks,
    whisker_chart,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def text(value: float) -> str:
    return f"{value:.2f}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@given(numbers, st.floats(1e-6, 1e6))
def test_marks_lie_inside_their_span_at_equal_distances(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    room = 1e-6 * max(abs(low) + width, 1.0)
    assert all(low - room <= mark <= low + width + room for mark in marks)
    assert 2 <= len(marks) <= 12
    if width > 1e-3 * abs(low):
        steps = np.diff(marks)
        assert np.allclose(steps, steps[0])


@given(st.lists(st.tuples(numbers, st.one_of(numbers, st.just(math.nan))), max_size=20), st.booleans())
def test_any_line_makes_well_formed_svg(points: list[tuple[float, float]], dots: bool) -> None:
    line = Line(
        name="<a> & b",
        x=np.array([x for x, _ in points]),
        y=np.array([y for _, y in points]),
        css="s1",
        dots=dots,
        filled=not dots,
    )
    drawn = line_chart(
        [line], title="t <&>", x_label="x", y_label="y", x_text=text, y_text=text, baseline=0.0, diagonal=True
    )
    root = parsed(drawn)
    known = sum(math.isfinite(y) for _, y in points)
    assert len(root.findall(".//circle")) == (known if dots else 0)
    assert "nan" not in drawn


def test_a_long_line_keeps_its_peaks() -> None:
    values = np.zeros(50_000)
    values[31_234] = 9.0
    line = Line(name="a", x=np.arange(50_000.0), y=values, css="s1")
    drawn = line_chart([line], title="t", x_label="x", y_label="y", x_text=text, y_text=text)
    path = next(each for each in parsed(drawn).iter() if each.get("class") == "line s1")
    places = [tuple(map(float, p.split())) for p in str(path.get("d"))[1:].split("L")]
    assert len(places) <= MOST_POINTS + 2
    assert min(y for _, y in places) < 40


def test_an_estimate_without_an_interval_has_no_whisker_and_an_unknown_one_says_so() -> None:
    nan = math.nan
    rows = [
        Whisker(label="sure", value=0.5, low=0.4, high=0.6, css="s1"),
        Whisker(label="bare", value=0.5, low=nan, high=nan, css="s1"),
        Whisker(label="none", value=nan, low=nan, high=nan, css="s1"),
    ]
    drawn = whisker_chart(rows, title="t", x_label="x", text=text, nominal=[0.5])
    root = parsed(drawn)
    assert len(root.findall(".//circle")) == 2
    assert sum(each.get("class") == "s1 whisker" for each in root.iter()) == 1
    assert "not known" in drawn


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bar_chart({"a": 4.0, "b": 2.0}, title="t", text=text, x_label="x")
    values = [each.text for each in parsed(drawn).iter() if each.get("class") == "value"]
    assert values == ["4.00", "2.00"]
    ends = [float(str(each.get("x"))) for each in parsed(drawn).iter() if each.get("class") == "value"]
    assert math.isclose((ends[0] - 156) / (ends[1] - 156), 2.0, rel_tol=0.01)
