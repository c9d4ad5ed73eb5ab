from __future__ import annotations

import pytest

from domain.evaluation.metrics import Comparison
from training.promotion import Decision, decide

NAN = float("nan")


def _found(gain: float, error: float = 0.1, minutes: int = 500) -> Comparison:
    return Comparison(gain=gain, standard_error=error, minutes=minutes)


@pytest.mark.parametrize(
    ("found", "incumbent", "promoted", "words"),
    [
        (_found(0.5), None, True, "nothing to replace"),
        (_found(0.5, 0.0), None, True, "nothing to replace"),
        (_found(0.5), "v7", False, "runs beside v7 first"),
        (_found(0.1), None, False, "no more than chance"),
        (_found(0.1), "v7", False, "no more than chance"),
        (_found(0.0), None, False, "not better than the no-change forecast"),
        (_found(0.5, NAN), None, False, "too few independent outcomes"),
        (_found(NAN, NAN), None, False, "not numbers"),
        (_found(NAN, NAN, 0), None, False, "no validation rows"),
    ],
)
def test_a_model_serves_or_challenges_only_on_evidence(
    found: Comparison, incumbent: str | None, promoted: bool, words: str
) -> None:
    decision = decide(found, incumbent=incumbent)
    assert decision.promote is promoted
    assert decision.challenge is ("beside" in words)
    assert words in decision.reason


def test_a_stricter_error_rate_asks_for_more_evidence() -> None:
    evidence = _found(0.15)
    assert decide(evidence, error_rate=0.1).promote
    assert not decide(evidence, error_rate=0.01).promote


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_an_error_rate_that_makes_no_sense_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="error_rate"):
        decide(_found(1.0), error_rate=rate)


def test_a_decision_is_a_value() -> None:
    assert decide(_found(-1.0)) == Decision(promote=False, reason="not better than the no-change forecast")
