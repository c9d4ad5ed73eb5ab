"""The causality gate where features enter: at a start, on demand, and for a function not yet added."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from config.errors import ConfigurationError, Mistake
from config.ml_config import Settings

if TYPE_CHECKING:
    # Whoever adds nothing loads neither pandas nor the engine.
    from domain.features.added_subjects import Takes
    from domain.features.causality import Subject
    from domain.features.verdict import Verdict

_KEY = "features.extra_indicators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried: on so many minutes of so many symbols, cut at so many places.

    With `every_minute` also at each minute of the day.
    """

    minutes: int
    symbols: int
    cuts: int
    every_minute: bool = False


#: At a start: under a second for the slowest indicator of the library, a tenth for most.
AT_START = Effort(minutes=1_000, symbols=3, cuts=13)
#: On demand: every kind of cut at every symbol, two midnights, every feature of the vector warm.
THOROUGH = Effort(minutes=3_000, symbols=4, cuts=64)
#: For a function of the user's own, which nobody else has looked at: about three seconds for a fast one.
EVERY_MINUTE = replace(THOROUGH, every_minute=True)


def check_causality(settings: Settings) -> None:
    """Find out before anything starts whether an indicator of the user's choice changes its past.

    Names that the library does not know are left to `runtime.extra_indicators`.

    Raises
    ------
    config.errors.ConfigurationError
        Naming each that does: where, when, by how much, and what to do.
    """
    mistakes = [
        Mistake(key=_KEY, value=json.dumps(name), problem=_refusal(name, verdicts))
        for name in dict.fromkeys(settings.features.extra_indicators)
        if (verdicts := [each for each in _judge_known(name, AT_START) if not each.is_causal])
    ]
    if mistakes:
        raise ConfigurationError(mistakes)


def judge_added(settings: Settings, effort: Effort = THOROUGH) -> tuple[Verdict, ...]:
    """Judge each column of the indicators that the settings add."""
    names = dict.fromkeys(settings.features.extra_indicators)
    return tuple(verdict for name in names for verdict in _judge_known(name, effort))


def judge_vector_and_chart(settings: Settings, effort: Effort = THOROUGH) -> tuple[Verdict, ...]:
    """Judge the model's vector and the chart's indicators, with the periods of the settings."""
    from domain.features.built_in_subjects import vector_and_chart
    from runtime.feature_wiring import engine_of
    from runtime.proving_market import SYMBOLS

    symbols = SYMBOLS[: effort.symbols]
    around = {"leader": symbols[0], "reference_symbols": symbols[:-1]}
    tried = settings.model_copy(
        update={"symbols": symbols, "features": settings.features.model_copy(update=around)}
    )
    return _judge(vector_and_chart(lambda: engine_of(tried, symbols)), effort)


def judge_indicator_files(effort: Effort = THOROUGH) -> tuple[Verdict, ...]:
    """Judge every file of `domain/indicators`, those that a user has put there included."""
    from domain.features.built_in_subjects import indicator_file
    from domain.indicators import names

    # Their rules are given one candle at a time: a few cuts tell what there is to tell.
    few = Effort(minutes=effort.minutes, symbols=effort.symbols, cuts=min(effort.cuts, AT_START.cuts))
    return tuple(verdict for name in names() for verdict in _judge(indicator_file(name), few))


def check_function(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    takes: Takes = "frame",
    effort: Effort = EVERY_MINUTE,
) -> tuple[Verdict, ...]:
    """Check a function of your own before you add it.

    Parameters
    ----------
    function, name, takes
        See `domain.features.added_subjects.own_function`: by default, it is given a DataFrame with open,
        high, low, close and volume, and answers with a Series or an array. It is called some 1,500 times.
    effort
        How much to try; `THOROUGH` calls a slow function some hundred times only.

    Returns
    -------
    A verdict for each of its columns; printed, it says what was seen and what to do.
    """
    from domain.features.added_subjects import own_function

    return _judge(own_function(function, name=name, takes=takes), effort)


def cuts_compared(effort: Effort) -> int:
    """Count the places at which an effort cuts for an own function that it finds nothing wrong with."""
    from domain.features.cuts import choose_cuts, cuts_of_every_minute
    from runtime.proving_market import SYMBOLS, proving_market

    market = proving_market(effort.minutes, SYMBOLS[: effort.symbols])
    some = choose_cuts(market, count=effort.cuts, least=2)
    return len({*some, *cuts_of_every_minute(market, least=2)} if effort.every_minute else some)


def _judge(subject: Subject, effort: Effort) -> tuple[Verdict, ...]:
    from domain.features.causality import check
    from runtime.proving_market import SYMBOLS, proving_market

    return check(
        subject,
        proving_market(effort.minutes, SYMBOLS[: effort.symbols]),
        cuts=effort.cuts,
        every_minute=effort.every_minute,
    )


def _judge_known(name: str, effort: Effort) -> Iterator[Verdict]:
    """Judge an indicator; one that the library does not have gets no verdict."""
    from domain.features.added_subjects import user_indicator
    from domain.features.errors import UnknownIndicatorError
    from domain.features.user_indicators import validate_names

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            validate_names([name])
        subject = user_indicator(name)
    except UnknownIndicatorError:
        return
    yield from _judge(subject, effort)


def _refusal(name: str, refused: Sequence[Verdict]) -> str:
    """Say why an indicator is refused, in the words of its first column, and what to do."""
    first = refused[0]
    others = [each.column for each in refused[1:]]
    column = f"its column {first.column} " if first.column else "it "
    more = f"; so it is with {', '.join(others)}" if others else ""
    return f"{column}{first.explanation}{more}. {_way_out(name) or first.remedy}"


def _way_out(name: str) -> str:
    """Look whether the library can compute it without looking ahead."""
    instead = f"{name[:-1]}, lookahead=False)" if name.endswith(")") else f"{name}(lookahead=False)"
    verdicts = list(_judge_known(instead, AT_START))
    if not verdicts or not all(each.is_causal for each in verdicts):
        return ""
    return f"Write {instead}, which does not look ahead"
