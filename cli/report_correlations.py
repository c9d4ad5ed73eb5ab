"""`tidecast report correlations`: how symbols move together, and who moves first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psycopg
import typer

from cli.answer import give_json, progress
from cli.folder import (
    ConfigOption,
    JsonOption,
    database_of,
    existing_folder,
    folder_named,
    settings_for_start,
)
from cli.html_file import check_html_file, write_html_file
from cli.recording import familiar_first
from cli.report_correlations_html import page
from cli.report_correlations_screen import show
from config.ml_config import Settings
from domain.evaluation.bootstrap import Interval
from domain.evaluation.correlations import FAMILY_WISE_ERROR, FEWEST_RETURNS, View, views
from exchanges.recording import BadRecordingError, RecordedMarket, recorded_files
from schemas.frames import Float64, Int64

#: More symbols make more pairs than anybody reads.
MOST_SYMBOLS = 12
_DAY_MINUTES = 1440

#: By symbol: open times in milliseconds, and closes.
Closes = dict[str, tuple[Int64, Float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What candles are asked for: symbols (empty for all), and a span of open times in milliseconds."""

    symbols: tuple[str, ...]
    from_ms: int | None
    to_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, and what was found."""

    source: str
    leader: str
    from_ms: int
    to_ms: int
    views: tuple[View, ...]
    seconds: float


def correlations(
    path: Annotated[
        Path | None, typer.Argument(help="Folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            parser=folder_named,
            metavar="DIRECTORY",
            help="Take the candles that a pipeline has collected in its folder instead.",
        ),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option("--symbols", help="Only these, separated by commas or blanks.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First minute, ISO, UTC.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Minute to stop before, ISO, UTC.")] = None,
    timeframes: Annotated[
        str, typer.Option("--timeframes", help="Minutes of a bar, separated by commas or blanks.")
    ] = "1,5,15,60",
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Also draw it: one file that needs nothing else."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how symbols move together over 1, 5, 15 and 60 minutes, and who leads whom, beyond chance."""
    chosen = _timeframes(timeframes)
    check_html_file(html)
    if (path is None) == (folder is None):
        raise typer.BadParameter("give either a PATH of recordings or --dir with a pipeline's folder")
    settings = settings_for_start(config, {"market.from": from_, "market.to": to})
    asked = Asked(symbols=_symbols(symbols), from_ms=settings.market.from_ms, to_ms=settings.market.to_ms)
    begun_s = time.monotonic()
    if path is not None:
        closes = _recorded(path, asked)
    else:
        assert folder is not None
        closes, settings = _collected(folder, config, asked)
    source = str(path if path is not None else folder)
    _check_pairs(source, closes)
    leader = settings.features.leader if settings.features.leader in closes else next(iter(closes))
    pairs = len(closes) * (len(closes) - 1) // 2
    progress.print(f"{pairs} pairs in {len(chosen)} timeframes", markup=False)
    found = views(closes, timeframes=chosen, leader=leader, seed=settings.training.seed)
    if not any(view.correlations for view in found):
        raise OSError(
            f"{source}: no two symbols have {FEWEST_RETURNS} returns at the same time: take a longer span, or"
            " symbols that were recorded together"
        )
    report = Report(
        source=source,
        leader=leader,
        from_ms=min(int(times[0]) for times, _ in closes.values()),
        to_ms=max(int(times[-1]) for times, _ in closes.values()),
        views=found,
        seconds=time.monotonic() - begun_s,
    )
    told = answer(report)
    if html is not None:
        write_html_file(html, page(told, found))
    if as_json:
        give_json(told)
    else:
        show(told, found)


# --- what was asked for ---


def _timeframes(text: str) -> tuple[int, ...]:
    try:
        numbers = sorted({int(word) for word in text.replace(",", " ").split()})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1 or any(_DAY_MINUTES % number for number in numbers):
        raise typer.BadParameter(
            f"{text!r}: give minutes that a day can be divided into, such as 1,5,15,60",
            param_hint="--timeframes",
        )
    return tuple(numbers)


