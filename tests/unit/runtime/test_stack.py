"""Which processes the supervisor starts again, and which ends are for good."""

from __future__ import annotations

import configparser

import pytest

from config.errors import EX_CONFIG
from runtime.stack import CONFIGURATION, Program

UNEXPECTED = "unexpected"


def program(state: str, exit_code: int) -> Program:
    return Program(name="exchange", group="servers", state=state, pid=0, exit_code=exit_code, up_s=0.0)


@pytest.mark.parametrize(
    ("state", "exit_code", "expected"),
    [
        ("EXITED", EX_CONFIG, True),
        ("FATAL", 0, True),
        # A killed program is EXITED with -1 for the moment before it is started again.
        ("EXITED", -1, False),
        ("EXITED", 1, False),
        ("EXITED", 0, False),
        ("BACKOFF", 0, False),
        ("STARTING", EX_CONFIG, False),
        ("RUNNING", EX_CONFIG, False),
        ("STOPPED", 0, False),
    ],
)
def test_only_what_the_supervisor_will_not_start_again_has_ended_for_good(
    state: str, exit_code: int, expected: bool
) -> None:
    assert program(state, exit_code).has_ended_for_good is expected


def test_the_supervisor_gives_up_on_wrong_settings_only() -> None:
    configuration = configparser.RawConfigParser(inline_comment_prefixes=None)
    configuration.read(CONFIGURATION)
    programs = [name for name in configuration.sections() if name.startswith("program:")]
    assert len(programs) == 8
    for name in programs:
        section = configuration[name]
        assert int(section["startretries"]) == 1_000_000
        if section["autorestart"] == UNEXPECTED:
            assert int(section["exitcodes"]) == EX_CONFIG
            assert int(section["startsecs"]) == 0, "an end that comes at once has a code too"
        else:
            assert section["autorestart"] == "true"
