"""The number of processes changes no row; nor does that of partitions, where all symbols begin together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from . import replays

#: Each in a partition of its own, of three.
SYMBOLS = ("BTCUSDT", "SOLUSDT", "XRPUSDT")
MINUTES = 420


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = replays.record(
        tmp_path_factory.mktemp("market") / "recorded", SYMBOLS, MINUTES, halt=(300, 320)
    )
    return folder


def digests(recording: Path, base: Path, partitions: int, shards: int) -> dict[str, Any]:
    base.mkdir(exist_ok=True)
    settings = replays.settings_file(base / "settings.toml", more=f"partitions = {partitions}")
    folder = base / "dir"
    summary = replays.tidecast(
        "replay", recording, "--dir", folder, "--config", settings, "--shards", str(shards)
    )
    assert summary["models_trained"] >= 4
    answer: dict[str, Any] = replays.tidecast("fingerprint", "--dir", folder)
    return answer


@pytest.fixture(scope="module")
def three_partitions(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return digests(recording, tmp_path_factory.mktemp("three"), partitions=3, shards=1)


@pytest.mark.slow
def test_two_processes_a_worker_write_the_rows_of_one(
    recording: Path, three_partitions: dict[str, Any], tmp_path: Path
) -> None:
    assert digests(recording, tmp_path / "two", partitions=3, shards=2) == three_partitions


@pytest.mark.slow
def test_one_partition_writes_the_rows_of_three(
    recording: Path, three_partitions: dict[str, Any], tmp_path: Path
) -> None:
    assert digests(recording, tmp_path / "one", partitions=1, shards=1) == three_partitions
