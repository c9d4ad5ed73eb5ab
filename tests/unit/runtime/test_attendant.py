"""Whoever supervises is talked to at once when one of its processes dies."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from runtime import attendant as attendants
from runtime.attendant import Attendant

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a death")


class Supervisor:
    """Notices the death of its child, and starts it again, one question later each."""

    def __init__(self) -> None:
        self.child = self._born()
        self.children = [self.child]
        self.asked = threading.Condition()
        self.questions = 0
        self.is_missing = False

    @staticmethod
    def _born() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def answer(self) -> tuple[set[int], bool]:
        with self.asked:
            if self.is_missing:
                self.child, self.is_missing = self._born(), False
                self.children.append(self.child)
            elif self.child.poll() is not None:
                self.is_missing = True
            self.questions += 1
            self.asked.notify_all()
            return set() if self.is_missing else {self.child.pid}, self.is_missing

    def until_asked(self, times: int) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: self.questions >= times, timeout=120)

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


@pytest.fixture
def supervisor():
    supervisor = Supervisor()
    yield supervisor
    supervisor.end()


def test_a_process_that_dies_is_back_without_waiting_for_the_next_look(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendants, "_REFRESH_S", 600.0)
    attendant = Attendant(supervisor.answer)
    attendant.start()
    try:
        supervisor.until_asked(1)
        for _ in range(3):
            first = supervisor.child
            first.kill()
            with supervisor.asked:
                assert supervisor.asked.wait_for(lambda: supervisor.child is not first, timeout=120)  # noqa: B023
    finally:
        attendant.stop()


def test_nothing_is_asked_any_more_after_the_end(supervisor: Supervisor) -> None:
    attendant = Attendant(supervisor.answer)
    attendant.start()
    supervisor.until_asked(1)
    attendant.stop()
    supervisor.child.kill()
    attendant._thread.join(timeout=120)
    assert not attendant._thread.is_alive()
    assert len(supervisor.children) == 1
