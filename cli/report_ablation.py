"""`tidecast report ablation`: what each group of features is worth on recorded candles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.answer import give_json, say, show_table
from cli.folder import ConfigOption, JsonOption, settings_for_start
from cli.report_ablation_page import BEGIN, END, as_markdown
from cli.report_page import check_page, put_into
from cli.report_recorded import Recorded, RecordingsArgument, StepOption, on_recordings
from domain.features.schema import GROUPS
from training.evaluation.ablation import Ablated, ablate, variants_of
from training.evaluation.ablation_scores import Worth, levels, worths
from training.evaluation.contrasts import Level

#: Groups that are also hidden together: all views of longer bars and of other symbols at once.
TOGETHER = (("time frames", "cross-market"),)


def ablation(
    paths: RecordingsArgument,
    step: StepOption = 5,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Put the tables into this page, such as docs/ablation.md."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain without each group of features, and compare with all features on the same minutes."""
    check_page(into, BEGIN)
    begun_s = time.monotonic()
    found = on_recordings(
        paths,
        lambda recorded: _ablated(recorded, step),
        word="ablation",
        step=step,
        config=config,
        as_json=as_json,
    )
    seed = settings_for_start(config, {}).training.seed
    measured, worth = levels(found, seed=seed), worths(found, seed=seed)
    seconds = time.monotonic() - begun_s
    if into is not None:
        tables = as_markdown(found, measured, worth, step_minutes=step, seconds=seconds)
        put_into(into, tables, begin=BEGIN, end=END)
    if as_json:
        give_json(_answer(found, measured, worth, step, seconds))
    else:
        _show(measured, worth, seconds)


async def _ablated(recorded: Recorded, step: int) -> Ablated:
    groups = {name: [feature.name for feature in features] for name, features in GROUPS.items()}
    return await ablate(
        recorded.history,
        recording=recorded.name,
        plan=recorded.plan,
        horizons=recorded.horizons,
        variants=variants_of(groups, TOGETHER),
        step_minutes=step,
        compute=recorded.compute,
        scratch=recorded.scratch,
        tell=recorded.tell,
    )


def _answer(
    found: Sequence[Ablated], measured: Sequence[Level], worth: Sequence[Worth], step: int, seconds: float
) -> dict[str, Any]:
    return {
        "recordings": {
            each.recording: {
                "symbols": list(each.symbols),
                "rows": len(each.open_time_ms),
                "from_ms": each.span_ms[0],
                "to_ms": each.span_ms[1],
                "trainings": each.trainings,
                "without_model": each.without_model,
            }
            for each in found
        },
        "step_minutes": step,
        "levels": [asdict(each) for each in measured],
        "worths": [asdict(each) for each in worth],
        "comparisons": len(worth),
        "seconds": round(seconds, 1),
    }


def _show(measured: Sequence[Level], worth: Sequence[Worth], seconds: float) -> None:
    show_table(
        ["recording", "minutes ahead", "rows", "skill %", "95 %", "log loss skill %", "95 %"],
        [
            (
                each.recording,
                each.horizon,
                each.rows,
                f"{each.squared_error.estimate:.3f}",
                f"{each.squared_error.low:.3f} to {each.squared_error.high:.3f}",
                f"{each.log_loss.estimate:.3f}",
                f"{each.log_loss.low:.3f} to {each.log_loss.high:.3f}",
            )
            for each in measured
        ],
        title="the model with all features",
    )
    show_table(
        ["recording", "hidden", "features", "minutes ahead", "loss", "worth", "95 %", "p of all", "verdict"],
        [
            (
                each.recording,
                each.group,
                each.features,
                each.horizon,
                each.loss,
                f"{each.worth.estimate:+.3f}",
                f"{each.worth.low:+.3f} to {each.worth.high:+.3f}",
                f"{each.adjusted_p:.3f}",
                each.verdict,
            )
            for each in worth
        ],
        title="skill lost where a group is hidden, percentage points",
    )
    say(f"{len(worth)} comparisons; {seconds:.0f} s")
