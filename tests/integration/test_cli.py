"""The command line, as a user meets it: real processes, real servers, exit codes."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runtime.directory import Directory
from runtime.stack import supervisor_pid

from .command_line import PATIENCE_S, TIDECAST, answer, environment, eventually, processes_of, tidecast, up

MIGRATED = 'SELECT count(*) FROM "tradeSimulations"'


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tidecast-") as parent:
        yield Path(parent) / "var"


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A folder that ran once and was stopped; tests leave it as they found it."""
    with tempfile.TemporaryDirectory(prefix="tidecast-") as parent:
        folder = Path(parent) / "var"
        with up(folder):
            pass
        yield folder


def states(folder: Path) -> dict[str, str]:
    """What all that runs in a folder is called, where all of it is well."""
    return {name: part["state"] for name, part in answer("status", "--dir", folder)["parts"].items()}


def test_the_servers_start_migrated_and_sigterm_ends_all_of_it_within_ten_seconds(folder: Path) -> None:
    with up(folder) as launcher:
        dsn = answer("dsn", "--dir", folder)["dsn"]
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT exchange, market FROM deployment").fetchone() == (
                "simulated",
                "generated",
            )
        assert answer("sql", "--dir", folder, MIGRATED)["rows"] == [[0]]
        # the supervisor calls a program running a second after its start, once it looks again
        assert eventually(lambda: states(folder) == {"postgres": "RUNNING", "redis": "RUNNING"})
        asked = time.monotonic()
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(PATIENCE_S) == 0
        assert time.monotonic() - asked < 10
    assert processes_of(folder) == []


def test_a_terminal_gets_a_live_table_and_ctrl_c_ends_everything(stopped: Path) -> None:
    terminal, other_end = pty.openpty()
    command = [*TIDECAST, "up", "--no-workers", "--dir", str(stopped)]
    with subprocess.Popen(
        command,
        env=environment({"TERM": "xterm-256color", "COLUMNS": "120"}),
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        preexec_fn=lambda: os.login_tty(other_end),
    ) as launcher:
        os.close(other_end)
        shown = b""
        while b"running" not in shown:
            shown += os.read(terminal, 10_000)
        assert b"SIMULATED" in shown
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):  # the terminal's end is an error of its own kind
            while os.read(terminal, 10_000):
                pass
        assert launcher.wait(PATIENCE_S) == 0
    os.close(terminal)
    assert processes_of(stopped) == []


def test_killing_the_launcher_leaves_no_process_and_the_next_start_works(stopped: Path) -> None:
    with up(stopped) as launcher:
        launcher.kill()
    assert eventually(lambda: processes_of(stopped) == [])
    with up(stopped):
        assert answer("sql", "--dir", stopped, MIGRATED)["rows"] == [[0]]


def test_killing_the_supervisor_ends_the_launcher_and_everything_else(stopped: Path) -> None:
    with up(stopped) as launcher:
        pid = supervisor_pid(Directory.open(stopped))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert launcher.wait(PATIENCE_S) == 1
    assert eventually(lambda: processes_of(stopped) == [])


def test_a_killed_server_is_back_by_itself(stopped: Path) -> None:
    with up(stopped):
        before = answer("status", "--dir", stopped)["parts"]
        for name in ("postgres", "redis"):
            os.kill(before[name]["pid"], signal.SIGKILL)

        def is_back() -> bool:
            return tidecast("sql", "--dir", stopped, MIGRATED).returncode == 0

        assert eventually(is_back)
        assert eventually(
            lambda: all(
                part["state"] == "RUNNING" and part["pid"] != before[name]["pid"]
                for name, part in json.loads(tidecast("status", "--dir", stopped, "--json").stdout)[
                    "parts"
                ].items()
            )
        )


def test_two_stacks_never_run_in_one_folder(stopped: Path) -> None:
    with up(stopped) as launcher:
        second = tidecast("up", "--no-workers", "--dir", stopped)
        assert second.returncode == 1
        assert f"process {launcher.pid} (tidecast up)" in second.stderr


def test_up_in_the_background_returns_when_ready_and_down_ends_it(stopped: Path) -> None:
    result = tidecast("up", "--no-workers", "--detach", "--dir", stopped)
    assert result.returncode == 0, result.stderr
    assert answer("sql", "--dir", stopped, MIGRATED)["rows"] == [[0]]
    ended = answer("down", "--dir", stopped)
    assert ended["was_running"]
    assert ended["stopped"]
    assert ended["seconds"] < 10
    assert processes_of(stopped) == []
    again = answer("down", "--dir", stopped)
    assert (again["was_running"], again["stopped"]) == (False, True)


