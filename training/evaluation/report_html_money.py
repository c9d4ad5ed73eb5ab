"""The part of the report about trades."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from domain.evaluation.equity import WHOLE
from training.evaluation.evaluation import BASELINE, Evaluation, Way
from training.evaluation.report import few_days
from training.evaluation.report_html_charts import legend
from training.evaluation.report_html_pieces import cell, charts, figure, number, over_time, percent, table

_WAYS: tuple[tuple[Way, str], ...] = (
    ("served", "models as production would have promoted them"),
    ("always", "the newest model, promoted or not"),
)


def trades_section(found: Evaluation, told: Mapping[str, Any], css: Mapping[str, str]) -> str:
    """Draw equity and drawdown, and write what trades earned."""
    trade, seed = found.walk.trade_horizon, found.walk.seeds[0]
    drawn = []
    for way, words in _WAYS:
        curves = [
            (family, css[family], found.run(family, seed, way).earned[trade].curve)
            for family in found.walk.families
            if family != BASELINE
        ]
        lines = [("buy and hold", "reference", found.held.curve), *curves]
        drawn.append(
            figure(
                f"Equity: {words}",
                f"Percent of the capital, {trade} minutes ahead, after fees and slippage.",
                over_time(
                    [(name, colour, curve, curve.equity_pct - WHOLE) for name, colour, curve in lines],
                    y_label="earned, % of capital",
                    baseline=0.0,
                ),
            )
        )
        drawn.append(
            figure(
                f"Drawdown: {words}",
                "How far equity lies below its highest, in percent of that.",
                over_time(
                    [(name, colour, curve, -curve.drawdown_pct()) for name, colour, curve in lines],
                    y_label="drawdown, %",
                    baseline=0.0,
                    filled=True,
                ),
            )
        )
    named = legend(
        [
            ("reference", "buy and hold"),
            *((css[family], family) for family in found.walk.families if family != BASELINE),
        ]
    )
    note = (
        "Every symbol has an equal share of the capital, a trade stakes its symbol's share of the capital at"
        " the start, and profits are not staked again; so losses can add up to more than the capital. Trades"
        " still open at the end are left out."
    )
    return f'<h2>Trades</h2><p class="soft">{note}</p>{named}{charts(*drawn)}{_earned(told)}'


def _earned(told: Mapping[str, Any]) -> str:
    titles = (
        "Family",
        "Models",
        "Minutes ahead",
        "Trades",
        "Return %",
        "Sharpe",
        "Sortino",
        "Drawdown %",
        "Turnover a day",
        "Right %",
        "Coin flip %",
        "p",
        "Deflated Sharpe",
        "PBO",
    )
    rows = [
        [
            f'<td class="text">{escape(family)}</td>',
            f'<td class="text">{"as served" if way == "served" else "always"}</td>',
            cell(horizon),
            cell(f"{each['trades']:,}"),
            cell(number(each["return_pct"], 2)),
            cell(number(each["sharpe"], 2)),
            cell(number(each["sortino"], 2)),
            cell(number(each["max_drawdown_pct"], 2)),
            cell(number(each["turnover_per_day"], 2)),
            cell(percent(each["hit_rate"], 1)),
            cell(number(each["coin_flip_pct"], 2)),
            cell(number(each["coin_flip_p"], 3)),
            cell(number(each["deflated_sharpe"], 3)),
            cell(number(told["pbo"], 3)),
        ]
        for family, all_of_it in told["families"].items()
        if family != BASELINE
        for way in ("served", "always")
        for horizon, each in all_of_it[way]["pnl_by_horizon"].items()
    ]
    held = told["buy_and_hold"]
    rows.append(
        [
            '<td class="text">buy and hold</td>',
            "<td></td><td></td><td></td>",
            cell(number(held["total_return_pct"], 2)),
            cell(number(held["sharpe"], 2)),
            cell(number(held["sortino"], 2)),
            cell(number(held["max_drawdown_pct"], 2)),
            "<td></td>" * 6,
        ]
    )
    note = (
        "Coin flip: the same trades with directions drawn by a coin; p is the chance that a coin earns as"
        f" much. {few_days(told) or 'Sharpe and Sortino are annualised from daily returns.'}"
    )
    return f'{table(titles, rows, texts=2)}<p class="note">{note}</p>'
