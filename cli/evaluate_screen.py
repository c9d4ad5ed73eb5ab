"""What `tidecast evaluate` shows on a terminal."""

from __future__ import annotations

from typing import Any

from cli.answer import say, show_table
from training.evaluation.report import few_days


def show(told: dict[str, Any]) -> None:
    """Show scores, money and trainings on a terminal."""
    say(f"Walk-forward from {told['span']['from']} to {told['span']['to']}: {told['verdict']}")
    _scores(told)
    if _traded(told):
        _money(told)
        if remark := few_days(told):
            say(remark)
    else:
        say(f"no model traded; holding earned {told['buy_and_hold']['total_return_pct']:.2f} %")
    promoted = sum(each["promoted"] for each in told["trainings"])
    say(
        f"{len(told['trainings'])} models trained, {promoted} promoted; {told['trials']} trials, deflated"
        f" Sharpe {_number(told['deflated_sharpe'], 3) or 'unknown'}, probability of backtest overfitting"
        f" {_number(told['pbo'], 3) or 'unknown'}; {told['seconds']} s"
    )


def _scores(told: dict[str, Any]) -> None:
    show_table(
        [
            "family",
            "minutes ahead",
            "n",
            "rmse %",
            "mae %",
            "skill %",
            "accuracy",
            "95 %",
            "ic",
            "brier",
            "ece",
            "in 80 %",
            "in 95 %",
            "evidence",
        ],
        [
            (
                family,
                horizon,
                each["n"],
                _number(each["rmse"], 4),
                _number(each["mae"], 4),
                _number(100 * each["skill"], 2),
                _number(each["accuracy"], 4),
                "-".join(_number(bound, 3) for bound in each["accuracy_ci"]),
                _number(each["ic"], 4),
                _number(each["brier"], 4),
                _number(each["ece"], 4),
                _number(100 * each["coverage"]["80"], 1),
                _number(100 * each["coverage"]["95"], 1),
                "yes" if each["evidence"] else "no",
            )
            for family, all_of_it in told["families"].items()
            for horizon, each in all_of_it["horizons"].items()
        ],
        title="the newest trained model, promoted or not",
    )


def _traded(told: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """List family, way, minutes ahead and money of all that traded."""
    return [
        (family, way, horizon, each)
        for family, all_of_it in told["families"].items()
        for way in ("served", "always")
        for horizon, each in all_of_it[way]["pnl_by_horizon"].items()
        if each["trades"]
    ]


def _money(told: dict[str, Any]) -> None:
    show_table(
        [
            "family",
            "models",
            "minutes ahead",
            "trades",
            "return %",
            "sharpe",
            "sortino",
            "drawdown %",
            "turnover/day",
            "coin flip %",
            "p",
            "deflated sharpe",
        ],
        [
            (
                family,
                way,
                horizon,
                each["trades"],
                _number(each["return_pct"], 2),
                _number(each["sharpe"], 2),
                _number(each["sortino"], 2),
                _number(each["max_drawdown_pct"], 2),
                _number(each["turnover_per_day"], 2),
                _number(each["coin_flip_pct"], 2),
                _number(each["coin_flip_p"], 3),
                _number(each["deflated_sharpe"], 3),
            )
            for family, way, horizon, each in _traded(told)
        ],
        title="trades after fees and slippage;"
        f" holding earned {told['buy_and_hold']['total_return_pct']:.2f} %",
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"