def test_sql_and_fingerprint_work_while_nothing_runs_and_leave_nothing_running(stopped: Path) -> None:
    assert answer("sql", "--dir", stopped, "SELECT 1 AS one, 2.5::numeric AS two, NULL AS none") == {
        "columns": ["one", "two", "none"],
        "rows": [[1, 2.5, None]],
        "status": "SELECT 1",
    }
    digests = answer("fingerprint", "--dir", stopped)
    assert digests["rollingChartData"]["rows"] == 0
    assert answer("fingerprint", "--dir", stopped) == digests
    assert processes_of(stopped) == []
    gone = tidecast("dsn", "--dir", stopped)
    assert gone.returncode == 1
    assert gone.stdout == ""


def test_two_short_commands_at_once_wait_for_each_other(stopped: Path) -> None:
    command = [*TIDECAST, "sql", "--dir", str(stopped), MIGRATED, "--json"]
    environ = environment({})
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=PATIENCE_S)[0])["rows"] for process in both]
    assert answers == [[[0]], [[0]]]


def test_wrong_sql_is_one_json_object_too_and_fails(stopped: Path) -> None:
    result = tidecast("sql", "--dir", stopped, "SELECT nothing_of_that_name", "--json")
    assert result.returncode == 1
    assert "nothing_of_that_name" in json.loads(result.stdout)["error"]


def test_a_folder_of_another_market_is_refused(stopped: Path) -> None:
    result = tidecast("up", "--no-workers", "--dir", stopped, "--exchange", "binanceus")
    assert result.returncode == 1
    assert "'simulated', not 'binanceus'" in result.stderr


def test_a_backfill_request_and_a_dead_letter_wait_for_the_feed(stopped: Path) -> None:
    request = answer(
        "backfill", "BTCUSDT", "--from", "2021-04-02T00:00Z", "--to", "2021-04-02T01:00Z", "--dir", stopped
    )
    again = answer(
        "backfill", "BTCUSDT", "--from", "2021-04-02T00:10Z", "--to", "2021-04-02T00:20Z", "--dir", stopped
    )
    assert request["id"] is not None
    assert again["id"] is None
    wrong = tidecast("backfill", "BTC", "--from", "yesterday", "--to", "2021-04-02", "--dir", stopped)
    assert wrong.returncode == 78
    for words, said in (
        (["BTC", "--from", "2021-04-02", "--to", "2021-04-02"], "SYMBOL BTC must be one of"),
        (["BTCUSDT", "--from", "2021-04-03", "--to", "2021-04-02"], "is before --from"),
    ):
        mistyped = tidecast("backfill", *words, "--dir", stopped, "--json")
        assert mistyped.returncode == 2
        assert said in json.loads(mistyped.stdout)["error"]
    insert = (
        "INSERT INTO dead_letters (kind, exchange, raw, error) VALUES ('json', 'simulated', '\\x7bff', 'cut')"
    )
    answer("sql", "--dir", stopped, insert, "--write")
    listed = answer("dead-letters", "list", "--dir", stopped)["dead_letters"]
    assert [letter["state"] for letter in listed] == ["kept"]
    assert listed[0]["raw"] == "{\\xff"
    number = listed[0]["id"]
    assert answer("dead-letters", "replay", str(number), "--dir", stopped) == {
        "asked": [number],
        "not_kept": [],
    }
    assert tidecast("dead-letters", "replay", "999999", "--dir", stopped).returncode == 1
    listed = answer("dead-letters", "list", "--dir", stopped)["dead_letters"]
    assert [letter["state"] for letter in listed] == ["to be replayed"]


def test_doctor_finds_nothing_to_mend_in_a_healthy_folder_and_names_what_is_wrong_otherwise(
    stopped: Path,
) -> None:
    with up(stopped):
        findings = {finding["about"]: finding for finding in answer("doctor", "--dir", stopped)["findings"]}
        assert findings["PostgreSQL"]["well"]
        assert findings["tables"]["detail"] == "up to date"
        assert "SIMULATED" in findings["exchange"]["detail"]
        url = answer("dsn", "--dir", stopped)["dsn"]
        new = tidecast("doctor", "--dir", stopped.parent / "new", "--json", TIDECAST_POSTGRES_URL=url)
        assert new.returncode == 0
        findings = {finding["about"]: finding for finding in json.loads(new.stdout)["findings"]}
        assert findings["tables"]["well"]
        assert f"{stopped.parent / 'new'} does not exist yet" in findings["folder"]["detail"]
        answer("sql", "--dir", stopped, "CREATE DATABASE bare", "--write")
        bare = url.rpartition("/")[0] + "/bare"
        new = tidecast("doctor", "--dir", stopped.parent / "new", "--json", TIDECAST_POSTGRES_URL=bare)
        assert new.returncode == 1
        findings = {finding["about"]: finding for finding in json.loads(new.stdout)["findings"]}
        assert {about for about, each in findings.items() if each["well"] is False} == {"tables"}
        # As the finding says, and before there is a folder.
        for command in ("migrate", "doctor"):
            done = tidecast(command, "--dir", stopped.parent / "new", TIDECAST_POSTGRES_URL=bare)
            assert done.returncode == 0, done.stderr
        assert not (stopped.parent / "new").exists()
        answer("sql", "--dir", stopped, "DROP DATABASE bare", "--write")
    unreachable = "postgresql://user:topsecret@127.0.0.1:1/db"
    result = tidecast("doctor", "--dir", stopped, "--json", TIDECAST_POSTGRES_URL=unreachable)
    assert result.returncode == 1
    assert "topsecret" not in result.stdout + result.stderr
    wrong = {each["about"]: each for each in json.loads(result.stdout)["findings"] if each["well"] is False}
    assert set(wrong) == {"PostgreSQL"}
    assert "TIDECAST_POSTGRES_URL" in wrong["PostgreSQL"]["remedy"]


