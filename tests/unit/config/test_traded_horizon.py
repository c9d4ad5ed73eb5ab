from __future__ import annotations

from pathlib import Path

import pytest

from config.ml_config import ConfigurationError, load


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("horizons", "traded"), [("[5]", 5), ("[5, 30]", 5), ("[30, 60]", 30), ("[5, 15]", 15)]
)
def test_whoever_chooses_horizons_and_none_to_trade_trades_the_nearest(
    tmp_path: Path, horizons: str, traded: int
) -> None:
    settings = load(file(tmp_path, f"[training]\nforecast_horizons = {horizons}\n"))
    assert settings.trading.horizon_minutes == traded


def test_horizons_of_the_command_line_outweigh_the_one_that_a_file_trades(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "[training]\nforecast_horizons = [5, 60]\nwindow_size = 90\n[trading]\nhorizon_minutes = 60\n",
    )
    assert load(path).trading.horizon_minutes == 60
    settings = load(path, {}, {"training.forecast_horizons": "5,15"})
    assert settings.training.forecast_horizons == (5, 15)
    assert settings.trading.horizon_minutes == 15


@pytest.mark.parametrize(
    "overrides", [{}, {"training.forecast_horizons": "5", "trading.horizon_minutes": "15"}]
)
def test_a_horizon_that_is_chosen_to_be_traded_and_not_trained_stays_a_mistake(
    tmp_path: Path, overrides: dict[str, str]
) -> None:
    path = file(tmp_path, "[training]\nforecast_horizons = [5]\n[trading]\nhorizon_minutes = 15\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, {}, overrides)
    (mistake,) = caught.value.mistakes
    assert mistake.key == "trading.horizon_minutes"
    assert "must be one of training.forecast_horizons (5)" in mistake.problem


@pytest.mark.parametrize("horizons", ["inf", "[inf]", "[nan]", '"all"', "[]", "[[5]]"])
def test_horizons_that_are_none_are_told_alone(tmp_path: Path, horizons: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file(tmp_path, f"[training]\nforecast_horizons = {horizons}\n"))
    assert [mistake.key for mistake in caught.value.mistakes] == ["training.forecast_horizons"]


def test_horizons_as_long_as_the_first_history_are_named_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {"training.forecast_horizons": "5,240,300", "training.window_size": "240"})
    (mistake,) = caught.value.mistakes
    assert mistake.key == "training.forecast_horizons"
    for words in (
        "240, 300 minutes",
        "training.window_size (240 minutes)",
        "leave out 240, 300",
        "above 300",
    ):
        assert words in mistake.problem
