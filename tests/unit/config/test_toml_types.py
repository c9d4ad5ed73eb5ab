"""What is written in a TOML file has a type, and the wrong one is not guessed right."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import EX_CONFIG, ConfigurationError
from config.keys import known_keys
from config.ml_config import Settings, load

QUOTED = "in TOML without quotes"


def mistakes_in(folder: Path, text: str) -> dict[str, str]:
    path = folder / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert caught.value.exit_code == EX_CONFIG
    return {mistake.key: str(mistake) for mistake in caught.value.mistakes}


def test_every_value_of_a_wrong_type_is_told_at_once_with_what_to_write(tmp_path: Path) -> None:
    found = mistakes_in(
        tmp_path,
        'symbols = ["BTCUSDT", "BTCUSDT"]\n[training]\nattention = "yes"\nper_symbol = 1\nseed = "42"\n'
        'rounds = "50"\nlearning_rate = "0.1"\nforecast_horizons = [true]\nmodel_types = []\n',
    )

    assert set(found) == {
        "symbols",
        *(
            f"training.{name}"
            for name in (
                *("attention", "per_symbol", "seed", "rounds", "learning_rate"),
                *("forecast_horizons", "model_types"),
            )
        ),
    }
    assert f"attention = 'yes' (file {tmp_path / 'my.toml'}): must be true or false; {QUOTED}" in str(found)
    assert found["training.per_symbol"].endswith(": must be true or false")
    assert found["training.seed"].endswith(f": must be a whole number, at least 0; {QUOTED}")
    assert "each a whole number" in found["training.forecast_horizons"]
    assert "has too few entries; must be a list, each one of 'xgboost'" in found["training.model_types"]
    assert "more than once: BTCUSDT; name it once" in found["symbols"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("features.rsi_period = 14.0", "a whole number"),
        ("features.rsi_period = true", "a whole number"),
        ('training.forecast_horizons = ["5", 15]', QUOTED),
        ('symbols = "BTCUSDT"', "must be a list"),
        ('inference.ensemble_weights = {xgboost = "1"}', "a table, each value a number"),
        ('inference.ensemble_weights = "xgboost"', "a table, each value a number, at least 0"),
        ("market.speed = true", "a number"),
        ('market.structure = "0.1"', QUOTED),
        ("trading.strategy = 7", "must be text, at most 30 small letters"),
        ("pipeline.health_port_base = '9000'", QUOTED),
        ("market.recorded_path = 3", "must be"),
        ("system.log_level = 3", "one of 'debug'"),
        ("market.base_url = 1", "must be text"),
    ],
)
def test_a_wrong_type_is_one_mistake_with_what_is_wanted(tmp_path: Path, line: str, told: str) -> None:
    (found,) = mistakes_in(tmp_path, line).items()

    assert found[0] == line.split(" =")[0]
    assert told in found[1]
    assert ("quotes" in found[1]) is (told == QUOTED)


@pytest.mark.parametrize(
    "line",
    [
        "training.learning_rate = 1",
        "market.speed = 2",
        "market.speed = 'max'",
        "market.from = 2021-04-01",
        "market.from = 2021-04-01T00:00:00Z",
        "market.from = '2021-04-01'",
        "market.from_ms = 1617235200000",
        "inference.ensemble_weights = {xgboost = 1}",
        "market.recorded_path = '/x'",
        "monitoring.webhook_url = 'https://x'",
    ],
)
def test_a_right_type_is_taken(tmp_path: Path, line: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(line)
    try:
        load(path)
    except ConfigurationError as error:
        assert [mistake.key for mistake in error.mistakes] == ["monitoring.webhook_url"]  # noqa: PT017
        assert "a secret does not belong" in str(error)  # noqa: PT017


def test_the_environment_and_the_command_line_are_text_and_parsed() -> None:
    environ = {
        "TIDECAST_TRAINING__ATTENTION": "yes",
        "TIDECAST_TRAINING__PER_SYMBOL": "1",
        "TIDECAST_TRAINING__SEED": "43",
    }
    training = load(None, environ, {"training.rounds": "50", "training.learning_rate": "0.1"}).training

    assert (training.attention, training.per_symbol, training.seed) == (True, True, 43)
    assert (training.rounds, training.learning_rate) == (50, 0.1)
    with pytest.raises(ConfigurationError, match="true and false are no numbers"):
        load(None, {"TIDECAST_TRAINING__FORECAST_HORIZONS": "[true]"})


@pytest.mark.slow
@pytest.mark.parametrize("value", ['"zz"', "1", "1.5", "true", "[]", "[1]", '["a", 2]', "{}"])
def test_no_message_is_the_validators_own(tmp_path: Path, value: str) -> None:
    path = tmp_path / "my.toml"
    foreign = ("should", "a valid", "Tuple", "Value error", "validation,")
    for key in known_keys(Settings).fields:
        path.write_text(f"{key} = {value}\n")
        try:
            load(path)
        except ConfigurationError as error:
            assert not [word for word in foreign if word in str(error)]  # noqa: PT017
