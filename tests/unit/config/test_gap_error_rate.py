from __future__ import annotations

import pytest

from config.errors import ConfigurationError
from config.ml_config import load


def test_the_rate_of_false_alarms_is_a_setting() -> None:
    assert load().drift.gap_error_rate == 0.05
    assert load(overrides={"drift.gap_error_rate": "0.01"}).drift.gap_error_rate == 0.01


@pytest.mark.parametrize("rate", [0, -0.1, 0.5, 1, float("nan"), "often"])
def test_a_rate_that_is_none_is_a_mistake_at_its_key(rate: float | str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(overrides={"drift.gap_error_rate": rate})
    assert [mistake.key for mistake in caught.value.mistakes] == ["drift.gap_error_rate"]
