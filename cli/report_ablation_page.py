"""The generated part of the page about what each group of features is worth."""

from __future__ import annotations

from collections.abc import Sequence

from cli.report_page import day, marked, table, with_interval
from training.evaluation.ablation import RESEEDED, Ablated
from training.evaluation.ablation_scores import Worth
from training.evaluation.contrasts import HELPS, HURTS, LOSSES, POOLED, Level

BEGIN = "<!-- tables: written by `tidecast report ablation --into`, do not edit by hand -->"
END = "<!-- end of tables -->"


def as_markdown(
    found: Sequence[Ablated],
    measured: Sequence[Level],
    worth: Sequence[Worth],
    *,
    step_minutes: int,
    seconds: float,
) -> str:
    """Write all tables, and what may be concluded from them."""
    parts = [
        _runs(found, step_minutes, seconds),
        _levels(measured),
        _in_short(worth),
    ]
    names = dict.fromkeys(each.recording for each in worth)
    parts += [_worths(name, [each for each in worth if each.recording == name]) for name in names]
    return "\n\n".join(parts)


def _runs(found: Sequence[Ablated], step_minutes: int, seconds: float) -> str:
    rows = [
        (
            f"`{each.recording}`",
            " ".join(symbol.removesuffix("USDT") for symbol in each.symbols),
            f"{day(each.span_ms[0])} to {day(each.span_ms[1])}",
            f"{len(each.open_time_ms):,}",
            str(each.trainings),
            str(each.without_model),
        )
        for each in found
    ]
    head = ("recording", "symbols", "scored", "rows", "trainings", "that found nothing to learn")
    tail = (
        f"One minute in {step_minutes} was learned from and scored; {seconds / 60:.0f} minutes of computing."
    )
    return f"### What was run\n\n{table(head, rows)}\n\n{tail}"


def _levels(measured: Sequence[Level]) -> str:
    rows = [
        (
            f"`{each.recording}`",
            str(each.horizon),
            f"{each.rows:,}",
            with_interval(each.squared_error),
            with_interval(each.log_loss),
        )
        for each in measured
    ]
    head = ("recording", "minutes ahead", "rows", "skill, %", "log loss skill, %")
    return f"### The model with all features\n\n{table(head, rows)}"


def _in_short(worth: Sequence[Worth]) -> str:
    real = [each for each in worth if each.group != RESEEDED]
    placebo = [each for each in worth if each.group == RESEEDED]
    verdicts = [each for each in worth if each.verdict in (HELPS, HURTS)]
    told = [f"{_named(each)} **{each.verdict}** ({with_interval(each.worth)})" for each in verdicts]
    lines = [
        f"- {len(worth)} comparisons. After correcting for all of them, {len(verdicts)} say anything"
        + (":" if told else "."),
        *(f"    - {text}" for text in told),
        f"- {sum(each.stands_out for each in real)} of the {len(real)} intervals of groups leave out 0"
        f" (marked ¹). If no group did anything, about {0.05 * len(real):.0f} would on average, but in"
        " bunches: all comparisons of a recording and horizon are against the same model on the same rows,"
        " groups overlap, and so do the recordings and their sum.",
        f"- {sum(each.stands_out for each in placebo)} of the {len(placebo)} intervals of the row"
        f" “{RESEEDED}” do, where there is nothing to find.",
    ]
    return "### In short\n\n" + "\n".join(lines)


def _named(each: Worth) -> str:
    return f"{each.group}, {each.horizon} minutes ahead, {each.loss}, {each.recording}:"


def _worths(name: str, worth: Sequence[Worth]) -> str:
    rows = []
    groups = dict.fromkeys((each.group, each.features) for each in worth)
    horizons = dict.fromkeys(each.horizon for each in worth)
    by_place = {(each.group, each.horizon, each.loss): each for each in worth}
    for group, features in groups:
        for horizon in horizons:
            both = [by_place[group, horizon, loss] for loss in LOSSES]
            cells = [text for each in both for text in (marked(each), each.verdict)]
            rows.append((group, str(features), str(horizon), *cells))
    head = (
        "hidden",
        "features",
        "minutes ahead",
        "skill lost, points",
        "verdict",
        "log loss skill lost, points",
        "verdict",
    )
    title = "All recordings together" if name == POOLED else f"`{name}`"
    return f"### {title}\n\n{table(head, rows)}"