def test_servers_alone_start_in_the_folder_of_any_market_and_workers_only_in_their_own(folder: Path) -> None:
    recording = folder.parent / "recorded"
    recording.mkdir(parents=True)
    config = folder.parent / "recorded.toml"
    config.write_text(f'[market]\nrecorded_path = "{recording}"\n')
    with up(folder, "--config", str(config)):
        pass
    kept = (folder / "settings.toml").read_text()
    # The servers need no candles.
    recording.rmdir()
    with up(folder):
        dsn = answer("dsn", "--dir", folder)["dsn"]
        with psycopg.connect(dsn) as connection:
            (market,) = connection.execute("SELECT market FROM deployment").fetchone() or ("",)
        assert market.startswith("recorded:")
    assert (folder / "settings.toml").read_text() == kept
    with_workers = tidecast("up", "--dir", folder)
    assert with_workers.returncode == 1
    assert "was born with market 'recorded:" in with_workers.stderr


def test_a_checkpoint_of_the_new_folder_hints_at_source(stopped: Path, tmp_path: Path) -> None:
    insert = """
        INSERT INTO "recoveryState" (operation_id, service_name, checkpoint_type)
        VALUES ('op-of-mine', 'features', 'success')
    """
    answer("sql", "--dir", stopped, insert, "--write")
    result = tidecast("recover", "--from", "op-of-mine", "--dir", stopped, "--source", tmp_path / "var")
    assert result.returncode == 1
    assert f"say --source {stopped}, and a new folder" in result.stderr
    result = tidecast("recover", "--from", "op-of-none", "--dir", stopped, "--source", tmp_path / "var")
    assert result.returncode == 1
    assert f"{tmp_path / 'var'} holds no pipeline" in result.stderr
    answer("sql", "--dir", stopped, 'DELETE FROM "recoveryState"', "--write")


def test_a_server_by_url_is_used_instead_of_an_embedded_one(folder: Path, stopped: Path) -> None:
    with up(stopped):
        url = answer("dsn", "--dir", stopped)["dsn"]
        tidecast("up", "--no-workers", "--detach", "--dir", folder, TIDECAST_POSTGRES_URL=url)
        try:
            assert set(answer("status", "--dir", folder)["parts"]) == {"redis"}
            assert not Directory.open(folder).postgres_data.exists()
        finally:
            tidecast("down", "--dir", folder)


def test_sql_only_reads_unless_it_is_told_to_write(stopped: Path) -> None:
    delete = 'DELETE FROM "recoveryState"'
    refused = tidecast("sql", "--dir", stopped, delete)
    assert refused.returncode == 1
    assert "read-only" in refused.stderr
    assert answer("sql", "--dir", stopped, delete, "--write")["status"] == "DELETE 0"


def test_numbers_that_json_does_not_have_are_null(stopped: Path) -> None:
    assert answer("sql", "--dir", stopped, "SELECT 'NaN'::float8, 'Infinity'::float8")["rows"] == [
        [None, None]
    ]


def test_an_older_database_says_which_command_mends_it(folder: Path) -> None:
    with up(folder):
        pass
    older = """
        ALTER TABLE "rollingChartData" DROP COLUMN extra;
        DELETE FROM _yoyo_migration WHERE migration_id LIKE '0004%'
    """
    answer("sql", "--dir", folder, older, "--write")
    mend = f"1 migration is missing in {folder}: run `tidecast migrate --dir {folder}`"
    for words in (["fingerprint"], ["sql", 'SELECT extra FROM "rollingChartData"']):
        result = tidecast(*words, "--dir", folder)
        assert result.returncode == 1
        assert result.stderr.strip() == mend
    # What is there can be asked as ever, and a slip of the user's own stays one.
    assert answer("sql", "--dir", folder, MIGRATED)["rows"] == [[0]]
