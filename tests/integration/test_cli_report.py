"""`tidecast report`: correlations of recorded and of collected candles, what groups of features are worth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from cli.report_ablation_page import BEGIN, END
from cli.report_page import put_into
from config.errors import ConfigurationError
from runtime.directory import Directory

from . import browser

MINUTES = 3000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "HBARUSDT")


def market() -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Closes of three symbols; HBAR repeats a third of what BTC did two minutes before."""
    chance = np.random.default_rng(11)
    shared, *own = chance.normal(scale=0.1, size=(4, MINUTES))
    returns = {symbol: shared + each for symbol, each in zip(SYMBOLS, own, strict=True)}
    returns["HBARUSDT"][2:] += 0.33 * returns["BTCUSDT"][:-2]
    return {symbol: 100.0 * np.exp(np.cumsum(each) / 100.0) for symbol, each in returns.items()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings, a quarter of an hour of ETH missing."""
    folder = tmp_path_factory.mktemp("three")
    start = np.datetime64("2024-01-01T00:00", "ms")
    for symbol, close in market().items():
        times = start + np.arange(MINUTES).astype("timedelta64[m]")
        kept = np.ones(MINUTES, bool)
        if symbol == "ETHUSDT":
            kept[500:515] = False
        prices = dict.fromkeys(("open", "high", "low", "close"), close[kept])
        table = pa.table({"timestamp": times[kept], **prices, "volume": np.ones(kept.sum())})
        pa_parquet.write_table(table, folder / f"{symbol}-1m.parquet")
    return folder


def report(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def answer(*words: str | Path) -> dict[str, Any]:
    result = report(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_one_object_says_how_symbols_move_together_and_who_leads(recording: Path) -> None:
    found = answer("correlations", recording, "--timeframes", "1,5")
    assert found["symbols"] == list(SYMBOLS)
    assert found["leader"] == "BTCUSDT"
    assert (found["from"], found["to"]) == ("2024-01-01T00:00Z", "2024-01-03T01:59Z")
    assert list(found["timeframes"]) == ["1", "5"]
    minute = found["timeframes"]["1"]
    assert minute["pearson"]["BTCUSDT"]["ETHUSDT"] == minute["pearson"]["ETHUSDT"]["BTCUSDT"]
    assert minute["pearson"]["BTCUSDT"]["ETHUSDT"] == pytest.approx(0.5, abs=0.05)
    pairs = {(each["first"], each["second"]): each for each in minute["pairs"]}
    assert pairs["BTCUSDT", "ETHUSDT"]["n"] == MINUTES - 1 - 16
    low, high = pairs["BTCUSDT", "ETHUSDT"]["rank_ci"]
    assert low < 0.48 < high
    assert pairs["BTCUSDT", "ETHUSDT"]["leader"] is None
    assert len(pairs["BTCUSDT", "ETHUSDT"]["cross_correlation"]) == 61
    assert list(pairs["BTCUSDT", "ETHUSDT"]["daily"]) == ["2024-01-01", "2024-01-02", "2024-01-03"]
    leads = {(each["leader"], each["follower"], each["timeframe"]): each for each in found["leads"]}
    assert leads["BTCUSDT", "HBARUSDT", 1]["minutes"] == 2
    assert set(minute["betas"]) == {"ETHUSDT", "HBARUSDT"}


def test_the_terminal_gets_a_matrix_for_each_timeframe_and_the_leads(recording: Path) -> None:
    result = report("correlations", recording)
    assert result.exit_code == 0, result.output
    for timeframe in ("1 minute:", "5 minutes:", "15 minutes:"):
        assert f"returns over {timeframe}" in result.stdout
    assert "60 minutes: no two symbols have enough returns at the same time" in result.stdout
    assert re.search(r"BTCUSDT by 2 \(\+0\.\d+", result.stdout)
    assert "beta to BTCUSDT" in result.stdout


def test_the_page_stands_alone_and_its_pictures_are_whole(recording: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    answer("correlations", recording, "--html", page)
    text = page.read_text()
    assert "BTCUSDT leads HBARUSDT by 2 minutes (1-minute returns)" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    pictures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    # three heat maps; nine pairs' lags; daily lines (the last day has too few quarter hours); beta
    assert len(pictures) == 3 + 9 + 2 + 1
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert "nan" not in "".join(pictures)
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: install Debian's chromium")
@pytest.mark.parametrize("width", [1200, 390], ids=["desk", "phone"])
def test_a_browser_shows_every_word_of_the_page(recording: Path, tmp_path: Path, width: int) -> None:
    page = tmp_path / "report.html"
    # so short a market has enough returns of 20 minutes at most, whose lags reach 600 minutes
    answer("correlations", recording, "--timeframes", "1,20", "--html", page)
    seen = browser.see(page, width=width, profile=tmp_path / "profile")
    assert seen.width <= width, "it scrolls sideways"
    assert (seen.empty, seen.cut) == (0, [])
    assert "+600" in page.read_text()
    assert "BTCUSDT leads HBARUSDT by 2 minutes" in seen.text
    assert not {"nan", "NaN", "None", "undefined"} & set(seen.text.split())
    assert set(seen.asked) <= {"/measure.html", "/report.html", "/favicon.ico"}


def test_only_the_chosen_symbols_and_minutes_are_looked_at(recording: Path) -> None:
    found = answer(
        "correlations",
        recording,
        "--symbols",
        "ETHUSDT HBARUSDT",
        "--from",
        "2024-01-02",
        "--timeframes",
        "1",
    )
    assert found["symbols"] == ["ETHUSDT", "HBARUSDT"]
    assert found["leader"] == "ETHUSDT"
    assert found["from"] == "2024-01-02T00:00Z"
    assert found["timeframes"]["1"]["pairs"][0]["n"] == MINUTES - 1440 - 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "PATH of recordings or --dir"),
        (["--timeframes", "7"], "minutes that a day can be divided into"),
        (["--timeframes", "x"], "minutes that a day can be divided into"),
        (["--symbols", "BTCUSDT"], "2 to 12 different symbols"),
        (["--html", "/no/such/folder/report.html"], "there is no folder /no/such/folder"),
    ],
)
def test_a_wrong_word_is_told_with_the_remedy(recording: Path, words: list[str], says: str) -> None:
    result = report("correlations", *([recording] if words else []), *words)
    assert result.exit_code == 2
    assert says in re.sub(r"[\s│]+", " ", result.output)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--symbols", "BTCUSDT,DOGEUSDT"], "no candles of DOGEUSDT; it has BTCUSDT, ETHUSDT, HBARUSDT"),
        (["--to", "2024-01-01T00:30"], "no two symbols have 100 returns at the same time"),
    ],
)
def test_candles_that_are_not_there_are_named(recording: Path, words: list[str], says: str) -> None:
    result = report("correlations", recording, *words)
    assert isinstance(result.exception, OSError)
    assert says in str(result.exception)


def test_a_time_that_is_none_is_a_wrong_setting(recording: Path) -> None:
    result = report("correlations", recording, "--from", "yesterday")
    assert isinstance(result.exception, ConfigurationError)
    assert "--from 'yesterday'" in str(result.exception)


def test_a_pipelines_candles_say_the_same_as_the_recording_they_came_from(
    recording: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pipeline"
    Directory.create(folder)
    monkeypatch.setenv("TIDECAST_POSTGRES_URL", database_url)
    _collect(database_url, recording)
    collected = answer("correlations", "--dir", folder, "--timeframes", "1")
    recorded = answer("correlations", recording, "--timeframes", "1")
    for told in (collected, recorded):
        del told["source"], told["seconds"]
    assert _rounded(collected) == _rounded(recorded)


def _collect(url: str, recording: Path) -> None:
    """Write the recording into the table, and fill its gap in as the pipeline does, marked as no candle."""
    with psycopg.connect(url) as connection:
        connection.execute(
            'CREATE TABLE report_candles PARTITION OF "rollingChartData"'
            " FOR VALUES FROM ('2024-01-01') TO ('2024-01-05')"
        )
        for file in sorted(recording.iterdir()):
            symbol = file.name.removesuffix("-1m.parquet")
            table = pa_parquet.read_table(file)
            rows = list(zip(table["timestamp"].to_pylist(), table["close"].to_pylist(), strict=True))
            with connection.cursor().copy(
                'COPY "rollingChartData" (symbol, "timestamp", open, high, low, close, volume) FROM STDIN'
            ) as copy:
                for moment, close in rows:
                    copy.write_row((symbol, f"{moment}+00", *(4 * (round(close, 8),)), 1))
        connection.execute(
            """
            INSERT INTO "rollingChartData" (symbol, "timestamp", open, high, low, close, volume, origin)
            SELECT 'ETHUSDT', t, 1, 1, 1, 1, 0, 'synthetic'
            FROM generate_series('2024-01-01 08:20+00'::timestamptz, '2024-01-01 08:34+00', '1 minute') AS t
            """
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


# --- what groups of features are worth ---


def test_an_ablation_of_too_short_a_recording_says_what_it_takes(recording: Path) -> None:
    result = report("ablation", recording)
    assert isinstance(result.exception, OSError)
    assert "shorter than the 7 days that the first training waits for" in str(result.exception)


def test_a_page_without_a_place_for_the_tables_is_told_before_the_work(
    recording: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    for text in (None, "# A page\n"):
        if text is not None:
            page.write_text(text)
        result = report("ablation", recording, "--into", page)
        assert isinstance(result.exception, OSError)
        assert BEGIN in str(result.exception)


def test_tables_replace_those_that_were_there_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(page, "new", begin=BEGIN, end=END)
    put_into(page, "newer", begin=BEGIN, end=END)
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
