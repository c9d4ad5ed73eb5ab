"""Secrets reach the settings, and nothing that anybody reads."""

from __future__ import annotations

import stat
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from config import secret_file
from config.ml_config import ConfigurationError, load
from config.redaction import Redactor, redact
from config.secret_file import seal, unseal
from config.secrets import main
from config.sources import without_settings
from config.toml_writer import as_toml

#: Long enough not to occur by chance in a message; no quotes and backslashes around, which repr would change.
SECRETS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=10, max_size=40
).map(lambda text: f"Zq{text}")
FULL_COST = secret_file._SCRYPT_COST
PLACES = (
    "TIDECAST_POSTGRES_URL",
    "TIDECAST_REDIS_URL",
    "TIDECAST_MONITORING__WEBHOOK_URL",
    "TIDECAST_MARKET__API_KEY",
    "TIDECAST_MARKET__API_SECRET",
)


@pytest.fixture(autouse=True, scope="module")
def quick_stretching() -> Iterator[None]:
    """Stretch keys for a moment only; what is told of broken files does not depend on how long it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret_file, "_SCRYPT_COST", 2**10)
        yield


def everything_said(error: BaseException) -> str:
    return "".join([str(error), repr(error), *traceback.format_exception(error, chain=True)])


@pytest.mark.slow
@how(max_examples=60)
@given(
    secret=SECRETS, place=st.sampled_from((*PLACES, "TIDECAST_POSTGRES_ULR", "TIDECAST_SERVERS__POSTGRES"))
)
def test_a_bad_secret_in_the_environment_is_reported_without_its_value(secret: str, place: str) -> None:
    environ = {place: f"nonsense:{secret}@host", "TIDECAST_MARKET__SEED": "not a number"}
    with pytest.raises(ConfigurationError) as caught:
        load(None, environ)
    assert secret not in everything_said(caught.value)


@how(max_examples=60)
@given(
    secret=SECRETS,
    key=st.sampled_from(
        (
            "servers.postgres_url",
            "servers.postgresUrll",
            "servers",
            "server.password",
            "market.apikee",
            "webhook",
        )
    ),
)
def test_a_secret_under_a_mistyped_key_is_not_shown(secret: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {key: f"https:/{secret}"})
    assert secret not in everything_said(caught.value)


@pytest.mark.slow
@how(max_examples=60)
@given(password=SECRETS)
def test_good_secrets_are_held_and_never_shown(password: str) -> None:
    url = f"postgresql://me:{quote(password, safe='')}@db/tidecast"
    loaded = load(
        None, {"TIDECAST_POSTGRES_URL": url, "TIDECAST_REDIS_URL": f"rediss://:{quote(password)}@h"}
    )
    assert loaded.servers.postgres_url is not None
    assert loaded.servers.postgres_url.get_secret_value() == url
    for said in (
        repr(loaded),
        str(loaded),
        str(loaded.model_dump()),
        loaded.model_dump_json(),
        as_toml(loaded),
    ):
        assert password not in said
        assert quote(password, safe="") not in said


@given(password=SECRETS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_redactor_knows_a_url_its_password_and_their_spellings(
    password: str, before: str, after: str
) -> None:
    url = f"postgresql://me:{quote(password, safe='')}@db/tidecast"
    mask = Redactor([url])
    for said in (url, password, quote(password, safe=""), repr({"k": password})):
        assert password not in mask(f"{before} {said} {after}")
        assert quote(password, safe="") not in mask(f"{before} {said} {after}")


@given(
    st.text(st.characters(codec="utf-8", exclude_characters=" \"'<>"), min_size=1).filter(
        lambda t: t.split() == [t]
    )
)
def test_any_password_in_a_url_is_masked_without_knowing_it(password: str) -> None:
    assert redact(f"cannot reach redis://me:{password}@host:6379/0 now") == (
        "cannot reach redis://me:***@host:6379/0 now"
    )


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ('{"apiKey": "abc", "side": 1}', '{"apiKey": "***", "side": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        (
            "GET https://api.binance.us/api/v3/klines?symbol=BTCUSDT",
            "GET https://api.binance.us/api/v3/klines?symbol=BTCUSDT",
        ),
        ("http://127.0.0.1:9000/health is up at 12:30", "http://127.0.0.1:9000/health is up at 12:30"),
        ("", ""),
    ],
)
def test_redaction_takes_secrets_and_leaves_the_rest(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        '[servers]\npostgres_url = "postgresql://u:hunter2@db/x"\n',
        '[monitoring]\nwebhook_url = "https://hooks/hunter2"\n',
        '[market]\napi_key = "hunter2"\n',
    ],
)
def test_a_plain_file_may_not_hold_secrets(tmp_path: Path, text: str) -> None:
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="does not belong into a plain file") as caught:
        load(tmp_path / "my.toml")
    assert "hunter2" not in everything_said(caught.value)


def test_a_url_without_a_password_may_stand_in_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[servers]\nredis_url = "redis://127.0.0.1:6379"\n')
    assert load(tmp_path / "my.toml").servers.redis_url is not None


@pytest.fixture
def sealed(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    def make(text: str, passphrase: str = "correct horse") -> dict[str, str]:
        path = tmp_path / "secrets.sealed"
        path.write_bytes(seal(text.encode(), passphrase.encode()))
        return {"TIDECAST_SECRETS_FILE": str(path), "TIDECAST_SECRETS_PASSPHRASE": passphrase}

    return make


def test_the_encrypted_file_gives_secrets_and_the_environment_overrules_it(
    sealed: Callable[[str], dict[str, str]],
) -> None:
    environ = sealed('[servers]\npostgres_url = "postgres://a:b@c/d"\nredis_url = "redis://x"\n')
    servers = load(None, environ | {"TIDECAST_REDIS_URL": "redis://y"}).servers
    assert servers.postgres_url is not None
    assert servers.redis_url is not None
    assert servers.postgres_url.get_secret_value() == "postgres://a:b@c/d"
    assert servers.redis_url.get_secret_value() == "redis://y"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"TIDECAST_SECRETS_PASSPHRASE": "wrong"}, "another key"),
        ({"TIDECAST_SECRETS_PASSPHRASE": ""}, "needs TIDECAST_SECRETS_KEY_FILE"),
        ({"TIDECAST_SECRETS_KEY_FILE": "/nowhere"}, "cannot be read"),
        ({"TIDECAST_SECRETS_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_an_encrypted_file_that_cannot_be_opened_is_a_configuration_error(
    sealed: Callable[[str], dict[str, str]], change: dict[str, str], says: str
) -> None:
    environ = sealed('[market]\napi_key = "k"\napi_secret = "s"\n') | change
    with pytest.raises(ConfigurationError, match=says):
        load(None, environ)


@pytest.mark.parametrize(
    "text", ['api_key = "hunter2', "[market]\nseed = 3\n", '[market]\napi_kee = "hunter2"\n']
)
def test_wrong_content_of_the_encrypted_file_is_reported_without_quoting_it(
    sealed: Callable[[str], dict[str, str]], text: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, sealed(text))
    assert "hunter2" not in everything_said(caught.value)


def test_a_key_is_stretched_for_long_enough_to_be_costly_to_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "_SCRYPT_COST", FULL_COST)
    assert FULL_COST >= 2**16
    assert unseal(seal(b"content", b"key"), b"key") == b"content"


@pytest.mark.slow
@given(content=st.binary(max_size=200))
def test_sealing_keeps_every_byte(content: bytes) -> None:
    assert unseal(seal(content, b"key"), b"key") == content


@pytest.mark.parametrize(("part", "says"), [("name", "is no"), ("salt", "cannot be"), ("token", "cannot be")])
def test_no_byte_of_the_encrypted_file_may_change(part: str, says: str) -> None:
    damaged = bytearray(seal(b"content", b"key"))
    place = {"name": 3, "salt": damaged.index(b"\n") - 10, "token": -10}[part]
    # still a letter of the alphabet that salt and token are written in
    damaged[place] = ord("B") if damaged[place] == ord("A") else ord("A")
    with pytest.raises(ValueError, match=says):
        unseal(bytes(damaged), b"key")


@given(content=st.binary(max_size=300))
@how(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_place_of_the_encrypted_file_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets.sealed"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load(None, {"TIDECAST_SECRETS_FILE": str(path), "TIDECAST_SECRETS_PASSPHRASE": "x"})


def test_the_command_encrypts_and_decrypts_with_a_key_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, target, key = tmp_path / "plain.toml", tmp_path / "sealed", tmp_path / "key"
    plain.write_text('[market]\napi_key = "k1"\napi_secret = "s1"\n')
    key.write_bytes(b"0123456789abcdef")
    environ = {"TIDECAST_SECRETS_KEY_FILE": str(key)}
    assert main(["encrypt", str(plain), str(target)], environ) == 0
    assert b"k1" not in target.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert main(["decrypt", str(target)], environ) == 0
    assert capsys.readouterr().out == plain.read_text()
    market = load(None, environ | {"TIDECAST_SECRETS_FILE": str(target)}).market
    assert market.api_key is not None
    assert market.api_key.get_secret_value() == "k1"


def test_the_command_refuses_to_encrypt_what_would_not_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text('[market]\napi_kee = "hunter2"\n')
    assert main(["encrypt", str(plain), str(tmp_path / "sealed")], {"TIDECAST_SECRETS_PASSPHRASE": "x"}) == 78
    said = capsys.readouterr().err
    assert "did you mean market.api_key?" in said
    assert "hunter2" not in said
    assert not (tmp_path / "sealed").exists()


def test_a_worker_inherits_secrets_and_no_other_setting_from_the_environment() -> None:
    kept = dict.fromkeys((*PLACES, "TIDECAST_SECRETS_FILE", "TIDECAST_DIR", "PATH"), "x")
    assert without_settings(kept | {"TIDECAST_MARKET__SEED": "3", "TIDECAST_SYMBOLS": "A"}) == kept