def _symbols(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    wanted = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if len(wanted) < 2 or len(wanted) > MOST_SYMBOLS:
        raise typer.BadParameter(
            f"{text!r}: give 2 to {MOST_SYMBOLS} different symbols", param_hint="--symbols"
        )
    return wanted


def _check_pairs(source: str, closes: Closes) -> None:
    if len(closes) < 2:
        raise OSError(
            f"{source}: has candles of {', '.join(closes) or 'no symbol'} only, and a pair needs two"
        )


def _pick(source: str, there: list[str], asked: Asked) -> tuple[str, ...]:
    """Choose the symbols: those asked for, or the best known ones first."""
    if asked.symbols:
        if missing := [symbol for symbol in asked.symbols if symbol not in there]:
            raise OSError(
                f"{source} has no candles of {', '.join(missing)}; it has {', '.join(there) or 'none'}"
            )
        return asked.symbols
    every = tuple(familiar_first(there))
    if len(every) > MOST_SYMBOLS:
        progress.print(
            f"{len(every)} symbols: taking {', '.join(every[:MOST_SYMBOLS])}; others with --symbols",
            markup=False,
        )
    return every[:MOST_SYMBOLS]


# --- candles ---


def _recorded(path: Path, asked: Asked) -> Closes:
    try:
        chosen = _pick(str(path), list(recorded_files(path)), asked)
        market = RecordedMarket(path, symbols=chosen, from_ms=asked.from_ms, to_ms=asked.to_ms)
    except BadRecordingError as error:
        raise OSError(str(error)) from error
    closes: Closes = {}
    for symbol in chosen:
        first_ms, last_ms = market.span(symbol)
        assert last_ms is not None
        rows = market.candles(symbol, first_ms, last_ms + 1)
        closes[symbol] = rows[:, 0].astype(np.int64), rows[:, 4]
    return closes


def _collected(folder: Path, config: Path | None, asked: Asked) -> tuple[Closes, Settings]:
    """Read the candles of a pipeline; those that were filled in are no candles of the market."""
    directory, settings = existing_folder(folder, config)
    with (
        database_of(directory, settings, "report") as url,
        psycopg.connect(url) as connection,
        connection.cursor() as cursor,
    ):
        connection.read_only = True
        cursor.execute('SELECT DISTINCT symbol FROM "rollingChartData" ORDER BY symbol')
        chosen = _pick(str(folder), [row[0] for row in cursor.fetchall()], asked)
        closes: Closes = {}
        for symbol in chosen:
            cursor.execute(
                """
                SELECT (extract(epoch FROM "timestamp") * 1000)::bigint, close::float8
                FROM "rollingChartData"
                WHERE symbol = %(symbol)s AND origin <> 'synthetic'
                  AND (%(from)s::bigint IS NULL OR "timestamp" >= to_timestamp(%(from)s / 1000.0))
                  AND (%(to)s::bigint IS NULL OR "timestamp" < to_timestamp(%(to)s / 1000.0))
                ORDER BY "timestamp"
                """,
                {"symbol": symbol, "from": asked.from_ms, "to": asked.to_ms},
            )
            rows = cursor.fetchall()
            if rows:
                times, close = zip(*rows, strict=True)
                closes[symbol] = np.array(times, np.int64), np.array(close, np.float64)
            elif asked.symbols:
                raise OSError(f"{folder}: has no candle of {symbol} between the chosen times")
        connection.rollback()
    return closes, settings


# --- the answer ---


def answer(report: Report) -> dict[str, Any]:
    """Put a report into plain values."""
    symbols = report.views[0].symbols
    pairs = len(symbols) * (len(symbols) - 1) // 2
    return {
        "source": report.source,
        "symbols": list(symbols),
        "leader": report.leader,
        "from": _iso(report.from_ms),
        "to": _iso(report.to_ms),
        "family_wise_error": FAMILY_WISE_ERROR,
        "looked_at": pairs * len(report.views),
        "leads": [
            {
                "leader": each.leader,
                "follower": each.follower,
                "minutes": each.lead_minutes,
                "timeframe": view.timeframe_minutes,
                "correlation": each.lead_correlation,
                "excess": each.excess,
                "adjusted_p": each.adjusted_p,
            }
            for view in report.views
            for each in view.lead_lags
            if each.leader
        ],
        "timeframes": {str(view.timeframe_minutes): _view(view) for view in report.views},
        "seconds": round(report.seconds, 1),
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "returns": dict(view.returns),
        "unmoved": dict(view.unmoved),
        "pearson": _matrix(view, "pearson"),
        "rank": _matrix(view, "rank"),
        "pairs": [
            {
                "first": together.first,
                "second": together.second,
                "n": together.n,
                "pearson": together.pearson.estimate,
                "pearson_ci": _bounds(together.pearson),
                "rank": together.rank.estimate,
                "rank_ci": _bounds(together.rank),
                "leader": across.leader or None,
                "follower": across.follower or None,
                "lead_minutes": across.lead_minutes or None,
                "lead_adjusted_p": across.adjusted_p,
                "lags": across.lags.tolist(),
                "cross_correlation": across.correlation.tolist(),
                "bound": across.bound.tolist(),
                "daily": {
                    f"{datetime.fromtimestamp(day / 1000, UTC):%Y-%m-%d}": value
                    for day, value in zip(days.day_ms.tolist(), days.correlation.tolist(), strict=True)
                },
            }
            for together, across, days in zip(view.correlations, view.lead_lags, view.daily, strict=True)
        ],
        "betas": {
            each.symbol: {"beta": each.beta.estimate, "ci": _bounds(each.beta), "r2": each.r2}
            for each in view.betas
        },
    }


def _matrix(view: View, kind: str) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {
        a: {b: 1.0 if a == b else None for b in view.symbols} for a in view.symbols
    }
    for each in view.correlations:
        value = (each.pearson if kind == "pearson" else each.rank).estimate
        found[each.first][each.second] = found[each.second][each.first] = value
    return found


def _bounds(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _iso(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%MZ}"
