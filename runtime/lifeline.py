"""Tie the life of a process to that of its parent.

`python -m runtime.lifeline PARENT_PID COMMAND ...` runs a foreign program that way, in the same process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal as soon as its parent is gone.

    Kept over `exec`, lost by a change of user: call it after dropping root. Linux only; elsewhere it does
    nothing. Must be called from the main thread of a process whose parent's starting thread lives on.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    if os.getppid() != parent:
        # It went between the two calls, and no signal will come.
        os.kill(os.getpid(), by)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none can be lost sight of."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Become the given command, unless the given parent is gone already."""
    parent, *command = sys.argv[1:]
    die_with_parent()
    if os.getppid() != int(parent):
        sys.exit("the process that asked for this one is gone")
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
