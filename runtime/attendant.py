"""Stands by a supervisor: wakes it as soon as one of its processes dies.

supervisord looks at its children once a second, and once more before it starts one again; when somebody talks
to it, it looks at once. So a process that was killed is back a second earlier.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

#: How often the list of processes is read again.
_REFRESH_S = 1.0
#: After a death the supervisor is talked to until all are back, but not for longer than this.
_TALK_S = 2.0
_PAUSE_S = 0.02


class Attendant:
    """Watches the processes of a supervisor in a thread, from `start` to `stop`.

    Parameters
    ----------
    ask
        Talks to the supervisor; gives the ids of its living processes, and whether any that should live is
        not among them.
    """

    def __init__(self, ask: Callable[[], tuple[set[int], bool]]) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="attendant", daemon=True)
        self._watched: dict[int, int] = {}

    def start(self) -> None:
        """Begin; where the kernel has no way to tell of a death, nothing is done."""
        if hasattr(os, "pidfd_open"):
            self._thread.start()

    def stop(self) -> None:
        """End: from now on deaths are meant."""
        self._stop.set()

    def _watch(self) -> None:
        try:
            while not self._stop.is_set():
                pids, is_one_missing = self._ask()
                self._follow(pids)
                if is_one_missing or self._somebody_dies():
                    self._talk()
        finally:
            self._follow(set())

    def _follow(self, pids: set[int]) -> None:
        """Open what tells of a process's death, for these and no others."""
        for pid in self._watched.keys() - pids:
            os.close(self._watched.pop(pid))
        for pid in pids - self._watched.keys():
            # One that has just died is seen by the next question.
            with contextlib.suppress(OSError):
                self._watched[pid] = os.pidfd_open(pid)

    def _somebody_dies(self) -> bool:
        """Wait a while for a death."""
        if not self._watched:
            self._stop.wait(_REFRESH_S)
            return False
        poll = select.poll()
        for descriptor in self._watched.values():
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(_REFRESH_S * 1000))

    def _talk(self) -> None:
        deadline = time.monotonic() + _TALK_S
        while time.monotonic() < deadline and not self._stop.wait(_PAUSE_S):
            _, is_one_missing = self._ask()
            if not is_one_missing:
                return
