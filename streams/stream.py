"""Publish to and read from one Redis stream whose entry ids are the outbox's sequence numbers.

Redis refuses an id that is not above the last one, so publishing twice changes nothing. The truth is the
outbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

_PAYLOAD = b"p"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as read from the wire."""

    sequence: int
    payload: bytes


async def publish(client: Any, key: str, sequence: int, payload: bytes, *, cap: int) -> bool:
    """Append a message; returns False if the stream is at or past this sequence already.

    `cap` bounds the length: readers that fall behind it go on from the outbox.
    """
    try:
        await client.xadd(key, {_PAYLOAD: payload}, id=f"0-{sequence}", maxlen=cap, approximate=True)
    except ResponseError as error:
        if "equal or smaller" in str(error):
            return False
        raise
    return True


async def read(client: Any, key: str, *, first: int, count: int, block_ms: int) -> list[Entry]:
    """Read entries from sequence `first` on; waits up to `block_ms` (0: not at all) for one."""
    answer = await client.xread({key: f"0-{first - 1}"}, count=count, block=block_ms or None)
    if not answer:
        return []
    return _entries(answer[0][1])


def _entries(raw: Any) -> list[Entry]:
    return [
        Entry(int(entry_id.decode().split("-")[1]), fields[_PAYLOAD])
        for entry_id, fields in raw
        if _PAYLOAD in fields
    ]


async def last_sequence(client: Any, key: str) -> int:
    """Tell the newest sequence in the stream, 0 if it is empty or gone."""
    newest = await client.xrevrange(key, count=1)
    return int(newest[0][0].decode().split("-")[1]) if newest else 0


async def trim(client: Any, key: str, *, before: int) -> None:
    """Drop entries before a sequence number, roughly."""
    await client.xtrim(key, minid=f"0-{before}", approximate=True)
