"""The parts of the report about how good, how sure and how wide forecasts were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from training.evaluation.evaluation import BASELINE, Evaluation
from training.evaluation.report_html_charts import Line, bar_chart, legend, line_chart, padded, whisker_chart
from training.evaluation.report_html_pieces import (
    cell,
    charts,
    evidence_cell,
    figure,
    interval,
    no_digit,
    number,
    one_digit,
    or_nan,
    percent,
    table,
    two_digits,
    whisker,
)

_MOST_BARS = 15
_NOMINAL = {"80": 80.0, "95": 95.0}


def scores_section(told: Mapping[str, Any]) -> str:
    """Write the table of scores, and their spread over seeds."""
    titles = (
        "Minutes ahead",
        "n",
        "RMSE %",
        "MAE %",
        "R²",
        "Skill %",
        "Accuracy",
        "95 % interval",
        "IC",
        "Brier",
        "ECE",
        "In 80 %",
        "In 95 %",
        "Evidence",
    )
    rows = [
        [
            f'<td class="text">{escape(family)}</td>',
            cell(horizon),
            cell(f"{each['n']:,}"),
            cell(number(each["rmse"], 4)),
            cell(number(each["mae"], 4)),
            cell(number(each["r2"], 4)),
            cell(percent(each["skill"], 2)),
            cell(number(each["accuracy"], 4)),
            cell(interval(each["accuracy_ci"], 3)),
            cell(number(each["ic"], 4)),
            cell(number(each["brier"], 4)),
            cell(number(each["ece"], 4)),
            cell(percent(each["coverage"]["80"], 1)),
            cell(percent(each["coverage"]["95"], 1)),
            evidence_cell(each),
        ]
        for family, all_of_it in told["families"].items()
        for horizon, each in all_of_it["horizons"].items()
    ]
    seeds = len(told["seeds"])
    several = f" Means over {seeds} seeds; intervals of the first." if seeds > 1 else ""
    return (
        "<h2>Forecasts of the percent change</h2>"
        '<p class="soft">The newest trained model speaks at every minute, whether or not it would have been'
        f" promoted, from the first one on.{several}</p>{table(('Family', *titles), rows)}{_spread(told)}"
    )


def _spread(told: Mapping[str, Any]) -> str:
    if len(told["seeds"]) < 2:
        return ""
    names = ("rmse", "skill", "accuracy", "brier", "ece")
    rows = [
        [f'<td class="text">{escape(family)}</td>', cell(horizon)]
        + [
            cell(f"{number(each['seeds'][name]['mean'], 4)} ± {number(each['seeds'][name]['deviation'], 4)}")
            for name in names
        ]
        for family, all_of_it in told["families"].items()
        for horizon, each in all_of_it["horizons"].items()
    ]
    titles = ("Family", "Minutes ahead", *(name.upper() if name == "rmse" else name for name in names))
    return f"<h3>Mean and standard deviation over seeds</h3>{table(titles, rows)}"


def accuracy_section(told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Draw accuracy and skill with their intervals."""
    families = [family for family in told["families"] if family != BASELINE]
    hits, better = [], []
    for family in families:
        for horizon, each in told["families"][family]["horizons"].items():
            label = f"{family}, {horizon} min"
            low, high = each["accuracy_ci"]
            hits.append(whisker(label, each["accuracy"], low, high, css[family]))
            low, high = each["skill_ci"]
            better.append(whisker(label, each["skill"], low, high, css[family]))
    if not hits:
        return ""
    return charts(
        figure(
            "Directional accuracy",
            "With 95 % block-bootstrap interval; the dashed line is a coin.",
            whisker_chart(
                hits,
                title="directional accuracy by family and horizon",
                x_label="right directions, %",
                text=one_digit,
                nominal=[50.0],
            ),
        ),
        figure(
            "Skill against no change",
            "1 minus the squared error over that of no change; left of the dashed line it is worse.",
            whisker_chart(
                better,
                title="skill by family and horizon",
                x_label="skill, %",
                text=two_digits,
                nominal=[0.0],
            ),
        ),
    )


