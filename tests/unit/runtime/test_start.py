"""A module is run as `python -m` would, but loaded without collecting garbage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import gc, sys
print(__name__, sys.argv[1:], gc.isenabled())
from runtime.process import use_garbage_collector
use_garbage_collector()
print(gc.isenabled(), gc.get_freeze_count() > 0)
sys.exit(7)
"""


def start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime.start", *words],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_module_gets_its_command_line_and_gives_its_code_and_garbage_waits(tmp_path: Path) -> None:
    (tmp_path / "some_worker.py").write_text(MODULE)
    done = start(tmp_path, "some_worker", "--shard", "0/1")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == ["__main__ ['--shard', '0/1'] False", "True True"]


def test_without_a_module_it_says_how_it_is_used(tmp_path: Path) -> None:
    done = start(tmp_path)
    assert done.returncode == 1
    assert "workers.forecaster" in done.stderr
