"""The folder in which one pipeline lives: where its parts are, its ports, its passwords, and whose it is.

Everything here is decided once, at the birth of the folder, and kept in `tidecast.json` (readable) and
`secrets.json` (mode 0600). Processes that run in the folder only read them; the command that holds the
folder's lock writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from runtime import account
from runtime.atomic_file import write_atomically
from runtime.ports import LOOPBACK, free_ports, is_free

WORKERS = ("feature_calculator", "ml_trainer", "ml_inference", "forecaster", "chart_monitor")
#: Everything that listens on a loopback port of its own.
LISTENERS = ("postgres", "redis", "exchange", *WORKERS)
#: Name of the database and of the role that owns it.
DATABASE = "tidecast"

_FORMAT = 1
# A socket path has about 107 bytes, and the servers add names of their own to the folder's.
_LONGEST_RUN_FOLDER = 80
#: Who began this process: servers that root starts go on as somebody else, in folders made before.
_USER = os.getuid()


class DirectoryError(Exception):
    """The folder cannot be used as asked."""


class OtherIdentityError(DirectoryError):
    """The folder belongs to another market, exchange, seed or number of partitions."""


class DirectoryBusyError(DirectoryError):
    """Another command works in the folder."""

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        who = f"process {holder.pid} (tidecast {holder.purpose})" if holder else "another process"
        super().__init__(
            f"{directory} is in use by {who}: "
            f"end it with `tidecast down --dir {directory}`, or use another --dir"
        )
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose rows a folder holds; rows of two identities never mix.

    Attributes
    ----------
    exchange
        Name of the exchange, such as `simulated` or `binanceus`.
    market
        What is played: `generated`, `live`, or the name and digest of a recording.
    seed
        Seed of a generated market.
    partitions
        Number of partitions onto which symbols hash.
    """

    exchange: str
    market: str
    seed: int
    partitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lock of a folder, and for what."""

    pid: int
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A pipeline's folder; `Directory.open` or `Directory.create` make one.

    Attributes
    ----------
    path
        The folder, absolute.
    identity
        None until the first command that knows it claims the folder.
    ports
        Loopback port by listener; further shards of a worker are named `forecaster-1`, `forecaster-2`.
    server_home
        Where the servers keep their data: `path`, or a folder below /var/lib that `nobody` can reach.
    postgres_password, redis_password
        Generated at birth.
    """

    path: Path
    identity: Identity | None
    ports: Mapping[str, int]
    server_home: Path
    postgres_password: str = field(repr=False)
    redis_password: str = field(repr=False)

    # --- birth and opening ------------------------------------------------------------------------

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Say whether `path` is a pipeline's folder."""
        return (path / "tidecast.json").exists()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a folder that was born before.

        Raises
        ------
        DirectoryError
            If it was not, or cannot be read.
        """
        path = path.absolute()
        try:
            state = json.loads((path / "tidecast.json").read_text())
            keys = json.loads((path / "secrets.json").read_text())
            if state["format"] != _FORMAT:
                raise DirectoryError(
                    f"{path} has format {state['format']}, this program knows {_FORMAT}: use its own version"
                )
            identity = state["identity"]
            return cls(
                path=path,
                identity=Identity(**identity) if identity else None,
                ports={name: int(port) for name, port in state["ports"].items()},
                server_home=Path(state["server_home"]),
                postgres_password=keys["postgres_password"],
                redis_password=keys["redis_password"],
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DirectoryError(_no_pipeline(path, Path(error.filename).name)) from error
        except PermissionError as error:
            raise DirectoryError(f"{error.filename} is closed to this user: run as its owner") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DirectoryError(
                f"{path}/tidecast.json or secrets.json is damaged ({error!r}): "
                "restore them from a backup, or use a new --dir"
            ) from error

    @classmethod
    def create(cls, path: Path, identity: Identity | None = None) -> Self:
        """Open the folder, giving birth to it where there is none, and claim it.

        Raises
        ------
        OtherIdentityError
            If it belongs to another identity.
        """
        path = path.absolute()
        if not cls.exists(path):
            cls._give_birth(path, identity)
        directory = cls.open(path)
        return directory.claim(identity) if identity else directory

    @classmethod
    def _give_birth(cls, path: Path, identity: Identity | None) -> None:
        make_folder(path)
        try:
            born = cls(
                path=path,
                identity=identity,
                ports=dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True)),
                server_home=_home_for_servers(path),
                postgres_password=secrets.token_urlsafe(24),
                redis_password=secrets.token_urlsafe(24),
            )
            # The secrets come first: a folder with tidecast.json is complete.
            keys = {"postgres_password": born.postgres_password, "redis_password": born.redis_password}
            write_atomically(path / "secrets.json", json.dumps(keys))
            born._save()
        except PermissionError as error:
            raise DirectoryError(f"cannot write in {path}: choose another --dir") from error

    def claim(self, identity: Identity) -> Self:
        """Make the folder belong to an identity; give the folder back as it now is.

        Raises
        ------
        OtherIdentityError
            If it belongs to another.
        """
        if self.identity is None:
            return self._changed(identity=identity)
        if self.identity != identity:
            mine, theirs = asdict(self.identity), asdict(identity)
            different = ", ".join(
                f"{key} {mine[key]!r}, not {theirs[key]!r}" for key in mine if mine[key] != theirs[key]
            )
            raise OtherIdentityError(
                f"{self.path} was born with {different}: rows of two markets never mix. "
                "Use another --dir, or the settings that it was born with"
            )
        return self

    def with_free_ports(self, shards: int = 1, worker_base: int | None = None) -> Self:
        """Replace ports that something else has taken, and add those of further shards.

        Call it under the lock and before anything of this folder runs. With `worker_base` the workers' ports
        are the ones from there on, taken or not.
        """
        shard_names = [f"{name}-{shard}" for shard in range(1, shards) for name in WORKERS]
        wanted = {}
        if worker_base is not None:
            wanted = {name: worker_base + place for place, name in enumerate((*WORKERS, *shard_names))}
        others = {name: port for name, port in self.ports.items() if port not in wanted.values()}
        kept = {name: port for name, port in others.items() if is_free(port)} | wanted
        missing = [name for name in (*LISTENERS, *shard_names) if name not in kept]
        fresh = dict(zip(missing, free_ports(len(missing), set(kept.values())), strict=True))
        ports = {**kept, **fresh}
        return self if ports == self.ports else self._changed(ports=ports)

    def _changed(self, **changes: Any) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)} | changes
        changed = type(self)(**values)
        changed._save()
        return changed

    def _save(self) -> None:
        state = {
            "format": _FORMAT,
            "identity": asdict(self.identity) if self.identity else None,
            "ports": dict(self.ports),
            "server_home": str(self.server_home),
        }
        write_atomically(self.path / "tidecast.json", json.dumps(state, indent=2) + "\n", mode=0o644)

    # --- where things are -------------------------------------------------------------------------

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.server_home / "postgres"

    @property
    def redis_data(self) -> Path:
        """The folder of the Redis-compatible server."""
        return self.server_home / "redis"

    @property
    def models(self) -> Path:
        """Model files."""
        return self.path / "models"

    @property
    def log(self) -> Path:
        """Log files of every process."""
        return self.path / "log"

    @property
    def run(self) -> Path:
        """Sockets and process ids; short enough for a socket's path."""
        inside = self.server_home / "run"
        if len(os.fsencode(inside)) <= _LONGEST_RUN_FOLDER:
            return inside
        base = os.environ.get("XDG_RUNTIME_DIR", "")
        if not base or len(base) > _LONGEST_RUN_FOLDER - 30 or not Path(base).is_dir():
            base = "/tmp"  # noqa: S108  # the folder in it is checked for its owner before use
        return Path(base) / f"tidecast-{_USER}-{_short_hash(self.path)}"

    @property
    def sockets(self) -> Path:
        """The servers' own part of `run`."""
        return self.run / "servers"

    def make_folders(self) -> None:
        """Make the folders that processes expect.

        Raises
        ------
        DirectoryError
            If somebody else owns the short folder for sockets.
        """
        for folder in (self.log, self.models):
            folder.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        status = self.run.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise DirectoryError(f"{self.run} belongs to another user: remove it, or use a shorter --dir")

    def port(self, name: str, shard: int = 0) -> int:
        """Look up a loopback port.

        Raises
        ------
        DirectoryError
            If nothing of that name listens in this folder.
        """
        key = f"{name}-{shard}" if shard else name
        if key not in self.ports:
            raise DirectoryError(f"{key!r} has no port in {self.path}; there are {', '.join(self.ports)}")
        return self.ports[key]

    @property
    def postgres_url(self) -> str:
        """URL of the embedded PostgreSQL's database, password included."""
        return (
            f"postgresql://{DATABASE}:{quote(self.postgres_password)}"
            f"@{LOOPBACK}:{self.port('postgres')}/{DATABASE}"
        )

    @property
    def redis_url(self) -> str:
        """URL of the embedded Redis-compatible server, password included."""
        return f"redis://:{quote(self.redis_password)}@{LOOPBACK}:{self.port('redis')}/0"

    # --- one at a time ----------------------------------------------------------------------------

    @contextmanager
    def lock(self, purpose: str, wait_s: float = 0.5) -> Iterator[None]:
        """Keep everybody else from working in the folder; freed by the kernel if this process dies.

        Raises
        ------
        DirectoryBusyError
            If another command holds the folder for longer than `wait_s`.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not take_lock(descriptor, wait_s):
                raise DirectoryBusyError(self.path, self.holder())
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode(), 0)
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holder(self) -> Holder | None:
        """Find out who holds the lock; None while nobody does."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(descriptor, 1000, 0)
            # Between taking the lock and writing it is empty.
            return Holder(**json.loads(written)) if written else Holder(pid=0, purpose="starting")
        finally:
            os.close(descriptor)
        return None


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises
    ------
    DirectoryError
        If it cannot be made, naming it and the reason.
    """
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise DirectoryError(f"cannot write in {path}: choose another --dir") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise DirectoryError(f"{_file_in(path)} is a file: --dir names a folder") from error
    except OSError as error:
        above = next(parent for parent in path.parents if parent.exists())
        raise DirectoryError(
            f"the folder {path} cannot be made: {above} takes no new folder ({error.strerror}); "
            "choose another --dir"
        ) from error


def _no_pipeline(path: Path, missing: str) -> str:
    if (file := _file_in(path)) is not None:
        return f"{file} is a file: --dir names a pipeline's folder"
    why = f"{missing} is missing" if path.exists() else "it does not exist"
    return f"{path} holds no pipeline ({why}): correct --dir, or make one with `tidecast up --dir {path}`"


def _file_in(path: Path) -> Path | None:
    """Find the part of a folder's path that is a file."""
    return next((part for part in (path, *path.parents) if part.exists() and not part.is_dir()), None)


def take_lock(descriptor: int, wait_s: float) -> bool:
    """Lock an open file for this process and its heirs, waiting a while; say whether it worked."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _home_for_servers(path: Path) -> Path:
    if account.is_open_to_servers(path):
        return path
    home = account.FALLBACK_HOME / _short_hash(path)
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    return home


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
