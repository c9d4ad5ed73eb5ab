"""What is said when settings are wrong: all of it at once, and nothing secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Exit code of a program that was configured wrongly (sysexits.h); it is not worth starting again.
EX_CONFIG = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing wrong with the settings.

    Attributes
    ----------
    key
        Dotted name in snake_case, or what stands for it (a file's path).
    problem
        What is wrong and what is allowed, in words.
    value
        The bad value, ready to be shown: shortened, secrets masked. None where there is none to show.
    source
        Where it was set, for example ``environment variable TIDECAST_...``; None for defaults.
    suggestion
        The nearest known key, for a key that nobody knows.
    """

    key: str
    problem: str
    value: str | None = None
    source: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        head = self.key if self.value is None else f"{self.key} = {self.value}"
        where = f" ({self.source})" if self.source else ""
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{head}{where}: {self.problem}{hint}"


class ConfigurationError(Exception):
    """The settings are wrong: somebody has to mend them, starting again does not help.

    Parameters
    ----------
    mistakes
        All of them.
    """

    exit_code = EX_CONFIG

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(tuple(mistakes))
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        count = len(self.mistakes)
        head = "1 setting is wrong:" if count == 1 else f"{count} settings are wrong:"
        return "\n".join([head, *(f"  {mistake}" for mistake in self.mistakes)])
