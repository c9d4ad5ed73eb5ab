"""The command line, as a user meets it: real processes, real servers, exit codes."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from runtime.directory import Directory
from runtime.stack import supervisor_pid

TIDECAST = (sys.executable, "-m", "cli.main")
ROOT = Path(__file__).parents[2]
MIGRATED = 'SELECT count(*) FROM "tradeSimulations"'


def tidecast(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*TIDECAST, *map(str, words)],
        env=_environment(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def answer(*words: str | Path) -> dict[str, Any]:
    """Run a command that succeeds, and read its JSON."""
    result = tidecast(*words, "--json")
    assert result.returncode == 0, result.stderr
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_of(folder: Path) -> list[psutil.Process]:
    """Find every living process that belongs to a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            belongs = process.environ().get("STACK_DIR") == str(folder)
            if (belongs or str(folder) in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def up(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tidecast up --no-workers` until it is ready, and end it after the block."""
    command = [*TIDECAST, "up", "--no-workers", "--dir", str(folder), *words]
    with subprocess.Popen(
        command, env=_environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as launcher:
        try:
            ready = folder / "run" / "ready"

            def is_ready() -> bool:
                return ready.exists() and ready.read_text() == f"{launcher.pid}\n"

            assert eventually(lambda: is_ready() or launcher.poll() is not None)
            assert launcher.poll() is None, launcher.stderr.read() if launcher.stderr else ""
            yield launcher
        finally:
            if launcher.poll() is None:
                launcher.terminate()
            launcher.communicate(timeout=30)


def _environment(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDECAST_", "STACK_"))}
    return {**kept, **changes}


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


def test_the_servers_start_migrated_and_sigterm_ends_all_of_it_within_ten_seconds(folder: Path) -> None:
    with up(folder) as launcher:
        dsn = answer("dsn", "--dir", folder)["dsn"]
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT exchange, market FROM deployment").fetchone() == (
                "simulated",
                "generated",
            )
        assert answer("sql", "--dir", folder, MIGRATED)["rows"] == [[0]]
        status = answer("status", "--dir", folder)
        assert {name: part["state"] for name, part in status["parts"].items()} == {
            "postgres": "RUNNING",
            "redis": "RUNNING",
        }
        assert status["well"]
        asked = time.monotonic()
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(15) == 0
        assert time.monotonic() - asked < 10
    assert processes_of(folder) == []


def test_a_terminal_gets_a_live_table_and_ctrl_c_ends_everything(stopped: Path) -> None:
    terminal, other_end = pty.openpty()
    command = [*TIDECAST, "up", "--no-workers", "--dir", str(stopped)]
    with subprocess.Popen(
        command,
        env=_environment({"TERM": "xterm-256color", "COLUMNS": "120"}),
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
        assert launcher.wait(15) == 0
    os.close(terminal)
    assert processes_of(stopped) == []


def test_killing_the_launcher_leaves_no_process_and_the_next_start_works(stopped: Path) -> None:
    with up(stopped) as launcher:
        launcher.kill()
    assert eventually(lambda: processes_of(stopped) == [], within_s=10)
    with up(stopped):
        assert answer("sql", "--dir", stopped, MIGRATED)["rows"] == [[0]]


def test_killing_the_supervisor_ends_the_launcher_and_everything_else(stopped: Path) -> None:
    with up(stopped) as launcher:
        pid = supervisor_pid(Directory.open(stopped))
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert launcher.wait(15) == 1
    assert eventually(lambda: processes_of(stopped) == [], within_s=10)


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
    assert answer("down", "--dir", stopped) == {"was_running": False, "stopped": True, "seconds": 0.0}


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
    environ = _environment({})
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0])["rows"] for process in both]
    assert answers == [[[0]], [[0]]]


def test_wrong_sql_is_one_json_object_too_and_fails(stopped: Path) -> None:
    result = tidecast("sql", "--dir", stopped, "SELECT nothing_of_that_name", "--json")
    assert result.returncode == 1
    assert "nothing_of_that_name" in json.loads(result.stdout)["error"]


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


def test_a_broken_recording_is_named_before_a_folder_is_made(tmp_path: Path) -> None:
    recording = tmp_path / "broken"
    recording.mkdir()
    (recording / "BTCUSDT-1m.csv").write_text("time,open\n1,2\n")
    result = tidecast("replay", recording, "--dir", tmp_path / "dir", "--json")
    assert result.returncode == 1
    assert "BTCUSDT-1m.csv" in json.loads(result.stdout)["error"]
    assert not (tmp_path / "dir").exists()


def test_numbers_that_json_does_not_have_are_null(stopped: Path) -> None:
    assert answer("sql", "--dir", stopped, "SELECT 'NaN'::float8, 'Infinity'::float8")["rows"] == [
        [None, None]
    ]


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
