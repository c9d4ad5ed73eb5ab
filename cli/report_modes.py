"""`tidecast report modes`: what each way to begin a retraining is worth on recorded candles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.answer import give_json, say, show_table
from cli.evaluate import families_named
from cli.folder import ConfigOption, JsonOption, settings_for_start
from cli.report_modes_page import BEGIN, END, as_markdown
from cli.report_page import check_page, put_into
from cli.report_recorded import Recorded, RecordingsArgument, StepOption, on_recordings
from domain.models.model import BadSettingsError
from training.evaluation.evaluation import BASELINE
from training.evaluation.modes import Tried, try_modes
from training.evaluation.modes_scores import Gain, Standing, gains, standings


def modes(
    paths: RecordingsArgument,
    families: Annotated[
        str, typer.Option("--families", help="Model families that are retrained, such as xgboost,lstm.")
    ] = "xgboost",
    step: StepOption = 5,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Put the tables into this page, such as docs/training-modes.md."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain week by week anew, online and by transfer, and compare them on the same minutes."""
    check_page(into, BEGIN)
    names = _learning(families)
    begun_s = time.monotonic()
    tried = on_recordings(
        paths,
        lambda recorded: _tried(recorded, names, step),
        word="modes",
        step=step,
        config=config,
        as_json=as_json,
    )
    found = [each for of_recording in tried for each in of_recording]
    seed = settings_for_start(config, {}).training.seed
    level, gained = standings(found, seed=seed), gains(found, seed=seed)
    seconds = time.monotonic() - begun_s
    if into is not None:
        tables = as_markdown(found, level, gained, step_minutes=step, seconds=seconds)
        put_into(into, tables, begin=BEGIN, end=END)
    if as_json:
        give_json(_answer(found, level, gained, step, seconds))
    else:
        _show(found, level, gained, seconds)


def _learning(families: str) -> tuple[str, ...]:
    names = families_named(families)
    if BASELINE in names:
        raise typer.BadParameter(
            f"{BASELINE} learns nothing, so that no way to retrain it is better", param_hint="--families"
        )
    return names


async def _tried(recorded: Recorded, families: Sequence[str], step: int) -> list[Tried]:
    try:
        return [
            await try_modes(
                recorded.history,
                recording=recorded.name,
                family=family,
                plan=recorded.plan,
                horizons=recorded.horizons,
                step_minutes=step,
                compute=recorded.compute,
                scratch=recorded.scratch,
                tell=recorded.tell,
            )
            for family in families
        ]
    except BadSettingsError as error:
        raise OSError(str(error)) from error


def _answer(
    found: Sequence[Tried], level: Sequence[Standing], gained: Sequence[Gain], step: int, seconds: float
) -> dict[str, Any]:
    return {
        "runs": [
            {
                "recording": each.recording,
                "family": each.family,
                "settings": dict(each.settings),
                "symbols": list(each.symbols),
                "rows": len(each.open_time_ms),
                "from_ms": each.span_ms[0],
                "to_ms": each.span_ms[1],
                "points": each.points,
                "trainings": {way: asdict(effort) for way, effort in each.efforts.items()},
            }
            for each in found
        ],
        "step_minutes": step,
        "levels": [asdict(each) for each in level],
        "gains": [asdict(each) for each in gained],
        "comparisons": len(gained),
        "seconds": round(seconds, 1),
    }


def _show(found: Sequence[Tried], level: Sequence[Standing], gained: Sequence[Gain], seconds: float) -> None:
    show_table(
        ["recording", "family", "begins", "trainings", "went on", "seen", "nothing", "failed", "processor s"],
        [
            (
                each.recording,
                each.family,
                way,
                effort.trainings,
                effort.went_on,
                effort.had_been_seen,
                effort.found_nothing,
                effort.failed,
                f"{effort.cpu_s:.1f}",
            )
            for each in found
            for way, effort in each.efforts.items()
        ],
        title="trainings, and the median of their processor time",
    )
    show_table(
        [
            "recording",
            "family",
            "begins",
            "minutes ahead",
            "rows",
            "skill %",
            "95 %",
            "log loss skill %",
            "95 %",
        ],
        [
            (
                each.level.recording,
                each.family,
                each.way,
                each.level.horizon,
                each.level.rows,
                f"{each.level.squared_error.estimate:.3f}",
                f"{each.level.squared_error.low:.3f} to {each.level.squared_error.high:.3f}",
                f"{each.level.log_loss.estimate:.3f}",
                f"{each.level.log_loss.low:.3f} to {each.level.log_loss.high:.3f}",
            )
            for each in level
        ],
        title="skill of each way",
    )
    show_table(
        [
            "recording",
            "family",
            "begins",
            "against",
            "minutes ahead",
            "loss",
            "gain",
            "95 %",
            "p of all",
            "verdict",
        ],
        [
            (
                each.recording,
                each.family,
                each.way,
                each.against,
                each.horizon,
                each.loss,
                f"{each.worth.estimate:+.3f}",
                f"{each.worth.low:+.3f} to {each.worth.high:+.3f}",
                f"{each.adjusted_p:.3f}",
                each.verdict,
            )
            for each in gained
        ],
        title="skill gained, percentage points",
    )
    say(f"{len(gained)} comparisons; {seconds:.0f} s")
