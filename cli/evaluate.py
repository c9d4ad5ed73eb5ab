"""`tidecast evaluate`: walk forward over recorded candles as production would have, and say how that did."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.answer import give_json, progress
from cli.evaluate_screen import show
from cli.evaluation_stages import WiredStages, costs_of, learns_of, strategies_of
from cli.folder import ConfigOption, JsonOption, settings_for_start
from cli.html_file import check_html_file, write_html_file
from cli.recording import candles_of, chosen_symbols, recorded_at
from config.ml_config import Settings
from domain.features.schema import schema_hash
from domain.models import families as known_families
from domain.models.model import UnknownFamilyError
from domain.partitioning import owned_partitions, owned_symbols
from exchanges.recording import BadRecordingError
from pipeline.feature_stage import FeatureStage
from runtime.compute import ComputePool
from runtime.feature_wiring import engine_of, periods_of
from runtime.scratch import scratch_folder
from schemas.frames import MINUTE_MS, Float64
from training.evaluation.evaluation import BASELINE, Evaluation, Tell, Walk
from training.evaluation.evaluation import evaluate as walk_forward
from training.evaluation.history import History, compute_history, feed_batches
from training.evaluation.report import answer
from training.evaluation.report_html import page
from training.evaluation.schedule import Policy, TooShortError, check_span
from training.settings import plan_of

#: Seconds between two lines of progress where no terminal shows a bar.
_SAY_EVERY_S = 10.0
#: Share of the time that indicators and vectors take.
_VECTORS_SHARE = 0.05


class StoppedEarlyError(Exception):
    """The evaluation was asked to end before it was through."""


def evaluate(
    path: Annotated[Path, typer.Argument(help="Folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files.")],
    horizons: Annotated[
        str | None, typer.Option("--horizons", help="Minutes ahead, such as 5,15; by default those trained.")
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(
            "--families", help="Model families, such as xgboost,last_value; by default the deployment's."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds", min=1, help="So many equal folds, instead of the times at which production retrains."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Seeds, such as 1,2,3; by default training.seed.")
    ] = None,
    symbols: Annotated[
        str | None, typer.Option("--symbols", help="Only these, separated by commas or blanks.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First minute, ISO, UTC.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Minute to stop before, ISO, UTC.")] = None,
    config: ConfigOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Also write a report with pictures: one file that needs nothing else."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Walk forward over recorded candles, retraining as in production, and report how good the models are."""
    check_html_file(html)
    found, told, settings = evaluated(
        path,
        horizons=horizons_named(horizons),
        families=families_named(families),
        folds=folds,
        seeds=_whole_numbers(seeds, "--seeds", least=0),
        symbols=symbols,
        span=(from_, to),
        config=config,
        as_json=as_json,
    )
    if html is not None:
        write_html_file(html, page(found, told, name=path.resolve().name, settings=_told_settings(settings)))
    if as_json:
        give_json(told)
    else:
        show(told)


def evaluated(
    path: Path,
    *,
    horizons: tuple[int, ...] = (),
    families: tuple[str, ...] = (),
    folds: int | None = None,
    seeds: tuple[int, ...] = (),
    symbols: str | None = None,
    span: tuple[str | None, str | None] = (None, None),
    config: Path | None = None,
    as_json: bool = False,
) -> tuple[Evaluation, dict[str, Any], Settings]:
    """Evaluate a recording; gives what was found, what is told of it, and the settings.

    Raises
    ------
    OSError
        If the recording cannot be read, or is too short.
    typer.Exit
        With code 130 if it is asked to stop.
    """
    try:
        chosen = chosen_symbols(path, symbols)
        asked = {"training.forecast_horizons": list(horizons)} if horizons else {}
        settings = settings_for_start(config, {**recorded_at(path, chosen, *span), **asked})
        candles = candles_of(settings)
        _check_horizons(settings.training.forecast_horizons, candles)
        settings = with_families(settings, families)
        walk = walk_of(settings, seeds or (settings.training.seed,), folds)
        check_span(_minutes(candles), walk.policy)
        found, seconds = asyncio.run(_evaluated(settings, walk, candles))
    except (BadRecordingError, TooShortError) as error:
        raise OSError(str(error)) from error
    except StoppedEarlyError as error:
        if as_json:
            give_json({"error": str(error), "exit_code": 130})
        progress.print(str(error), markup=False)
        raise typer.Exit(130) from None
    return found, answer(found, seconds=seconds), settings


# --- what was asked for ---


def horizons_named(text: str | None) -> tuple[int, ...]:
    """Read minutes ahead off the command line; none if nothing was said."""
    return _whole_numbers(text, "--horizons", least=1)


def _whole_numbers(text: str | None, option: str, *, least: int) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        numbers = sorted(int(word) for word in text.replace(",", " ").split())
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < least:
        raise typer.BadParameter(
            f"{text!r}: give whole numbers of at least {least}, separated by commas", param_hint=option
        )
    _check_repeats(numbers, option)
    return tuple(numbers)


def _check_repeats(values: Sequence[object], option: str) -> None:
    # What is walked twice is no second trial.
    if repeated := [str(value) for value, times in Counter(values).items() if times > 1]:
        raise typer.BadParameter(
            f"names {', '.join(repeated)} more than once; name each once", param_hint=option
        )


