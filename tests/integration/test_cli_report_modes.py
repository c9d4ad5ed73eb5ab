"""`tidecast report modes` says what is wrong before it has worked for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from cli.report_modes_page import BEGIN, END
from cli.report_page import put_into


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of one symbol."""
    folder = tmp_path_factory.mktemp("two-days")
    minutes = 2 * 1440
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(5).normal(scale=0.001, size=minutes)))
    times = np.datetime64("2024-01-01T00:00", "ms") + np.arange(minutes).astype("timedelta64[m]")
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    rows = pa.table({"timestamp": times, **prices, "volume": np.ones(minutes)})
    pa_parquet.write_table(rows, folder / "BTCUSDT-1m.parquet")
    return folder


def modes(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["report", "modes", *map(str, words)])


def test_a_recording_shorter_than_the_first_training_is_named(recording: Path) -> None:
    error = modes(recording, "--json").exception
    assert isinstance(error, OSError)
    assert f"{recording.name}: shorter than the 7 days" in str(error)


def test_a_step_that_leaves_no_label_is_refused(recording: Path) -> None:
    result = modes(recording, "--step", "7")
    assert result.exit_code == 2
    assert "does not divide the horizon of 5" in " ".join(result.output.replace("│", " ").split())


def test_a_family_that_learns_nothing_and_an_unknown_one_are_refused(recording: Path) -> None:
    for family, said in (("last_value", "learns nothing"), ("xgbost", "xgboost")):
        result = modes(recording, "--families", family)
        assert result.exit_code == 2
        assert said in " ".join(result.output.replace("│", " ").split())


def test_a_page_without_a_place_for_the_tables_is_refused_before_the_work(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# nothing\n")
    # the recording does not exist: the page is looked at first
    error = modes(tmp_path / "nowhere", "--into", page).exception
    assert isinstance(error, OSError)
    assert "has no line" in str(error)


def test_the_page_of_the_documents_has_a_place_for_the_tables(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "training-modes.md").read_text()
    page = tmp_path / "page.md"
    page.write_text(text)
    put_into(page, "tables", begin=BEGIN, end=END)
    before, _, rest = text.partition(BEGIN)
    assert page.read_text() == f"{before}{BEGIN}\n\ntables\n\n{END}{rest.partition(END)[2]}"


def test_help_names_the_families_and_the_page() -> None:
    result = modes("--help")
    assert result.exit_code == 0
    assert {"--families", "--step", "--into", "--json"} <= set(result.output.replace("│", " ").split())
