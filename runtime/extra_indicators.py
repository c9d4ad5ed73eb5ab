"""The indicators that a user adds by name, as the settings want them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from config.errors import ConfigurationError, Mistake
from config.ml_config import Settings

if TYPE_CHECKING:
    from domain.features.user_indicators import UserIndicators

_KEY = "features.extra_indicators"


def extra_indicators_of(settings: Settings, symbols: tuple[str, ...]) -> UserIndicators | None:
    """Build what computes them over some symbols; None where none are wanted.

    Raises
    ------
    config.errors.ConfigurationError
        If the library does not have one of them, naming the nearest that it has.
    """
    # A repeated name is a mistake that the settings tell of themselves.
    names = tuple(dict.fromkeys(settings.features.extra_indicators))
    if not names:
        return None
    # The library brings pandas, which nobody else needs.
    from domain.features.errors import UnknownIndicatorError
    from domain.features.user_indicators import UserIndicators, validate_names

    mistakes = []
    for name in names:
        try:
            validate_names([name])
        except UnknownIndicatorError as error:
            mistakes.append(Mistake(key=_KEY, value=json.dumps(name), problem=str(error)))
    if mistakes:
        raise ConfigurationError(mistakes)
    try:
        return UserIndicators(names, symbols=symbols, max_gap_minutes=settings.data.max_gap_minutes)
    except UnknownIndicatorError as error:
        # Each is well alone, but not beside the others.
        raise ConfigurationError([Mistake(key=_KEY, problem=str(error))]) from None


def check_extra_indicators(settings: Settings) -> None:
    """Find out before anything starts whether they can be computed.

    Raises
    ------
    config.errors.ConfigurationError
        If one of them cannot.
    """
    extra_indicators_of(settings, ())
