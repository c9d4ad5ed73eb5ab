"""Run a module as `python -m` does, but load it without collecting garbage.

    python -m runtime.start workers.forecaster --config FILE

What a worker loads stays until its end. Looking through it again and again for garbage while it is being
loaded takes up to a fifth of the time in which the worker could be working again.
`runtime.process.run` switches the collection on.
"""

from __future__ import annotations

import gc
import runpy
import sys


def main() -> None:
    """Take the module's name, and leave it the rest of the command line."""
    if len(sys.argv) < 2:
        sys.exit("say which module: python -m runtime.start workers.forecaster --config FILE")
    name = sys.argv.pop(1)
    gc.disable()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
