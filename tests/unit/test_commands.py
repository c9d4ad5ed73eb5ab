"""Every command answers, and none waits for what only others need."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.commands import Commands
from cli.main import app

NAMES = Commands(name="tidecast").list_commands(None)  # type: ignore[arg-type]  # asks nothing of it
HEAVY = ("scipy", "numba", "xgboost", "sklearn", "torch", "optuna", "onnx", "pandas", "ccxt")


def heavy_after(*names: str) -> list[str]:
    """Name the heavy libraries that commands have imported once they have answered."""
    code = (
        "import json, sys\nfrom cli.main import app\n"
        f"for name in {names!r}:\n    app([name, '--help'], standalone_mode=False)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    found: Any = json.loads(done.stdout.splitlines()[-1])
    return list(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help_that_says_what_it_does(name: str) -> None:
    told = CliRunner().invoke(app, [name, "-h"])
    assert told.exit_code == 0
    assert "Usage:" in told.output
    assert name in told.output


def test_the_help_names_all_of_them_in_order() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    places = [told.index(f"\n│ {name} ") for name in NAMES]
    assert places == sorted(places)


def test_a_wrong_word_is_answered_with_what_it_may_have_meant() -> None:
    told = CliRunner().invoke(app, ["stats"])
    assert told.exit_code == 2
    assert "Did you mean 'status'?" in told.output


@pytest.mark.slow
def test_small_commands_do_not_wait_for_the_libraries_of_the_large_ones() -> None:
    assert heavy_after("status", "sql", "up", "dsn") == []
