"""The documents' fields and defaults, and what the code promises about loading them."""

from __future__ import annotations

import pickle
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from config.ml_config import DEFAULT_FILE, EX_CONFIG, ConfigurationError, Mistake, Settings, load
from config.sections import INSTALLED_FAMILIES
from config.toml_writer import as_toml

# Every field of the documents' interfaces: spelling there, where it is here, default there.
DOCUMENTED = [
    ("features.rsiPeriod", "features.rsi_period", 14),
    ("features.macdFast", "features.macd_fast", 12),
    ("features.macdSlow", "features.macd_slow", 26),
    ("features.macdSignal", "features.macd_signal", 9),
    ("features.bollingerPeriod", "features.bollinger_period", 20),
    ("features.bollingerStdDev", "features.bollinger_std_dev", 2),
    ("features.stochasticK", "features.stochastic_k", 14),
    ("features.stochasticD", "features.stochastic_d", 3),
    ("features.volatilityWindow", "features.volatility_window", 5),
    ("training.windowSize", "training.window_size", 600),
    ("training.forecastHorizons", "training.forecast_horizons", (5, 15, 30, 60)),
    ("training.validationSplit", "training.validation_split", 0.2),
    ("training.modelTypes", "training.model_types", ("xgboost", "lstm", "ensemble")),
    ("training.batchSize", "training.batch_size", 1000),
    ("training.maxEpochs", "training.max_epochs", 100),
    ("training.earlyStoppingPatience", "training.early_stopping_patience", 10),
    ("inference.confidenceThreshold", "inference.confidence_threshold", 60),
    ("inference.ensembleWeights", "inference.ensemble_weights", {}),
    ("inference.predictionCache", "inference.prediction_cache", True),
    ("inference.maxPredictionAge", "inference.max_prediction_age", 300),
    ("forecasting.horizons", "forecasting.horizons", (5, 15, 30, 60, 240, 1440)),
    ("forecasting.updateFrequency", "forecasting.update_frequency", 60),
    ("forecasting.confidenceDecay", "forecasting.confidence_decay", 0.95),
    ("forecasting.marketRegimes", "forecasting.market_regimes", ("trending", "ranging", "volatile")),
    ("monitoring.completenessThreshold", "monitoring.completeness_threshold", 0.95),
    ("monitoring.alertThresholds.missingData", "monitoring.alert_thresholds.missing_data", 0.1),
    ("monitoring.alertThresholds.staleData", "monitoring.alert_thresholds.stale_data", 300),
    ("monitoring.alertThresholds.invalidValues", "monitoring.alert_thresholds.invalid_values", 0.05),
    ("monitoring.checkInterval", "monitoring.check_interval", 60),
    ("system.environment", "system.environment", "development"),
    ("system.logLevel", "system.log_level", "info"),
    ("system.enableRecovery", "system.enable_recovery", True),
    ("system.maxConcurrentWorkers", "system.max_concurrent_workers", 2),
    ("data.retentionDays", "data.retention_days", 30),
    ("data.compressionThreshold", "data.compression_threshold", 7),
    ("data.backfillBatchSize", "data.backfill_batch_size", 1000),
    ("symbols", "symbols", ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "HBARUSDT")),
    ("exchanges", "exchanges", ("binanceus", "coinbase", "bybit")),
]


def value_at(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def mistakes_of(*arguments: Any) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments)
    return {mistake.key: str(mistake) for mistake in caught.value.mistakes}


def write(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("documented", "key", "default"), DOCUMENTED, ids=[row[0] for row in DOCUMENTED])
def test_a_documented_field_is_there_with_its_default(documented: str, key: str, default: Any) -> None:
    assert value_at(load(), key) == default


@pytest.mark.parametrize(("documented", "key", "default"), DOCUMENTED, ids=[row[0] for row in DOCUMENTED])
def test_the_documents_spelling_is_understood(documented: str, key: str, default: Any) -> None:
    assert value_at(load(None, {}, {documented: default}), key) == default


