"""How a bad value is shown: short, on one line, without passwords."""

from __future__ import annotations

from typing import Any

from config.redaction import redact

_LONGEST = 80


def shown(value: Any) -> str:
    """Show a value in a message."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python cares to print
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else "a very long number"
    except RecursionError:
        text = "a deeply nested value"
    text = redact(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
