"""Secrets out of text: URLs with passwords by their shape, known secrets by their value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
#: Shorter values are left to the patterns: masking every "ab" would make a log unreadable.
SHORTEST_SECRET = 4

# Greedy up to the last @ of the word, because a careless password may contain one.
_URL_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@?#]*:)[^\s\"'<>]+(?=@)")
_NAMED = re.compile(
    r"(?P<head>(?:password|passwd|passphrase|api[_-]?key|api[_-]?secret|access[_-]?token|authorization)"
    r"[\"']?\s*[=:]\s*(?:Bearer\s+|Basic\s+)?[\"']?)[^\s\"'&,;)}\]]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Mask passwords in URLs, and what follows names such as ``password=`` or ``api_key:``.

    Never raises; text without such shapes comes back unchanged.
    """
    return _NAMED.sub(rf"\g<head>{MASK}", _URL_PASSWORD.sub(rf"\g<head>{MASK}", text))


class Redactor:
    """Masks a given set of secrets, in whichever way they are spelled, and everything `redact` knows.

    Parameters
    ----------
    secrets
        Plain secrets; of a URL its password counts as a secret of its own.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        known = sorted((s for s in spellings if len(s) >= SHORTEST_SECRET), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Mask every secret in a text."""
        return redact(self._known.sub(MASK, text) if self._known else text)


def _spellings(secret: str) -> set[str]:
    plain = {secret, unquote(secret)}
    # Not urlsplit: it drops characters and stops at an @ or / that somebody forgot to escape.
    if found := re.match(r"[^:]+://[^:@/]*:(.+)@", secret, re.DOTALL):
        plain |= {found[1], unquote(found[1])}
    return {
        form
        for text in plain
        for form in (text, quote(text, safe=""), quote_plus(text), repr(text)[1:-1], json.dumps(text)[1:-1])
    }
