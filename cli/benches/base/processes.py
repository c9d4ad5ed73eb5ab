"""What the processes of a pipeline take: memory by proportional set size, and processor time."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from pathlib import Path

import psutil

_PROC = Path("/proc")


def pss_bytes(pid: int) -> int | None:
    """Read a process's proportional set size: shared memory counts in parts. None if it cannot be read."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    return pss_of(text)


def pss_of(smaps_rollup: str) -> int | None:
    """Find the proportional set size in the kernel's text; None if there is none."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def descendants(pid: int) -> list[psutil.Process]:
    """List the living processes below one; the process itself is not among them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def pss_by_part(processes: list[psutil.Process]) -> dict[str, int]:
    """Add up proportional set sizes by part of the pipeline, in bytes."""
    sums: Counter[str] = Counter()
    for process in processes:
        pss, part = pss_bytes(process.pid), part_of(process)
        if pss is not None and part is not None:
            sums[part] += pss
    return dict(sums)


class CpuWatch:
    """Keeps the processor time of processes, also of those that have ended since the last look."""

    def __init__(self) -> None:
        self._spent: dict[int, tuple[str, float]] = {}

    def look(self, processes: list[psutil.Process]) -> None:
        """Take what each has spent so far."""
        for process in processes:
            part = part_of(process)
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                if part is not None:
                    self._spent[process.pid] = (part, times.user + times.system)

    def seconds_by_part(self) -> dict[str, float]:
        """Add it up by part of the pipeline."""
        sums: defaultdict[str, float] = defaultdict(float)
        for part, seconds in self._spent.values():
            sums[part] += seconds
        return dict(sums)


def part_of(process: psutil.Process) -> str | None:
    """Say what a process is in the pipeline; None if it has gone."""
    try:
        return named(process.cmdline(), process.name())
    except psutil.NoSuchProcess:
        return None


def named(command: list[str], program: str) -> str:
    """Say what a process is from its command line."""
    for word in command:
        if word.startswith("workers."):
            return word.removeprefix("workers.")
    text = " ".join(command)
    if "postgres" in program or "postgres" in text:
        return "postgres"
    if "valkey" in text or "redis" in text:
        return "redis"
    if "supervisor" in text:
        return "supervisor"
    if "compute_process" in text or "multiprocessing" in text:
        return "training"
    return "other"