def test_a_file_in_the_documents_spelling_loads(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'exchanges = ["binance-us", "bybit"]\n[features]\nrsiPeriod = 9\n'
        '[training]\nmodelTypes = ["xgboost", "lstm", "ensemble"]\n'
        "[monitoring.alertThresholds]\nstaleData = 60\n[system]\nlogLevel = 'debug'\n",
    )
    settings = load(path)
    assert settings.exchanges == ("binanceus", "bybit")
    assert settings.features.rsi_period == 9
    assert settings.monitoring.alert_thresholds.stale_data == 60
    assert settings.system.log_level == "debug"
    assert settings.training.installed_model_types == INSTALLED_FAMILIES


def test_a_family_that_is_not_installed_is_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.sections.INSTALLED_FAMILIES", ("xgboost", "ensemble"))
    settings = load(None, {}, {"training.model_types": ["xgboost", "lstm", "ensemble"]})
    assert settings.training.installed_model_types == ("xgboost", "ensemble")
    assert "lstm not installed" in settings.notices()[0]
    mistakes = mistakes_of(None, {}, {"training.model_types": ["lstm"]})
    assert "none of these is installed" in mistakes["training.model_types"]


def test_default_toml_is_what_the_writer_writes_and_equals_the_code() -> None:
    assert DEFAULT_FILE.read_text() == as_toml(Settings(), explain=True)
    assert load() == Settings()


def test_every_key_of_default_toml_is_explained() -> None:
    lines = DEFAULT_FILE.read_text().splitlines()
    for before, line in pairwise(lines):
        if " =" in line and not line.startswith("# "):
            assert before.startswith("# "), line
    tomllib.loads("\n".join(lines))


def test_later_sources_win_in_the_stated_order(tmp_path: Path) -> None:
    path = write(tmp_path, "[features]\nrsi_period = 2\nmacd_fast = 3\nmacd_slow = 4\nbollinger_period = 5\n")
    environ = {
        "TIDECAST_FEATURES__MACD_FAST": "6",
        "TIDECAST_FEATURES__MACD_SLOW": "7",
        "TIDECAST_FEATURES__stochasticK": "9",
    }
    features = load(path, environ, {"features.macd_slow": 8, "features.stochasticD": "4"}).features
    assert (features.macd_signal, features.rsi_period, features.bollinger_period) == (9, 2, 5)
    assert (features.macd_fast, features.macd_slow) == (6, 8)
    assert (features.stochastic_k, features.stochastic_d) == (9, 4)


def test_the_environment_holds_lists_tables_and_truth_values() -> None:
    environ = {
        "TIDECAST_SYMBOLS": "BTCUSDT, ETHUSDT",
        "TIDECAST_TRAINING__FORECAST_HORIZONS": "[5, 15]",
        "TIDECAST_INFERENCE__ENSEMBLE_WEIGHTS": '{"xgboost": 2}',
        "TIDECAST_TRADING__ENABLED": "false",
        "TIDECAST_MARKET__SPEED": "max",
        "TIDECAST_MARKET__FROM": "2021-04-01",
        "TIDECAST_MARKET__TO": "2021-04-02T00:00:00+00:00",
        "TIDECAST_POSTGRES_URL": "postgresql://me:pw@db/tidecast",
        "TIDECAST_REDIS_URL": "rediss+sentinel://:pw@a:26379,b:26379/main/0",
        "TIDECAST_DATA__RETENTION_DAYS": "",
        "TIDECAST_DIR": "/somewhere",
        "TIDECAST_OF_SOMEBODY_ELSE": "x",
        "PATH": "/bin",
    }
    settings = load(None, environ)
    assert settings.symbols == ("BTCUSDT", "ETHUSDT")
    assert settings.training.forecast_horizons == (5, 15)
    assert settings.inference.ensemble_weights == {"xgboost": 2}
    assert settings.trading.enabled is False
    assert settings.market.speed == "max"
    assert (settings.market.from_ms, settings.market.to_ms) == (1_617_235_200_000, 1_617_321_600_000)
    assert settings.servers.postgres_url is not None
    assert settings.servers.postgres_url.get_secret_value() == "postgresql://me:pw@db/tidecast"
    assert settings.data.retention_days == 30


