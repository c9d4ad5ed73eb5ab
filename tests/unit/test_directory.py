"""A pipeline's folder keeps what was decided at its birth."""

import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from runtime import ports
from runtime.directory import (
    LISTENERS,
    Directory,
    DirectoryBusyError,
    DirectoryError,
    Identity,
    OtherIdentityError,
)
from runtime.ports import free_ports, held, is_free

SIMULATED = Identity(exchange="simulated", market="generated", seed=7, partitions=1)
REAL = Identity(exchange="binanceus", market="live", seed=0, partitions=1)


def test_a_folder_keeps_its_ports_passwords_and_identity(tmp_path: Path) -> None:
    born = Directory.create(tmp_path / "var", SIMULATED)
    again = Directory.create(tmp_path / "var", SIMULATED)
    assert again == born
    assert again.postgres_password == born.postgres_password
    assert set(born.ports) == set(LISTENERS)
    assert len(set(born.ports.values())) == len(LISTENERS)


def test_another_identity_is_refused_and_the_message_names_what_differs(tmp_path: Path) -> None:
    Directory.create(tmp_path, SIMULATED)
    with pytest.raises(OtherIdentityError, match=r"exchange 'simulated', not 'binanceus'.*--dir"):
        Directory.create(tmp_path, REAL)
    assert Directory.open(tmp_path).identity == SIMULATED


def test_a_folder_without_identity_is_claimed_by_the_first_that_has_one(tmp_path: Path) -> None:
    assert Directory.create(tmp_path).identity is None
    assert Directory.create(tmp_path, REAL).identity == REAL
    assert Directory.create(tmp_path).identity == REAL


def test_passwords_are_for_the_owner_only_and_not_in_the_repr(tmp_path: Path) -> None:
    directory = Directory.create(tmp_path, SIMULATED)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert directory.postgres_password not in repr(directory)
    assert directory.postgres_password not in (tmp_path / "tidecast.json").read_text()


def test_a_port_that_something_else_has_taken_is_picked_again_and_kept(tmp_path: Path) -> None:
    directory = Directory.create(tmp_path, SIMULATED)
    with socket.socket() as other:
        other.bind(("127.0.0.1", directory.port("postgres")))
        other.listen()
        changed = directory.with_free_ports()
        assert changed.port("postgres") != directory.port("postgres")
    assert {name: port for name, port in changed.ports.items() if name != "postgres"} == {
        name: port for name, port in directory.ports.items() if name != "postgres"
    }
    assert Directory.open(tmp_path).ports == changed.ports


def test_every_shard_of_a_worker_has_a_port_of_its_own(tmp_path: Path) -> None:
    directory = Directory.create(tmp_path, SIMULATED).with_free_ports(shards=3)
    assert len({directory.port("forecaster", shard) for shard in range(3)}) == 3
    with pytest.raises(DirectoryError, match="forecaster-3"):
        directory.port("forecaster", 3)


def test_workers_ports_may_be_prescribed(tmp_path: Path) -> None:
    base = free_ports(1)[0]
    directory = Directory.create(tmp_path, SIMULATED).with_free_ports(worker_base=base)
    assert directory.port("feature_calculator") == base
    assert directory.port("chart_monitor") == base + 4


def test_prescribed_ports_are_not_those_of_a_server_too(tmp_path: Path) -> None:
    base = Directory.create(tmp_path, SIMULATED).port("postgres") - 2
    directory = Directory.open(tmp_path).with_free_ports(worker_base=base)
    assert directory.port("feature_calculator") == base
    assert len(set(directory.ports.values())) == len(LISTENERS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a server listen beside who holds a port")
def test_a_port_that_is_held_is_picked_by_nobody_and_its_server_can_listen_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, other = free_ports(2)
    monkeypatch.setattr(ports, "_candidates", lambda: [mine, other])
    with held([mine]):
        assert free_ports(1) == [other]
        for _ in range(2):
            with (
                socket.create_server(("127.0.0.1", mine)) as server,
                socket.create_connection(("127.0.0.1", mine)) as client,
            ):
                assert not is_free(mine)
                server.accept()[0].close()
                assert client.recv(1) == b""
        assert is_free(mine)


def test_ports_stay_clear_of_those_for_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    picked = free_ports(20)
    assert len(set(picked)) == 20
    assert all(port < low and is_free(port) for port in picked)


def test_only_one_command_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    directory = Directory.create(tmp_path, SIMULATED)
    with directory.lock("up"):
        with (
            pytest.raises(DirectoryBusyError, match=rf"process {os.getpid()} \(tidecast up\)") as caught,
            Directory.open(tmp_path).lock("up", wait_s=0.0),
        ):
            pass
        assert caught.value.holder is not None
        assert caught.value.holder.purpose == "up"
    assert directory.holder() is None
    with directory.lock("sql"):
        assert directory.holder() is not None


def test_a_long_path_gets_a_short_folder_for_its_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    directory = Directory.create(deep, SIMULATED)
    directory.make_folders()
    assert len(os.fsencode(directory.sockets / ".s.PGSQL.12345")) < 100
    assert directory.run.is_dir()
    assert Directory.open(deep).run == directory.run
    directory.run.rmdir()


def test_a_short_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("z" * 60)
    directory = Directory.create(deep, SIMULATED)
    directory.run.symlink_to(tmp_path)
    try:
        with pytest.raises(DirectoryError, match="belongs to another user"):
            directory.make_folders()
    finally:
        directory.run.unlink()


def test_an_empty_folder_is_no_pipeline_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="tidecast up --dir"):
        Directory.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', "null"])
def test_a_damaged_folder_is_refused_in_words(tmp_path: Path, content: str) -> None:
    Directory.create(tmp_path, SIMULATED)
    (tmp_path / "tidecast.json").write_text(content)
    with pytest.raises(DirectoryError, match="damaged"):
        Directory.open(tmp_path)


def test_a_folder_of_a_later_format_is_refused(tmp_path: Path) -> None:
    Directory.create(tmp_path, SIMULATED)
    file = tmp_path / "tidecast.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(DirectoryError, match="format 99"):
        Directory.open(tmp_path)
