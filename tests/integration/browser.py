"""A page as a real browser lays it out: what is seen of it, and what it asks for."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
#: Says of a page in a frame of a width what a reader would complain of.
_MEASURE = """<!doctype html><body style="margin:0"><iframe id="frame" src="{page}"
style="border:0;width:{width}px;height:900px"></iframe><pre id="found">not measured</pre><script>
document.getElementById("frame").addEventListener("load", (event) => {{
  const inside = event.target.contentDocument;
  const outside = (text) => {{
    const own = text.getBoundingClientRect(), whole = text.ownerSVGElement.getBoundingClientRect();
    return own.left < whole.left - 1 || own.right > whole.right + 1
      || own.top < whole.top - 1 || own.bottom > whole.bottom + 1;
  }};
  const drawn = [...inside.querySelectorAll("svg")];
  document.getElementById("found").textContent = JSON.stringify({{
    width: inside.documentElement.scrollWidth,
    pictures: drawn.length,
    empty: drawn.filter((svg) => !svg.getBoundingClientRect().height || !svg.children.length).length,
    cut: [...inside.querySelectorAll("svg text")].filter(outside).map((text) => text.textContent),
    text: inside.body.innerText,
  }});
}});
</script>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a browser shows of a page.

    Attributes
    ----------
    width
        Pixels that its contents take; more than the frame has is a page that scrolls sideways.
    pictures, empty
        How many drawings there are, and how many of them show nothing.
    cut
        Words in drawings that reach out of them.
    text
        What can be read.
    asked
        Everything that the page was asked for or asked for itself.
    """

    width: int
    pictures: int
    empty: int
    cut: list[str]
    text: str
    asked: list[str]


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, asked: list[str], **named: Any) -> None:
        self._asked = asked
        super().__init__(*args, **named)

    def log_message(self, form: str, *values: object) -> None:
        """Keep the terminal clean; what was asked for is in `Seen`."""

    def do_GET(self) -> None:
        self._asked.append(self.path)
        super().do_GET()


def see(page: Path, *, width: int, profile: Path) -> Seen:
    """Open a page in headless Chromium, in a frame of a width in pixels."""
    assert CHROMIUM is not None
    asked: list[str] = []
    measure = page.with_name("measure.html")
    measure.write_text(_MEASURE.format(page=page.name, width=width))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(page.parent), asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        shown = _dumped(f"http://127.0.0.1:{server.server_port}/{measure.name}", profile)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        measure.unlink()
    found = re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    assert found is not None, shown[-2000:]
    return Seen(**json.loads(html.unescape(found[1])), asked=asked)


def _dumped(address: str, profile: Path) -> str:
    """Let Chromium load an address, and give the document as it is then."""
    quiet = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        " --disable-component-update --disable-sync --disable-dev-shm-usage"
    )
    done = subprocess.run(
        [
            str(CHROMIUM), *quiet.split(), f"--user-data-dir={profile}", "--window-size=1400,1000",
            "--virtual-time-budget=5000", "--dump-dom", address,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
