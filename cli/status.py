"""`tidecast status`: what runs in a folder, and how each part is."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import typer

from cli.answer import give_json, say, show_table
from cli.folder import DEFAULT_FOLDER, FolderOption, JsonOption
from runtime.directory import Directory, DirectoryError
from runtime.stack import Program, programs

_HEALTH_TIMEOUT_S = 1.0
_EXPECTED_STATES = frozenset({"RUNNING", "STARTING"})


def status(folder: FolderOption = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Show process ids, health and lag of everything that runs; succeeds if all of it is well."""
    directory = Directory.open(folder)
    holder = directory.holder()
    parts = {program.name: _part(directory, program) for program in programs(directory) if _is_meant(program)}
    well = bool(parts) and all(part["well"] for part in parts.values())
    if as_json:
        running = {"pid": holder.pid, "purpose": holder.purpose} if holder else None
        identity = asdict(directory.identity) if directory.identity else None
        give_json(
            {
                "dir": str(directory.path),
                "running": running,
                "well": well,
                "identity": identity,
                "parts": parts,
            }
        )
    elif holder is None:
        say(f"nothing runs in {directory.path}")
    else:
        say(f"{directory.path}: tidecast {holder.purpose}, process {holder.pid}, {_market(directory)}")
        show_table(
            ["part", "state", "pid", "up", "health", "event time", "lag"],
            [
                [
                    name,
                    part["state"],
                    part["pid"],
                    f"{part['up_s']:.0f} s",
                    part["note"],
                    (part["event_time"] or "")[:16],
                    _seconds(part["lag_s"]),
                ]
                for name, part in parts.items()
            ],
        )
    if not well:
        raise typer.Exit(1)


def _is_meant(program: Program) -> bool:
    # What this pipeline does not use (a server given by URL, workers with --no-workers) was never started.
    return program.state != "STOPPED"


def _part(directory: Directory, program: Program) -> dict[str, Any]:
    health = read_health(directory, program) if program.group == "workers" else None
    well = program.state in _EXPECTED_STATES and program.pid > 0
    note = ""
    if program.state in ("EXITED", "FATAL", "BACKOFF"):
        note = "configured wrongly" if program.exit_code == 78 else f"ended with code {program.exit_code}"
    elif program.group == "workers":
        if health is None:
            well, note = False, "does not answer"
        else:
            well = well and health.get("status") == "running" and not complaints(health)
            note = "; ".join(complaints(health)) or str(health.get("status", ""))
    return {
        "state": program.state,
        "pid": program.pid,
        "up_s": program.up_s,
        "exit_code": program.exit_code,
        "well": well,
        "note": note,
        "lag_s": health.get("lag_s") if health else None,
        "event_time": health.get("last_event_time") if health else None,
        "health": health,
    }


def complaints(health: Mapping[str, Any]) -> list[str]:
    """Say what a worker waits for, and what is wrong although it runs."""
    waiting = health.get("waiting_for")
    return [*([f"waits for {waiting}"] if waiting else []), *map(str, health.get("problems") or ())]


def read_health(directory: Directory, program: Program) -> dict[str, Any] | None:
    """Ask a worker how it is; None if it does not answer."""
    worker, _, shard = program.name.rpartition("-")
    try:
        port = directory.port(worker, int(shard))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=_HEALTH_TIMEOUT_S) as reply:
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        # A worker that is not well says so with a status of its own, and still says how it is.
        with contextlib.suppress(OSError, ValueError):
            return dict(json.load(error))
    except (OSError, ValueError, DirectoryError):
        pass
    return None


def _market(directory: Directory) -> str:
    if directory.identity is None:
        return "no market yet"
    name = directory.identity.exchange
    return f"SIMULATED ({directory.identity.market})" if name == "simulated" else name


def _seconds(value: Any) -> str:
    return "" if value is None else f"{float(value):.1f} s"
