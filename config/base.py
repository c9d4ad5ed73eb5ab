"""What every section of the settings shares: frozen, typed, unknown keys refused.

A field's `description` is its explanation for the person who writes a settings file; `config/default.toml` is
generated from it, so the unit and the meaning are written down once.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SYMBOL_PATTERN = "^[A-Z0-9]{3,20}$"
#: Names used in the documents for what is called otherwise here.
_EXCHANGE_SYNONYMS = {"binance-us": "binanceus", "binance_us": "binanceus"}


class Section(BaseModel):
    """One table of the settings file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        hide_input_in_errors=True,
    )


def _not_a_truth_value(value: Any) -> Any:
    # Python counts True as 1; in a settings file that is a slip.
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers; write a number")  # noqa: TRY004  (pydantic collects ValueError only)
    return value


def _exchange(value: Any) -> Any:
    return _EXCHANGE_SYNONYMS.get(value, value) if isinstance(value, str) else value


def _milliseconds(value: Any) -> Any:
    # ISO text and TOML's own dates are what people write; a bare number is taken as milliseconds.
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return int(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("not an ISO date such as 2021-04-01T00:00Z") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    return value


def _whole_minute(value: Any) -> Any:
    milliseconds = _milliseconds(value)
    if isinstance(milliseconds, int) and milliseconds % 60_000:
        raise ValueError("not a whole minute; wanted is an ISO date such as 2021-04-01T00:00Z")
    return milliseconds


class TakesDates:
    """Marks a number that may be written as a date as well."""


#: For numbers in lists and tables, where JSON in the environment can say true.
NoTruthValue = BeforeValidator(_not_a_truth_value)
Whole = Annotated[int, Field(ge=0, le=10**9), BeforeValidator(_not_a_truth_value)]
Count = Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_not_a_truth_value)]
AtLeastTwo = Annotated[int, Field(ge=2, le=10**6), BeforeValidator(_not_a_truth_value)]
Positive = Annotated[float, Field(gt=0, le=1e12), BeforeValidator(_not_a_truth_value)]
NotNegative = Annotated[float, Field(ge=0, le=1e12), BeforeValidator(_not_a_truth_value)]
Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_not_a_truth_value)]
#: Symbols as the documents write them; the exchange's own spelling is the exchange part's business.
Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
#: Milliseconds since 1970 UTC, written as an ISO date or as a number; a candle's open time.
MinuteMs = Annotated[
    int,
    Field(ge=0, le=32_503_680_000_000),
    BeforeValidator(_whole_minute),
    BeforeValidator(_not_a_truth_value),
    TakesDates(),
]
ExchangeAlias = BeforeValidator(_exchange)
