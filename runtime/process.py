"""The life of a worker process: how it starts, what ends it, and with which code.

A process runs named tasks side by side. If one of them dies, all of them end and the process with them,
because half-alive is the one state that nobody notices; the supervisor then starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from config.errors import EX_CONFIG, ConfigurationError
from runtime.lifeline import die_with_parent

#: Exit codes: asked to end; a task died; configured wrongly (not worth starting again).
ENDED, DIED, WRONG_CONFIGURATION = 0, 1, EX_CONFIG
#: Set for every process of a supervised stack; such a process ends when its supervisor does.
SUPERVISED = "STACK_DIR"

_SHORTEST_WAIT_S, _LONGEST_WAIT_S, _GROWTH = 0.05, 2.0, 1.7
_SAY_AGAIN_AFTER_S = 10.0
T = TypeVar("T")


class Log(Protocol):
    """What is needed of a structlog logger."""

    def info(self, event: str, **values: Any) -> Any:
        """Record an ordinary event."""

    def warning(self, event: str, **values: Any) -> Any:
        """Record something that may need attention."""

    def error(self, event: str, **values: Any) -> Any:
        """Record a failure."""

    def exception(self, event: str, **values: Any) -> Any:
        """Record a failure with the trace of the exception that is being handled."""


class StoppedError(Exception):
    """The process was asked to end while it waited for something."""


def use_garbage_collector() -> None:
    """Collect garbage from now on, where `runtime.start` switched that off; what is there by now stays."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], log: Log) -> NoReturn:
    """Run a process to its end and exit with the code that `main` returns.

    `main` gets the event that SIGTERM and SIGINT set. A `ConfigurationError` ends the process with 78,
    anything else that it raises with 1.
    """
    use_garbage_collector()
    if SUPERVISED in os.environ:
        die_with_parent(signal.SIGTERM)
    try:
        code = asyncio.run(_with_signals(main))
    except ConfigurationError as error:
        log.error("the settings are wrong", action="end", problem=str(error))  # noqa: TRY400  # no trace is wanted
        code = WRONG_CONFIGURATION
    except StoppedError:
        code = ENDED
    except KeyboardInterrupt:
        code = ENDED
    except Exception:  # the last line of defence: logged, and the code tells the supervisor
        log.exception("the process fails", action="end")
        code = DIED
    sys.exit(code)


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await main(stop)


async def main_loop(
    name: str,
    tasks: Mapping[str, Coroutine[Any, Any, None]],
    *,
    stop: asyncio.Event,
    log: Log,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    grace_s: float = 3.0,
) -> int:
    """Run named tasks until the process is asked to stop, or one of them ends.

    Parameters
    ----------
    name
        Of the process, for its log.
    tasks
        Each is expected to run until `stop` is set, and then to end by itself.
    stop
        Set by a signal; set here too, so that the other tasks end when one dies.
    log
        Gets every exception.
    on_stop
        Called once after all tasks are done, whatever ended them: flush, close.
    grace_s
        How long tasks may take to end before they are cancelled. Together with `on_stop` it must stay below
        the supervisor's `stopwaitsecs`.

    Returns
    -------
    int
        The exit code: 0 when asked to stop and nothing failed, else 1.

    Raises
    ------
    ConfigurationError
        If a task did.
    """
    running = {asyncio.create_task(task, name=task_name) for task_name, task in tasks.items()}
    asked = asyncio.create_task(stop.wait(), name="stop")
    log.info(f"{name} runs", action="start", tasks=sorted(tasks))
    failures: list[BaseException] = []
    try:
        await asyncio.wait({asked, *running}, return_when=asyncio.FIRST_COMPLETED)
        was_asked = stop.is_set()
        stop.set()
        ended = {task for task in running if task.done()}
        failures += [_death_of(task, name, log) for task in ended if not (was_asked and _ended_well(task))]
        failures += await _end(running - ended, grace_s, name, log)
    finally:
        asked.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(asked, *running, return_exceptions=True)
        if on_stop is not None:
            failures += await _finish(on_stop, name, log)
    for failure in failures:
        if isinstance(failure, ConfigurationError):
            raise failure
    log.info(f"{name} has ended", action="end", failed=bool(failures))
    return DIED if failures else ENDED


def _ended_well(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is None


def _death_of(task: asyncio.Task[None], name: str, log: Log) -> BaseException:
    error = None if task.cancelled() else task.exception()
    if error is None:
        log.error(f"{task.get_name()!r} of {name} ended although nothing asked it to", action="task_died")
        return RuntimeError(f"{task.get_name()} ended unasked")
    log.error(f"{task.get_name()!r} of {name} died", action="task_died", task=task.get_name(), exc_info=error)
    return error


async def _end(tasks: set[asyncio.Task[None]], grace_s: float, name: str, log: Log) -> list[BaseException]:
    if not tasks:
        return []
    done, late = await asyncio.wait(tasks, timeout=grace_s)
    for task in late:
        log.warning(f"{task.get_name()!r} of {name} is cancelled", action="cancel", waited_s=grace_s)
        task.cancel()
    if late:
        # A task that resists its cancellation is the supervisor's to kill.
        ended, _ = await asyncio.wait(late, timeout=1.0)
        done |= ended
    return [_death_of(task, name, log) for task in done if not task.cancelled() and task.exception()]


async def _finish(on_stop: Callable[[], Awaitable[None]], name: str, log: Log) -> list[BaseException]:
    try:
        await on_stop()
    except Exception as error:  # the process ends anyway; its code says that something failed
        log.exception(f"{name} did not end cleanly", action="end")
        return [error]
    return []


async def wait_for(
    what: str,
    attempt: Callable[[], Awaitable[T]],
    *,
    stop: asyncio.Event,
    log: Log,
    passing: tuple[type[Exception], ...] = (OSError,),
) -> T:
    """Try until it works, with growing pauses, and say from time to time what is waited for.

    Parameters
    ----------
    what
        For the log, such as ``PostgreSQL at 127.0.0.1:5432``; no secrets.
    attempt
        Raises one of `passing` while the server is not there; anything else is raised on.
    stop
        Ends the waiting.
    log
        Hears of it once at first, then every ten seconds.
    passing
        Errors that waiting may cure.

    Raises
    ------
    StoppedError
        If `stop` was set first.
    """
    loop = asyncio.get_running_loop()
    started, said = loop.time(), float("-inf")
    pause = _SHORTEST_WAIT_S
    while not stop.is_set():
        try:
            result = await _unless_stopped(attempt(), what, stop)
        except passing as error:
            now = loop.time()
            if now - said > _SAY_AGAIN_AFTER_S:
                said = now
                waited = round(now - started, 1)
                log.info(f"waiting for {what}", action="wait", problem=str(error), waited_s=waited)
        else:
            if said > started:
                log.info(
                    f"no longer waiting for {what}", action="found", waited_s=round(loop.time() - started, 1)
                )
            return result
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        pause = min(_LONGEST_WAIT_S, pause * _GROWTH)
    raise StoppedError(what)


async def _unless_stopped(attempt: Awaitable[T], what: str, stop: asyncio.Event) -> T:
    """Await an attempt, but no longer than until `stop` is set: a server may take its time to say nothing."""
    trying, asked = asyncio.ensure_future(attempt), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({trying, asked}, return_when=asyncio.FIRST_COMPLETED)
        if trying.done():
            return trying.result()
        raise StoppedError(what)
    finally:
        asked.cancel()
        if not trying.done():
            trying.cancel()
            await asyncio.wait({trying})
