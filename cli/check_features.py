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
    EVERY_MINUTE,
    THOROUGH,
    Effort,
    check_function,
    cuts_compared,
    judge_added,
    judge_indicator_files,
    judge_vector_and_chart,
)

if TYPE_CHECKING:
    from domain.features.verdict import Verdict

Judged = tuple[str, "Verdict"]
#: Kinds that the program brings with it: they have values, unless the settings' periods are longer than
#: the proving market, which is no fault.
_BUILT_IN = ("vector", "chart")
_LIMITS = "docs/decisions/causality-gate.md"


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
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Do not cut at every minute of the day for functions of your own, if slow."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute every feature on cut and on full histories; succeeds if all are judged and none refused."""
    settings = settings_for_start(config, {}, gated=False)
    own = [_load(text) for text in function or ()]
    started = time.perf_counter()
    judged: list[Judged] = []
    effort = THOROUGH if quick else EVERY_MINUTE
    for kind, verdicts in _judge_all(settings, own, effort):
        progress.print(f"{kind}: {len(verdicts)} checked", markup=False)
        judged += [(kind, verdict) for verdict in verdicts]
    seconds = time.perf_counter() - started
    refused = [verdict for _, verdict in judged if not verdict.is_causal]
    unjudged = [kind for kind, verdict in judged if not verdict.is_judged and kind not in _BUILT_IN]
    if as_json:
        give_json(
            {
                "causal": None if unjudged and not refused else not refused,
                "checked": len(judged),
                "refused": [verdict.name for verdict in refused],
                "without_values": _without_values(judged),
                "cuts": THOROUGH.cuts,
                "cuts_of_own_functions": cuts_compared(effort),
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
        say(_how_far(effort))
    if refused or unjudged:
        raise typer.Exit(1)


def _judge_all(
    settings: Settings, own: list[tuple[str, Callable[..., Any]]], effort: Effort
) -> Iterator[tuple[str, tuple[Verdict, ...]]]:
    vector = judge_vector_and_chart(settings)
    yield "vector", tuple(each for each in vector if not each.column.startswith("chart."))
    yield "chart", tuple(each for each in vector if each.column.startswith("chart."))
    yield "domain/indicators", judge_indicator_files()
    if settings.features.extra_indicators:
        yield "extra_indicators", judge_added(settings)
    for text, function in own:
        yield text, check_function(function, effort=effort)


def summary(judged: list[Judged], seconds: float) -> str:
    """Say in a line or two what came out."""
    refused = sum(not verdict.is_causal for _, verdict in judged)
    told = f"{len(judged)} checked in {seconds:.1f} s, {refused} refused"
    if not (empty := _without_values(judged)):
        return told
    return (
        f"{told}, {len(empty)} could not be judged\nNever a value in {THOROUGH.minutes:,} minutes of the"
        f" proving market: {', '.join(empty)}. Always missing, does its warm-up take longer, or does it look"
        " further ahead than that? Shorten either"
    )


def _how_far(effort: Effort) -> str:
    return (
        f"Compared at {THOROUGH.cuts} cuts at most, functions of your own at {cuts_compared(effort):,};"
        f" what no cut meets is not seen: {_LIMITS}"
    )


def _without_values(judged: list[Judged]) -> list[str]:
    return [_name(kind, verdict) for kind, verdict in judged if not verdict.is_judged]


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
    if not verdict.is_judged:
        mark, seen = "NOT JUDGED", "no values on the proving market: nothing to judge"
    return [mark, _name(kind, verdict), kind, seen, verdict.remedy]


def _as_object(kind: str, verdict: Verdict) -> dict[str, Any]:
    evidence = verdict.evidence
    return {
        "feature": _name(kind, verdict),
        "where": kind,
        "causal": verdict.is_causal if verdict.is_judged else None,
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
