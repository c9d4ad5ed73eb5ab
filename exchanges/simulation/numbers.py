"""Numbers on the wire: decimal text without an exponent that reads back as the very same float."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np


def decimal(value: float) -> str:
    """Write a number in the shortest plain decimal form that reads back exactly."""
    text = repr(value)
    if "e" in text:
        text = np.format_float_positional(value, trim="0")
    return text.removesuffix(".0")


def iso_time(time_ms: int) -> str:
    """Write a time as ISO text in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1_000:03d}Z"
