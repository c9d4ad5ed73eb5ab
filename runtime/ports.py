"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket
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


def free_ports(count: int, taken: set[int] | None = None) -> list[int]:
    """Pick free loopback ports below the range from which the kernel takes ports for outgoing connections.

    A port inside that range could be lost to any connection while its server restarts.

    Raises
    ------
    OSError
        If there are not so many.
    """
    highest = _lowest_outgoing_port()
    # Valkey in cluster mode adds 10,000 to its port; leave room and stay clear of well-known services.
    candidates = random.SystemRandom().sample(range(min(15_000, highest - 2_000), highest), 2_000)
    chosen = [port for port in candidates if port not in (taken or set()) and is_free(port)][:count]
    if len(chosen) < count:
        raise OSError(f"fewer than {count} free loopback ports below {highest}: end other servers")
    return chosen


def _lowest_outgoing_port() -> int:
    try:
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return low if low > 5_000 else 32_768
