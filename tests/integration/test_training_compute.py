"""The pool of processes, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from runtime.compute import ComputeDiedError, ComputeError, ComputePool

ROOT = Path(__file__).parent.parent.parent
WORK = """
import os, signal, time
from pathlib import Path


def double(value, *, progress, cancelled):
    progress(0.5, "half")
    print("noise on standard output")
    return 2 * value


def identity(*, progress, cancelled):
    return os.getpid(), os.nice(0), os.environ["OMP_NUM_THREADS"]


def policy(*, progress, cancelled):
    return os.sched_getscheduler(0)


def fail(message, *, progress, cancelled):
    raise ValueError(message)


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")


def fail_oddly(*, progress, cancelled):
    raise Odd(1, 2)


def die(path, times, *, progress, cancelled):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def wait_for_cancel(path, *, progress, cancelled):
    progress(0.1, "waiting")
    while not cancelled():
        time.sleep(0.005)
    Path(path).write_text("stopped by itself")
    raise RuntimeError("cancelled")


def never_stop(*, progress, cancelled):
    progress(0.1, "deaf")
    while True:
        time.sleep(0.005)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Functions in a module that the other processes can import too."""
    (tmp_path / "pool_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = ModuleType("pool_work")
    monkeypatch.setitem(sys.modules, "pool_work", module)
    exec(compile(WORK, "pool_work.py", "exec"), module.__dict__)
    return module


@pytest.fixture
async def pool() -> AsyncIterator[ComputePool]:
    async with ComputePool(max_workers=2, stop_timeout_s=60.0) as pool:
        yield pool


class Seen:
    """Progress, and a way to wait for it."""

    def __init__(self) -> None:
        self.values: list[tuple[float, str]] = []
        self.arrived = asyncio.Event()

    def __call__(self, done: float, text: str) -> None:
        self.values.append((done, text))
        self.arrived.set()


async def test_a_function_runs_in_another_process_and_tells_how_far_it_is(
    pool: ComputePool, work: ModuleType
) -> None:
    seen = Seen()
    assert await pool.run(work.double, 21, progress=seen) == 42
    assert seen.values == [(0.5, "half")]


async def test_processes_are_nice_single_threaded_and_used_again(pool: ComputePool, work: ModuleType) -> None:
    pid, niceness, threads = await pool.run(work.identity)
    again, *_ = await pool.run(work.identity)
    assert pid == again != os.getpid()
    assert niceness == min(os.nice(0) + 5, 19)
    assert threads == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows processes that take what is left")
async def test_where_forecasts_go_first_a_process_takes_what_is_left(work: ModuleType) -> None:
    async with ComputePool(max_workers=1, leftovers=True) as pool:
        assert await pool.run(work.policy) == os.SCHED_IDLE


async def test_an_error_comes_back_as_itself_with_the_other_traceback(
    pool: ComputePool, work: ModuleType
) -> None:
    with pytest.raises(ValueError, match="no such thing") as caught:
        await pool.run(work.fail, "no such thing")
    assert "in fail" in "".join(caught.value.__notes__)
    assert await pool.run(work.double, 1) == 2


async def test_an_error_that_cannot_travel_still_says_what_it_was(
    pool: ComputePool, work: ModuleType
) -> None:
    with pytest.raises(RuntimeError, match="odd"):
        await pool.run(work.fail_oddly)


async def test_a_computation_whose_process_is_killed_is_tried_again(
    pool: ComputePool, work: ModuleType, tmp_path: Path
) -> None:
    assert await pool.run(work.die, str(tmp_path / "once"), 1) == "alive"


async def test_a_computation_whose_process_keeps_dying_is_a_clear_error(
    pool: ComputePool, work: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ComputeDiedError, match=r"SIGKILL.*2 of 2 attempts"):
        await pool.run(work.die, str(tmp_path / "always"), 99)
    assert await pool.run(work.double, 1) == 2


async def test_a_cancelled_computation_is_asked_to_stop(
    pool: ComputePool, work: ModuleType, tmp_path: Path
) -> None:
    seen, path = Seen(), tmp_path / "note"
    task = asyncio.create_task(pool.run(work.wait_for_cancel, str(path), progress=seen))
    await asyncio.wait_for(seen.arrived.wait(), 120)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert path.read_text() == "stopped by itself"
    assert pool.pids == ()
    assert await pool.run(work.double, 1) == 2


async def test_a_computation_that_does_not_listen_is_ended(work: ModuleType) -> None:
    async with ComputePool(max_workers=1, stop_timeout_s=0.05) as pool:
        seen = Seen()
        task = asyncio.create_task(pool.run(work.never_stop, progress=seen))
        await asyncio.wait_for(seen.arrived.wait(), 120)
        (pid,) = pool.pids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not psutil.pid_exists(pid)
        assert await pool.run(work.double, 1) == 2


async def test_no_more_processes_than_allowed_run_at_once(work: ModuleType) -> None:
    async with ComputePool(max_workers=1) as pool:
        pids = {found[0] for found in await asyncio.gather(*(pool.run(work.identity) for _ in range(4)))}
    assert len(pids) == 1


async def test_idle_processes_give_their_memory_back(work: ModuleType) -> None:
    async with ComputePool(max_workers=1, idle_timeout_s=0.0) as pool:
        pid, *_ = await pool.run(work.identity)
        async with asyncio.timeout(120):
            while psutil.pid_exists(pid):  # noqa: ASYNC110 - no event tells of a process that is gone
                await asyncio.sleep(0)
        assert (await pool.run(work.identity))[0] != pid


async def test_a_closed_pool_takes_no_work(work: ModuleType) -> None:
    pool = ComputePool()
    await pool.close()
    with pytest.raises(ComputeError, match="closed"):
        await pool.run(work.double, 1)


def test_processes_die_with_their_parent(work: ModuleType, tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import asyncio, sys
        from runtime.compute import ComputePool
        import pool_work

        async def main():
            async with ComputePool() as pool:
                await pool.run(pool_work.never_stop, progress=lambda *a: print(*pool.pids, flush=True))

        asyncio.run(main())
        """
    )
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait(120)
        _gone, alive = psutil.wait_procs([child], timeout=120)
        assert not alive


def test_max_workers_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ComputePool(max_workers=0)
