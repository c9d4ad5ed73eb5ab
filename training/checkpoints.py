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


class TuningCheckpoints:
    """Keeps two states in one file: the trials of a tuning, and the fit that is unfinished.

    The first line are the trials, what follows is the fit's own. A file that an untuned training left is read
    as well, as trials that mean nothing.
    """

    def __init__(self, file: FileCheckpoints) -> None:
        self._file = file
        self.trials, _, self._fit = (file.load() or b"").partition(b"\n")

    def save_trials(self, trials: bytes) -> None:
        """Keep the trials, which are one line; what the fit had is done with."""
        self.trials, self._fit = trials, b""
        self._write()

    def load(self) -> bytes | None:
        """Read what the unfinished fit saved last."""
        return self._fit or None

    def save(self, state: bytes) -> None:
        """Keep the state of the unfinished fit beside the trials."""
        self._fit = state
        self._write()

    def _write(self) -> None:
        self._file.save(self.trials + b"\n" + self._fit)
