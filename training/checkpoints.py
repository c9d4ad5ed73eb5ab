"""The state of an unfinished training, in a file that a killed trainer goes on from."""

from __future__ import annotations

import os
from pathlib import Path


class FileCheckpoints:
    """Keeps the state of an unfinished training in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """Read what was saved last."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, state: bytes) -> None:
        """Replace the file as a whole."""
        part = self._path.with_name(f"{self._path.name}.part")
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(state)
        part.replace(self._path)

    def clear(self) -> None:
        """Forget the training."""
        self._path.unlink(missing_ok=True)
