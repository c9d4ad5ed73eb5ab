"""Leave root: the embedded servers refuse to run as it, or should not.

The account is `nobody`, which every system has. It keeps one capability, CAP_DAC_OVERRIDE, so that it can
work below folders that are closed to it (a home with mode 0700). Where that capability cannot be had, the
folders must be open to it, or the servers get a folder of the product's own instead.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path

ACCOUNT = "nobody"
#: Where the servers of a root user live when `nobody` cannot reach the folder that was asked for.
FALLBACK_HOME = Path("/var/lib/tidecast")

_CAP_DAC_OVERRIDE = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


def is_root() -> bool:
    """Say whether this process runs as root."""
    return os.geteuid() == 0


def can_reach_anything() -> bool:
    """Say whether `nobody` may keep the right to enter closed folders."""
    if not sys.platform.startswith("linux"):
        return False
    wanted = 1 << _CAP_DAC_OVERRIDE
    status = Path("/proc/self/status").read_text()
    masks = dict(line.split(":\t", 1) for line in status.splitlines() if line.startswith("Cap"))
    return all(int(masks[key], 16) & wanted for key in ("CapPrm", "CapBnd"))


def closed_to_account(path: Path) -> Path | None:
    """Find the first folder on the way to `path` that `nobody` cannot pass; None where the way is open."""
    account = pwd.getpwnam(ACCOUNT)
    for folder in (path, *path.parents):
        if not folder.exists():
            continue
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            needed = 0o100
        elif status.st_gid == account.pw_gid:
            needed = 0o010
        else:
            needed = 0o001
        if not status.st_mode & needed:
            return folder
    return None


def is_open_to_servers(path: Path) -> bool:
    """Say whether the servers, run as this user's account for servers, can work at `path`."""
    return not is_root() or can_reach_anything() or closed_to_account(path) is None


def own_folders(folders: Iterable[Path]) -> None:
    """Make folders with mode 0700 and give them, and all in them, to the servers' account."""
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_root():
            account = pwd.getpwnam(ACCOUNT)
            if folder.stat().st_uid != account.pw_uid:
                _give(folder, account)


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    os.chown(folder, account.pw_uid, account.pw_gid)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.lchown(Path(parent) / name, account.pw_uid, account.pw_gid)


def leave_root() -> None:
    """Go on as `nobody` if this process is root, with the right to enter closed folders if it can be kept."""
    if not is_root():
        return
    account = pwd.getpwnam(ACCOUNT)
    keep = can_reach_anything()
    libc = ctypes.CDLL(None, use_errno=True)
    if keep:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if keep:
        _keep_one_capability(libc)
    os.environ["HOME"] = "/"


def _keep_one_capability(libc: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << _CAP_DAC_OVERRIDE
    # effective, permitted, inheritable for capabilities 0..31, then the same for 32..63
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "cannot keep CAP_DAC_OVERRIDE for the server's account")
    # The ambient set is what survives the exec of an ordinary binary.
    if libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot hand CAP_DAC_OVERRIDE on to the server")
