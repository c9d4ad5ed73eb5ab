"""`tidecast doctor`: what is reachable, migrated and configured, and how to mend what is not."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import typer

from cli.answer import give_json, show_table
from cli.folder import (
    DEFAULT_FOLDER,
    ConfigOption,
    FolderOption,
    JsonOption,
    existing_folder,
    settings_for_start,
)
from cli.status import complaints, read_health
from config.errors import ConfigurationError
from config.ml_config import Settings
from config.redaction import redact
from db.migrate import NewerDatabaseError, pending
from runtime import account
from runtime.directory import Directory, DirectoryError
from runtime.embedded.binaries import NoBinaryError, postgres_bin, valkey_server
from runtime.embedded.session import postgres_answers, redis_answers
from runtime.servers import Servers, servers_of
from runtime.stack import programs

_LEAST_FREE_BYTES = 2 * 1024**3
_TIMEOUT_S = 5.0
_EXCHANGE_TIME = {
    "binanceus": "https://api.binance.us/api/v3/time",
    "coinbase": "https://api.coinbase.com/api/v3/brokerage/time",
    "bybit": "https://api.bybit.com/v5/market/time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    well
        None where it could not be judged, for example because nothing runs.
    remedy
        What to do if it is not well.
    """

    about: str
    well: bool | None
    detail: str
    remedy: str = ""


def doctor(
    folder: FolderOption = DEFAULT_FOLDER, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Look at everything a pipeline needs; succeeds if nothing has to be mended."""
    findings = list(_findings(folder, config))
    well = all(finding.well is not False for finding in findings)
    if as_json:
        give_json({"well": well, "findings": [asdict(finding) for finding in findings]})
    else:
        marks = {True: "ok", False: "MEND", None: "-"}
        show_table(
            ["", "what", "found", "what to do"],
            [
                [marks[each.well], each.about, each.detail, "" if each.well else each.remedy]
                for each in findings
            ],
        )
    if not well:
        raise typer.Exit(1)


def _findings(folder: Path, config: Path | None) -> Iterator[Finding]:
    yield _python()
    settings, finding = _settings(config)
    yield finding
    yield from _binaries(settings)
    yield _space(folder)
    directory, finding = _folder(folder)
    yield finding
    if directory is None:
        if finding.well is None and settings is not None:
            yield from _servers_by_url(settings)
        return
    yield from _secrets(directory)
    if settings is None:
        return
    if config is None:
        directory, settings = existing_folder(folder, None)
    servers = servers_of(directory, settings.servers)
    is_running = directory.holder() is not None
    yield _running(directory)
    yield from _postgres(servers, is_running)
    yield _redis(servers, is_running)
    yield from _workers(directory)
    yield _exchange(settings)


def _servers_by_url(settings: Settings) -> Iterator[Finding]:
    """Look at what a pipeline's first start will find already there."""
    postgres, redis = settings.servers.postgres_url, settings.servers.redis_url
    servers = Servers(
        postgres_url=postgres.get_secret_value() if postgres else "",
        redis_url=redis.get_secret_value() if redis else "",
        embedded_postgres=postgres is None,
        embedded_redis=redis is None,
    )
    yield from _postgres(servers, is_running=False)
    yield _redis(servers, is_running=False)
    yield _exchange(settings)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= (3, 11)
    return Finding(
        about="Python", well=well, detail=version, remedy="install Python 3.11 or newer, then `make install`"
    )


def _settings(config: Path | None) -> tuple[Settings | None, Finding]:
    try:
        settings = settings_for_start(config, {})
    except ConfigurationError as error:
        return None, Finding(
            about="settings",
            well=False,
            detail=str(error),
            remedy="correct the keys named; config/default.toml explains them",
        )
    return settings, Finding(about="settings", well=True, detail=str(config or "defaults and environment"))


def _binaries(settings: Settings | None) -> Iterator[Finding]:
    servers = settings.servers if settings else None
    for name, find, by_url in (
        ("PostgreSQL binaries", postgres_bin, servers is not None and servers.postgres_url is not None),
        ("Redis-compatible binary", valkey_server, servers is not None and servers.redis_url is not None),
    ):
        if by_url:
            continue
        try:
            found = find()
        except NoBinaryError as error:
            yield Finding(about=name, well=False, detail=str(error), remedy="run `make install` again")
        else:
            yield Finding(about=name, well=True, detail=str(found))
    if account.is_root() and not account.can_reach_anything():
        yield Finding(
            about="root without CAP_DAC_OVERRIDE",
            well=True,
            detail=f"the servers' data may lie below {account.FALLBACK_HOME}",
        )


def _space(folder: Path) -> Finding:
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        about="disk space",
        well=free > _LEAST_FREE_BYTES,
        detail=f"{free / 1024**3:.1f} GB free at {existing}",
        remedy="free some space, lower data.retention_days, or use another --dir",
    )


