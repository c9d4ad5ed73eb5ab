"""The schema of the vector and the page that describes it."""

from __future__ import annotations

from domain.features.document import PAGE, render
from domain.features.periods import DEFAULT_PERIODS, make_periods
from domain.features.schema import FEATURES, INDICATOR_COLUMNS, NAMES, SCHEMA_HASH, schema_hash


def test_there_are_72_features_each_with_a_name_of_its_own() -> None:
    assert len(FEATURES) == len(NAMES) == len(set(NAMES)) == 72


def test_the_chart_has_the_columns_of_its_table() -> None:
    assert len(INDICATOR_COLUMNS) == 7
    assert INDICATOR_COLUMNS[-1] == "volatility"


def test_the_hash_is_short_hex_and_follows_the_periods() -> None:
    assert len(SCHEMA_HASH) == 16
    assert int(SCHEMA_HASH, 16) >= 0
    assert schema_hash(DEFAULT_PERIODS) == SCHEMA_HASH != schema_hash(make_periods(stochastic_d=4))


def test_the_page_of_features_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m domain.features.document"


def test_the_page_describes_every_feature() -> None:
    page = render()

    assert all(f"| `{name}` |" in page for name in NAMES)
