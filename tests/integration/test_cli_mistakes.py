"""What is wrong on a command line or in the settings is told in words, before anything starts."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from config.errors import EX_CONFIG

from .command_line import ROOT, tidecast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder that is not there yet."""
    return tmp_path / "var"


def test_all_mistakes_in_the_settings_are_told_at_once_with_78_before_anything_starts(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    config = folder.parent / "wrong.toml"
    config.write_text("[features]\nrsi_periode = 9\n[trading]\nfee_bps = -1\n")
    result = tidecast("up", "--no-workers", "--dir", folder, "--config", config, "--exchange", "binance")
    assert result.returncode == 78
    for word in ("rsi_periode", "rsi_period", "fee_bps", "market.exchange", "binanceus"):
        assert word in result.stderr
    assert not folder.exists()


def test_a_redis_url_that_cannot_be_read_is_told_with_78_and_without_its_password(folder: Path) -> None:
    result = tidecast(
        "up", "--no-workers", "--dir", folder, TIDECAST_REDIS_URL="redis+sentinel://me:hushhush@one,two"
    )
    assert result.returncode == 78
    assert "servers.redis_url" in result.stderr
    assert "mymaster" in result.stderr
    assert "hushhush" not in result.stdout + result.stderr
    assert not folder.exists()


def test_an_unknown_indicator_is_told_with_78_and_the_nearest_before_anything_starts(folder: Path) -> None:
    config = folder.parent / "wrong.toml"
    config.write_text('[features]\nextra_indicators = ["supertrendd"]\n')
    result = tidecast("up", "--no-workers", "--dir", folder, "--config", config)
    assert result.returncode == 78
    for word in ("features.extra_indicators", "supertrendd", "supertrend or"):
        assert word in " ".join(result.stderr.split())
    assert not folder.exists()


def test_doctor_looks_at_servers_by_url_before_the_first_start(tmp_path: Path) -> None:
    result = tidecast(
        "doctor",
        "--dir",
        tmp_path / "new",
        "--json",
        TIDECAST_POSTGRES_URL="postgresql://user:topsecret@127.0.0.1:1/db",
        TIDECAST_REDIS_URL="redis://:topsecret@127.0.0.1:1/0",
    )
    assert result.returncode == 1
    assert "topsecret" not in result.stdout + result.stderr
    findings = {each["about"]: each for each in json.loads(result.stdout)["findings"]}
    assert {about for about, each in findings.items() if each["well"] is False} == {"PostgreSQL", "Redis"}
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["down"],
        ["status"],
        ["doctor"],
        ["sql", "SELECT 1"],
        ["migrate"],
        ["replay", "recorded"],
        ["recover", "--list"],
        ["recover", "--list", "--source", ""],
        ["bench", "--list"],
    ],
)
def test_an_empty_folder_name_is_a_wrong_command_line(words: list[str], tmp_path: Path) -> None:
    result = tidecast(*words, "--dir", "" if "--source" not in words else tmp_path)
    assert result.returncode == 2
    assert "is empty" in result.stderr


