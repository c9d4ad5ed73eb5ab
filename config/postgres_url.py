"""Whether a PostgreSQL URL can be read, before anybody connects with it."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

_SCHEMES = ("postgresql://", "postgres://")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_UNREADABLE = (
    "cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and percent-encode what is special"
    " in user and password"
)
_PORT = "the port must be a number from 1 to 65535 (and what is special in user and password percent-encoded)"


def unreadable_in(url: str) -> str | None:
    """Say what is wrong with a PostgreSQL URL; None where nothing is.

    What it says never holds a part of the URL, since any part may be a password in the wrong place.
    """
    if not url.startswith(_SCHEMES):
        return "must begin with postgresql://"
    if _BROKEN_ESCAPE.search(url) or "#" in url or any(letter <= " " for letter in url):
        return _UNREADABLE
    try:
        parts = urlsplit(url)
        unquote(url, errors="strict")
    except ValueError:
        return _UNREADABLE
    if parts.netloc.count("@") > 1:
        return _UNREADABLE
    asked = dict(parse_qsl(parts.query))
    try:
        port = parts.port
    except ValueError:
        return _PORT
    if port == 0 or ("port" in asked and not _is_port(asked["port"])):
        return _PORT
    if not (parts.hostname or asked.get("host")):
        return "names no host: write postgresql://USER:PASSWORD@HOST/DATABASE, or ?host=SOCKET-FOLDER"
    if not (parts.path.strip("/") or asked.get("dbname")):
        return "names no database: write postgresql://USER:PASSWORD@HOST/DATABASE"
    return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65_535
