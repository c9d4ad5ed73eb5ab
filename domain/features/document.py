"""Write the page of features: `python -m domain.features.document`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from domain.features.feature import Feature
from domain.features.market import MINUTES_KEPT
from domain.features.periods import SETTLED
from domain.features.schema import FEATURE_COUNT, GROUPS, INDICATOR_COLUMNS, SCHEMA_HASH
from domain.indicators import load, names

PAGE = Path(__file__).parents[2] / "docs" / "features.md"

_INTRODUCTION = f"""# Features

Written by `python -m domain.features.document`; change the code, not this page.

Every closed candle moves the state of its symbol by one compiled rule, the same live (across symbols) and
over history (along time), so both give the same bits. What comes out is the chart's indicators and a vector
of {FEATURE_COUNT} float32, schema `{SCHEMA_HASH}` with the default settings.

- **Not ready is NaN**, never zero. A number in place of a division by zero (a flat market, no volume) is part
  of the formula and stands there.
- **Windows count candles.** While up to `max_gap_minutes` (5) minutes are missing, a state goes on: a window
  of n candles then reaches back n minutes and the missing ones, and a return over one candle spans the gap;
  only the pairs of the cross-market features leave it out. After a longer gap the symbol starts warming
  again. The 5-, 15- and 60-minute bars follow the clock (UTC); a bar without a candle is not counted, and of
  the bar in which history starts only the close is.
- **Where history starts does not matter.** Windows are recomputed from the candles in them, in the order of
  their age, so they give the same bits from any start. What is left of the start of an exponential average
  (RSI, MACD, ATR, ADX, EMA) when the vector first shows it is at most {SETTLED:g} of its first error; the
  chart shows it from its first value on, as TA-Lib does.
- **Other symbols count as of one minute earlier**: a candle of minute t sees the references through t-1, so
  no symbol waits for the slowest. {MINUTES_KEPT} minutes of the market are kept for symbols that come late;
  older ones see NaN.
- **No prices, volumes or dates** are in the vector: they would not survive float32, nor another symbol.
- Warm-up is the number of candles, without a long gap, after which the feature is never NaN."""

_CHART = """## The chart's indicators

Columns of `"rollingChartData"`: """

_ADDING = """## Adding your own

**By name.** `features.extra_indicators = ["vwma", "ema(length=50)"]` adds indicators of pandas-ta-classic to
the column `extra` of `"rollingChartData"`, computed from the newest 200 candles at every candle. Before
anything starts, the causality gate computes each on histories that end early and on a whole one. One whose
past changes is refused (exit code 78) by its name, with the first minute that changed, by how much, and what
to do: `dpo`, for example, looks 11 candles ahead and is refused, `dpo(lookahead=False)` is not.

**A function of your own** is checked before you add it, from the shell or from Python:

    tidecast check-features --function mine.py:my_feature

    from runtime.causality import check_function
    for verdict in check_function(my_feature):    # DataFrame of candles in, Series or array out
        print(verdict)

With `takes="arrays"` it is given open times and an array of candles, with `takes="market"` a dictionary of
DataFrames by symbol; what it takes from other symbols must then be of their previous minute.

**An indicator or a feature in the code** is described in `ARCHITECTURE.md`, section 8.
`tidecast check-features [--config FILE] [--json]` runs the gate over the whole vector, the chart, every file
in `domain/indicators` and what the settings add. How it judges, and what it cannot see:
[decisions/causality-gate.md](decisions/causality-gate.md)."""

_INDICATORS = """## All indicators and their rules

One file each in `domain/indicators`. In a flat market TA-Lib divides rounding by rounding or answers 0; where
it matters the formula here says what we answer."""


def render() -> str:
    """Put the page together."""
    parts = [_INTRODUCTION, f"## The vector\n\n{_feature_table()}"]
    columns = ", ".join(f"`{column}`" for column in INDICATOR_COLUMNS)
    parts.append(f"{_CHART}{columns}. `is_complete` is true where all of them are there.")
    parts.append(_ADDING)
    parts.append(_INDICATORS)
    parts.extend(_describe(name) for name in names())
    return "\n\n".join(parts) + "\n"


def _feature_table() -> str:
    rows = ["| # | name | unit | formula | source | warm-up |", "|---|---|---|---|---|---|"]
    number = 0
    for group, features in GROUPS.items():
        rows.append(f"| | **{group}** | | | | |")
        for feature in features:
            number += 1
            rows.append(_row(number, feature))
    return "\n".join(rows)


def _row(number: int, feature: Feature) -> str:
    cells = (f"`{feature.name}`", feature.unit, feature.formula, feature.source, str(feature.warm_up))
    return f"| {number} | {' | '.join(_cells(cells))} |"


def _cells(texts: Iterable[str]) -> Iterable[str]:
    return (text.replace("|", "\\|") for text in texts)


def _describe(name: str) -> str:
    spec = load(name).SPEC
    settings = ", ".join(f"{key} {value:g}" for key, value in spec.parameters.items())
    lines = [
        f"### `{name}`: {spec.title}",
        "",
        f"- gives: {', '.join(f'`{output}`' for output in spec.outputs)} ({spec.unit})",
        f"- formula: {spec.formula}",
        f"- parameters: {settings}; first value at candle {spec.warm_up(*spec.defaults)}; state of "
        f"{spec.state_size(*spec.defaults)} numbers",
        f"- source: {spec.source}",
    ]
    if spec.differs:
        lines.append(f"- other libraries: {spec.differs}")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
