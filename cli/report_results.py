"""`tidecast report results`: what the models foretold on recordings, as tables that anyone can make again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.answer import give_json, say
from cli.evaluate import evaluated, families_named, horizons_named
from cli.folder import ConfigOption, JsonOption
from cli.report_page import check_page, put_into, table
from cli.report_recorded import RecordingsArgument

BEGIN = "<!-- results: written by `tidecast report results --into`, do not edit by hand -->"
END = "<!-- end of results -->"


def results(
    paths: RecordingsArgument,
    families: Annotated[
        str | None,
        typer.Option("--families", help="Model families, such as xgboost,ensemble; see `evaluate`."),
    ] = None,
    horizons: Annotated[
        str | None,
        typer.Option("--horizons", help="Minutes ahead, such as 60,240; by default those trained."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Put the tables into this page, such as docs/results.md."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate one recording after the other, and lay the scores side by side."""
    check_page(into, BEGIN)
    names, ahead = families_named(families), horizons_named(horizons)
    told = {}
    for path in paths:
        _, told[path.resolve().name], _ = evaluated(
            path, horizons=ahead, families=names, config=config, as_json=as_json
        )
    if into is not None:
        put_into(into, as_markdown(told), begin=BEGIN, end=END)
    if as_json:
        give_json({"recordings": told})
    else:
        say(as_markdown(told))


def as_markdown(told: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the scores of each recording as tables."""
    return "\n\n".join(_recording(name, each) for name, each in told.items())


def _recording(name: str, told: Mapping[str, Any]) -> str:
    families = told["families"].items()
    scores = [
        _row(family, horizon, each)
        for family, found in families
        for horizon, each in found["horizons"].items()
    ]
    money = [_money(family, found["pnl"]) for family, found in families if found["pnl"]]
    return "\n\n".join(
        [
            f"### {name}",
            f"{told['span']['from']} to {told['span']['to']}; {told['verdict']}. {told['trials']} trials,"
            f" deflated Sharpe {_number(told['deflated_sharpe'], 3) or '-'}, probability of overfitting"
            f" {_number(told['pbo'], 2) or '-'}; {told['seconds']:,.0f} s.",
            table(
                [
                    "family",
                    "minutes",
                    "n",
                    "skill %",
                    "accuracy (95 %)",
                    "IC",
                    "Brier",
                    "ECE",
                    "in 80 % (95 %)",
                    "in 95 % (95 %)",
                    "evidence",
                ],
                scores,
            ),
            table(
                ["family", "trades", "return %", "Sharpe", "drawdown %", "coin flip % (5-95)", "p", "hold %"],
                money,
            ),
        ]
    )


def _row(family: str, horizon: str, each: Mapping[str, Any]) -> list[str]:
    def covered(level: str) -> str:
        low, high = each["coverage_ci"][level]
        return (
            f"{_number(100 * each['coverage'][level], 1)} ({_number(100 * low, 1)}-{_number(100 * high, 1)})"
        )

    low, high = each["accuracy_ci"]
    return [
        family,
        horizon,
        f"{each['n']:,}",
        f"{_number(100 * each['skill'], 2)}",
        f"{_number(each['accuracy'], 4)} ({_number(low, 3)}-{_number(high, 3)})",
        _number(each["ic"], 3),
        _number(each["brier"], 4),
        _number(each["ece"], 3),
        covered("80"),
        covered("95"),
        "yes" if each["evidence"] else "no",
    ]


def _money(family: str, pnl: Mapping[str, Any]) -> list[str]:
    coin = (
        f"{_number(pnl['coin_flip_pct'], 1)} ({_number(pnl['coin_flip_low_pct'], 1)} to"
        f" {_number(pnl['coin_flip_high_pct'], 1)})"
        if pnl["trades"]
        else ""
    )
    return [
        family,
        f"{pnl['trades']:,}",
        _number(pnl["return_pct"], 1),
        _number(pnl["sharpe"], 1),
        _number(pnl["max_drawdown_pct"], 1),
        coin,
        _number(pnl["coin_flip_p"], 2),
        _number(pnl["buy_and_hold_pct"], 1),
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
