"""Settings as a TOML file: what the launcher hands to its workers, and `config/default.toml` itself.

``python -m config.toml_writer > config/default.toml`` writes the explained file anew after a field was added.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from config.ml_config import Settings

_HEAD = """\
# Every setting, with its default. Copy what you want to change into a file of your own and start with
# --config FILE. Stronger than a file: environment variables (TIDECAST_FEATURES__RSI_PERIOD=9), and stronger
# than those: the command line. The documents' spelling (rsiPeriod) is understood too. A line that begins
# with "# name =" shows a setting that has no value by default.
"""


def as_toml(settings: Settings, *, explain: bool = False) -> str:
    """Write settings as TOML, without secrets.

    Parameters
    ----------
    explain
        Put each field's description above it, and show absent fields as comments.
    """
    lines = [_HEAD] if explain else []
    lines += _section(settings, "", explain)
    return "\n".join(lines).rstrip() + "\n"


def _section(model: BaseModel, path: str, explain: bool) -> Iterator[str]:
    kind = type(model)
    tables: list[tuple[str, BaseModel]] = []
    for name, info in kind.model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            tables.append((f"{path}.{name}" if path else name, value))
            continue
        if explain:
            yield from textwrap.wrap(info.description or "", 104, initial_indent="# ", subsequent_indent="# ")
        if value is not None and not isinstance(value, SecretStr):
            yield f"{name} = {_value(value)}"
        elif explain:
            yield f"# {name} ="
        if explain:
            yield ""
    for table, section in tables:
        if not explain:
            yield ""
        yield f"[{table}]"
        if explain and section.__doc__:
            yield f"# {section.__doc__.strip().splitlines()[0]}"
            yield ""
        yield from _section(section, table, explain)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        return json.dumps(str(value), ensure_ascii=True).replace("\x7f", "\\u007f")
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_value, value))}]"
    return "{" + ", ".join(f"{json.dumps(str(k))} = {_value(v)}" for k, v in value.items()) + "}"


if __name__ == "__main__":
    sys.stdout.write(as_toml(Settings(), explain=True))
