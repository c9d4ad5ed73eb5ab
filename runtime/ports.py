"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


@contextmanager
def held(ports: Iterable[int]) -> Iterator[None]:
    """Keep `free_ports` of other processes from picking these ports before their servers listen.

    A socket is bound to each, but never listens: servers, all of which say SO_REUSEADDR, can listen beside
    it, as often as they like. Only Linux has it so; elsewhere nothing is held.
    """
    with ExitStack() as sockets:
        for port in ports if sys.platform.startswith("linux") else ():
            holder = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Somebody who listens there holds it already.
            with suppress(OSError):
                holder.bind((LOOPBACK, port))
        yield


def free_ports(count: int, taken: set[int] | None = None) -> list[int]:
    """Pick free loopback ports below the range from which the kernel takes ports for outgoing connections.

    A port inside that range could be lost to any connection while its server restarts. One that is held for a
    server to come is not free either.

    Raises
    ------
    OSError
        If there are not so many.
    """
    chosen = [port for port in _candidates() if port not in (taken or set()) and _is_untouched(port)][:count]
    if len(chosen) < count:
        raise OSError(
            f"fewer than {count} free loopback ports below {_lowest_outgoing_port()}: end other servers"
        )
    return chosen


def _candidates() -> list[int]:
    highest = _lowest_outgoing_port()
    # Valkey in cluster mode adds 10,000 to its port; leave room and stay clear of well-known services.
    return random.SystemRandom().sample(range(min(15_000, highest - 2_000), highest), 2_000)


def _is_untouched(port: int) -> bool:
    """Say whether nobody is bound to a port, nor was a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _lowest_outgoing_port() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return low if low > 5_000 else 32_768