def test_weights_may_name_any_member_where_there_is_an_ensemble() -> None:
    settings = load(
        None, {}, {"training.model_types": ["ensemble"], "inference.ensemble_weights": {"ridge": 1}}
    )
    assert settings.inference.ensemble_weights == {"ridge": 1}


def test_a_weight_for_what_is_not_installed_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.cross_checks.INSTALLED_FAMILIES", ("xgboost", "ensemble"))
    mistakes = mistakes_of(None, {}, {"inference.ensemble_weights": {"lstm": 1, "xgboost": 1}})
    assert "pip install 'tidecast[deep]'" in mistakes["inference.ensemble_weights"]
    assert load(None, {}, {"inference.ensemble_weights": {"lstm": 0, "xgboost": 1}})


def test_none_among_the_overrides_counts_as_not_given() -> None:
    assert load(None, {}, {"market.seed": None}) == Settings()


def test_binance_us_is_binanceus_everywhere() -> None:
    settings = load(None, {}, {"market.exchange": "binance-us", "market.protocol": "binance-us"})
    assert settings.market.exchange == "binanceus"
    assert settings.market.wire_exchange == "binanceus"
    assert not settings.market.is_simulated


def test_the_default_market_is_simulated_and_speaks_its_protocol() -> None:
    market = load(None, {}, {"market.protocol": "coinbase"}).market
    assert market.is_simulated
    assert market.wire_exchange == "coinbase"


def test_all_mistakes_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'symbols = ["BTCUSDT", "eth"]\nretntion_days = 3\n[features]\nrsiPeriud = 4\nmacdFast = 40\n'
        "rsi_period = true\n[training]\nvalidation_split = 1.5\n",
    )
    environ = {"TIDECAST_TRADING__HORIZON_MINUTES": "7", "TIDECAST_POSTGRES_ULR": "x"}
    found = mistakes_of(path, environ, {"data.retention_days": "many", "market.sped": 2})
    assert set(found) == {
        "symbols",
        "retntion_days",
        "features.rsi_periud",
        "features.rsi_period",
        "features.macd_fast",
        "training.validation_split",
        "trading.horizon_minutes",
        "TIDECAST_POSTGRES_ULR",
        "data.retention_days",
        "market.sped",
    }
    assert "did you mean features.rsi_period?" in found["features.rsi_periud"]
    assert "did you mean data.retention_days?" in found["retntion_days"]
    assert "did you mean TIDECAST_POSTGRES_URL?" in found["TIDECAST_POSTGRES_ULR"]
    assert "did you mean market.speed?" in found["market.sped"]
    assert "1.5" in found["training.validation_split"]
    assert "more than 0, less than 1" in found["training.validation_split"]
    assert "my.toml" in found["training.validation_split"]
    assert "'many' (command line): must be a whole number, at least 1" in found["data.retention_days"]
    assert "TIDECAST_TRADING__HORIZON_MINUTES" in found["trading.horizon_minutes"]


def test_the_exit_code_is_that_of_a_wrong_configuration() -> None:
    assert EX_CONFIG == ConfigurationError.exit_code == 78


