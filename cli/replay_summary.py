"""What a replay says at its end: rows, trainings, trades, and how good the models were."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cli.answer import say, show_table
from config.ml_config import Settings
from db.repositories.overview import Summary
from schemas.frames import MINUTE_MS

_PLAIN = (
    "candles",
    "seconds",
    "training_seconds",
    "candles_per_s",
    "candles_per_s_without_training",
    "latency_p50_ms",
    "latency_p99_ms",
    "models_trained",
    "trainings_failed",
    "trades",
    "open_trades",
    "pnl_pct",
    "return_pct",
)


def tables_told(summary: Summary, settings: Settings, first_ms: int, last_ms: int) -> dict[str, Any]:
    """Tell what the tables of a replay hold.

    Parameters
    ----------
    first_ms, last_ms
        Open times of the recording's first and last candle.

    Returns
    -------
    dict
        `pnl_pct` is the sum of all trades' percents of their stakes, open ones as they stand; `return_pct` is
        what the ended ones earned in percent of the capital, of which every symbol has an equal share, as
        `tidecast evaluate` states it. `training_remark` is None where trainings went well.
    """
    return {
        "candles": summary.rows["rollingChartData"],
        "rows": summary.rows,
        "models_trained": summary.models_trained,
        "trainings_failed": summary.trainings_failed,
        "training_remark": training_remark(summary, settings.training.window_size, first_ms, last_ms),
        "trades": summary.trades,
        "open_trades": summary.open_trades,
        "pnl_pct": round(summary.pnl_pct, 4),
        "return_pct": round(summary.ended_pnl_pct / len(settings.symbols), 4),
        "accuracy": {str(each.forecast_horizon): asdict(each) for each in summary.accuracy},
    }


def training_remark(summary: Summary, window_minutes: int, first_ms: int, last_ms: int) -> str | None:
    """Say why nothing was trained, or why trainings failed; None where all is well."""
    trained, failed = summary.models_trained, summary.trainings_failed
    if failed:
        share = f"{failed} of {trained + failed}" if trained else f"all {failed}"
        return f"{share} trainings failed; the last one because: {summary.training_error}"
    if trained:
        return None
    minutes = (last_ms - first_ms) // MINUTE_MS + 1
    if minutes < window_minutes + 2:
        return (
            "nothing could be trained, so the no-change forecast stood in for a model: the recording is"
            f" {minutes} minutes long, and the first training waits for {window_minutes} minutes and one"
            " more: take a longer recording, or lower training.window_size"
        )
    return (
        "no training came due, so the no-change forecast stood in for a model: no symbol has"
        f" {window_minutes} minutes of candles and one more: take a longer recording, or lower"
        " training.window_size"
    )


def show_summary(answer: dict[str, Any]) -> None:
    """Print the summary as tables."""
    say(f"SIMULATED replay into {answer['dir']}")
    show_table(["", ""], [(name.replace("_", " "), answer[name]) for name in _PLAIN])
    show_table(["table", "rows"], list(answer["rows"].items()))
    show_table(
        ["horizon", "outcomes", "by models", "right", "rmse", "no-change rmse"],
        [
            (
                horizon,
                each["outcomes"],
                each["scored"],
                _number(each["right"], 3),
                _number(each["rmse"], 4),
                _number(each["baseline_rmse"], 4),
            )
            for horizon, each in answer["accuracy"].items()
        ],
        title="price direction, minutes ahead; scores of the rows by models",
    )
    if answer["training_remark"] is not None:
        say(answer["training_remark"])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
