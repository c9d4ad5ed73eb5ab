"""Model files in a local folder: written whole or not at all, checked whenever they are read.

A file is written beside its name, flushed to the disk and renamed, with mode 0600. Its name and digest stand
in the registry; paths are relative to the folder, so that the folder may move.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from domain.models.model import ModelRefusedError

#: No separators and no leading dot: a name never leaves the folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TEMPORARY = re.compile(r"\.[A-Za-z0-9._-]+\.part-[0-9a-f]{16}")
#: Larger than any model that is served here.
MAX_BYTES = 1 << 30


class ArtifactRefusedError(ModelRefusedError):
    """A model file is missing, changed or cut short; the version before it goes on serving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """A file in the store.

    Attributes
    ----------
    path
        Relative to the store's folder.
    sha256
        Digest of its bytes, hexadecimal.
    size_bytes
        Length.
    """

    path: str
    sha256: str
    size_bytes: int


class ArtifactStore:
    """A folder of model files.

    Parameters
    ----------
    folder
        Made with mode 0700 if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, name: str, payload: bytes) -> StoredArtifact:
        """Store bytes under a name; the same bytes a second time change nothing.

        Raises
        ------
        ValueError
            If the name is not a plain file name.
        """
        target = self._path(name)
        stored = StoredArtifact(
            path=name, sha256=hashlib.sha256(payload).hexdigest(), size_bytes=len(payload)
        )
        if self._holds(stored):
            return stored
        part = self.folder / f".{name}.part-{secrets.token_hex(8)}"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._flush_folder()
        return stored

    def read(self, path: str, *, sha256: str) -> bytes:
        """Give back the bytes of a file.

        Raises
        ------
        ArtifactRefusedError
            If the file is missing, no regular file, or its digest is not `sha256`.
        """
        try:
            target = self._path(path)
        except ValueError as error:
            raise ArtifactRefusedError(str(error)) from error
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                payload = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ArtifactRefusedError(
                f"model file {path!r} in {self.folder} cannot be read: {error.strerror};"
                " restore it from a backup or train again"
            ) from error
        if len(payload) > MAX_BYTES:
            raise ArtifactRefusedError(f"model file {path!r} is larger than {MAX_BYTES} bytes")
        found = hashlib.sha256(payload).hexdigest()
        if found != sha256:
            raise ArtifactRefusedError(
                f"model file {path!r} ({len(payload)} bytes) has digest {found[:12]}..., the registry says"
                f" {sha256[:12]}...: it was changed or cut short; restore it from a backup or train again"
            )
        return payload

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._path(path).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """List the files, sorted."""
        return sorted(entry.name for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name))

    def sweep(self) -> int:
        """Remove what a killed writer left half-written, and tell how many. Only while nobody writes."""
        parts = [entry for entry in self.folder.iterdir() if _TEMPORARY.fullmatch(entry.name)]
        for part in parts:
            part.unlink(missing_ok=True)
        return len(parts)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a model file")
        return self.folder / name

    def _holds(self, stored: StoredArtifact) -> bool:
        with contextlib.suppress(ArtifactRefusedError):
            self.read(stored.path, sha256=stored.sha256)
            return True
        return False

    def _flush_folder(self) -> None:
        # a rename is on the disk only once its folder is
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
