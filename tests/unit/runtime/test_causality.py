"""An indicator that changes its past keeps the pipeline from starting, and is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cli.check_features import summary
from cli.folder import settings_for_start
from config.errors import EX_CONFIG, ConfigurationError
from config.ml_config import load
from runtime.causality import (
    AT_START,
    EVERY_MINUTE,
    Effort,
    check_function,
    cuts_compared,
    judge_added,
    judge_indicator_files,
    judge_vector_and_chart,
)

QUICK = Effort(minutes=1_000, symbols=2, cuts=3)
LEAKY = '["vwma", "dpo", "ema(length=20, offset=-3)"]'


def config_with(indicators: str, folder: Path) -> Path:
    config = folder / "my.toml"
    config.write_text(f"[features]\nextra_indicators = {indicators}\n")
    return config


def test_the_launcher_names_each_that_changes_its_past_the_first_minute_and_the_way_out(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_for_start(config_with(LEAKY, tmp_path), {})

    assert [mistake.value for mistake in caught.value.mistakes] == ['"dpo"', '"ema(length=20, offset=-3)"']
    dpo, offset = (mistake.problem for mistake in caught.value.mistakes)
    assert "column DPO_20 changes its past: BTCUSDT at 2021-02-28T" in dpo
    assert "Write dpo(lookahead=False)" in dpo
    assert "up to 3 candles ahead" in offset
    assert caught.value.exit_code == EX_CONFIG


def test_what_the_library_does_not_know_is_told_once_and_what_leaks_beside_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_for_start(config_with('["supertrendd", "dpo"]', tmp_path), {})

    assert [mistake.value for mistake in caught.value.mistakes] == ['"supertrendd"', '"dpo"']


def test_what_looks_back_only_may_start(tmp_path: Path) -> None:
    config = config_with('["vwma", "willr", "dpo(lookahead=False)"]', tmp_path)

    assert len(settings_for_start(config, {}).features.extra_indicators) == 3


def test_the_added_and_the_built_in_are_judged_column_by_column() -> None:
    settings = load(None, {}, {"features.extra_indicators": ["aroon", "dpo"], "features.rsi_period": 21})

    added = judge_added(settings, AT_START)
    assert {each.column: each.is_causal for each in added} == {
        "AROOND_14": True,
        "AROONU_14": True,
        "AROONOSC_14": True,
        "DPO_20": False,
    }
    built_in = judge_vector_and_chart(settings, QUICK)
    assert len(built_in) == 79
    assert all(each.is_causal for each in built_in)


def test_every_indicator_file_is_causal() -> None:
    verdicts = judge_indicator_files(QUICK)

    assert {"adx", "vwap_distance"} <= {each.feature for each in verdicts}
    assert [str(each) for each in verdicts if not each.is_causal] == []


def test_an_own_function_is_checked_before_it_is_added() -> None:
    def tomorrow(frame: pd.DataFrame) -> pd.Series:
        return frame.close.shift(-1)

    (verdict,) = check_function(tomorrow, effort=AT_START)

    assert str(verdict).startswith("tomorrow changes its past")


@pytest.mark.slow
def test_the_program_ends_with_78(tmp_path: Path) -> None:
    config = config_with('["dpo"]', tmp_path)
    done = _tidecast("up", "--dir", str(tmp_path / "var"), "--config", str(config))

    assert done.returncode == EX_CONFIG
    assert "DPO_20 changes its past" in done.stderr
    assert not (tmp_path / "var").exists()


@pytest.mark.slow
def test_the_command_lists_every_feature_and_fails_if_one_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "kept = {}\n"
        "def scaled(f):\n    kept.setdefault('mean', f.close.mean())\n    return f.close / kept['mean']\n"
        "def spread(f):\n    return f.high - f.low\n"
        "def never(f):\n    return f.close * float('nan')\n"
    )
    config = config_with('["vwma", "ichimoku"]', tmp_path)
    done = _tidecast(
        "check-features", "--config", str(config), "--json",
        "--function", f"{own}:scaled", "--function", f"{own}:spread",
        "--function", f"{own}:never",
    )  # fmt: skip
    answer = json.loads(done.stdout)

    assert done.returncode == 1
    assert answer["causal"] is False
    assert answer["refused"] == ["ichimoku (column ICS_26)", "scaled"]
    assert answer["without_values"] == ["never"]
    assert [each["where"] for each in answer["features"]].count("vector") == 72
    refused = next(each for each in answer["features"] if not each["causal"])
    assert refused["reach_candles"] == 26
    assert refused["symbol"] in {"BTCUSDT", "ADAUSDT", "HBARUSDT", "ETHUSDT"}


def test_a_feature_without_any_value_is_named_and_not_called_well() -> None:
    def never(frame: pd.DataFrame) -> pd.Series:
        return frame["close"] * float("nan")

    def spread(frame: pd.DataFrame) -> pd.Series:
        return frame["high"] - frame["low"]

    judged = [
        (name, *check_function(function, effort=QUICK)) for name, function in (("a", never), ("b", spread))
    ]

    told = summary(judged, 0.25)

    assert told.startswith("2 checked in 0.2 s, 0 refused, 1 could not be judged")
    assert "never" in told
    assert "spread" not in told
    assert summary(judged[1:], 0.25) == "1 checked in 0.2 s, 0 refused"


@pytest.mark.slow
@pytest.mark.parametrize(("hour", "minute", "ahead"), [(3, 17, 1), (None, 17, 5)])
def test_a_leak_that_hides_behind_a_time_of_day_is_found(hour: int | None, minute: int, ahead: int) -> None:
    def hides(frame: pd.DataFrame) -> pd.Series:
        times = frame.index
        hours = times.hour % 6 == 0 if hour is None else times.hour == hour
        return frame["close"].shift(-ahead).where(hours & (times.minute == minute), frame["close"])

    every_minute = Effort(minutes=1_000, symbols=1, cuts=13, every_minute=True)
    (verdict,) = check_function(hides, effort=every_minute)

    assert str(verdict).startswith("hides changes its past")
    assert f"up to {ahead} candle" in verdict.remedy


def test_an_own_function_is_cut_at_each_minute_of_the_day() -> None:
    assert cuts_compared(EVERY_MINUTE) >= 1_440
    assert cuts_compared(QUICK) == QUICK.cuts


def test_a_few_values_for_a_whole_history_are_refused_but_a_warm_up_may_be_left_out() -> None:
    def short(frame: pd.DataFrame) -> pd.Series:
        return frame["close"].head(10)

    def with_holes(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[["close"]].iloc[::7]

    def without_warm_up(frame: pd.DataFrame) -> pd.Series:
        return frame["close"].rolling(14).mean().dropna()

    for function in (short, with_holes):
        (verdict,) = check_function(function, effort=QUICK)
        assert not verdict.is_causal
        assert str(verdict).startswith(f"{function.__name__} cannot be computed")
        assert "Give one number per candle" in verdict.remedy
    assert "gives 10 values for 96" in str(check_function(short, effort=QUICK)[0])
    (fine,) = check_function(without_warm_up, effort=QUICK)
    assert fine.is_causal
    assert fine.is_judged


@pytest.mark.slow
def test_the_command_fails_where_a_function_could_not_be_judged_and_says_how_far_it_looked(
    tmp_path: Path,
) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def far(f):\n    return f.close.shift(-10080)\n")
    function = ("--function", f"{own}:far")
    told = _tidecast("check-features", "--quick", *function)
    answer = json.loads(_tidecast("check-features", "--quick", "--json", *function).stdout)

    assert told.returncode == 1
    assert "NOT JUDGED" in told.stdout
    assert "Never a value" in told.stdout
    assert "docs/decisions/causality-gate.md" in told.stdout.splitlines()[-1]
    assert answer["causal"] is None
    assert answer["without_values"] == ["far"]
    assert [each["feature"] for each in answer["features"] if each["causal"] is None] == ["far"]
    assert "Shorten its warm-up" in answer["features"][-1]["remedy"]


def _tidecast(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], capture_output=True, text=True, check=False, timeout=600
    )
