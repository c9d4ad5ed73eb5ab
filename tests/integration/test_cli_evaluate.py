"""`tidecast evaluate`, as a user meets it: real processes, no server, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli import report_results
from exchanges.generator import GeneratedMarket
from schemas.frames import MINUTE_MS

from . import browser
from .command_line import is_gone

ROOT = Path(__file__).parents[2]
START_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS
SETTINGS = (
    '[training]\nwindow_size = 240\nretrain_every_minutes = 240\nrounds = 20\nmodel_types = ["xgboost"]\n'
)


def write(folder: Path, symbol: str, candles: Any) -> None:
    columns = {"timestamp": pa.array(candles[:, 0].astype(np.int64), pa.timestamp("ms", "UTC"))}
    for column, name in enumerate(("open", "high", "low", "close", "volume"), start=1):
        columns[name] = pa.array(candles[:, column])
    pq.write_table(pa.table(columns), folder / f"{symbol}-1m.parquet")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols of a generated market with structure."""
    folder: Path = tmp_path_factory.mktemp("recorded")
    market = GeneratedMarket(("BTCUSDT", "ETHUSDT"), seed=11, structure=0.3)
    for symbol in market.symbols:
        write(folder, symbol, market.candles(symbol, START_MS, START_MS + 900 * MINUTE_MS))
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("settings") / "settings.toml"
    path.write_text(SETTINGS)
    return path


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "cli.main", "evaluate", *map(str, words)]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDECAST_")}
    return {**kept, **changes}