def test_make_run_takes_an_empty_dir_for_the_default() -> None:
    for given, folder in (
        (["DIR="], "var"),
        (["DIR=", "EXCHANGE=bybit"], "var/bybit"),
        (["DIR=elsewhere", "EXCHANGE=bybit"], "elsewhere"),
    ):
        told = subprocess.run(
            ["make", "-n", "run", *given], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert f'--dir "{folder}"' in told


def test_migrate_makes_no_pipeline(tmp_path: Path) -> None:
    result = tidecast("migrate", "--dir", tmp_path / "typo")
    assert result.returncode == 1
    assert "holds no pipeline" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_a_folder_that_cannot_be_made_is_named_with_the_reason() -> None:
    for words in (["--no-workers"], ["--detach"]):
        result = tidecast("up", "--dir", "/proc/x", *words)
        assert result.returncode == 1
        assert "the folder /proc/x cannot be made: /proc takes no new folder (No such file" in result.stderr


def test_a_broken_recording_is_named_before_a_folder_is_made(tmp_path: Path) -> None:
    recording = tmp_path / "broken"
    recording.mkdir()
    (recording / "BTCUSDT-1m.csv").write_text("time,open\n1,2\n")
    result = tidecast("replay", recording, "--dir", tmp_path / "dir", "--json")
    assert result.returncode == 1
    assert "BTCUSDT-1m.csv" in json.loads(result.stdout)["error"]
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "nope"),
        (["status", "--nope"], "--nope"),
        (["replay", "recorded", "--shards", "many"], "--shards"),
        (["sql"], "query"),
        (["recover"], "--list"),
        (["dead-letters", "replay", "first"], "ids"),
        ([], "--json"),
    ],
)
def test_a_wrong_command_line_is_one_json_object_too_and_fails(words: list[str], said: str) -> None:
    result = tidecast(*words, "--json")
    told = json.loads(result.stdout)
    assert set(told) == {"error", "exit_code"}
    assert said in told["error"]
    assert told["exit_code"] == result.returncode != 0


def test_more_processes_than_partitions_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    result = tidecast("up", "--dir", tmp_path / "dir", "--shards", "3", TIDECAST_PIPELINE__PARTITIONS="2")
    assert result.returncode == EX_CONFIG
    assert "pipeline.partitions = 2: 3 processes a worker (--shards)" in " ".join(result.stderr.split())
    assert not (tmp_path / "dir").exists()


def test_without_json_a_wrong_command_line_leaves_standard_output_empty() -> None:
    result = tidecast("status", "--nope")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--nope" in result.stderr


def test_the_version_is_told() -> None:
    result = tidecast("--version")
    assert (result.returncode, result.stdout) == (0, f"tidecast {version('tidecast')}\n")


def test_a_wrong_path_is_named_as_it_was_typed_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    cases: tuple[tuple[list[str | Path], str], ...] = (
        (["replay", tmp_path / "none"], f"{tmp_path / 'none'} does not exist: PATH names a folder"),
        (["replay", file], f"{file} is a file: PATH names a folder"),
        (
            ["status", "--dir", tmp_path / "none"],
            f"{tmp_path / 'none'} holds no pipeline (it does not exist)",
        ),
        (["status", "--dir", file / "below"], f"{file} is a file: --dir names"),
        (["up", "--dir", file / "below"], f"{file} is a file: --dir names a folder"),
        (["up", "--config", tmp_path / "no.toml", "--dir", tmp_path], f"--config {tmp_path / 'no.toml'}: "),
    )
    for words, said in cases:
        result = tidecast(*words)
        assert result.returncode in (1, 78), words
        assert said in result.stderr, words


def test_a_wrong_time_is_named_as_it_was_typed(tmp_path: Path) -> None:
    recording = tmp_path / "recorded"
    recording.mkdir()
    minute = "2021-04-02T00:00Z,1,2,1,2,3\n"
    (recording / "BTCUSDT-1m.csv").write_text(f"timestamp,open,high,low,close,volume\n{minute}")
    for words, said in (
        (["--from", "yesterday"], ["--from 'yesterday'", "2021-04-01T00:00Z"]),
        (["--to", "12"], ["--to '12'", "2021-04-01T00:00Z"]),
        (["--from", "2021-04-03", "--to", "2021-04-02"], ["--from '2021-04-03'", "earlier than --to"]),
        (["--from", "2022-01-01"], ["BTCUSDT-1m.csv", "no candle", "--from 2022-01-01T00:00Z"]),
    ):
        result = tidecast("replay", recording, "--dir", tmp_path / "dir", *words)
        assert result.returncode != 0
        for word in said:
            assert word in result.stderr, words
        assert "_ms" not in result.stderr
    assert not (tmp_path / "dir").exists()
