"""What the reports that retrain over recordings share: reading one, processes, progress, stopping."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cli.answer import give_json, progress
from cli.evaluate import history_of
from cli.folder import settings_for_start
from cli.recording import candles_of, chosen_symbols, recorded_at
from config.ml_config import Settings
from domain.features.schema import schema_hash
from exchanges.recording import BadRecordingError
from runtime.compute import ComputePool
from runtime.feature_wiring import periods_of
from runtime.scratch import scratch_folder
from training.evaluation.history import History
from training.evaluation.schedule import TooShortError
from training.evaluation.weekly import Tell, check_step
from training.settings import TrainingPlan, plan_of

RecordingsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Folders of SYMBOL-1m.parquet or SYMBOL-1m.csv files."),
]
StepOption = Annotated[int, typer.Option("--step", min=1, help="Learn from and score one minute in so many.")]
_SAY_EVERY_S = 10.0
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A recording that is ready to be learned from.

    Attributes
    ----------
    name, history
        The recording and all its vectors.
    plan, horizons
        What is trained.
    compute, scratch, tell
        Where trainings are done, a folder for their rows, and who is told of progress.
    """

    name: str
    history: History
    plan: TrainingPlan
    horizons: tuple[int, ...]
    compute: ComputePool
    scratch: Path
    tell: Tell


def on_recordings(
    paths: Sequence[Path],
    work: Callable[[Recorded], Awaitable[_Found]],
    *,
    word: str,
    step: int,
    config: Path | None,
    as_json: bool,
) -> list[_Found]:
    """Do some work on one recording after the other; processes and files are gone then, also when stopped.

    Parameters
    ----------
    word
        What the work is called in lines of progress.
    step
        Of so many minutes one is learned from.

    Raises
    ------
    OSError
        If a recording cannot be read, or is too short.
    typer.Exit
        With code 130 if it is asked to stop.
    """
    found = []
    try:
        for path in paths:
            settings = settings_for_start(config, recorded_at(path, chosen_symbols(path)))
            _check_step(step, settings)
            found.append(asyncio.run(_worked(path.resolve().name, settings, word, work)))
    except (BadRecordingError, TooShortError) as error:
        raise OSError(str(error)) from error
    except asyncio.CancelledError:
        told = "stopped; nothing is left behind, the same command begins anew"
        if as_json:
            give_json({"error": told, "exit_code": 130})
        progress.print(told, markup=False)
        raise typer.Exit(130) from None
    return found


def _check_step(step: int, settings: Settings) -> None:
    try:
        check_step(step, settings.training.forecast_horizons)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--step") from error


async def _worked(
    name: str, settings: Settings, word: str, work: Callable[[Recorded], Awaitable[_Found]]
) -> _Found:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    progress.print(f"{name}: indicators and vectors", markup=False)
    history = await asyncio.to_thread(history_of, settings, candles_of(settings), lambda _: None)
    with scratch_folder(word) as scratch:
        async with ComputePool(max_workers=settings.system.max_concurrent_workers) as compute:
            return await work(
                Recorded(
                    name=name,
                    history=history,
                    plan=plan_of(settings, schema_hash=schema_hash(periods_of(settings))),
                    horizons=tuple(settings.training.forecast_horizons),
                    compute=compute,
                    scratch=scratch,
                    tell=_teller(word),
                )
            )


def _teller(word: str) -> Tell:
    said_s = time.monotonic()

    def tell(done: float, text: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _SAY_EVERY_S:
            said_s = time.monotonic()
            progress.print(f"{word} {100 * done:5.1f}%  {text}", markup=False)

    return tell