def evaluate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return run(command(*words))


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def answered(
    recording: Path, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """An answer and its page."""
    page: Path = tmp_path_factory.mktemp("page") / "report.html"
    done = evaluate(
        recording, "--config", config, "--horizons", "5,15", "--families", "xgboost,last_value",
        "--seeds", "1,2", "--html", page, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), page


@pytest.mark.slow
def test_the_answer_has_the_promised_shape_and_the_page_needs_nothing_else(
    answered: tuple[dict[str, Any], Path],
) -> None:
    answer, page = answered
    assert set(answer["families"]) == {"xgboost", "last_value"}
    for family in answer["families"].values():
        assert set(family["horizons"]) == {"5", "15"}
        for each in family["horizons"].values():
            assert each["n"] > 0
            assert {"rmse", "mae", "skill", "accuracy", "ic", "brier", "ece"} <= set(each)
            assert len(each["accuracy_ci"]) == 2
            assert set(each["coverage"]) == {"80", "95"}
            assert isinstance(each["evidence"], bool)
            assert set(each["seeds"]["rmse"]) == {"mean", "deviation", "lowest", "highest"}
        assert {"return_pct", "sharpe", "sortino", "max_drawdown_pct", "turnover_per_day"} <= set(
            family["pnl"]
        )
        assert {"buy_and_hold_pct", "coin_flip_pct", "deflated_sharpe"} <= set(family["pnl"])
    # one family but the baseline, two horizons, two seeds, served and always
    assert answer["trials"] == 8
    assert {"deflated_sharpe", "pbo", "seconds", "verdict"} <= set(answer)
    assert answer["families"]["last_value"]["horizons"]["5"]["skill"] == 0.0
    assert not answer["families"]["last_value"]["horizons"]["5"]["evidence"]
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text
    assert all(title in text for title in ("Equity", "Drawdown", "Do the intervals hold?", "By regime"))
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: install Debian's chromium")
@pytest.mark.parametrize("width", [1200, 390], ids=["desk", "phone"])
def test_a_browser_shows_the_whole_page_and_asks_for_nothing_else(
    answered: tuple[dict[str, Any], Path], tmp_path: Path, width: int
) -> None:
    answer, page = answered
    seen = browser.see(page, width=width, profile=tmp_path / "profile")
    assert seen.width <= width, "it scrolls sideways"
    assert seen.pictures >= 8
    assert (seen.empty, seen.cut) == (0, [])
    assert not {"nan", "NaN", "None", "undefined"} & set(seen.text.split())
    assert answer["verdict"] in seen.text.lower()
    assert set(seen.asked) <= {"/measure.html", "/report.html", "/favicon.ico"}


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: install Debian's chromium")
def test_a_browser_would_notice_what_is_wrong_with_a_page(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><img src="/more.png"><div style="width:3000px">nan</div>'
        '<svg width="100" height="20"><text x="80" y="15">too far out</text></svg><svg></svg>'
    )
    seen = browser.see(page, width=390, profile=tmp_path / "profile")
    assert seen.width >= 3000
    assert (seen.pictures, seen.empty, seen.cut) == (2, 1, ["too far out"])
    assert "nan" in seen.text.split()
    assert "/more.png" in seen.asked


@pytest.mark.slow
def test_what_tuning_tried_is_counted_among_the_trials(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: nothing is tuned")
    config, page = tmp_path / "tuned.toml", tmp_path / "report.html"
    # the first training would be too short after 240 minutes to try anything on
    config.write_text(SETTINGS.replace("window_size = 240", "window_size = 650") + "tuning_trials = 3\n")
    done = evaluate(
        recording, "--config", config, "--horizons", "5", "--families", "xgboost,last_value", "--folds", "2",
        "--html", page, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    tunings = [each["tuning"] for each in answer["trainings"] if each["family"] == "xgboost"]
    assert len(tunings) == 2
    assert not any("tuning" in each for each in answer["trainings"] if each["family"] == "last_value")
    tried = {
        json.dumps(trial["settings"], sort_keys=True)
        for tuning in tunings
        for number, trial in enumerate(tuning["trials"])
        if number != tuning["chosen"]
    }
    assert all(len(tuning["trials"]) == 3 for tuning in tunings)
    assert len(tried) >= 3
    # as served and always, and what was not chosen
    assert answer["trials"] == 2 + len(tried)
    assert "and what tuning tried" in page.read_text()


@pytest.mark.slow
def test_of_a_random_walk_it_says_that_there_is_no_evidence_of_skill(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    chance = np.random.default_rng(5)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        minutes = 1_500
        close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.0006, minutes)))
        before = np.concatenate([[100.0], close[:-1]])
        room = np.abs(chance.normal(0.0, 0.0003, (2, minutes)))
        high, low = np.maximum(before, close) * (1 + room[0]), np.minimum(before, close) * (1 - room[1])
        times = START_MS + np.arange(minutes) * MINUTE_MS
        volume = chance.lognormal(3.0, 0.5, minutes)
        write(folder, symbol, np.column_stack([times, before, high, low, close, volume]))
    page = tmp_path / "noise.html"
    done = evaluate(
        folder, "--config", config, "--horizons", "5", "--folds", "3", "--families", "xgboost",
        "--html", page, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "no evidence of skill"
    told = answer["families"]["xgboost"]["horizons"]["5"]
    assert not told["evidence"]
    assert told["accuracy_ci"][0] is None or told["accuracy_ci"][0] <= 0.5
    assert len({each["train_at"] for each in answer["trainings"]}) == 3
    assert "No evidence of skill" in page.read_text()
    assert "annualised from 0." in page.read_text()


@pytest.mark.slow
def test_a_family_that_finds_nothing_is_reported_as_no_change(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    chance = np.random.default_rng(3)
    minutes = 900
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.0006, minutes)))
    before = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(before, close) * 1.0002, np.minimum(before, close) * 0.9998
    times = START_MS + np.arange(minutes) * MINUTE_MS
    write(folder, "BTCUSDT", np.column_stack([times, before, high, low, close, np.full(minutes, 20.0)]))
    # weighed by evidence, of which there is none
    done = evaluate(
        folder, "--config", config, "--horizons", "5", "--families", "ensemble", "--seeds", "1,2", "--json",
        "--html", tmp_path / "noise.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    made = [each for each in answer["trainings"] if each.get("model_version")]
    assert not made, "this noise is to hold nothing at all"
    assert answer["verdict"] == "no evidence of skill"
    told = answer["families"]["ensemble"]["horizons"]["5"]
    assert told["n"] > 200
    assert told["skill"] == 0.0
    assert told["brier"] == 0.25
    assert not told["evidence"]
    assert answer["families"]["ensemble"]["pnl"]["trades"] == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--families", "xgbost"], 2, ["xgbost", "did you mean 'xgboost'"]),
        (["--horizons", "five"], 2, ["--horizons", "five"]),
        (["--seeds", "-1"], 2, ["--seeds"]),
        (["--horizons", "5,5000"], 78, ["--horizons", "5000 minutes", "training.window_size (240 minutes)"]),
        (["--symbols", "DOGEUSDT"], 1, ["DOGEUSDT", "BTCUSDT, ETHUSDT"]),
        (["--to", "2023-11-15T00:00Z"], 1, ["106 minutes long", "training.window_size"]),
        (["--html", "/nowhere/report.html"], 2, ["/nowhere", "--html"]),
        (["--folds", "100"], 1, ["100 folds of the 659 minutes", "at most 10 with --folds"]),
    ],
)
def test_what_cannot_be_done_is_said_with_its_name_and_a_remedy(
    recording: Path, config: Path, words: list[str], code: int, told: list[str]
) -> None:
    done = evaluate(recording, "--config", config, "--json", *words)
    assert done.returncode == code, done.stderr
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == code
    assert all(word in answer["error"] for word in told), answer["error"]


