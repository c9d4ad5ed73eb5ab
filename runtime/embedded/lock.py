"""A lock that lives exactly as long as a server and all its children."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runtime.directory import take_lock


def hold_until_death(path: Path, wait_s: float = 30.0) -> None:
    """Lock `path` for this process, what it execs and what that forks; exit if another holds it on.

    A server that was killed may leave children for a moment; waiting for them is all that is needed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(descriptor, True)
    if not take_lock(descriptor, wait_s):
        sys.exit(f"another server still holds {path}: end it with `tidecast down`")
