"""The generated part of the page about what each way to begin a retraining is worth."""

from __future__ import annotations

from collections.abc import Sequence

from cli.report_page import day, marked, table, with_interval
from training.evaluation.contrasts import HELPS, HURTS, LOSSES, POOLED
from training.evaluation.modes import ONLINE, RESEEDED, TRANSFER, Tried
from training.evaluation.modes_scores import AGAINST, Gain, Standing

BEGIN = "<!-- modes: written by `tidecast report modes --into`, do not edit by hand -->"
END = "<!-- end of modes -->"


def as_markdown(
    found: Sequence[Tried],
    level: Sequence[Standing],
    gained: Sequence[Gain],
    *,
    step_minutes: int,
    seconds: float,
) -> str:
    """Write all tables, and what may be concluded from them."""
    parts = [_runs(found, step_minutes, seconds), _efforts(found), _in_short(gained)]
    names = dict.fromkeys((each.family, each.recording) for each in gained)
    parts += [
        _gains(family, name, [each for each in gained if (each.family, each.recording) == (family, name)])
        for family, name in names
    ]
    parts.append(_standings(level))
    return "\n\n".join(parts)


def _runs(found: Sequence[Tried], step_minutes: int, seconds: float) -> str:
    rows = [
        (
            f"`{each.recording}`",
            each.family,
            " ".join(symbol.removesuffix("USDT") for symbol in each.symbols),
            f"{day(each.span_ms[0])} to {day(each.span_ms[1])}",
            f"{len(each.open_time_ms):,}",
            str(each.points),
        )
        for each in found
    ]
    head = ("recording", "family", "symbols", "scored", "rows", "points of training")
    settings = {
        each.family: ", ".join(f"{name} {value}" for name, value in each.settings.items()) for each in found
    }
    lines = [f"- {family}: {told}" for family, told in settings.items()]
    lines.append(
        f"- One minute in {step_minutes} was learned from and scored; {seconds / 60:.0f} minutes of"
        " computing."
    )
    return f"### What was run\n\n{table(head, rows)}\n\n" + "\n".join(lines)


def _efforts(found: Sequence[Tried]) -> str:
    rows = [
        (
            f"`{each.recording}`",
            each.family,
            way,
            str(effort.trainings),
            str(effort.went_on),
            str(effort.had_been_seen),
            str(effort.found_nothing),
            str(effort.failed),
            f"{effort.cpu_s:.1f}",
        )
        for each in found
        for way, effort in each.efforts.items()
    ]
    head = (
        "recording",
        "family",
        "begins",
        "trainings",
        "went on",
        "anew, for it saw the validation rows",
        "found nothing to learn",
        "failed: no or too few rows",
        "processor seconds, median",
    )
    return f"### What a training takes\n\n{table(head, rows)}"


def _in_short(gained: Sequence[Gain]) -> str:
    real = [each for each in gained if each.way != RESEEDED]
    placebo = [each for each in gained if each.way == RESEEDED]
    verdicts = [each for each in gained if each.verdict in (HELPS, HURTS)]
    told = [
        f"{each.family}, {each.way}, {each.horizon} minutes ahead, {each.loss}, {each.recording}:"
        f" **{each.verdict}** ({with_interval(each.worth)})"
        for each in verdicts
    ]
    lines = [
        f"- {len(gained)} comparisons. After correcting for all of them, {len(verdicts)} say anything"
        + (":" if told else "."),
        *(f"    - {text}" for text in told),
        f"- {sum(each.stands_out for each in real)} of the {len(real)} intervals of “{ONLINE}” and"
        f" “{TRANSFER}” leave out 0 (marked ¹). If neither did anything, about {0.05 * len(real):.0f} would"
        " on average, but in bunches: horizons overlap, and so do the recordings and their sum.",
        f"- {sum(each.stands_out for each in placebo)} of the {len(placebo)} intervals of the rows"
        f" “{RESEEDED}” do, where there is nothing to find.",
    ]
    return "### In short\n\n" + "\n".join(lines)


def _gains(family: str, name: str, gained: Sequence[Gain]) -> str:
    by_place = {(each.way, each.horizon, each.loss): each for each in gained}
    rows = []
    for way, horizon in dict.fromkeys((each.way, each.horizon) for each in gained):
        both = [by_place[way, horizon, loss] for loss in LOSSES]
        cells = [text for each in both for text in (marked(each), each.verdict)]
        rows.append((way, AGAINST[way], str(horizon), *cells))
    head = (
        "begins",
        "against",
        "minutes ahead",
        "skill gained, points",
        "verdict",
        "log loss skill gained, points",
        "verdict",
    )
    title = "all recordings together" if name == POOLED else f"`{name}`"
    return f"### {family}, {title}\n\n{table(head, rows)}"


def _standings(level: Sequence[Standing]) -> str:
    rows = [
        (
            f"`{each.level.recording}`",
            each.family,
            each.way,
            str(each.level.horizon),
            f"{each.level.rows:,}",
            with_interval(each.level.squared_error),
            with_interval(each.level.log_loss),
        )
        for each in level
    ]
    head = ("recording", "family", "begins", "minutes ahead", "rows", "skill, %", "log loss skill, %")
    return f"### How good the models are\n\n{table(head, rows)}"
