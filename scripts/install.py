"""Make the virtual environment and install this project into it, with the extras named on the command line.

Needs nothing but a Python. Where the system's Python comes without pip (a bare Debian), pip itself is fetched
from the package index that PIP_INDEX_URL names.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

# ruff: noqa: S310  (the addresses are those of the index that the user chose)

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
OLDEST = (3, 11)
DEFAULT_INDEX = "https://pypi.org/simple"


class _Links(html.parser.HTMLParser):
    """Collects the addresses of an index page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get("href")
        # A yanked file was withdrawn by its authors.
        if tag == "a" and address and "data-yanked" not in values:
            self.addresses.append(address)


def main() -> None:
    """Make the environment where it is missing, then install."""
    if sys.version_info < OLDEST:
        sys.exit(f"Python {'.'.join(map(str, OLDEST))} or newer is needed, this is {sys.version.split()[0]}")
    if not _has_pip():
        _make_environment()
    extras = f"[{','.join(sys.argv[1:])}]" if sys.argv[1:] else ""
    _run(
        PYTHON,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--editable",
        f"{ROOT}{extras}",
    )
    if (ROOT / "domain" / "features" / "compile.py").exists():
        # Compiled once now, so that the first start need not wait for it.
        _run(PYTHON, "-m", "domain.features.compile")


def _has_pip() -> bool:
    return (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0
    )


def _make_environment() -> None:
    _say(f"making {ENVIRONMENT}")
    attempt = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", ENVIRONMENT], capture_output=True, text=True
    )
    if attempt.returncode == 0 and _has_pip():
        return
    _say("this Python comes without pip: fetching it from the package index")
    venv.create(ENVIRONMENT, clear=True, with_pip=False)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _fetch_pip(Path(folder))
        # A wheel of pip can install itself.
        _run(PYTHON, f"{wheel}/pip", "install", "--quiet", "--no-index", wheel)


def _fetch_pip(folder: Path) -> Path:
    index = os.environ.get("PIP_INDEX_URL", DEFAULT_INDEX).rstrip("/") + "/pip/"
    links = _Links()
    links.feed(_download(index).decode())
    wheels = [
        urllib.parse.urljoin(index, address)
        for address in links.addresses
        if urllib.parse.urlsplit(address).path.endswith("-py3-none-any.whl")
    ]
    released = [each for each in wheels if _version(each)]
    if not released:
        sys.exit(
            f"{_without_password(index)} offers no wheel of pip: set PIP_INDEX_URL, or install python3-venv"
        )
    newest = max(released, key=_version)
    content = _download(newest)
    kind, _, expected = urllib.parse.urlsplit(newest).fragment.partition("=")
    if kind == "sha256" and hashlib.sha256(content).hexdigest() != expected:
        sys.exit("the wheel of pip that was fetched is damaged: try again")
    wheel = folder / Path(urllib.parse.urlsplit(newest).path).name
    wheel.write_bytes(content)
    return wheel


def _version(address: str) -> tuple[int, ...]:
    # Empty for pre-releases, whose last part is no number.
    parts = Path(urllib.parse.urlsplit(address).path).name.split("-")[1].split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def _download(address: str) -> bytes:
    parts = urllib.parse.urlsplit(address)
    request = urllib.request.Request(address.split("#")[0])
    if parts.username:
        # An index with a password has it in its address, which urllib does not understand.
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host, fragment="")))
        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return bytes(reply.read())
    except OSError as error:
        sys.exit(f"{_without_password(address)} cannot be fetched: {error}")


def _without_password(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(*command: Path | str) -> None:
    result = subprocess.run([str(word) for word in command], cwd=ROOT)
    if result.returncode:
        sys.exit(result.returncode)


if __name__ == "__main__":
    main()
