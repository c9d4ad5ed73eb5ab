"""Become the embedded Redis-compatible server (Valkey) of a folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from runtime import account
from runtime.atomic_file import write_atomically
from runtime.directory import Directory
from runtime.embedded.binaries import valkey_server, within_reach
from runtime.embedded.lock import hold_until_death
from runtime.lifeline import die_with_parent


def run(directory: Directory, extra: Sequence[str] = ()) -> NoReturn:
    """Become the server; `extra` are further `name=value` settings. It dies with its parent."""
    binary = valkey_server()
    binary = within_reach(binary.parent) / binary.name
    directory.make_folders()
    hold_until_death(directory.run / "redis.lock")
    # The password stands in the file, because a command line can be read by everybody.
    configuration = directory.redis_data / "valkey.conf"
    account.own_folders((directory.redis_data, directory.sockets))
    account.leave_root()
    write_atomically(configuration, server_configuration(directory, extra))
    die_with_parent(signal.SIGTERM)
    os.chdir(directory.redis_data)
    # A locale that the system lacks would keep the server from starting.
    environment = {**os.environ, "LC_ALL": "C"}
    os.execve(binary, [str(binary), str(configuration)], environment)  # noqa: S606  # no shell is wanted


def server_configuration(directory: Directory, extra: Sequence[str] = ()) -> str:
    """Write the server's configuration file; later settings win."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(directory.port("redis")),
        "unixsocket": f'"{directory.sockets / "redis.sock"}"',
        "unixsocketperm": "700",
        "requirepass": f'"{directory.redis_password}"',
        "dir": f'"{directory.redis_data}"',
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # A stream that lost its oldest entries unasked would look like a hole.
        "maxmemory-policy": "noeviction",
        "save": '""',
        "loglevel": "notice",
        **dict(each.split("=", 1) for each in extra),
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())