def _folder(folder: Path) -> tuple[Directory | None, Finding]:
    if not Directory.exists(folder):
        what = "holds no pipeline yet" if folder.exists() else "does not exist yet"
        return None, Finding(
            about="folder",
            well=None,
            detail=f"{folder.absolute()} {what}",
            remedy=f"`tidecast up --dir {folder}` makes it; if there should be one, correct --dir",
        )
    try:
        directory = Directory.open(folder)
    except DirectoryError as error:
        return None, Finding(about="folder", well=False, detail=str(error), remedy="see the message")
    identity = directory.identity
    whose = f"{identity.exchange}, {identity.market}" if identity else "of no market yet"
    well = os.access(directory.path, os.W_OK)
    return directory, Finding(
        about="folder",
        well=well,
        detail=f"{directory.path}: {whose}",
        remedy="run as its owner, or make it writable",
    )


def _secrets(directory: Directory) -> Iterator[Finding]:
    file = directory.path / "secrets.json"
    mode = stat.S_IMODE(file.stat().st_mode)
    yield Finding(
        about="secrets.json", well=mode & 0o077 == 0, detail=f"mode {mode:04o}", remedy=f"chmod 600 {file}"
    )


def _running(directory: Directory) -> Finding:
    holder = directory.holder()
    if holder is None:
        return Finding(
            about="running", well=None, detail="nothing", remedy=f"tidecast up --dir {directory.path}"
        )
    return Finding(about="running", well=True, detail=f"tidecast {holder.purpose}, process {holder.pid}")


def _postgres(servers: Servers, is_running: bool) -> Iterator[Finding]:
    where = "embedded" if servers.embedded_postgres else "by URL"
    if servers.embedded_postgres and not is_running:
        yield Finding(
            about="PostgreSQL",
            well=None,
            detail="embedded, not running",
            remedy="it starts with `tidecast up`",
        )
        return
    problem = postgres_answers(servers.postgres_url, _TIMEOUT_S)
    if problem is not None:
        remedy = (
            "see postgres.log"
            if servers.embedded_postgres
            else "correct TIDECAST_POSTGRES_URL or mend the server"
        )
        yield Finding(about="PostgreSQL", well=False, detail=redact(problem), remedy=remedy)
        return
    with psycopg.connect(servers.postgres_url) as connection:
        version = connection.info.server_version
    yield Finding(
        about="PostgreSQL",
        well=version >= 130_000,
        detail=f"{where}, version {version // 10_000}.{version % 10_000}",
        remedy="use PostgreSQL 13 or newer",
    )
    try:
        missing = pending(servers.postgres_url)
    except NewerDatabaseError as error:
        yield Finding(about="tables", well=False, detail=str(error), remedy="install the newer program")
    else:
        detail = f"lacks {', '.join(missing)}" if missing else "up to date"
        yield Finding(about="tables", well=not missing, detail=detail, remedy="tidecast migrate")


def _redis(servers: Servers, is_running: bool) -> Finding:
    where = "embedded" if servers.embedded_redis else "by URL"
    if servers.embedded_redis and not is_running:
        return Finding(
            about="Redis", well=None, detail="embedded, not running", remedy="it starts with `tidecast up`"
        )
    problem = redis_answers(servers.redis_url, _TIMEOUT_S)
    if problem is None:
        return Finding(about="Redis", well=True, detail=f"{where}, answers")
    remedy = "see redis.log" if servers.embedded_redis else "correct TIDECAST_REDIS_URL or mend the server"
    return Finding(about="Redis", well=False, detail=redact(problem), remedy=remedy)


def _workers(directory: Directory) -> Iterator[Finding]:
    for program in programs(directory):
        if program.group != "workers" or program.state == "STOPPED":
            continue
        health = read_health(directory, program)
        wrong = ["does not answer"] if health is None else complaints(health)
        detail = f"{program.state}, " + ("; ".join(wrong) or str((health or {}).get("status")))
        well = not wrong and program.state == "RUNNING"
        log = directory.log / f"{program.name}.log"
        yield Finding(about=program.name, well=well, detail=detail, remedy=f"see {log}")


def _exchange(settings: Settings) -> Finding:
    market = settings.market
    if market.is_simulated:
        return Finding(about="exchange", well=True, detail="SIMULATED, on this machine")
    address = market.base_url or _EXCHANGE_TIME[market.exchange]
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply:  # noqa: S310  # http(s) by its type
            return Finding(about="exchange", well=True, detail=f"{market.exchange} answers ({reply.status})")
    except urllib.error.HTTPError as error:
        # It was reached; what it thinks of this address is another matter.
        refused = error.code in (403, 451)
        return Finding(
            about="exchange",
            well=not refused,
            detail=f"{market.exchange} answers {error.code}",
            remedy="this exchange does not serve your country or address: choose another (--exchange)",
        )
    except OSError as error:
        return Finding(
            about="exchange",
            well=False,
            detail=f"{market.exchange} cannot be reached: {error}",
            remedy="check the network, or play the simulated market (--exchange simulated)",
        )
