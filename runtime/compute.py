"""A pool of processes for heavy computation, beside the event loop.

Each process is a fresh interpreter (nothing is forked), at lower priority, with one thread per numerical
library, and dies with its parent. Arguments and results are small; matrices travel as files. A function gets
`progress` and `cancelled` as keyword arguments beside its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Called with the fraction done (0..1) and a few words.
Progress = Callable[[float, str], None]

_LENGTH = struct.Struct(">I")
#: Where this program lies, for a process that is started elsewhere.
_ROOT = str(Path(__file__).resolve().parent.parent)
#: One thread per process: results do not depend on the machine, and processes do not fight over cores.
_ENVIRONMENT = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
#: A dynamic thread count or idle spinning would undo the line above.
_ENVIRONMENT |= {"OMP_DYNAMIC": "FALSE", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}


class ComputeError(RuntimeError):
    """A computation could not be done."""


class ComputeDiedError(ComputeError):
    """The process died in the middle, also when tried again."""

    #: Says to those who only know the interface that the work itself is not to blame.
    process_died = True


class ComputePool:
    """Run functions in other processes.

    Parameters
    ----------
    max_workers
        Processes at the same time.
    attempts
        How often a computation is tried whose process dies. One that raises is not tried again.
    idle_timeout_s
        Seconds after which a process without work is ended, to give its memory back.
    stop_timeout_s
        Seconds that a cancelled computation gets to stop by itself.
    niceness
        Added to the priority number of the processes.
    leftovers
        True: they take only processor time that nothing else wants, where the system knows such a thing. On a
        machine that others keep fully busy they starve.
    """

    def __init__(
        self,
        *,
        max_workers: int = 2,
        attempts: int = 2,
        idle_timeout_s: float = 60.0,
        stop_timeout_s: float = 2.0,
        niceness: int = 5,
        leftovers: bool = False,
    ) -> None:
        if max_workers < 1 or attempts < 1:
            raise ValueError(f"max_workers ({max_workers}) and attempts ({attempts}) must be at least 1")
        self.max_workers = max_workers
        self._attempts = attempts
        self._idle_timeout_s = idle_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._priority = "leftovers" if leftovers else str(niceness)
        self._places = asyncio.Semaphore(max_workers)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._reaping: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> ComputePool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are computing now."""
        return tuple(worker.pid for worker in self._busy)

    async def run(self, function: Callable[..., Any], *args: Any, progress: Progress | None = None) -> Any:
        """Call `function(*args, progress=..., cancelled=...)` in another process and give its result.

        Cancelling the awaiting task stops the computation: first by asking, then by ending its process.

        Parameters
        ----------
        function
            A function at the top level of an importable module.
        args
            Anything that can be pickled; keep it small.
        progress
            Called in the event loop.

        Raises
        ------
        ComputeDiedError
            If the process died at every attempt.
        Exception
            What the function raised, with the traceback of the other process as a note.
        """
        task = pickle.dumps((f"{function.__module__}:{function.__qualname__}", args))
        async with self._places:
            for attempt in range(1, self._attempts + 1):
                if self._closed:
                    raise ComputeError("the pool is closed")
                worker = await self._take()
                try:
                    return await worker.call(task, progress)
                except _DiedError as death:
                    if attempt == self._attempts:
                        raise ComputeDiedError(
                            f"{function.__qualname__}: its process {death} ({attempt} of"
                            f" {self._attempts} attempts); if the system ended it, give the machine more"
                            " memory or lower system.max_concurrent_workers"
                        ) from death
                except asyncio.CancelledError:
                    await worker.stop(self._stop_timeout_s)
                    raise
                finally:
                    self._give(worker)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """End all processes; computations that still run are ended too."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        workers = [*self._idle, *self._busy]
        self._idle.clear()
        await asyncio.gather(*(worker.end() for worker in workers), *self._reaping)

    async def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                self._busy.add(worker)
                return worker
            await worker.end()
        worker = await _Worker.start(self._priority)
        self._busy.add(worker)
        return worker

    def _give(self, worker: _Worker) -> None:
        self._busy.discard(worker)
        if worker.alive and not worker.busy and not self._closed:
            self._idle.append(worker)
        else:
            self._end_later(worker)
        if self._reaper is not None:
            self._reaper.cancel()
        if self._idle:
            self._reaper = asyncio.get_running_loop().call_later(self._idle_timeout_s, self._reap)

    def _reap(self) -> None:
        while self._idle:
            self._end_later(self._idle.pop())

    def _end_later(self, worker: _Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end(), name="end a compute process")
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)


class _DiedError(Exception):
    """The process is gone; says how."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout
        self._expected: int | None = None
        #: True from a call to its answer; a process left in between is not used again.
        self.busy = False
        self.pid = process.pid

    @classmethod
    async def start(cls, priority: str) -> _Worker:
        path = os.pathsep.join(entry for entry in (_ROOT, os.environ.get("PYTHONPATH", "")) if entry)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "runtime.compute_process",
            priority,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            # a Ctrl-C in the terminal is the parent's to handle
            start_new_session=True,
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._output.at_eof()

    async def call(self, task: bytes, progress: Progress | None) -> Any:
        self.busy = True
        try:
            await self._send(b"t", task)
            while (answer := await self._receive())[0] == "progress":
                if progress is not None:
                    progress(*answer[1])
        except (asyncio.IncompleteReadError, ConnectionError) as gone:
            code = await self._process.wait()
            raise _DiedError(_describe(code)) from gone
        self.busy = False
        kind, value = answer
        if kind == "result":
            return value
        error, trace = value
        error.add_note(f"in the compute process:\n{trace}")
        raise error

    async def stop(self, timeout_s: float) -> None:
        """Ask the computation to stop; end the process if it does not."""
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(timeout_s):
                await self._send(b"c", b"")
                while (await self._receive())[0] == "progress":
                    pass
                self.busy = False
                return
        self._kill()
        await self._process.wait()

    async def end(self) -> None:
        self._input.close()
        self._kill()
        await self._process.wait()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _send(self, kind: bytes, payload: bytes) -> None:
        self._input.write(kind + _LENGTH.pack(len(payload)) + payload)
        await self._input.drain()

    async def _receive(self) -> tuple[str, Any]:
        # a cancelled wait between the two reads must not lose the length
        if self._expected is None:
            (self._expected,) = _LENGTH.unpack(await self._output.readexactly(_LENGTH.size))
        answer = await self._output.readexactly(self._expected)
        self._expected = None
        kind, value = pickle.loads(answer)  # noqa: S301 - our own child
        return kind, value


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    return f"was ended by {signal.Signals(-code).name}"
