"""The commands by name, each imported when it is asked for: some of them take seconds to import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from typer._click import Command, Context

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

#: Module and name of each command, in the order in which the help shows them.
_WHERE = {
    "up": "cli.up:up",
    "down": "cli.down:down",
    "status": "cli.status:status",
    "doctor": "cli.doctor:doctor",
    "replay": "cli.replay:replay",
    "recover": "cli.recover:recover",
    "evaluate": "cli.evaluate:evaluate",
    "sql": "cli.sql:sql",
    "dsn": "cli.dsn:dsn",
    "explain": "cli.explain:explain",
    "models": "cli.models:models",
    "rollback": "cli.rollback:rollback",
    "fingerprint": "cli.fingerprint:fingerprint",
    "migrate": "cli.migrate:migrate",
    "backfill": "cli.backfill:backfill",
    "bench": "cli.bench:bench",
    "check-features": "cli.check_features:check_features",
    "dead-letters": "cli.dead_letters:app",
    "report": "cli.report:app",
}


class Commands(TyperGroup):
    """The commands of the program."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Name them."""
        return list(_WHERE)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Import one; None if there is no such command."""
        if cmd_name not in _WHERE:
            return None
        if cmd_name not in self.commands:
            module, _, name = _WHERE[cmd_name].partition(":")
            command = get_command(_as_app(cmd_name, getattr(import_module(module), name)))
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the command that was asked for; a wrong word is answered with what it may have meant."""
        if args and args[0] not in _WHERE:
            # Typer looks for similar words among those that are there
            for name in _WHERE:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _as_app(name: str, found: object) -> typer.Typer:
    if isinstance(found, typer.Typer):
        return found
    assert callable(found)
    app = typer.Typer(add_completion=False, context_settings=HELP_OPTIONS)
    app.command(name)(found)
    return app
