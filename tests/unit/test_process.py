"""A process ends with the first of its tasks, and its exit code says why."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from config.errors import ConfigurationError, Mistake
from runtime.process import DIED, ENDED, StoppedError, main_loop, wait_for

LOG = structlog.get_logger()


async def until(stop: asyncio.Event) -> None:
    await stop.wait()


async def fail(error: Exception) -> None:
    raise error


async def run(stop: asyncio.Event, **tasks: Coroutine[Any, Any, None]) -> int:
    return await asyncio.wait_for(main_loop("worker", tasks, stop=stop, log=LOG, grace_s=0.05), 60)


async def test_a_process_that_was_asked_to_stop_ends_well() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert await run(stop, feed=until(stop), stage=until(stop)) == ENDED


async def test_one_task_that_dies_ends_all_the_others() -> None:
    stop = asyncio.Event()
    others_ended = []

    async def other() -> None:
        await stop.wait()
        others_ended.append(True)

    assert await run(stop, feed=fail(OSError("the line is cut")), stage=other()) == DIED
    assert others_ended == [True]


async def test_a_task_that_ends_unasked_is_as_bad_as_one_that_dies() -> None:
    stop = asyncio.Event()

    async def short() -> None:
        return

    assert await run(stop, feed=short(), stage=until(stop)) == DIED


async def test_a_task_that_does_not_listen_is_cancelled() -> None:
    stop = asyncio.Event()
    cancelled = []

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    asyncio.get_running_loop().call_soon(stop.set)
    assert await run(stop, deaf=deaf()) == ENDED
    assert cancelled == [True]


async def test_a_failure_while_stopping_is_not_hidden() -> None:
    stop = asyncio.Event()

    async def breaks_at_the_end() -> None:
        await stop.wait()
        raise ValueError("the last write failed")

    asyncio.get_running_loop().call_soon(stop.set)
    assert await run(stop, stage=breaks_at_the_end(), feed=until(stop)) == DIED


async def test_what_has_to_be_closed_is_closed_whatever_happened() -> None:
    stop = asyncio.Event()
    closed = []

    async def close() -> None:
        closed.append(True)

    tasks = {"feed": fail(OSError("the line is cut"))}
    assert await main_loop("worker", tasks, stop=stop, log=LOG, on_stop=close, grace_s=0.05) == DIED
    assert closed == [True]


async def test_a_wrong_setting_met_by_a_task_is_handed_on() -> None:
    wrong = ConfigurationError([Mistake(key="features.rsi_period", problem="must be at least 2")])
    with pytest.raises(ConfigurationError):
        await run(asyncio.Event(), stage=fail(wrong))


async def test_waiting_ends_with_what_the_server_gives() -> None:
    answers = iter([OSError("refused"), OSError("refused"), "hello"])

    async def attempt() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert await wait_for("a server", attempt, stop=asyncio.Event(), log=LOG) == "hello"


async def test_waiting_listens_to_the_request_to_stop() -> None:
    stop = asyncio.Event()

    async def attempt() -> None:
        stop.set()
        raise OSError("refused")

    with pytest.raises(StoppedError):
        await wait_for("a server", attempt, stop=stop, log=LOG)


async def test_a_server_that_does_not_answer_does_not_keep_a_process_from_stopping() -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def attempt() -> None:
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(StoppedError):
        await asyncio.wait_for(wait_for("a server", attempt, stop=stop, log=LOG), 60)
    assert ended.is_set()


async def test_an_error_that_waiting_cannot_cure_is_raised_at_once() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        await wait_for("a server", lambda: fail(ValueError("nonsense")), stop=asyncio.Event(), log=LOG)


PROGRAM = """
import asyncio, structlog, sys
from config.errors import ConfigurationError, Mistake
from runtime.process import main_loop, run

async def main(stop):
    print("up", flush=True)
    {body}
    return await main_loop("worker", {{"task": stop.wait()}}, stop=stop, log=structlog.get_logger())

run(main, structlog.get_logger())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_code_0(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM.format(body="")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(120) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("raise ConfigurationError([Mistake(key='a.b', problem='is wrong')])", 78),
        ("raise RuntimeError('a defect')", 1),
    ],
)
def test_the_exit_code_tells_the_supervisor_whether_to_try_again(body: str, code: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, check=False
    )
    assert result.returncode == code
