"""PostgreSQL by a URL with `sslmode`: TLS ended in front of the embedded server, and by one built with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest

from db.connect import connect, is_passing
from db.migrate import migrate, pending
from runtime.directory import Directory, Identity
from runtime.embedded import session


def over_tls(url: str, port: int, mode: str, ca: Path | None = None) -> str:
    """Send a URL to another port, with TLS."""
    parts = urlsplit(url)
    place = f"{parts.netloc.rpartition(':')[0]}:{port}"
    trusted = f"&sslrootcert={ca}" if ca else ""
    return parts._replace(netloc=place, query=f"sslmode={mode}{trusted}").geturl()


async def journey(url: str) -> None:
    """Migrate as the launcher does, connect as the workers and as the commands do."""
    assert await asyncio.to_thread(migrate, url)
    assert await asyncio.to_thread(pending, url) == []
    connection = await connect(url, give_up_s=0)
    try:
        assert await connection.fetchval('SELECT count(*) FROM "systemLogs"') == 0
        many = [(b"x" * 1000, n) for n in range(2000)]
        await connection.execute("CREATE TEMP TABLE big (load bytea, n int)")
        await connection.copy_records_to_table("big", records=many)
        assert await connection.fetchval("SELECT sum(length(load)) FROM big") == 2_000_000
    finally:
        await connection.close()
    assert await asyncio.to_thread(session.postgres_answers, url) is None


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_all_that_speaks_to_postgres_goes_through_tls(
    empty_database_url, authority, tls_in_front, mode
):
    port = await tls_in_front(urlsplit(empty_database_url).port, authority, postgres=True)
    ca = None if mode == "require" else authority.ca
    await journey(over_tls(empty_database_url, port, mode, ca))


@pytest.mark.parametrize("signed_by", ["stranger", "elsewhere"])
async def test_a_certificate_that_is_not_the_servers_is_refused_at_once(
    database_url, authority, tls_in_front, request, signed_by
):
    wrong = request.getfixturevalue(signed_by)
    port = await tls_in_front(urlsplit(database_url).port, wrong, postgres=True)
    trusted = authority.ca if signed_by == "stranger" else wrong.ca
    url = over_tls(database_url, port, "verify-full", trusted)
    waited: list[str] = []
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        # Without a limit: waiting does not mend a certificate.
        await connect(url, on_wait=lambda place, error, pause_s: waited.append(place))
    assert waited == []
    said = str(await asyncio.to_thread(session.postgres_answers, url))
    assert "certificate" in said
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        await asyncio.to_thread(pending, url)


async def test_a_server_without_tls_is_refused_at_once_where_tls_is_asked_for(database_url):
    port = urlsplit(database_url).port
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        await connect(over_tls(database_url, port, "require"))


async def test_an_authority_that_is_missing_is_named(database_url, tls_in_front, authority, tmp_path):
    port = await tls_in_front(urlsplit(database_url).port, authority, postgres=True)
    url = over_tls(database_url, port, "verify-full", tmp_path / "no-such.pem")
    with pytest.raises((OSError, asyncpg.InterfaceError)) as caught:
        await connect(url, give_up_s=0)
    assert not isinstance(caught.value, asyncpg.InvalidPasswordError)
    assert "no-such.pem" in str(await asyncio.to_thread(session.postgres_answers, url))


def test_a_server_that_goes_away_is_waited_for_and_a_wrong_one_is_not():
    assert is_passing(ConnectionResetError("peer"))
    assert is_passing(ssl.SSLEOFError("in the middle of the handshake"))
    assert not is_passing(ssl.SSLCertVerificationError("self-signed"))


def _bin_with_tls() -> Path | None:
    named = os.environ.get("TIDECAST_POSTGRES_BIN")
    folders = [Path(named)] if named else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        binary = folder / "postgres"
        if (folder / "initdb").exists() and binary.exists() and b"libssl" in binary.read_bytes():
            return folder
    return None


@pytest.fixture
def tls_postgres(tmp_path, authority, monkeypatch) -> Iterator[Directory]:
    """A PostgreSQL that was built with TLS; the embedded one is not."""
    folder = _bin_with_tls()
    if folder is None:
        pytest.skip(
            "no PostgreSQL with TLS here: install Debian's postgresql, or name one by TIDECAST_POSTGRES_BIN"
        )
    monkeypatch.setenv("TIDECAST_POSTGRES_BIN", str(folder))
    key = Path(shutil.copy(authority.key, tmp_path / "server.key"))
    key.chmod(0o600)
    directory = Directory.create(
        tmp_path / "pipeline", Identity(exchange="simulated", market="generated", seed=1, partitions=1)
    )
    options = ["ssl=on", f"ssl_cert_file={authority.certificate}", f"ssl_key_file={key}", "fsync=off"]
    with session.running("postgres", directory, options):
        yield directory


async def test_a_server_with_tls_of_its_own(tls_postgres, authority, stranger):
    url, port = tls_postgres.postgres_url, tls_postgres.port("postgres")
    await journey(over_tls(url, port, "verify-full", authority.ca))
    connection = await connect(over_tls(url, port, "require"), give_up_s=0)
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(over_tls(url, port, "verify-full", stranger.ca))
