"""The simulated exchange as a process of the stack: the settings say which market it plays, and how fast.

A restart goes on at the virtual time kept in the folder's `exchange-clock.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from config.ml_config import ConfigurationError, Settings, load
from exchanges import simulated

EXIT_CONFIG = 78
#: What `market.faults` switches on: a bad day, all day. Revisions and halts would change the market itself.
BAD_DAY = {
    "cut": {"probability": 0.0005, "seed": 1},
    "silence": {"probability": 0.0005, "duration_s": 1e9, "seed": 2},
    "duplicates": {"probability": 0.02, "seed": 3},
    "disorder": {"probability": 0.02, "seed": 4},
    "missing": {"probability": 0.02, "seed": 5},
    "truncated": {"probability": 0.002, "seed": 6},
    "garbage": {"probability": 0.005, "seed": 7},
    "429": {"probability": 0.02, "delay_s": 1, "seed": 8},
    "5xx": {"probability": 0.02, "seed": 9},
    "slow": {"probability": 0.02, "delay_s": 2, "seed": 10},
    "truncated_rest": {"probability": 0.02, "seed": 11},
    "cut_rest": {"probability": 0.02, "seed": 12},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m workers.simulated_exchange", description=__doc__)
    parser.add_argument("--config", type=Path, help="TOML file with settings")
    parser.add_argument("--dir", type=Path, default=Path("var"), help="the pipeline's folder")
    parser.add_argument("--port", type=int, required=True, help="loopback port to listen on")
    options = parser.parse_args(arguments)
    try:
        settings = load(options.config)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before any logging
        return EXIT_CONFIG
    return simulated.main(exchange_arguments(settings, options.dir, options.port))


def exchange_arguments(settings: Settings, directory: Path, port: int) -> list[str]:
    """Say in the exchange's own words what the settings want."""
    market = settings.market
    words = ["--port", str(port), "--clock-file", str(directory / "exchange-clock.json")]
    words += ["--symbols", ",".join(settings.symbols), "--speed", str(market.speed)]
    words += [
        "--window-minutes",
        str(settings.pipeline.max_lag_minutes + 2 * settings.pipeline.max_batch_minutes),
    ]
    if market.recorded_path is not None:
        words += ["--market", "recorded", "--path", str(market.recorded_path), "--no-limits"]
        words += [*_moment("--from", market.from_ms), *_moment("--to", market.to_ms)]
    else:
        words += ["--market", "generated", "--seed", str(market.seed)]
        words += ["--history-days", str(settings.data.history_days), "--structure", str(market.structure)]
    if market.faults:
        words += ["--faults", json.dumps(BAD_DAY)]
    if market.start_ms is not None:
        words += ["--start-ms", str(market.start_ms)]
    return words


def _moment(option: str, ms: int | None) -> list[str]:
    if ms is None:
        return []
    return [option, datetime.fromtimestamp(ms / 1000, UTC).isoformat()]


if __name__ == "__main__":
    sys.exit(main())
