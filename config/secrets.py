"""Encrypt or decrypt the file of secrets: ``python -m config.secrets encrypt PLAIN SEALED``.

The key comes from the environment (TIDECAST_SECRETS_KEY_FILE or TIDECAST_SECRETS_PASSPHRASE), or is asked for
when a person sits at a terminal. The sealed file is used when TIDECAST_SECRETS_FILE names it.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.errors import EX_CONFIG, ConfigurationError, Mistake
from config.keys import known_keys
from config.ml_config import Settings
from config.secret_file import KEY_FILE_NAME, PASSPHRASE_NAME, checked_secrets, key_from, seal, unseal


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the command and return its exit code."""
    wanted = _parser().parse_args(arguments)
    try:
        key = _key(environ, repeat=wanted.action == "encrypt")
        if wanted.action == "encrypt":
            _encrypt(wanted.source, wanted.target, key)
        else:
            _decrypt(wanted.source, wanted.target, key)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return EX_CONFIG
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{wanted.source}: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m config.secrets", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("encrypt", "decrypt"))
    parser.add_argument("source", type=Path, help="the file to read")
    parser.add_argument(
        "target", type=Path, nargs="?", help="the file to write, mode 0600; decrypt prints without it"
    )
    return parser


def _encrypt(source: Path, target: Path | None, key: bytes) -> None:
    if target is None:
        raise ConfigurationError(
            [Mistake(key="target", problem="encrypt needs the name of the file to write")]
        )
    plain = source.read_bytes()
    # A mistake is cheaper now than at the next start.
    if mistakes := checked_secrets(plain, known_keys(Settings), str(source)).mistakes:
        raise ConfigurationError(mistakes)
    _write_private(target, seal(plain, key))


def _decrypt(source: Path, target: Path | None, key: bytes) -> None:
    plain = unseal(source.read_bytes(), key)
    if target is None:
        sys.stdout.write(plain.decode("utf-8"))
    else:
        _write_private(target, plain)


def _write_private(path: Path, content: bytes) -> None:
    # mkstemp makes the file 0600, so that nobody else reads it even for a moment.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _key(environ: Mapping[str, str], *, repeat: bool) -> bytes:
    if environ.get(KEY_FILE_NAME) or environ.get(PASSPHRASE_NAME) or not sys.stdin.isatty():
        return key_from(environ)
    passphrase = getpass.getpass("Passphrase: ")
    if repeat and passphrase != getpass.getpass("Again: "):
        raise ConfigurationError([Mistake(key="passphrase", problem="the two differ")])
    return passphrase.encode()


if __name__ == "__main__":
    sys.exit(main())
