"""A folder for the length of one command, and those of commands that were killed taken away."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_NAME = re.compile(r"tidecast-[a-z]+-(?P<pid>\d+)-\w+")


@contextmanager
def scratch_folder(command: str, *, base: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that is gone afterwards.

    Who is killed cannot clean up: the folders of commands that do not run any more are removed by the next.

    Parameters
    ----------
    command
        Whose, in small letters.
    base
        Where; None: the system's folder for temporary files.
    """
    home = Path(base or tempfile.gettempdir())
    for left in home.glob("tidecast-*"):
        if _is_left_over(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"tidecast-{command}-{os.getpid()}-", dir=home) as folder:
        yield Path(folder)


def _is_left_over(folder: Path) -> bool:
    found = _NAME.fullmatch(folder.name)
    return found is not None and not psutil.pid_exists(int(found["pid"]))
