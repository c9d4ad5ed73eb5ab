"""Log records as JSON lines on standard output, and, from a level on, as rows of `"systemLogs"`.

One record is one line: time, level, worker, action, one plain sentence, symbol and ids. Everything passes
here, records of libraries too, and everything passes the redactor before anybody sees it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from config.ml_config import Settings
from config.redaction import Redactor
from runtime.database_log import DatabaseLog, Flush, LogRecord
from runtime.plain import plain

__all__ = ["SIMULATED", "DatabaseLog", "Flush", "LogRecord", "set_up", "set_up_from"]

SIMULATED = "SIMULATED"
_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}
_FIRST = ("timestamp", "level", "worker", "market", "action", "sentence", "symbol")
#: What the documents call the work of each worker.
_CATEGORIES = {
    "feature_calculator": "feature_calculation",
    "ml_trainer": "ml_training",
    "ml_inference": "ml_inference",
    "forecaster": "forecasting",
    "chart_monitor": "data_quality",
}
#: Libraries that tell more than anybody wants to know; their warnings stay.
_QUIET = ("asyncio", "aiohttp", "ccxt", "numba", "urllib3", "matplotlib")


def set_up(
    *,
    worker: str,
    level: str = "info",
    market: str | None = None,
    environment: str | None = None,
    secrets: Iterable[str] = (),
    database: DatabaseLog | None = None,
    database_level: str = "info",
    out: TextIO | None = None,
) -> FilteringBoundLogger:
    """Route structlog and the standard library's logging through one chain; may be called again.

    Parameters
    ----------
    worker
        Name of the process, in every line.
    market
        `SIMULATED` or the exchange, in every line.
    secrets
        Plain values that must never be printed, beside what looks like a secret.
    database
        Also gets records of `database_level` and above.
    out
        Standard output, if not given.
    """
    constant = {"worker": worker, "market": market, "environment": environment}
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _Constant({name: value for name, value in constant.items() if value is not None}),
        _Redact(Redactor(secrets)),
        structlog.processors.EventRenamer("sentence"),
    ]
    if database is not None:
        processors.append(_CopyToDatabase(database, _NUMBERS[database_level]))
    structlog.configure(
        processors=[*processors, _render],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=lambda *_: _Lines(out),
        # Loggers are made at import, before the settings are known.
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(_NUMBERS[level])
    return structlog.get_logger()  # type: ignore[no-any-return]


def set_up_from(
    settings: Settings,
    worker: str,
    *,
    database: DatabaseLog | None = None,
    more_secrets: Iterable[str] = (),
    out: TextIO | None = None,
) -> FilteringBoundLogger:
    """Set up logging as the settings want it; `more_secrets` are those that no setting holds."""
    market = settings.market
    return set_up(
        worker=worker,
        level=settings.system.log_level,
        market=SIMULATED if market.is_simulated else market.exchange,
        environment=settings.system.environment,
        secrets=(*settings.secret_values(), *more_secrets),
        database=database,
        database_level=settings.system.log_level,
        out=out,
    )


class _Lines:
    """The end of the chain: whole lines, written at once."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        out = self._out or sys.stdout
        try:
            out.write(f"{line}\n")
            out.flush()
        except (OSError, ValueError):
            # Nobody reads any more (a closed pipe); a worker does not die of that.
            return

    debug = info = warning = error = critical = exception = log = fatal = msg


class _Constant:
    # Last word on who speaks and in which market: a record cannot pretend otherwise.
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event.update(self._values)
        return event


class _Redact:
    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        # The values are made plain first, so that no object can show its secret while it is being rendered.
        return {name: _masked(name, plain(value, self._redact)) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    secret = name.lower().endswith(("password", "passphrase", "api_key", "api_secret", "authorization"))
    return "***" if secret and value else value


class _CopyToDatabase:
    def __init__(self, database: DatabaseLog, level: int) -> None:
        self._database, self._level = database, level

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if _NUMBERS.get(event["level"], 20) >= self._level:
            self._copy(dict(event))
        return event

    def _copy(self, event: MutableMapping[str, Any]) -> None:
        worker = event.get("worker", "")
        self._database.put(
            event.pop("level"),
            event.pop("category", None)
            or _CATEGORIES.get(re.split(r"[^a-z_]", worker, maxsplit=1)[0], "system"),
            event.pop("subcategory", None) or event.get("action"),
            event.pop("sentence", ""),
            # Its time is the wall clock's, unless the record says at which candle it happened.
            timestamp_ms=_milliseconds(event.pop("event_time_ms", None)),
            symbol=event.pop("symbol", None),
            stack_trace=event.pop("exception", None) or event.pop("stack", None),
            context={name: value for name, value in event.items() if name != "timestamp"},
        )


def _milliseconds(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**53 else None


def _render(logger: WrappedLogger, method: str, event: EventDict) -> str:
    ordered = {name: event[name] for name in _FIRST if name in event}
    ordered.update(event)
    return orjson.dumps(ordered).decode()


class _FromStandardLogging(logging.Handler):
    """Hands the standard library's records on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sentence = record.getMessage()
        except Exception:  # noqa: BLE001  wrong arguments in a library's log call; its sentence is better than nothing
            sentence = str(record.msg)
        number = min(_NUMBERS["critical"], max(_NUMBERS["debug"], record.levelno // 10 * 10))
        values: dict[str, Any] = {"logger": record.name, "exc_info": record.exc_info or None}
        structlog.get_logger().log(number, sentence, **values)


def _route_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [_FromStandardLogging()]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
