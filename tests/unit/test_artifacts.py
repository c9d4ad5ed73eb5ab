from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts.store import ArtifactRefusedError, ArtifactStore

PAYLOAD = b"a model, or so it says"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


def test_what_is_written_is_read_back(store: ArtifactStore) -> None:
    stored = store.write("a.onnx", PAYLOAD)
    assert stored.sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    assert store.read(stored.path, sha256=stored.sha256) == PAYLOAD
    assert store.names() == ["a.onnx"]


def test_files_are_readable_by_their_owner_only(store: ArtifactStore) -> None:
    before = os.umask(0)
    try:
        store.write("a.onnx", PAYLOAD)
    finally:
        os.umask(before)
    assert stat.S_IMODE((store.folder / "a.onnx").stat().st_mode) == 0o600


def test_a_changed_file_is_refused_by_name(store: ArtifactStore) -> None:
    stored = store.write("a.onnx", PAYLOAD)
    (store.folder / "a.onnx").write_bytes(PAYLOAD.replace(b"model", b"modem"))
    with pytest.raises(ArtifactRefusedError, match=r"a\.onnx.*changed or cut short"):
        store.read("a.onnx", sha256=stored.sha256)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(PAYLOAD) - 1))
def test_a_file_cut_anywhere_is_refused(store: ArtifactStore, length: int) -> None:
    stored = store.write("a.onnx", PAYLOAD)
    (store.folder / "a.onnx").write_bytes(PAYLOAD[:length])
    with pytest.raises(ArtifactRefusedError):
        store.read("a.onnx", sha256=stored.sha256)


def test_a_missing_file_is_refused_with_a_remedy(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactRefusedError, match="train again"):
        store.read("gone.onnx", sha256="0" * 64)


def test_a_torn_file_is_mended_by_writing_again(store: ArtifactStore) -> None:
    stored = store.write("a.onnx", PAYLOAD)
    (store.folder / "a.onnx").write_bytes(PAYLOAD[:5])
    assert store.write("a.onnx", PAYLOAD) == stored
    assert store.read("a.onnx", sha256=stored.sha256) == PAYLOAD


def test_writing_the_same_bytes_again_leaves_the_file_alone(store: ArtifactStore) -> None:
    store.write("a.onnx", PAYLOAD)
    before = (store.folder / "a.onnx").stat().st_ino
    store.write("a.onnx", PAYLOAD)
    assert (store.folder / "a.onnx").stat().st_ino == before


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", ".hidden", "", "a\0b", "a\n", "ä.onnx"])
def test_names_never_leave_the_folder(store: ArtifactStore, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        store.write(name, PAYLOAD)
    with pytest.raises(ArtifactRefusedError):
        store.read(name, sha256="0" * 64)


def test_a_link_to_elsewhere_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(PAYLOAD)
    (store.folder / "a.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactRefusedError):
        store.read("a.onnx", sha256=hashlib.sha256(PAYLOAD).hexdigest())


def test_a_failed_write_leaves_the_version_before(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store.write("a.onnx", PAYLOAD)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.write("a.onnx", b"another")
    assert store.read("a.onnx", sha256=stored.sha256) == PAYLOAD
    assert [entry.name for entry in store.folder.iterdir()] == ["a.onnx"]


def test_half_written_files_of_a_killed_writer_are_swept(store: ArtifactStore) -> None:
    store.write("a.onnx", PAYLOAD)
    (store.folder / ".b.onnx.part-0123456789abcdef").write_bytes(b"half")
    assert store.names() == ["a.onnx"]
    assert store.sweep() == 1
    assert [entry.name for entry in store.folder.iterdir()] == ["a.onnx"]
