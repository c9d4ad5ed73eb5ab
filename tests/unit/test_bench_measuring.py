from pathlib import Path

import pytest

from cli.benches.base.bench import NotMeasuredError
from cli.benches.base.commits import CommitWatch, latencies_ms
from cli.benches.base.filling import HORIZONS, TYPES, minute_of_rows, outcomes
from cli.benches.base.processes import named, pss_of
from cli.benches.base.replaying import FIRST_MS, names, record_market
from cli.benches.burst_1000 import complete_s
from cli.benches.faults_60x import traces
from cli.benches.soak import judged
from db.tables import TABLES
from exchanges.recording import RecordedMarket
from schemas.frames import MINUTE_MS

MINUTE = 1_700_000_040_000


def test_a_latency_needs_both_the_arrival_and_the_commit() -> None:
    seen = {("A", MINUTE): 10.0, ("B", MINUTE): 10.001, ("A", MINUTE + MINUTE_MS): 11.0, ("A", 0): 1.0}
    committed = {("A", MINUTE): 10.02, ("B", MINUTE): 10.021, ("C", MINUTE): 10.0, ("A", 0): 9.0}

    found = latencies_ms(seen, committed, from_ms=MINUTE)

    assert found == {("A", MINUTE): pytest.approx(20.0), ("B", MINUTE): pytest.approx(20.0)}


def test_only_the_first_notification_of_a_transaction_counts() -> None:
    watch = CommitWatch()

    watch(None, 1, "channel", "123")
    first = watch.committed[123]
    watch(None, 1, "channel", "123")

    assert watch.committed == {123: first}


def test_a_burst_counts_only_if_every_symbol_has_its_forecasts() -> None:
    late = MINUTE + MINUTE_MS
    seen = {("A", MINUTE): 5.0, ("A", late): 6.0}
    committed = {("A", MINUTE): 5.5, ("B", MINUTE): 5.75, ("A", late): 6.5}

    assert complete_s(seen, committed, 2, from_ms=0) == {MINUTE: 0.75}


def test_the_kernels_text_is_read_for_the_proportional_set_size() -> None:
    text = "00400000-7ffe [rollup]\nRss:    2000 kB\nPss:    1234 kB\nPss_Anon:  10 kB\n"

    assert pss_of(text) == 1234 * 1024
    assert pss_of("Rss: 1 kB\n") is None


@pytest.mark.parametrize(
    ("command", "program", "part"),
    [
        (["python", "-m", "workers.forecaster", "--dir", "x"], "python3", "forecaster"),
        (["python", "-m", "workers.simulated_exchange"], "python3", "simulated_exchange"),
        (["postgres: tidecast tidecast 127.0.0.1(1) idle"], "postgres", "postgres"),
        (["/bin/valkey-server *:6379"], "valkey-server", "redis"),
        (["python", "-m", "supervisor.supervisord"], "python3", "supervisor"),
        (["python", "-m", "runtime.compute_process", "5"], "python3", "training"),
        (["sleep", "1"], "sleep", "other"),
    ],
)
def test_a_process_is_named_by_its_part_in_the_pipeline(command: list[str], program: str, part: str) -> None:
    assert named(command, program) == part


def test_memory_that_grows_does_not_hold() -> None:
    candles = [float(1_000 * n) for n in range(1, 101)]
    summary = {"candles": 100_000, "seconds": 60.0}

    flat = judged(candles, [{"forecaster": 100_000_000, "training": n} for n in range(100)], summary)
    rising = judged(candles, [{"forecaster": 100_000_000 + 1_000_000 * n} for n in range(100)], summary)

    assert flat.holds is True
    assert flat.more["mb_per_million_candles"] == pytest.approx(0.0, abs=1e-6)
    assert rising.holds is False
    assert rising.more["mb_per_million_candles"] == pytest.approx(1_000.0)


def test_a_replay_too_short_to_compare_is_no_measurement() -> None:
    with pytest.raises(NotMeasuredError, match="--candles"):
        judged([1.0, 2.0], [{"forecaster": 1}, {"forecaster": 1}], {"candles": 2, "seconds": 1.0})


def test_stack_traces_are_counted_by_log_file(tmp_path: Path) -> None:
    (tmp_path / "a-0.log").write_text('{"exception":"Traceback (most recent call last):\\n"}\nfine\n')
    (tmp_path / "b-0.log").write_text("fine\n")

    assert traces(tmp_path) == {"a-0.log": 1}


def test_a_generated_recording_is_read_back_as_it_was_generated(tmp_path: Path) -> None:
    symbols = names(2)

    record_market(tmp_path, symbols, 90)

    market = RecordedMarket(tmp_path, symbols=symbols)
    assert market.symbols == symbols
    assert market.span(symbols[0]) == (FIRST_MS, FIRST_MS + 89 * MINUTE_MS)


def test_any_number_of_symbols_has_different_names() -> None:
    assert names(2) == ("BTCUSDT", "ETHUSDT")
    assert len(set(names(1_000))) == 1_000


def test_rows_for_filling_fit_the_tables() -> None:
    parts = [*minute_of_rows(["A", "B", "C"], ["A"], FIRST_MS), outcomes(["A"], FIRST_MS)]

    for part in parts:
        table = TABLES[part.table]
        assert set(part.columns) <= set(table.columns)
        assert set(table.key) <= set(part.columns)
        assert {len(values) for values in part.columns.values()} == {len(part)}
    assert [len(part) for part in parts] == [3, 1, len(TYPES) * len(HORIZONS), len(TYPES) * len(HORIZONS)]
