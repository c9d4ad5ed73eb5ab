"""`tidecast report ablation`: what each group of features is worth on recorded candles."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.answer import give_json, progress, say, show_table
from cli.evaluate import candles_of, history_of, recorded_at
from cli.folder import ConfigOption, JsonOption, settings_for_start
from cli.replay import FAMILIAR
from cli.report_ablation_page import BEGIN, as_markdown, put_into
from config.ml_config import Settings
from domain.features.schema import GROUPS, schema_hash
from exchanges.recording import BadRecordingError, recorded_files
from runtime.compute import ComputePool
from runtime.feature_wiring import periods_of
from training.evaluation.ablation import Ablated, Tell, ablate, check_step, variants_of
from training.evaluation.ablation_scores import Level, Worth, levels, worths
from training.evaluation.schedule import TooShortError
from training.settings import plan_of

#: Groups that are also hidden together: all views of longer bars and of other symbols at once.
TOGETHER = (("time frames", "cross-market"),)
_SAY_EVERY_S = 10.0


def ablation(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Folders of SYMBOL-1m.parquet or SYMBOL-1m.csv files."),
    ],
    step: Annotated[
        int, typer.Option("--step", min=1, help="Learn from and score one minute in so many.")
    ] = 5,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Put the tables into this page, such as docs/ablation.md."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Retrain without each group of features, and compare with all features on the same minutes."""
    _check_page(into)
    begun_s = time.monotonic()
    found = [_one(path, step, config, as_json) for path in paths]
    settings = settings_for_start(config, {})
    measured, worth = levels(found, seed=settings.training.seed), worths(found, seed=settings.training.seed)
    seconds = time.monotonic() - begun_s
    if into is not None:
        put_into(into, as_markdown(found, measured, worth, step_minutes=step, seconds=seconds))
    if as_json:
        give_json(_answer(found, measured, worth, step, seconds))
    else:
        _show(measured, worth, seconds)


def _check_page(into: Path | None) -> None:
    if into is None:
        return
    if not into.is_file():
        raise OSError(f"--into {into}: there is no such page; it needs a line {BEGIN}")
    if BEGIN not in into.read_text(encoding="utf-8"):
        raise OSError(f"--into {into}: has no line {BEGIN} to put the tables behind")


def _one(path: Path, step: int, config: Path | None, as_json: bool) -> Ablated:
    try:
        recorded = recorded_files(path)
        familiar = [symbol for symbol in FAMILIAR if symbol in recorded]
        chosen = familiar + sorted(set(recorded) - set(familiar))
        settings = settings_for_start(config, recorded_at(path, chosen))
        check_step(step, settings.training.forecast_horizons)
        return asyncio.run(_ablated(path.resolve().name, settings, step))
    except (BadRecordingError, TooShortError) as error:
        raise OSError(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--step") from error
    except asyncio.CancelledError:
        told = "stopped; nothing is left behind, the same command begins anew"
        if as_json:
            give_json({"error": told, "exit_code": 130})
        progress.print(told, markup=False)
        raise typer.Exit(130) from None


async def _ablated(name: str, settings: Settings, step: int) -> Ablated:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    progress.print(f"{name}: indicators and vectors", markup=False)
    history = await asyncio.to_thread(history_of, settings, candles_of(settings), lambda _: None)
    plan = plan_of(settings, schema_hash=schema_hash(periods_of(settings)))
    groups = {name: [feature.name for feature in features] for name, features in GROUPS.items()}
    with tempfile.TemporaryDirectory(prefix="tidecast-ablation-") as scratch:
        async with ComputePool(max_workers=settings.system.max_concurrent_workers) as compute:
            return await ablate(
                history,
                recording=name,
                plan=plan,
                horizons=tuple(settings.training.forecast_horizons),
                variants=variants_of(groups, TOGETHER),
                step_minutes=step,
                compute=compute,
                scratch=Path(scratch),
                tell=_teller(),
            )


def _teller() -> Tell:
    said_s = time.monotonic()

    def tell(done: float, text: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _SAY_EVERY_S:
            said_s = time.monotonic()
            progress.print(f"ablation {100 * done:5.1f}%  {text}", markup=False)

    return tell


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
