"""Nothing is left behind, not even by a command that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.scratch import scratch_folder


def test_the_folder_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder("evaluate", base=tmp_path) as folder:
        assert list(folder.iterdir()) == []
        (folder / "rows.npy").write_bytes(b"rows")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\nfrom runtime.scratch import scratch_folder\n"
        f"with scratch_folder('evaluate', base=pathlib.Path({str(tmp_path)!r})) as folder:\n"
        "    (folder / 'rows.npy').write_bytes(b'rows')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3])
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder("ablation", base=tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    "name", ["tidecast-evaluate-{own}-abc", "tidecast-notes", "tidecast-replay-0001x", "other-1-abc"]
)
def test_what_is_in_use_or_somebody_elses_stays(tmp_path: Path, name: str) -> None:
    name = name.format(own=os.getpid())
    (tmp_path / name).mkdir()
    with scratch_folder("evaluate", base=tmp_path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [name]
