"""What the summary of a replay says of its trainings and its money."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.replay_summary import show_summary, tables_told, training_remark
from config.ml_config import Settings
from db.repositories.overview import Accuracy, Summary
from schemas.frames import MINUTE_MS

NOTHING = Summary(
    rows={"rollingChartData": 600},
    models_trained=0,
    trainings_failed=0,
    training_error=None,
    train_seconds=0.0,
    pnl_pct=0.0,
    ended_pnl_pct=0.0,
    trades=0,
    open_trades=0,
    accuracy=(),
)


def remark(summary: Summary, minutes: int) -> str | None:
    return training_remark(summary, 600, 0, (minutes - 1) * MINUTE_MS)


def test_a_recording_too_short_to_train_says_so_and_what_it_takes() -> None:
    said = remark(NOTHING, 300)
    assert said is not None
    assert "the recording is 300 minutes long" in said
    assert "waits for 600 minutes and one more" in said
    assert "training.window_size" in said


def test_symbols_of_which_none_lasts_long_enough_say_so() -> None:
    said = remark(NOTHING, 700)
    assert said is not None
    assert "no symbol has 600 minutes" in said


def test_failed_trainings_are_counted_with_their_reason() -> None:
    failed = replace(NOTHING, trainings_failed=2, training_error="too few rows")
    assert remark(failed, 700) == "all 2 trainings failed; the last one because: too few rows"
    some = remark(replace(failed, models_trained=3), 700)
    assert some is not None
    assert some.startswith("2 of 5 trainings failed")


def test_trainings_that_went_well_need_no_remark() -> None:
    assert remark(replace(NOTHING, models_trained=4), 700) is None


def test_money_is_told_per_trade_and_as_a_share_of_the_capital() -> None:
    settings = Settings()
    summary = replace(NOTHING, pnl_pct=5.0, ended_pnl_pct=6.0, trades=9, open_trades=1)
    told = tables_told(summary, settings, 0, 0)
    assert (told["pnl_pct"], told["trades"], told["open_trades"]) == (5.0, 9, 1)
    assert told["return_pct"] == round(6.0 / len(settings.symbols), 4)


def test_a_horizon_without_a_model_shows_no_scores_and_the_remark_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    five = Accuracy(forecast_horizon=5, outcomes=290, scored=0, right=None, rmse=None, baseline_rmse=None)
    told = tables_told(replace(NOTHING, accuracy=(five,)), Settings(), 0, 299 * MINUTE_MS)
    times = dict.fromkeys(
        (
            "seconds",
            "training_seconds",
            "candles_per_s",
            "candles_per_s_without_training",
            "latency_p50_ms",
            "latency_p99_ms",
        ),
        1.0,
    )
    show_summary({"dir": "d", **times, **told})
    said = " ".join(capsys.readouterr().out.split())
    assert "290" in said
    assert "300 minutes long" in said
