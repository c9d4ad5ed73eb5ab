"""Where settings come from: files, the encrypted file, the environment, the command line.

Each source becomes a flat list of (dotted key, value, where it was written). Unknown keys are found here,
where it is still known who wrote them; what the values must be is the models' business.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import Mistake
from config.keys import SYNONYMS, KnownKeys, snake
from config.shown import shown

PREFIX = "TIDECAST_"
#: Names without a section, for what every deployment sets.
PLAIN_NAMES = {"TIDECAST_POSTGRES_URL": "servers.postgres_url", "TIDECAST_REDIS_URL": "servers.redis_url"}
#: Names that are no settings: other parts of the program read them.
OTHER_NAMES = frozenset(
    {
        "TIDECAST_CONFIG",
        "TIDECAST_DIR",
        "TIDECAST_POSTGRES_BIN",
        "TIDECAST_RECORDED",
        "TIDECAST_REDIS_SERVER",
        "TIDECAST_SECRETS_FILE",
        "TIDECAST_SECRETS_KEY_FILE",
        "TIDECAST_SECRETS_PASSPHRASE",
    }
)
#: Secrets with a section, spelled as the documentation spells them.
_SECRET_NAMES = frozenset(
    {"TIDECAST_MONITORING__WEBHOOK_URL", "TIDECAST_MARKET__API_KEY", "TIDECAST_MARKET__API_SECRET"}
)
_DEEPEST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value that somebody gave; with a type of its own where it was written in TOML."""

    key: str
    value: Any
    source: str
    is_typed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Everything one source gives, and what was wrong with it."""

    given: tuple[Given, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def from_file(path: Path, keys: KnownKeys, *, may_hold_secrets: bool = False) -> Layer:
    """Read a TOML file; a file that cannot be read is one mistake."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return _broken(str(path), f"cannot be read ({error.strerror or 'no such file'})")
    return from_toml(content, keys, str(path), may_hold_secrets=may_hold_secrets)


def from_toml(content: bytes, keys: KnownKeys, name: str, *, may_hold_secrets: bool = False) -> Layer:
    """Read the bytes of a TOML file."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        return _broken(name, "is not text in UTF-8")
    except tomllib.TOMLDecodeError as error:
        return _broken(name, f"is no TOML: {error}")
    except (ValueError, RecursionError):
        return _broken(name, "is no TOML: a number too long or tables nested too deeply")
    layer = _checked(
        [(key, value, key) for key, value in _leaves(table, keys)], keys, f"file {name}", typed=True
    )
    if may_hold_secrets:
        return layer
    public, mistakes = [], list(layer.mistakes)
    for given in layer.given:
        if keys.is_secret(given.key) and not _is_harmless_url(given.value):
            mistakes.append(
                Mistake(
                    key=given.key,
                    problem="a secret does not belong into a plain file; put it into the environment"
                    " or the encrypted file",
                    source=given.source,
                )
            )
        else:
            public.append(given)
    return Layer(given=tuple(public), mistakes=tuple(mistakes))


def from_environment(environ: Mapping[str, str], keys: KnownKeys) -> Layer:
    """Read ``TIDECAST_SECTION__FIELD`` and the plain names; an empty value counts as not set."""
    found: list[tuple[str, Any, str]] = []
    mistakes: list[Mistake] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not environ[name] or name in OTHER_NAMES:
            continue
        key = PLAIN_NAMES.get(name) or ".".join(snake(part) for part in name[len(PREFIX) :].split("__"))
        if "." in key or key in keys.fields:
            found.append((key, _parsed(key, environ[name], keys), name))
        elif near := _nearest_plain(name, keys):
            # A name without a section may be another program's; one that looks like ours is not.
            mistakes.append(Mistake(key=name, problem="unknown name", source="environment", suggestion=near))
    layer = _checked(found, keys, "environment variable")
    return Layer(given=layer.given, mistakes=(*mistakes, *layer.mistakes))


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Leave out variables that set something which is no secret.

    For the launcher: it writes the settings it has loaded into a file for its workers, and the environment
    must not overrule in them what its command line said. Plain names and the encrypted file's names stay.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(PREFIX) or name in PLAIN_NAMES or name in OTHER_NAMES or name in _SECRET_NAMES
    }


def from_overrides(overrides: Mapping[str, Any], keys: KnownKeys) -> Layer:
    """Read dotted keys of the command line; None counts as not given."""
    found = [
        (name, _parsed(_canonical(name), value, keys) if isinstance(value, str) else value, name)
        for name, value in overrides.items()
        if value is not None
    ]
    return _checked(found, keys, "command line")


def _checked(found: list[tuple[str, Any, str]], keys: KnownKeys, place: str, *, typed: bool = False) -> Layer:
    """Sort out unknown keys, sections that are no tables, and keys given twice."""
    given: dict[str, Given] = {}
    mistakes: list[Mistake] = []
    for spelled, value, name in found:
        key = _canonical(spelled)
        source = f"{place} {name}" if place.startswith("environment") else place
        if key in keys.sections:
            mistakes.append(Mistake(key=key, problem=f"must be a table: write [{key}]", source=source))
        elif key not in keys.fields:
            near = keys.nearest(key)
            value_text = shown(value) if isinstance(value, (bool, int, float)) else None
            mistakes.append(
                Mistake(
                    key=_printable(key),
                    problem="unknown key"
                    if near
                    else "unknown key; leave it out (config/default.toml has all)",
                    value=value_text,
                    source=source,
                    suggestion=near,
                )
            )
        elif key in given and given[key].value != value:
            mistakes.append(
                Mistake(key=key, problem="given twice, in two spellings; keep one", source=source)
            )
        else:
            given[key] = Given(key=key, value=value, source=source, is_typed=typed)
    return Layer(given=tuple(given.values()), mistakes=tuple(mistakes))


def _leaves(
    table: Mapping[str, Any], keys: KnownKeys, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        # A dot inside a quoted name is part of the name.
        key = f"{prefix}{name.replace('.', '_')}"
        canonical = _canonical(key)
        known = canonical in keys.fields
        if (
            isinstance(value, Mapping)
            and not known
            and depth < _DEEPEST
            and (value or canonical in keys.sections)
        ):
            yield from _leaves(value, keys, f"{key}.", depth + 1)
        else:
            yield key, value


def _canonical(key: str) -> str:
    spelled = ".".join(snake(part) for part in key.split("."))
    return SYNONYMS.get(spelled, spelled)


def _parsed(key: str, text: str, keys: KnownKeys) -> Any:
    # Text that is no JSON goes on as it is: the model then says what it should have been.
    text = text.strip()
    if keys.holds_table(key) or (keys.holds_list(key) and text.startswith("[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    if keys.holds_list(key):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _is_harmless_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("postgres", "redis", "unix")) and "@" not in value


def _nearest_plain(name: str, keys: KnownKeys) -> str | None:
    ours = [*PLAIN_NAMES, *OTHER_NAMES, *(f"{PREFIX}{key.upper()}" for key in keys.fields if "." not in key)]
    near = difflib.get_close_matches(name, ours, n=1, cutoff=0.85)
    return near[0] if near else None


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) <= 80 else f"{key[:60].encode('unicode_escape').decode()}..."


def _broken(name: str, problem: str) -> Layer:
    return Layer(mistakes=(Mistake(key=name, problem=problem),))
