from __future__ import annotations

import pytest

from domain.evaluation.metrics import Comparison
from training.promotion import Decision, decide

NAN = float("nan")


def _found(gain: float, error: float = 0.1, minutes: int = 500) -> Comparison:
    return Comparison(gain=gain, standard_error=error, minutes=minutes)


@pytest.mark.parametrize(
    ("no_change", "production", "promoted", "words"),
    [
        (_found(0.5), None, True, "nothing to replace"),
        (_found(0.5), _found(0.01), True, "not worse than the model it replaces"),
        (_found(0.5), _found(0.0), True, "not worse"),
        (_found(0.5), _found(-0.01), False, "worse than the model in production"),
        (_found(0.5), _found(NAN, NAN, 0), False, "neither"),
        (_found(0.5), _found(NAN, NAN, 9), False, "worse than the model in production"),
        (_found(0.1), None, False, "no more than chance"),
        (_found(0.0), None, False, "not better than the no-change forecast"),
        (_found(-0.5), _found(9.0), False, "not better than the no-change forecast"),
        (_found(0.5, NAN), None, False, "too few independent outcomes"),
        (_found(NAN, NAN), None, False, "not numbers"),
        (_found(NAN, NAN, 0), None, False, "no validation rows"),
        (_found(0.5, 0.0), None, True, "nothing to replace"),
    ],
)
def test_a_model_is_promoted_only_on_evidence(
    no_change: Comparison, production: Comparison | None, promoted: bool, words: str
) -> None:
    decision = decide(against_no_change=no_change, against_production=production)
    assert decision.promote is promoted
    assert words in decision.reason


def test_a_stricter_error_rate_asks_for_more_evidence() -> None:
    evidence = _found(0.15)
    assert decide(against_no_change=evidence, against_production=None, error_rate=0.1).promote
    assert not decide(against_no_change=evidence, against_production=None, error_rate=0.01).promote


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_an_error_rate_that_makes_no_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="error_rate"):
        decide(against_no_change=_found(1.0), against_production=None, error_rate=rate)


def test_a_decision_is_a_value() -> None:
    assert decide(against_no_change=_found(-1.0), against_production=None) == Decision(
        promote=False, reason="not better than the no-change forecast"
    )
