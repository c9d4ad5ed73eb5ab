"""Which model a rollback ends, and what is said where there is none such."""

from __future__ import annotations

from typing import Any

import pytest

from cli.rollback import BASELINE, Asked, RollbackError, chosen
from db.repositories.terms import Key, Term


def term(
    version: str | None, horizon: int, *, number: int = 1, until: int | None = None, symbol: str = "ALL"
) -> Term:
    return Term(
        key=Key(symbol=symbol, forecast_horizon=horizon, model_type="xgboost"),
        number=number,
        name=version or "none",
        model_version=version,
        effective_from_ms=number * 1000,
        superseded_at_ms=until,
        reason="r",
        decided_by="training",
    )


FIVE = term("xgboost-ALL-h5-b", 5, number=2)
FIVE_BEFORE = term("xgboost-ALL-h5-a", 5, until=2000)
FIFTEEN = term("xgboost-ALL-h15-a", 15)
EVERY = [FIVE_BEFORE, FIFTEEN, FIVE]


def asked(**given: Any) -> Asked:
    nothing: dict[str, Any] = {
        "symbol": None, "horizon": None, "family": None, "to": None, "everything": False
    }  # fmt: skip
    return Asked(**nothing | given)


def refusal(every: list[Term], **given: Any) -> str:
    with pytest.raises(RollbackError) as told:
        chosen(every, asked(**given))
    return str(told.value)


def test_a_version_of_another_horizon_is_said_to_be_so_beside_what_serves_there() -> None:
    said = refusal(EVERY, horizon=5, to="xgboost-ALL-h15-a")
    assert "xgboost-ALL-h15-a is of horizon 15, not 5" in said
    assert "in production for horizon 5: ALL 5 xgboost (xgboost-ALL-h5-b)" in said


def test_a_version_of_another_symbol_and_family_names_both() -> None:
    said = refusal(EVERY, symbol="BTCUSDT", family="lstm", to="xgboost-ALL-h15-a")
    assert "symbol ALL, not BTCUSDT and of family xgboost, not lstm" in said
    assert "in production for symbol BTCUSDT, family lstm: no model" in said


def test_where_nothing_serves_it_is_said_what_to_do() -> None:
    for given in ({}, {"horizon": 5}, {"to": BASELINE}):
        said = refusal([FIVE_BEFORE, term(None, 5, number=2)], **given)
        assert "no model is in production" in said
        assert "tidecast models --all" in said
        assert "--to VERSION" in said
        assert "none" not in said


def test_a_horizon_without_a_model_names_those_that_have_one() -> None:
    said = refusal(EVERY, horizon=30)
    assert "no model is in production for horizon 30" in said
    assert "ALL 15 xgboost (xgboost-ALL-h15-a), ALL 5 xgboost (xgboost-ALL-h5-b)" in said


def test_a_version_that_never_served_and_two_that_match_are_refused() -> None:
    assert "never served" in refusal(EVERY, to="else")
    assert "2 models in production match" in refusal(EVERY)
    assert chosen(EVERY, asked(everything=True)) == [FIFTEEN, FIVE]


def test_what_was_asked_for_is_chosen() -> None:
    assert chosen(EVERY, asked(horizon=15)) == [FIFTEEN]
    assert chosen(EVERY, asked(to="xgboost-ALL-h5-a")) == [FIVE]
    assert chosen(EVERY, asked(to="xgboost-ALL-h5-a", horizon=5, symbol="ALL")) == [FIVE]
    # Where no model serves, one that did may serve again.
    none = term(None, 5, number=3)
    assert chosen([FIVE_BEFORE, none], asked(to="xgboost-ALL-h5-a")) == [none]
