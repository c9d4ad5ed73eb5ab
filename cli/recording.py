"""The recording that a command is given: which of its symbols, the settings that play it, and its candles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from config.ml_config import Settings
from exchanges.recording import BadRecordingError, RecordedMarket, recorded_files
from schemas.frames import Float64

_FAMILIAR = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "HBARUSDT")


def familiar_first(symbols: Iterable[str]) -> list[str]:
    """Put the best known symbols first, and the others behind them in alphabetical order."""
    there = set(symbols)
    known = [symbol for symbol in _FAMILIAR if symbol in there]
    return known + sorted(there.difference(known))


def chosen_symbols(path: Path, text: str | None = None) -> list[str]:
    """Choose the symbols of a recording: those named, or all.

    Parameters
    ----------
    path
        A folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files.
    text
        What --symbols says; None if it was not given.

    Raises
    ------
    OSError
        If there is no such folder.
    BadRecordingError
        If it holds no recording, or none of a symbol that is named.
    typer.BadParameter
        If no symbol is named.
    """
    wanted = "a folder of SYMBOL-1m.parquet or SYMBOL-1m.csv files"
    if not path.exists():
        raise OSError(f"{path} does not exist: PATH names {wanted}")
    if not path.is_dir():
        raise OSError(f"{path} is a file: PATH names {wanted}, such as {path.absolute().parent}")
    recorded = recorded_files(path)
    if text is None:
        return familiar_first(recorded)
    named = text.replace(",", " ").split()
    if not named:
        raise typer.BadParameter("names no symbol", param_hint="--symbols")
    if missing := [symbol for symbol in named if symbol not in recorded]:
        raise BadRecordingError(
            f"{path} has no recording of {', '.join(missing)}; it has {', '.join(sorted(recorded))}"
        )
    return named


def recorded_at(
    path: Path, symbols: Sequence[str], from_: str | None = None, to: str | None = None
) -> dict[str, Any]:
    """Give the settings with which a recording is played at full speed."""
    return {
        "symbols": ",".join(symbols),
        "market.exchange": "simulated",
        "market.recorded_path": str(path.absolute()),
        "market.from": from_,
        "market.to": to,
        "market.speed": "max",
        "pipeline.replay": "true",
        "data.history_days": "0",
    }


def market_of(settings: Settings) -> RecordedMarket:
    """Open the recording that the settings name.

    Raises
    ------
    BadRecordingError
        If it cannot be read, or has no candle between the chosen times.
    """
    market = settings.market
    assert market.recorded_path is not None
    return RecordedMarket(
        market.recorded_path, symbols=settings.symbols, from_ms=market.from_ms, to_ms=market.to_ms
    )


def candles_of(settings: Settings) -> dict[str, Float64]:
    """Read the recording that the settings name, by symbol."""
    recorded = market_of(settings)
    spans = [recorded.span(symbol) for symbol in settings.symbols]
    first_ms, last_ms = min(first for first, _ in spans), max(last for _, last in spans if last is not None)
    return {symbol: recorded.candles(symbol, first_ms, last_ms + 1) for symbol in settings.symbols}
