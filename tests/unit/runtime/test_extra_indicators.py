"""Indicators of the user's choice are settled before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.folder import settings_for_start
from config.errors import ConfigurationError
from config.ml_config import load
from runtime.extra_indicators import extra_indicators_of


def test_the_launcher_names_every_unknown_indicator_and_the_nearest_known_one(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[features]\nextra_indicators = ["vwmaa", "ema(length=20)", "supertrendd"]\n')
    with pytest.raises(ConfigurationError) as caught:
        settings_for_start(config, {})
    assert [mistake.value for mistake in caught.value.mistakes] == ['"vwmaa"', '"supertrendd"']
    assert "did you mean vwma" in str(caught.value)
    assert "supertrend" in caught.value.mistakes[1].problem


def test_unknown_indicators_and_unreadable_servers_are_told_beside_every_other_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "my.toml"
    config.write_text('[features]\nextra_indicators = ["nope", "nope"]\nrsi_period = 0\n')
    monkeypatch.setenv("TIDECAST_REDIS_URL", "redis://:topsecret@h:99999")
    monkeypatch.setenv("TIDECAST_POSTGRES_URL", "postgresql://u:topsecret@h:99999/d")
    with pytest.raises(ConfigurationError) as caught:
        settings_for_start(config, {})
    assert sorted(mistake.key for mistake in caught.value.mistakes) == [
        "features.extra_indicators",
        "features.extra_indicators",
        "features.rsi_period",
        "servers.postgres_url",
        "servers.redis_url",
    ]
    assert "topsecret" not in str(caught.value)


def test_two_that_give_the_same_column_are_refused() -> None:
    settings = load(None, {}, {"features.extra_indicators": ["ema", "ema(length=10)"]})
    with pytest.raises(ConfigurationError, match="the same columns: EMA_10"):
        extra_indicators_of(settings, ("BTCUSDT",))


def test_what_is_wanted_is_built() -> None:
    settings = load(None, {}, {"features.extra_indicators": ["vwma", "willr"]})
    extra = extra_indicators_of(settings, ("BTCUSDT",))
    assert extra is not None
    assert extra.columns == ("VWMA_10", "WILLR_14")
    assert extra_indicators_of(load(None, {}), ("BTCUSDT",)) is None


@pytest.mark.slow
def test_who_wants_none_does_not_load_the_library() -> None:
    code = (
        "import sys; from cli.folder import settings_for_start; settings_for_start(None, {}); "
        "sys.exit('pandas_ta_classic' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