def probabilities_section(found: Evaluation, told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Draw the reliability diagrams."""
    drawn = []
    families = [family for family in told["families"] if family != BASELINE] or [BASELINE]
    for horizon in map(str, found.walk.horizons):
        lines = []
        for family in families:
            points = told["families"][family]["horizons"][horizon]["reliability"]
            if points:
                lines.append(
                    Line(
                        name=family,
                        x=np.array([100 * point["stated"] for point in points]),
                        y=np.array([100 * point["observed"] for point in points]),
                        css=css[family],
                        dots=True,
                        sizes=[point["rows"] for point in points],
                    )
                )
        if not lines:
            continue
        values = [v for line in lines for v in (*line.x, *line.y)]
        low, high = padded(values, include=(45.0, 55.0))
        span = (max(0.0, low), min(100.0, high))
        eces = ", ".join(
            f"{family} {number(told['families'][family]['horizons'][horizon]['ece'], 3)}"
            for family in families
        )
        drawn.append(
            figure(
                f"{horizon} minutes ahead",
                f"Calibration error: {eces}.",
                line_chart(
                    lines,
                    title=f"reliability diagram, {horizon} minutes ahead",
                    x_label="stated probability of a rise, %",
                    y_label="rose, %",
                    x_text=no_digit,
                    y_text=no_digit,
                    x_span=span,
                    y_span=span,
                    diagonal=True,
                    height=290,
                ),
            )
        )
    return (
        "<h2>Is the confidence right?</h2>"
        '<p class="soft">Reliability: of the forecasts that stated a probability, so many came true. On the'
        " dashed line what is said is what happens. Bins hold about equally many forecasts.</p>"
        f"{legend([(css[family], family) for family in families])}{charts(*drawn)}"
    )


def coverage_section(told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Draw what the intervals held."""
    drawn = []
    for level, nominal in _NOMINAL.items():
        rows = []
        for family, all_of_it in told["families"].items():
            for horizon, each in all_of_it["horizons"].items():
                low, high = each["coverage_ci"][level]
                rows.append(
                    whisker(f"{family}, {horizon} min", each["coverage"][level], low, high, css[family])
                )
        drawn.append(
            figure(
                f"{level} % intervals",
                f"Share of outcomes inside, with its 95 % block-bootstrap interval; {level} % is wanted.",
                whisker_chart(
                    rows,
                    title=f"coverage of the {level} % intervals",
                    x_label="outcomes inside, %",
                    text=one_digit,
                    nominal=[nominal],
                ),
            )
        )
    return f"<h2>Do the intervals hold?</h2>{charts(*drawn)}"


def errors_section(found: Evaluation, told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Show errors by hour and by regime."""
    trade = str(found.walk.trade_horizon)
    hours = [f"{hour:02d}" for hour in range(24)]
    families = [family for family in told["families"] if family != BASELINE] or [BASELINE]
    drawn = []
    for key, scale, title, label, base in (
        ("rmse", 1.0, "Error by hour of the day", "RMSE, %", None),
        ("skill", 100.0, "Skill by hour of the day", "skill, %", 0.0),
    ):
        lines = []
        for family in families:
            by_hour = told["families"][family]["horizons"][trade]["by_hour"]
            present = [hour for hour in hours if hour in by_hour]
            lines.append(
                Line(
                    name=family,
                    x=np.array([float(hour) for hour in present]),
                    y=np.array([scale * or_nan(by_hour[hour][key]) for hour in present]),
                    css=css[family],
                    dots=True,
                )
            )
        drawn.append(
            figure(
                title,
                f"{trade} minutes ahead; the hour, UTC, in which the forecast was made.",
                line_chart(
                    lines,
                    title=title.lower(),
                    x_label="hour, UTC",
                    y_label=label,
                    x_text=lambda v: f"{v:02.0f}",
                    y_text=two_digits,
                    x_ticks=[float(v) for v in range(0, 24, 3)],
                    x_span=(-0.5, 23.5),
                    baseline=base,
                    height=240,
                ),
            )
        )
    rows = [
        [
            f'<td class="text">{escape(family)}</td>',
            cell(horizon),
            f'<td class="text">{escape(regime)}</td>',
            cell(f"{group['n']:,}"),
            cell(number(group["rmse"], 4)),
            cell(number(group["mae"], 4)),
            cell(percent(group["skill"], 2)),
            cell(number(group["accuracy"], 4)),
        ]
        for family, all_of_it in told["families"].items()
        if family in families
        for horizon, each in all_of_it["horizons"].items()
        for regime, group in sorted(each["by_regime"].items())
    ]
    titles = ("Family", "Minutes ahead", "Regime", "n", "RMSE %", "MAE %", "Skill %", "Accuracy")
    return (
        "<h2>Where the errors are</h2>"
        f"{legend([(css[family], family) for family in families])}{charts(*drawn)}"
        f"<h3>By regime</h3>{table(titles, rows)}"
    )


def features_section(told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Draw what the newest models look at."""
    drawn = []
    for each in told["importance"]:
        bars = {
            name: value for name, value in list(each["by_feature_pct"].items())[:_MOST_BARS] if value > 0.0
        }
        if not bars:
            continue
        method = (
            "Mean absolute Shapley value"
            if each["method"] == "shapley"
            else "Mean change without the feature"
        )
        digits = max(2, 2 - math.floor(math.log10(max(bars.values()))))
        drawn.append(
            figure(
                f"{each['family']}, {each['horizon_minutes']} minutes ahead",
                f"{method} over {each['rows']:,} rows, in percent of price change. {each['version']}",
                bar_chart(
                    bars,
                    title=f"feature importance of {each['family']}, {each['horizon_minutes']} minutes ahead",
                    text=lambda v, digits=digits: f"{v:.{digits}f}",  # type: ignore[misc]
                    x_label="percent",
                    css=css[each["family"]],
                ),
            )
        )
    if not drawn:
        return ""
    return (
        "<h2>What the newest models look at</h2>"
        '<p class="soft">That a model leans on a feature does not say that it helps: see the skill above.</p>'
        + charts(*drawn)
    )
