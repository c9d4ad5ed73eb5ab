"""`tidecast check-features`: whether every feature, built in or added, is made of its past alone."""

from __future__ import annotations

import importlib
import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.answer import give_json, progress, say, show_table
from cli.folder import ConfigOption, JsonOption, settings_for_start
from config.ml_config import Settings
from runtime.causality import (
    THOROUGH,
    check_function,
    judge_added,
    judge_indicator_files,
    judge_vector_and_chart,
)

if TYPE_CHECKING:
    from domain.features.verdict import Verdict

Judged = tuple[str, "Verdict"]


def check_features(
    config: ConfigOption = None,
    function: Annotated[
        list[str] | None,
        typer.Option(
            "--function",
            metavar="FILE.py:NAME",
            help="Check a function of your own, too: DataFrame of candles in, column out.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute every feature on cut and on full histories; succeeds if none changes its past."""
    settings = settings_for_start(config, {}, gated=False)
    own = [_load(text) for text in function or ()]
    started = time.perf_counter()
    judged: list[Judged] = []
    for kind, verdicts in _judge_all(settings, own):
        progress.print(f"{kind}: {len(verdicts)} checked", markup=False)
        judged += [(kind, verdict) for verdict in verdicts]
    seconds = time.perf_counter() - started
    refused = [verdict for _, verdict in judged if not verdict.is_causal]
    if as_json:
        give_json(
            {
                "causal": not refused,
                "checked": len(judged),
                "refused": [verdict.name for verdict in refused],
                "without_values": _without_values(judged),
                "features": [_as_object(kind, verdict) for kind, verdict in judged],
                "seconds": round(seconds, 3),
            }
        )
    else:
        show_table(
            ["", "feature", "where", "what was seen", "what to do"],
            [_as_row(kind, verdict) for kind, verdict in judged],
        )
        say(summary(judged, seconds))
    if refused:
        raise typer.Exit(1)


def _judge_all(
    settings: Settings, own: list[tuple[str, Callable[..., Any]]]
) -> Iterator[tuple[str, tuple[Verdict, ...]]]:
    vector = judge_vector_and_chart(settings)
    yield "vector", tuple(each for each in vector if not each.column.startswith("chart."))
    yield "chart", tuple(each for each in vector if each.column.startswith("chart."))
    yield "domain/indicators", judge_indicator_files()
    if settings.features.extra_indicators:
        yield "extra_indicators", judge_added(settings)
    for text, function in own:
        yield text, check_function(function)


def summary(judged: list[Judged], seconds: float) -> str:
    """Say in a line or two what came out."""
    refused = sum(not verdict.is_causal for _, verdict in judged)
    told = f"{len(judged)} checked in {seconds:.1f} s, {refused} refused"
    if not (empty := _without_values(judged)):
        return told
    return (
        f"{told}, {len(empty)} could not be judged\nNever a value in {THOROUGH.minutes:,} minutes of the"
        f" proving market: {', '.join(empty)}. Always missing, or is its warm-up longer than that?"
    )


def _without_values(judged: list[Judged]) -> list[str]:
    return [_name(kind, verdict) for kind, verdict in judged if verdict.is_causal and not verdict.has_values]


def _load(text: str) -> tuple[str, Callable[..., Any]]:
    """Find a function by `FILE.py:NAME` or `module:NAME`."""
    place, _, name = text.rpartition(":")
    try:
        if place.endswith(".py"):
            found = runpy.run_path(str(Path(place).expanduser())).get(name)
        else:
            found = getattr(importlib.import_module(place), name, None) if place else None
    except (OSError, ImportError) as error:
        raise typer.BadParameter(f"{place} cannot be loaded: {error}", param_hint="--function") from error
    if not callable(found):
        raise typer.BadParameter(
            f"no function {name!r} in {place or 'nothing'}; write FILE.py:NAME", param_hint="--function"
        )
    return text, found


def _as_row(kind: str, verdict: Verdict) -> list[str]:
    mark = "ok" if verdict.is_causal else "REFUSED"
    seen = verdict.explanation
    if verdict.is_causal and not verdict.has_values:
        mark, seen = "-", "no values on the proving market: nothing to judge"
    return [mark, _name(kind, verdict), kind, seen, verdict.remedy]


def _as_object(kind: str, verdict: Verdict) -> dict[str, Any]:
    evidence = verdict.evidence
    return {
        "feature": _name(kind, verdict),
        "where": kind,
        "causal": verdict.is_causal,
        "has_values": verdict.has_values,
        "reason": verdict.reason,
        "symbol": evidence and evidence.symbol,
        "minute_ms": evidence and evidence.minute_ms,
        "history_ended_ms": evidence and evidence.end_ms,
        "value_then": evidence and evidence.known,
        "value_later": evidence and evidence.later,
        "changed": evidence and evidence.changed,
        "reach_candles": evidence and evidence.reach,
        "explanation": verdict.explanation,
        "remedy": verdict.remedy,
    }


def _name(kind: str, verdict: Verdict) -> str:
    """Name a column; those of vector and chart have no other name."""
    if kind in ("vector", "chart") and verdict.column:
        return verdict.column.removeprefix("chart.")
    return verdict.name
