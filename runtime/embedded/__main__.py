"""`python -m runtime.embedded postgres|redis DIR [NAME=VALUE ...]`: become an embedded server."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from runtime.directory import Directory, DirectoryError
from runtime.embedded import postgres, redis
from runtime.embedded.binaries import NoBinaryError


def main() -> None:
    """Become the server that the command line names."""
    # Python would turn SIGINT into a traceback while the server is being prepared.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    servers = {"postgres": postgres.run, "redis": redis.run}
    match sys.argv[1:]:
        case [name, path, *extra] if name in servers and all("=" in each for each in extra):
            try:
                servers[name](Directory.open(Path(path)), extra)
            except (DirectoryError, NoBinaryError, OSError) as error:
                sys.exit(f"{name} cannot start: {error}")
        case _:
            sys.exit("usage: python -m runtime.embedded postgres|redis DIR [NAME=VALUE ...]")


if __name__ == "__main__":
    main()