@pytest.mark.parametrize(
    ("overrides", "blamed"),
    [
        ({"features.macd_fast": 26}, "features.macd_fast"),
        ({"symbols": ["BTCUSDT", "BTCUSDT"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"symbols": ["btc-usd"]}, "symbols"),
        ({"features.leader": "DOGEUSDT"}, "features.leader"),
        ({"features.reference_symbols": ["DOGEUSDT"]}, "features.reference_symbols"),
        ({"training.forecast_horizons": [15, 5]}, "training.forecast_horizons"),
        ({"training.forecast_horizons": [5, 15, 15]}, "training.forecast_horizons"),
        ({"training.forecast_horizons": [0, 15]}, "training.forecast_horizons"),
        ({"training.forecast_horizons": []}, "training.forecast_horizons"),
        ({"training.window_size": 60}, "training.forecast_horizons"),
        ({"training.validation_split": 0}, "training.validation_split"),
        ({"training.validation_split": 1}, "training.validation_split"),
        ({"training.model_types": ["xgbost"]}, "training.model_types"),
        (
            {"training.model_types": ["xgboost"], "inference.ensemble_weights": {"lstm": 1}},
            "inference.ensemble_weights",
        ),
        (
            {"training.model_types": ["ensemble"], "inference.ensemble_weights": {"ensemble": 1}},
            "inference.ensemble_weights",
        ),
        ({"inference.ensemble_weights": {"xgboost": 0}}, "inference.ensemble_weights"),
        ({"inference.confidence_threshold": 101}, "inference.confidence_threshold"),
        ({"forecasting.horizons": [60, 5]}, "forecasting.horizons"),
        ({"forecasting.update_frequency": 90}, "forecasting.update_frequency"),
        ({"trading.horizon_minutes": 7}, "trading.horizon_minutes"),
        ({"data.compression_threshold": 31}, "data.compression_threshold"),
        ({"market.speed": 0}, "market.speed"),
        ({"market.speed": float("nan")}, "market.speed"),
        ({"market.speed": "fast"}, "market.speed"),
        ({"market.exchange": "binance"}, "market.exchange"),
        ({"market.exchange": "bybit", "exchanges": ["coinbase"]}, "market.exchange"),
        ({"market.exchange": "bybit", "market.recorded_path": "/x"}, "market.recorded_path"),
        ({"market.from": "2021-04-02", "market.to": "2021-04-01"}, "market.from_ms"),
        ({"market.from": "2021-04-02T00:00:30Z"}, "market.from_ms"),
        ({"market.base_url": "http://example.org"}, "market.base_url"),
        ({"market.base_url": "http://127.0.0.1:99999"}, "market.base_url"),
        ({"market.api_key": "k"}, "market.api_key"),
        ({"servers.redis_url": "http://x"}, "servers.redis_url"),
        ({"servers.postgres_url": "mysql://x"}, "servers.postgres_url"),
        ({"servers.postgres_url": "postgresql://u:p@h:99999/d"}, "servers.postgres_url"),
        ({"symbols": ["BTCUSDT", "BTCUSDT", "no good"]}, "symbols"),
        ({"monitoring.webhook_url": "ftp://x"}, "monitoring.webhook_url"),
        ({"pipeline.health_port_base": 80}, "pipeline.health_port_base"),
        ({"features": 3}, "features"),
        ({"features.rsi_period": 10**5000}, "features.rsi_period"),
    ],
)
def test_what_cannot_be_is_one_mistake_at_the_key_to_blame(overrides: dict[str, Any], blamed: str) -> None:
    assert set(mistakes_of(None, {}, overrides)) == {blamed}


def test_two_spellings_of_one_key_in_one_file_are_a_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, "[features]\nrsi_period = 3\nrsiPeriod = 4\n")
    assert "two spellings" in mistakes_of(path)["features.rsi_period"]


@pytest.mark.parametrize("text", ["", "[features]\n", "[inference.ensembleWeights]\nxgboost = 1.0\n"])
def test_empty_files_empty_sections_and_tables_of_free_names_are_fine(tmp_path: Path, text: str) -> None:
    load(write(tmp_path, text))


def test_a_missing_file_is_reported_beside_the_other_mistakes(tmp_path: Path) -> None:
    found = mistakes_of(tmp_path / "nowhere.toml", {"TIDECAST_MARKET__SEED": "x"})
    assert set(found) == {str(tmp_path / "nowhere.toml"), "market.seed"}


def test_the_first_symbol_leads_where_nobody_chose_a_leader() -> None:
    settings = load(None, {}, {"symbols": ["ETHUSDT", "SOLUSDT"]})
    assert settings.features.leader == "ETHUSDT"
    assert settings.references == ("ETHUSDT", "SOLUSDT")


