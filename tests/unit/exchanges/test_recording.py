from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from exchanges.recording import BadRecordingError, RecordedMarket
from schemas.frames import MINUTE_MS

START = int(datetime(2021, 4, 2, tzinfo=UTC).timestamp() * 1_000)


def minutes(count, skip=()):
    return [START + minute * MINUTE_MS for minute in range(count) if minute not in skip]


def columns(times):
    close = 100 + np.arange(len(times)) * 0.1
    return {
        "timestamp": times,
        "open": close - 0.03,
        "high": close + 1 / 3,
        "low": close - 1 / 3,
        "close": close,
        "volume": np.arange(len(times)) * 1.7,
    }


def write_parquet(folder, symbol, values):
    times = pa.array(values["timestamp"], pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    pa_parquet.write_table(pa.table({**values, "timestamp": times}), folder / f"{symbol}-1m.parquet")


def write_csv(folder, symbol, values, stamp=str):
    rows = zip(*values.values(), strict=True)
    lines = [",".join([stamp(row[0]), *(repr(float(value)) for value in row[1:])]) for row in rows]
    lines.insert(0, ",".join(values))
    (folder / f"{symbol}-1m.csv").write_text("\n".join(lines) + "\n")


def iso(time_ms):
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat()


def array_of(values):
    return np.column_stack([np.array(values[name], float) for name in values])


@pytest.mark.parametrize("kind", ["parquet", "epoch", "iso", "iso_z", "naive"])
def test_candles_come_back_exactly_as_they_were_recorded(tmp_path, kind):
    values = columns(minutes(50))
    if kind == "parquet":
        write_parquet(tmp_path, "BTCUSDT", values)
    else:
        stamp = {
            "epoch": str,
            "iso": iso,
            "iso_z": lambda t: iso(t).replace("+00:00", "Z"),
            "naive": lambda t: iso(t).replace("+00:00", "").replace("T", " "),
        }[kind]
        write_csv(tmp_path, "BTCUSDT", values, stamp)
    market = RecordedMarket(tmp_path)
    assert market.symbols == ("BTCUSDT",)
    assert market.span("BTCUSDT") == (START, START + 49 * MINUTE_MS)
    np.testing.assert_array_equal(market.candles("BTCUSDT", START, START + 50 * MINUTE_MS), array_of(values))


def test_a_missing_minute_stays_missing(tmp_path):
    write_parquet(tmp_path, "BTCUSDT", columns(minutes(10, skip={4, 5})))
    rows = RecordedMarket(tmp_path).candles("BTCUSDT", START, START + 10 * MINUTE_MS)
    assert [int((time - START) // MINUTE_MS) for time in rows[:, 0]] == [0, 1, 2, 3, 6, 7, 8, 9]


def test_symbols_and_times_can_be_chosen(tmp_path):
    for symbol in ("BTCUSDT", "ETHUSDT", "ADAUSDT"):
        write_parquet(tmp_path, symbol, columns(minutes(10)))
    market = RecordedMarket(
        tmp_path, symbols=["ETHUSDT", "ADAUSDT"], from_ms=START + MINUTE_MS, to_ms=START + 4 * MINUTE_MS
    )
    assert market.symbols == ("ETHUSDT", "ADAUSDT")
    assert market.span("ETHUSDT") == (START + MINUTE_MS, START + 3 * MINUTE_MS)
    assert len(market.candles("ADAUSDT", 0, START + 99 * MINUTE_MS)) == 3


def changed(name, row, value):
    def change(values):
        values[name] = list(values[name])
        values[name][row] = value

    return change


BAD = {
    "a price of zero": (changed("close", 3, 0.0), "column close, row 4.*not above 0; leave the row out"),
    "not a number": (
        changed("open", 2, float("nan")),
        "column open, row 3.*(no number|missing); leave the row out",
    ),
    "a negative volume": (changed("volume", 0, -1.0), "column volume, row 1.*below 0; write 0"),
    "high under low": (
        changed("high", 5, 1.0),
        "column high, row 6.*below the low.*; see whether .* swapped",
    ),
    "low over close": (changed("low", 5, 100.49), "column low, row 6.*above open or close; correct it"),
    "high under close": (changed("high", 5, 100.45), "column high, row 6.*below open or close; correct it"),
    "the same minute twice": (
        changed("timestamp", 4, START + 3 * MINUTE_MS),
        "column timestamp, row 5.*after the row before.*; keep one row a minute",
    ),
    "a minute too late": (
        changed("timestamp", 4, START + MINUTE_MS),
        "column timestamp, row 5.*after the row before; sort the rows",
    ),
    "half a minute": (
        changed("timestamp", 4, START + 4 * MINUTE_MS + 30_000),
        "row 5.*no whole minute; write the time",
    ),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("write", [write_parquet, write_csv])
def test_a_bad_value_is_named_with_file_column_and_row(tmp_path, what, write):
    values = columns(minutes(10))
    change, message = BAD[what]
    change(values)
    write(tmp_path, "BTCUSDT", values)
    with pytest.raises(BadRecordingError, match=message) as caught:
        RecordedMarket(tmp_path)
    assert "BTCUSDT-1m" in str(caught.value)


def test_text_in_a_column_is_named_with_its_row(tmp_path):
    write_csv(tmp_path, "BTCUSDT", columns(minutes(3)))
    file = tmp_path / "BTCUSDT-1m.csv"
    lines = file.read_text().splitlines()
    lines[2] = lines[2].rsplit(",", 1)[0] + ",plenty"
    file.write_text("\n".join(lines))
    with pytest.raises(
        BadRecordingError, match=r"column volume, row 2: 'plenty' is no number; leave the row out"
    ):
        RecordedMarket(tmp_path)


def test_a_time_that_is_none_is_named_with_its_row(tmp_path):
    write_csv(tmp_path, "BTCUSDT", columns(minutes(3)), lambda time: "soon" if time > START else iso(time))
    with pytest.raises(BadRecordingError, match=r"column timestamp, row 2: 'soon'.*; write it like 2021"):
        RecordedMarket(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    values = columns(minutes(3))
    del values["volume"]
    write_parquet(tmp_path, "BTCUSDT", values)
    with pytest.raises(BadRecordingError, match=r"column volume is missing.*rename or add columns"):
        RecordedMarket(tmp_path)


def test_an_empty_value_is_named_with_its_row(tmp_path):
    write_csv(tmp_path, "BTCUSDT", columns(minutes(3)))
    file = tmp_path / "BTCUSDT-1m.csv"
    lines = file.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ","
    file.write_text("\n".join(lines))
    with pytest.raises(
        BadRecordingError, match="column volume, row 3: the value is missing; leave the row out"
    ):
        RecordedMarket(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "BTCUSDT-1m.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(BadRecordingError, match=r"BTCUSDT-1m\.parquet: cannot be read"):
        RecordedMarket(tmp_path)


@pytest.mark.parametrize("content", [None, "nothing"])
def test_a_folder_without_recordings_is_refused(tmp_path, content):
    folder = tmp_path / "candles"
    if content:
        folder.mkdir()
        (folder / "BTCUSDT-5m.parquet").write_text(content)
    with pytest.raises(BadRecordingError, match="SYMBOL-1m"):
        RecordedMarket(folder)


def test_an_unrecorded_symbol_is_refused_with_what_there_is(tmp_path):
    write_parquet(tmp_path, "BTCUSDT", columns(minutes(3)))
    with pytest.raises(BadRecordingError, match="no recording of XRPUSDT; recorded are BTCUSDT"):
        RecordedMarket(tmp_path, symbols=["XRPUSDT"])


def test_times_without_a_candle_are_refused(tmp_path):
    write_parquet(tmp_path, "BTCUSDT", columns(minutes(3)))
    late = START + int(timedelta(days=1).total_seconds() * 1_000)
    with pytest.raises(BadRecordingError, match=r"no candle between the chosen times; it has those from 20"):
        RecordedMarket(tmp_path, from_ms=late)


def test_a_symbol_recorded_twice_is_refused(tmp_path):
    write_parquet(tmp_path, "BTCUSDT", columns(minutes(3)))
    write_csv(tmp_path, "BTCUSDT", columns(minutes(3)))
    with pytest.raises(BadRecordingError, match="recorded twice"):
        RecordedMarket(tmp_path)


def test_real_recordings_play_with_their_halts(recorded):
    market = RecordedMarket(recorded / "six-2021-04")
    assert len(market.symbols) == 6
    first, last = market.span("BTCUSDT")
    rows = market.candles("BTCUSDT", first, last + MINUTE_MS)
    gaps = np.diff(rows[:, 0]) // MINUTE_MS - 1
    assert {150, 284} <= set(gaps.astype(int).tolist())
