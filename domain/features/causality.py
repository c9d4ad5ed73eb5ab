"""The causality gate: a feature is computed on histories that end early and on the whole one, and compared.

A value that is not the same once later candles are in was made with them. So is one that another future
changes, or, for features that look at other symbols, one that needs their candle of the same minute. Values
that differ when nothing differs (random numbers, the clock, memory of earlier calls) cannot be judged and
are refused, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from domain.features.cuts import (
    Cut,
    History,
    Market,
    choose_cuts,
    cut_market,
    cuts_of_every_minute,
    with_other_future,
)
from domain.features.verdict import Evidence, Reason, Verdict
from schemas.frames import Float64, Int64

#: Values by column, one per candle.
Columns = Mapping[str, Float64]
#: Computes columns for each symbol of a market.
Compute = Callable[[Market], Mapping[str, Columns]]

#: After so many cuts the histories go on in another way, instead of ending.
_OTHER_FUTURE_EVERY = 4
#: Candles of a history that is long enough to say of half of it that it is the whole.
_LONG = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far two values may lie apart: a share of themselves plus a share of the column's median size."""

    relative: float
    of_scale: float


#: The same bits: for rules that take candles one by one in their order.
EXACT = Tolerance(relative=0.0, of_scale=0.0)
#: For code of pandas and its like, whose sums may be taken in another order on another length: some tens of
#: thousand roundings. A leak a hundred times as large as this is 1e-9 of the value.
PANDAS = Tolerance(relative=1e-11, of_scale=1e-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is checked: one thing that computes one or more columns.

    Attributes
    ----------
    name
        What it is refused by.
    fresh
        Makes a computation that remembers nothing of other calls.
    sees_others
        Whether it is given all symbols at once; else it is given one at a time.
    tolerance
        How far values of different histories may lie apart and still count as the same. Those of one history
        must be the same to the bit.
    least
        Candles of the shortest history it is ever given.
    settled
        Candles from which on it must not fail.
    """

    name: str
    fresh: Callable[[], Compute]
    sees_others: bool = False
    tolerance: Tolerance = PANDAS
    least: int = 2
    settled: int = _LONG


def check(subject: Subject, market: Market, *, cuts: int, every_minute: bool = False) -> tuple[Verdict, ...]:
    """Compare a feature on cut and on full histories.

    Parameters
    ----------
    subject
        What to check.
    market
        Candles on which it is tried, some hundred minutes at least; the more kinds of trouble are in them,
        the more is found.
    cuts
        How many places to cut at.
    every_minute
        Whether to cut at every minute of the day, too, if nothing was found so far: leaks that hide behind a
        time of day show there.

    Returns
    -------
    A verdict for each of its columns; a single one if it fails.
    """
    try:
        whole, repeats = _compute_twice(subject, market)
        findings = repeats or list(
            _compare_cuts(subject, market, whole, choose_cuts(market, count=cuts, least=subject.least))
        )
        if every_minute and not findings:
            findings = list(
                _compare_cuts(subject, market, whole, cuts_of_every_minute(market, least=subject.least))
            )
    except _FailureError as failure:
        return (Verdict(feature=subject.name, reason=Reason.FAILS, detail=str(failure)),)
    columns = dict.fromkeys(column for part in whole.values() for column in part)
    return tuple(
        _judge(subject, column, whole, [finding for finding in findings if finding.column == column])
        for column in columns
    )


class _FailureError(Exception):
    """The feature raised, or gave something that is no column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    column: str
    reason: Reason
    evidence: Evidence


def _judge(subject: Subject, column: str, whole: Mapping[str, Columns], findings: list[_Finding]) -> Verdict:
    name = "" if column == subject.name else column
    has_values = any(np.isfinite(part[column]).any() for part in whole.values() if column in part)
    if not findings:
        return Verdict(feature=subject.name, column=name, has_values=has_values)
    # What is wrong with the future outweighs what is wrong with the minute.
    worst = min(findings, key=lambda finding: list(Reason).index(finding.reason)).reason
    alike = [finding.evidence for finding in findings if finding.reason is worst]
    first = min(alike, key=lambda evidence: evidence.minute_ms)
    evidence = replace(
        first,
        reach=max(each.reach for each in alike),
        is_whole=any(each.is_whole for each in alike),
    )
    return Verdict(feature=subject.name, column=name, reason=worst, evidence=evidence, has_values=has_values)


def _worlds(subject: Subject, market: Market) -> list[dict[str, History]]:
    if subject.sees_others:
        return [dict(market)]
    return [{name: history} for name, history in market.items()]


def _compute_twice(subject: Subject, market: Market) -> tuple[dict[str, Columns], list[_Finding]]:
    """Compute the whole market; tell what is not the same when that is done again."""
    whole: dict[str, Columns] = {}
    findings: list[_Finding] = []
    worn = subject.fresh()
    for number, world in enumerate(_worlds(subject, market)):
        first = _computed(worn if number == 0 else subject.fresh(), world)
        whole |= first
        again, ends = _computed(worn, world), {name: len(history) for name, history in world.items()}
        differ = list(_differences(EXACT, world, first, again, ends, Reason.NOT_REPEATABLE))
        if differ:
            anew = _computed(subject.fresh(), world)
            random = {
                each.column for each in _differences(EXACT, world, first, anew, ends, Reason.NOT_REPEATABLE)
            }
            findings += [
                each if each.column in random else replace(each, reason=Reason.REMEMBERS) for each in differ
            ]
    return whole, findings


def _compare_cuts(
    subject: Subject, market: Market, whole: Mapping[str, Columns], cuts: Iterable[Cut]
) -> Iterator[_Finding]:
    for number, cut in enumerate(cuts):
        world = dict(market) if subject.sees_others else {cut.symbol: market[cut.symbol]}
        past = cut_market(world, cut)
        yield from _compare_cut(subject, world, whole, cut, past, past)
        if number % _OTHER_FUTURE_EVERY == 0:
            yield from _compare_cut(subject, world, whole, cut, past, with_other_future(world, past))


def _compare_cut(
    subject: Subject,
    world: Market,
    whole: Mapping[str, Columns],
    cut: Cut,
    past: Market,
    given: Market,
) -> Iterator[_Finding]:
    """Compare the values of `past` where `given` is known, which is `past` or goes on in another way."""
    part = _try(subject, given, cut)
    if part is None:
        return
    kept = {name: len(history) for name, history in past.items()}
    findings = list(_differences(subject.tolerance, world, part, whole, kept, Reason.CHANGES_PAST))
    if findings and subject.sees_others:
        # If all is well once everybody's last minute is in, then that minute was the trouble.
        later = cut_market(world, cut, same_minute=True)
        if (part := _try(subject, later, cut)) is not None:
            kept = {name: len(history) for name, history in later.items()}
            still = {
                each.column
                for each in _differences(subject.tolerance, world, part, whole, kept, Reason.CHANGES_PAST)
            }
            findings = [
                each if each.column in still else replace(each, reason=Reason.SAME_MINUTE)
                for each in findings
            ]
    yield from findings


def _try(subject: Subject, given: Market, cut: Cut) -> dict[str, Columns] | None:
    try:
        return _computed(subject.fresh(), given)
    except _FailureError as failure:
        if cut.kept < subject.settled:
            return None
        raise _FailureError(
            f"on a history of {cut.kept} candles: {failure}; where there are too few, give NaN"
        ) from failure


def _computed(compute: Compute, market: Market) -> dict[str, Columns]:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = compute({name: history.first(len(history)) for name, history in market.items()})
            columns: dict[str, Columns] = {
                name: {column: np.asarray(values, np.float64) for column, values in part.items()}
                for name, part in result.items()
            }
    except Exception as error:
        raise _FailureError(f"{type(error).__name__}: {error}") from error
    for name, part in columns.items():
        for column, values in part.items():
            if values.shape != (len(market[name]),):
                raise _FailureError(
                    f"{column} has shape {values.shape} for {len(market[name])} candles of {name}; it must "
                    "have one value per candle"
                )
    if missing := set(market) - set(columns):
        raise _FailureError(f"it gives nothing for {', '.join(sorted(missing))}")
    return columns


def _differences(
    tolerance: Tolerance,
    market: Market,
    known: Mapping[str, Columns],
    later: Mapping[str, Columns],
    kept: Mapping[str, int],
    reason: Reason,
) -> Iterator[_Finding]:
    for name, count in kept.items():
        for column, values in later[name].items():
            before = known[name].get(column)
            then = np.full(count, np.nan) if before is None else before[:count]
            changed = _changed(then, values[:count], tolerance)
            if len(changed):
                first = int(changed[0])
                times = market[name].open_time_ms
                evidence = Evidence(
                    symbol=name,
                    minute_ms=int(times[first]),
                    end_ms=int(times[count - 1]),
                    known=float(then[first]),
                    later=float(values[first]),
                    changed=len(changed),
                    reach=count - first,
                    is_whole=2 * len(changed) > count >= _LONG,
                )
                yield _Finding(column=column, reason=reason, evidence=evidence)


def _changed(known: Float64, later: Float64, tolerance: Tolerance) -> Int64:
    missing = np.isnan(known) & np.isnan(later)
    if tolerance == EXACT:
        bits = np.ascontiguousarray(known).view(np.int64), np.ascontiguousarray(later).view(np.int64)
        return np.flatnonzero(~missing & (bits[0] != bits[1]))
    sizes = np.abs(known[np.isfinite(known)])
    scale = float(np.median(sizes)) if len(sizes) else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = tolerance.relative * np.maximum(np.abs(known), np.abs(later)) + tolerance.of_scale * scale
        near = (known == later) | (np.isfinite(allowed) & (np.abs(known - later) <= allowed))
    return np.flatnonzero(~missing & ~near)