def test_references_are_the_first_twenty_symbols_and_the_leader() -> None:
    symbols = [f"S{number:03d}USDT" for number in range(100)]
    settings = load(None, {}, {"symbols": symbols, "features.leader": "S050USDT"})
    assert settings.references == ("S050USDT", *symbols[:19])
    assert load(None, {}, {"features.reference_symbols": ["BTCUSDT", "SOLUSDT"]}).references == (
        "BTCUSDT",
        "SOLUSDT",
    )


def test_settings_are_frozen_all_the_way_down_and_survive_pickling() -> None:
    settings = load(None, {"TIDECAST_REDIS_URL": "redis://:secret@h"})

    def freeze_is_kept(model: BaseModel) -> None:
        for name in type(model).model_fields:
            with pytest.raises(ValidationError):
                setattr(model, name, 1)
            if isinstance(value := getattr(model, name), BaseModel):
                freeze_is_kept(value)

    freeze_is_kept(settings)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_constructor_reads_nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMBOLS", '["ETHUSDT"]')
    monkeypatch.setenv("DATA", '{"retention_days": 1}')
    assert Settings() == load()


def test_what_the_launcher_writes_is_read_back_equal(tmp_path: Path) -> None:
    settings = load(
        None,
        {},
        {
            "symbols": ["ETHUSDT", "SOLUSDT"],
            "market.recorded_path": 'C:\\a "b"\x7f',
            "market.speed": "max",
            "market.from": "2021-04-01",
            "inference.ensemble_weights": {"xgboost": 0.1},
            "features.extra_indicators": ["vwma"],
        },
    )
    assert load(write(tmp_path, as_toml(settings))) == settings


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:topsecret@127.0.0.1:99999/d", "port must be a number from 1 to 65535"),
        ("postgresql://u:topsecret@127.0.0.1:0/d", "port must be"),
        ("postgresql://u:topsecret@h/d?port=70000", "port must be"),
        ("postgresql://u:topsecret/x@h/d", "percent-encoded"),
        ("postgresql://u:topsecret@x@h/d", "percent-encode"),
        ("postgresql://u:topsecret#x@h/d", "percent-encode"),
        ("postgresql://u:topsecret%zz@h/d", "percent-encode"),
        ("postgresql://u:[topsecret@h/d", "percent-encode"),
        ("postgresql://u:topsecret@h/%ff", "cannot be read"),
        ("postgresql://u:topsecret@/d", "names no host"),
        ("postgresql://u:topsecret@h/", "names no database"),
    ],
)
def test_a_postgresql_url_that_cannot_be_read_is_named_without_its_password(url: str, problem: str) -> None:
    found = mistakes_of(None, {"TIDECAST_POSTGRES_URL": url, "TIDECAST_REDIS_URL": "http://topsecret"})
    assert set(found) == {"servers.postgres_url", "servers.redis_url"}
    assert problem in found["servers.postgres_url"]
    assert "topsecret" not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40%2F@h:5432/d?sslmode=verify-full",
        "postgres://u@[::1]:1/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u@h?dbname=d&port=65535",
    ],
)
def test_a_postgresql_url_that_can_be_read_is_taken(url: str) -> None:
    servers = load(None, {"TIDECAST_POSTGRES_URL": url}).servers
    assert servers.postgres_url is not None
    assert servers.postgres_url.get_secret_value() == url


def test_a_repeated_symbol_is_told_beside_a_wrong_one() -> None:
    found = mistakes_of(None, {}, {"symbols": ["BTCUSDT", "BTCUSDT", "no good"]})
    assert found["symbols"].endswith("; the same entry more than once: BTCUSDT; name it once")


def test_checks_of_the_caller_are_told_beside_the_other_mistakes_with_where_it_was_set() -> None:
    def check(settings: Settings) -> None:
        assert settings.market.seed == 3
        assert settings.features.rsi_period == 14
        raise ConfigurationError([Mistake(key="market.seed", problem="is unlucky")])

    with pytest.raises(ConfigurationError) as caught:
        load(None, {}, {"features.rsi_period": 0, "market.seed": 3}, [check])
    found = [str(mistake) for mistake in caught.value.mistakes]
    assert len(found) == 2
    assert found[1] == "market.seed (command line): is unlucky"
