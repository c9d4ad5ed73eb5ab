"""The encrypted file of secrets: TOML of the usual keys, sealed with Fernet.

The key is either a passphrase, stretched by scrypt with a salt of its own, or the content of a key file.
Which file and which key is said by the environment, never by a settings file.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from config.errors import ConfigurationError, Mistake
from config.keys import KnownKeys
from config.sources import Layer, from_toml

FILE_NAME = "TIDECAST_SECRETS_FILE"
KEY_FILE_NAME = "TIDECAST_SECRETS_KEY_FILE"
PASSPHRASE_NAME = "TIDECAST_SECRETS_PASSPHRASE"  # noqa: S105  (a name, not a password)
_MAGIC = b"tidecast-secrets-1 "
_HEADER = re.compile(rb"\Atidecast-secrets-1 ([A-Za-z0-9_-]{22}==)\n")
# 64 MiB and about a fifth of a second, once a start.
_SCRYPT_COST = 2**16


def seal(plain: bytes, passphrase: bytes) -> bytes:
    """Encrypt; two calls never give the same bytes."""
    salt = os.urandom(16)
    token = Fernet(_stretched(passphrase, salt)).encrypt(plain)
    return _MAGIC + base64.urlsafe_b64encode(salt) + b"\n" + token + b"\n"


def unseal(sealed: bytes, passphrase: bytes) -> bytes:
    """Decrypt what `seal` wrote.

    Raises
    ------
    ValueError
        If it is no such file, was changed, or was sealed with another key.
    """
    header = _HEADER.match(sealed)
    if header is None:
        raise ValueError("is no encrypted file of secrets")
    salt = base64.urlsafe_b64decode(header[1])
    try:
        return Fernet(_stretched(passphrase, salt)).decrypt(sealed[header.end() :].strip())
    except InvalidToken:
        raise ValueError("cannot be decrypted: another key, or a damaged file") from None


def key_from(environ: Mapping[str, str]) -> bytes:
    """Find the passphrase, or the content of the key file.

    Raises
    ------
    ConfigurationError
        If neither is given or the key file cannot be read.
    """
    if path := environ.get(KEY_FILE_NAME):
        try:
            key = Path(path).read_bytes().strip()
        except OSError as error:
            raise _wrong(KEY_FILE_NAME, f"cannot be read ({error.strerror})") from None
        if len(key) < 16:
            raise _wrong(KEY_FILE_NAME, "a key file holds at least 16 bytes")
        return key
    if passphrase := environ.get(PASSPHRASE_NAME):
        return passphrase.encode("utf-8", "surrogateescape")
    raise _wrong(FILE_NAME, f"needs {KEY_FILE_NAME} or {PASSPHRASE_NAME} in the environment")


def open_secrets(environ: Mapping[str, str], keys: KnownKeys) -> Layer:
    """Read the encrypted file that the environment names, if it names one; it may hold secrets only."""
    path = environ.get(FILE_NAME)
    if not path:
        return Layer()
    try:
        plain = unseal(Path(path).read_bytes(), key_from(environ))
    except ConfigurationError as error:
        return Layer(mistakes=error.mistakes)
    except OSError as error:
        return Layer(mistakes=(Mistake(key=path, problem=f"cannot be read ({error.strerror})"),))
    except ValueError as error:
        return Layer(mistakes=(Mistake(key=path, problem=str(error)),))
    return checked_secrets(plain, keys, path)


def checked_secrets(plain: bytes, keys: KnownKeys, name: str) -> Layer:
    """Read the decrypted content: TOML with nothing but secrets in it."""
    layer = from_toml(plain, keys, name, may_hold_secrets=True)
    mistakes = [_unquoted(mistake, name) for mistake in layer.mistakes]
    mistakes += [
        Mistake(
            key=given.key, problem="no secret: it belongs into the plain settings file", source=given.source
        )
        for given in layer.given
        if not keys.is_secret(given.key)
    ]
    return Layer(
        given=tuple(given for given in layer.given if keys.is_secret(given.key)), mistakes=tuple(mistakes)
    )


def _unquoted(mistake: Mistake, name: str) -> Mistake:
    # What a parser says of broken text, and the value of a mistyped key, could quote a secret.
    if mistake.key == name:
        return Mistake(key=name, problem="its content is no TOML")
    return replace(mistake, value=None)


def _stretched(passphrase: bytes, salt: bytes) -> bytes:
    return base64.urlsafe_b64encode(Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1).derive(passphrase))


def _wrong(key: str, problem: str) -> ConfigurationError:
    return ConfigurationError([Mistake(key=key, problem=problem)])
