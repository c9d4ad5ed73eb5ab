"""Read from the workers' own metrics how long a batch takes from its arrival to its committed rows."""

from __future__ import annotations

import re

import aiohttp

from runtime.directory import Directory

_BUCKET = re.compile(r'^tidecast_candle_to_row_seconds_bucket\{.*le="([^"]+)".*\}\s+(\S+)$')


async def read_latency(directory: Directory, worker: str = "forecaster") -> tuple[float | None, float | None]:
    """Estimate the median and the 99th percentile, in seconds; None where the worker does not answer."""
    url = f"http://127.0.0.1:{directory.port(worker)}/metrics"
    try:
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            page = await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None, None
    buckets = [(float(le), float(count)) for le, count in _found(page)]
    return quantile(buckets, 0.5), quantile(buckets, 0.99)


def _found(page: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for line in page.splitlines() if (match := _BUCKET.match(line))]


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """Estimate a quantile from cumulative buckets (upper bound, count), linear within a bucket."""
    if not buckets or buckets[-1][1] == 0:
        return None
    wanted = share * buckets[-1][1]
    below, counted = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return below
            inside = count - counted
            return below + (bound - below) * ((wanted - counted) / inside if inside else 1.0)
        below, counted = bound, count
    return below
