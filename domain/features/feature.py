"""What is said about one feature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the model's vector.

    Attributes
    ----------
    name
        Its name in models, tables and reports.
    unit
        What the number counts; never a price, a volume or a date.
    formula
        How it follows from candles; "n candles" counts those that exist.
    source
        Where the definition comes from.
    warm_up
        Candles without a long gap after which it is never NaN, with the default settings.
    """

    name: str
    unit: str
    formula: str
    source: str
    warm_up: int