def families_named(text: str | None) -> tuple[str, ...]:
    """Read names of model families off the command line; none if nothing was said."""
    if text is None:
        return ()
    names = tuple(text.replace(",", " ").split())
    try:
        for name in names:
            known_families.check_name(name)
    except UnknownFamilyError as error:
        raise typer.BadParameter(str(error), param_hint="--families") from error
    if not names:
        raise typer.BadParameter(
            f"names no family; there is {', '.join(known_families.NAMES)}", param_hint="--families"
        )
    _check_repeats(names, "--families")
    return names


def _minutes(candles: dict[str, Float64]) -> int:
    """Tell how long a recording is."""
    first_ms = min(int(rows[0, 0]) for rows in candles.values())
    last_ms = max(int(rows[-1, 0]) for rows in candles.values())
    return (last_ms - first_ms) // MINUTE_MS + 1


def _check_horizons(horizons: Sequence[int], candles: dict[str, Float64]) -> None:
    minutes = _minutes(candles)
    if too_long := [horizon for horizon in horizons if horizon >= minutes]:
        raise TooShortError(
            f"a horizon of {', '.join(map(str, too_long))} minutes is longer than the history: the recording"
            f" is {minutes} minutes long; take a longer recording, or a shorter horizon with --horizons"
        )


def with_families(settings: Settings, names: tuple[str, ...]) -> Settings:
    """Let the deployment train these families, or those it trains and the baseline."""
    chosen = names or tuple(dict.fromkeys((*settings.training.installed_model_types, BASELINE)))
    training = settings.training.model_copy(update={"model_types": chosen})
    return settings.model_copy(update={"training": training})


def walk_of(settings: Settings, seeds: tuple[int, ...], folds: int | None) -> Walk:
    """Read what is to be evaluated off the settings."""
    training = settings.training
    partitions = settings.pipeline.partitions
    return Walk(
        families=tuple(training.model_types),
        horizons=tuple(training.forecast_horizons),
        seeds=seeds,
        learns=learns_of(settings),
        policy=Policy(
            window_minutes=training.window_size,
            every_minutes=training.retrain_every_minutes,
            groups=tuple(
                owned_symbols(settings.symbols, number, partitions)
                for number in owned_partitions(settings.symbols, partitions, 0, 1)
            ),
            per_symbol=training.per_symbol,
            folds=folds,
        ),
        plan=plan_of(settings, schema_hash=schema_hash(periods_of(settings))),
        costs=costs_of(settings),
        trade_horizon=settings.trading.horizon_minutes,
        strategies=strategies_of(settings),
    )


def _told_settings(settings: Settings) -> dict[str, Any]:
    """List the settings that an evaluation depends on, by dotted name."""
    sections = ("features", "data", "training", "inference", "forecasting", "trading")
    return {
        f"{section}.{name}": value
        for section in sections
        for name, value in getattr(settings, section).model_dump(mode="json").items()
    }


# --- doing it ---


async def _evaluated(settings: Settings, walk: Walk, candles: dict[str, Float64]) -> tuple[Evaluation, float]:
    """Evaluate until done or asked to stop; processes and files are gone then, either way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    started_s = time.monotonic()
    with _bar() as tell:

        def told(done: float, text: str) -> None:
            if stop.is_set():
                raise StoppedEarlyError("stopped; nothing is left behind, the same command begins anew")
            tell(done, text)

        work = asyncio.create_task(_work(settings, walk, candles, told))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise StoppedEarlyError("stopped; nothing is left behind, the same command begins anew")
        return await work, time.monotonic() - started_s


async def _work(settings: Settings, walk: Walk, candles: dict[str, Float64], tell: Tell) -> Evaluation:
    history = await asyncio.to_thread(
        history_of, settings, candles, lambda done: tell(_VECTORS_SHARE * done, "indicators and vectors")
    )
    candles.clear()
    with scratch_folder("evaluate") as scratch:
        async with ComputePool(max_workers=settings.system.max_concurrent_workers) as compute:
            return await walk_forward(
                history,
                walk,
                stages=WiredStages(settings, walk.strategies),
                compute=compute,
                scratch=scratch,
                tell=lambda done, text: tell(_VECTORS_SHARE + (1.0 - _VECTORS_SHARE) * done, text),
            )


def history_of(settings: Settings, candles: dict[str, Float64], tell: Callable[[float], None]) -> History:
    """Compute all vectors of a recording as the feature calculator does."""
    engine = engine_of(settings, settings.symbols)
    stage = FeatureStage(
        symbols=settings.symbols, owned=settings.symbols, references=engine.references, engine=engine
    )
    batches = list(feed_batches(candles, settings.symbols, batch_minutes=settings.pipeline.max_batch_minutes))
    return compute_history(stage, batches, tell=tell)


class _bar:  # noqa: N801 - used as a function
    """Shows how far it is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("evaluate"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f}%  {task.fields[told]}"),
            TimeElapsedColumn(),
            console=progress,
        )
        self._task = self._bar.add_task("evaluate", total=1.0, told="starting")
        self._said_s = time.monotonic()

    def __enter__(self) -> Tell:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: float, text: str) -> None:
        self._bar.update(self._task, completed=done, told=text)
        if not progress.is_terminal and time.monotonic() - self._said_s > _SAY_EVERY_S:
            self._said_s = time.monotonic()
            progress.print(f"evaluate {100 * done:5.1f}%  {text}", markup=False)