def test_a_horizon_longer_than_the_recording_is_named(recording: Path, tmp_path: Path) -> None:
    config = tmp_path / "long.toml"
    config.write_text("[training]\nwindow_size = 1000\n")
    done = evaluate(recording, "--config", config, "--horizons", "5,950", "--json")
    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)["error"]
    assert all(words in error for words in ("950 minutes", "900 minutes long", "--horizons"))


def test_horizons_are_applied_before_the_settings_are_checked(recording: Path, tmp_path: Path) -> None:
    config = tmp_path / "short.toml"
    # by itself it trains up to an hour ahead, and trades another horizon than it is asked for
    config.write_text("[training]\nwindow_size = 50\n[trading]\nhorizon_minutes = 60\n")
    done = evaluate(recording, "--config", config, "--horizons", "5", "--to", "2023-11-14T22:20Z", "--json")
    assert done.returncode == 1, done.stderr
    assert "the first training waits for 50 minutes" in json.loads(done.stdout)["error"]


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    done = evaluate(tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "SYMBOL-1m.parquet" in done.stderr


@pytest.mark.slow
def test_a_stop_in_the_middle_leaves_no_process_and_no_file(
    recording: Path, config: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        command(recording, "--config", config, "--seeds", "1,2,3,4,5,6", "--json"),
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        me = psutil.Process(process.pid)
        deadline = time.monotonic() + 600

        def computing() -> list[psutil.Process]:
            return [
                child
                for child in me.children(recursive=True)
                if "runtime.compute_process" in " ".join(child.cmdline())
            ]

        found: list[psutil.Process] = []
        while not found and time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(psutil.Error):
                found = computing()
            time.sleep(0.02)
        assert found, "it was over before it could be stopped"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert json.loads(out)["exit_code"] == 130
    assert all(is_gone(child) for child in found)
    # a library may keep a mark of its own
    assert list(tmp_path.glob("tidecast-*")) == []


def test_results_lays_the_horizons_that_were_asked_for_into_the_page(
    recording: Path, config: Path, tmp_path: Path
) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"# Before\n\n{report_results.BEGIN}\nwhat was there\n{report_results.END}\n\nAfter.\n")
    words = (
        "report", "results", recording, "--families", "last_value", "--horizons", "5,30", "--into", page,
        "--config", config, "--json",
    )  # fmt: skip
    done = run([sys.executable, "-m", "cli.main", *map(str, words)])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["recordings"][recording.name]["families"]["last_value"]["horizons"]
    assert list(told) == ["5", "30"]
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("After.\n")
    assert "what was there" not in text
    for horizon, each in told.items():
        assert f"| last_value | {horizon} | {each['n']:,} | 0.00 | 0.5000" in text
