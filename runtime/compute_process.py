"""The other end of the compute pool: a process that calls one function at a time.

Started by `runtime/compute.py`; it ends when its parent does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from importlib import import_module
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve calls until the pipe closes."""
    priority, parent = sys.argv[1], int(sys.argv[2])
    _die_with(parent)
    with contextlib.suppress(OSError):
        _take_priority(priority)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # whatever a library prints must not get between the answers
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _Server(sys.stdin.buffer, answers).serve()


def _take_priority(priority: str) -> None:
    """Add a number to our priority number, or take only what nobody else wants."""
    if priority != "leftovers":
        os.nice(int(priority))
    elif sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


class _Server:
    def __init__(self, calls: BinaryIO, answers: BinaryIO) -> None:
        self._calls = calls
        self._answers = answers
        self._writing = threading.Lock()
        self._cancelled = threading.Event()
        self._tasks: list[bytes] = []
        self._arrived = threading.Semaphore(0)

    def serve(self) -> None:
        threading.Thread(target=self._listen, name="calls", daemon=True).start()
        while True:
            self._arrived.acquire()
            self._answer(self._tasks.pop(0))

    def _listen(self) -> None:
        while True:
            head = self._calls.read(1 + _LENGTH.size)
            if len(head) < 1 + _LENGTH.size:  # the parent closed the pipe: nobody waits for us
                os._exit(0)
            payload = self._calls.read(_LENGTH.unpack(head[1:])[0])
            if head[:1] == b"c":
                self._cancelled.set()
            else:
                self._cancelled.clear()
                self._tasks.append(payload)
                self._arrived.release()

    def _answer(self, task: bytes) -> None:
        try:
            name, args = pickle.loads(task)  # noqa: S301 - from our own parent
            module, function = name.split(":")
            result = getattr(import_module(module), function)(
                *args, progress=self._progress, cancelled=self._cancelled.is_set
            )
            answer = pickle.dumps(("result", result))
        except Exception as error:  # noqa: BLE001 - everything goes back to the caller, who decides
            answer = pickle.dumps(("error", (_portable(error), traceback.format_exc())))
        self._send(answer)

    def _progress(self, fraction: float, message: str) -> None:
        self._send(pickle.dumps(("progress", (fraction, message))))

    def _send(self, payload: bytes) -> None:
        with self._writing:
            self._answers.write(_LENGTH.pack(len(payload)) + payload)
            self._answers.flush()


def _portable(error: Exception) -> Exception:
    # an error that cannot travel still has to say what it was
    try:
        copy: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one call ago
    except Exception:  # noqa: BLE001 - whatever fails here, the text below does not
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if isinstance(copy, type(error)) else RuntimeError(str(error))


if __name__ == "__main__":
    main()
