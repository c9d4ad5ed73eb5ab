"""The sections of the documents' MLSystemConfig, with the documents' defaults and what we added to them.

Names are the documents' own in snake_case, so that either spelling works; where such a name does not carry
its unit, the description does.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from config.base import (
    AtLeastTwo,
    Count,
    Fraction,
    NotNegative,
    NoTruthValue,
    Positive,
    Section,
    Symbol,
    Whole,
)

ModelFamily = Literal["xgboost", "lstm", "ensemble"]
#: Families that can be trained and served here; an LSTM where PyTorch is installed (`tidecast[deep]`).
INSTALLED_FAMILIES: tuple[ModelFamily, ...] = (
    ("xgboost", "lstm", "ensemble") if find_spec("torch") is not None else ("xgboost", "ensemble")
)
#: Whether settings can be tuned here (`tidecast[tune]`).
TUNING_IS_INSTALLED = find_spec("optuna") is not None
#: Families that an ensemble may be made of.
ENSEMBLE_MEMBERS = ("xgboost", "lstm", "ridge")
INDICATOR_PATTERN = r"^[a-z][a-z0-9_]*(\(.*\))?$"
STRATEGY_PATTERN = r"^[a-z][a-z0-9_-]{0,29}$"
Regime = Literal["trending", "ranging", "volatile"]
Horizon = Annotated[int, Field(ge=1, le=10_080), NoTruthValue]
Horizons = Annotated[tuple[Horizon, ...], Field(min_length=1, max_length=32)]


class SystemSettings(Section):
    """The program as a whole."""

    environment: Literal["development", "production"] = Field(
        "development", description="Where this runs; written into every log line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log record that is printed and kept."
    )
    enable_recovery: bool = Field(
        True,
        description="Go on from the last checkpoint; false starts from now, ignoring checkpoints. A replay"
        " always goes on.",
    )
    max_concurrent_workers: Count = Field(
        2, description="Training processes at the same time; live at most one fewer than processors."
    )


class DataSettings(Section):
    """What is fetched and how long it is kept."""

    retention_days: Count = Field(30, description="Days of candles kept, counted in event time.")
    compression_threshold: Count = Field(
        7, description="Days after which a day of candles is held compressed, still readable under its name."
    )
    backfill_batch_size: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1000, description="Candles asked for in one request when history is fetched."
    )
    history_days: NotNegative = Field(3, description="Days of history fetched at the very first start.")
    max_gap_minutes: Count = Field(
        5, description="Absent minutes in a row after which the indicators start warming again."
    )
    max_hole_minutes: Count = Field(
        10, description="Minutes a missing candle is asked for again before it counts as absent."
    )
    sample_thinning_minutes: Count = Field(
        5, description="Every how many minutes a training sample is written for readers; 1 writes all."
    )
    score_retention_days: Count = Field(
        730,
        description="Days of scores kept, retention_days at least; those of a model as long as it serves, and"
        " so many days more.",
    )
    retention_in_replay: bool = Field(False, description="Drop old days in a replay too.")


class FeatureSettings(Section):
    """Indicators and the model's vector. Periods are in candles of one minute."""

    rsi_period: AtLeastTwo = Field(14, description="RSI, minutes.")
    macd_fast: AtLeastTwo = Field(12, description="MACD's fast average, minutes; less than macd_slow.")
    macd_slow: AtLeastTwo = Field(26, description="MACD's slow average, minutes.")
    macd_signal: AtLeastTwo = Field(9, description="MACD's signal average, minutes.")
    bollinger_period: AtLeastTwo = Field(20, description="Bollinger bands, minutes.")
    bollinger_std_dev: Positive = Field(
        2.0, description="Half width of the Bollinger bands, standard deviations."
    )
    stochastic_k: AtLeastTwo = Field(14, description="Stochastic oscillator's %K, minutes.")
    stochastic_d: Count = Field(3, description="Smoothing of %K to %D, minutes.")
    volatility_window: AtLeastTwo = Field(5, description="Volatility of one-minute returns, minutes.")
    reference_symbols: Annotated[tuple[Symbol, ...], Field(max_length=64)] = Field(
        (), description="Symbols whose previous minute others look at; empty means all of them up to 20."
    )
    leader: Symbol = Field(
        "BTCUSDT",
        description="The symbol that beta and lead-lag are measured against. Where nobody sets it and it is"
        " not among the symbols, the first symbol takes its place.",
    )
    extra_indicators: tuple[Annotated[str, Field(pattern=INDICATOR_PATTERN)], ...] = Field(
        (), description="Indicators of pandas-ta added to the rows by name, for example ['vwma', 'willr']."
    )


class TrainingSettings(Section):
    """When models are trained, on what, and how."""

    window_size: Annotated[int, Field(ge=10, le=10**7)] = Field(
        600, description="Minutes of data that the first training waits for."
    )
    forecast_horizons: Horizons = Field(
        (5, 15, 30, 60), description="Minutes ahead that models are trained for, ascending."
    )
    validation_split: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="Fraction of the rows, the latest ones, kept for validation."
    )
    model_types: Annotated[tuple[ModelFamily, ...], Field(min_length=1)] = Field(
        ("xgboost", "lstm", "ensemble"),
        description="Model families: 'xgboost', 'lstm' (needs PyTorch: pip install 'tidecast[deep]'), and"
        " 'ensemble' of several; what is not installed is left out. Of those that serve the same, the last"
        " one named here is asked.",
    )
    batch_size: Count = Field(1000, description="Rows in one batch of families that learn in batches.")
    max_epochs: Count = Field(100, description="Passes over the data, for families that learn in passes.")
    early_stopping_patience: Count = Field(
        10, description="Rounds or epochs without a better validation score before training stops."
    )
    retrain_every_minutes: Count = Field(
        10_080, description="Minutes of event time between trainings (10080 is a week)."
    )
    activation_delay_minutes: Whole = Field(
        5, description="Minutes of event time between the last data of a training and the model's first use."
    )
    shadow_minutes: Count = Field(
        1440,
        description="Minutes of event time that a new model runs beside the one in production before it may"
        " replace it: at most half of retrain_every_minutes, at least 24 of its horizons.",
    )
    promotion_error_rate: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1,
        description="How often a model is promoted that is worse by the margin or no better, 0 to 0.5.",
    )
    promotion_margin: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01,
        description="How much worse a retrained model may be than the one it replaces: a share of the squared"
        " error of the no-change forecast.",
    )
    per_symbol: bool = Field(False, description="One model per symbol instead of one for all symbols.")
    training_mode: Literal["batch", "online", "transfer"] = Field(
        "batch",
        description="How a retraining begins: anew on all rows kept (batch), from the model in production on"
        " the rows since (online), or, where there is none yet, from another symbol's model (transfer).",
    )
    joint_horizons: Literal["family", "always", "never"] = Field(
        "family",
        description="One model for all horizons at once: as is usual for the model family, always, or never.",
    )
    ensemble_weighting: Literal["skill", "regime", "stacked", "equal"] = Field(
        "skill",
        description="How an ensemble weighs its members: by their skill in validation, by that in each regime"
        " (trending, ranging, volatile), by least squares on what models of earlier rows say of later ones"
        " (takes four times as long), or equally.",
    )
    lookback_minutes: Annotated[int, Field(ge=2, le=1440)] = Field(
        60, description="Minutes that families which look back are shown, the newest one included."
    )
    hidden_size: Annotated[int, Field(ge=1, le=1024)] = Field(32, description="Cells of the LSTM's layer.")
    attention: bool = Field(
        False, description="Let the LSTM look back at all minutes of its window, not only at where it ended."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks learn; 'auto' is a GPU where there is one. They serve on the CPU."
    )
    seed: Whole = Field(42, description="Seed of everything random in a training.")
    rounds: Count = Field(200, description="Boosting rounds at most.")
    max_depth: Annotated[int, Field(ge=1, le=32)] = Field(4, description="Depth of a tree, levels.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="Share of each new tree, 0 to 1."
    )
    subsample: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="Share of the rows each tree sees."
    )
    tuning_trials: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="Settings that each training tries before it learns, those given here among them (needs"
        " Optuna: pip install 'tidecast[tune]'); each learns three times, from parts of the rows. 0: none.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Threads of one training; fixed, because the result depends on it."
    )

    @property
    def installed_model_types(self) -> tuple[ModelFamily, ...]:
        """The wished families that this version has."""
        return tuple(name for name in self.model_types if name in INSTALLED_FAMILIES)


class InferenceSettings(Section):
    """When a prediction becomes a signal."""

    confidence_threshold: Annotated[float, Field(ge=0, le=100)] = Field(
        60, description="Confidence, 0 to 100, below which a signal is WAIT."
    )
    ensemble_weights: Mapping[str, NotNegative] = Field(
        default_factory=dict,
        description="Weight of each model family in an ensemble; empty leaves it to"
        " training.ensemble_weighting.",
    )
    dissimilarity_limit: Positive = Field(
        1.0,
        description="How unlike its training rows a minute may be before a model's signal is WAIT; at 1 about"
        " one training row in a thousand would have been.",
    )
    prediction_cache: bool = Field(
        True, description="Keep the latest prediction of every symbol and horizon for readers."
    )
    max_prediction_age: Positive = Field(
        300, description="Seconds after the event time within which a prediction may be acted on."
    )


class ForecastSettings(Section):
    """The forecasts written for users."""

    horizons: Horizons = Field(
        (5, 15, 30, 60, 240, 1440), description="Minutes ahead that are forecast, ascending."
    )
    update_frequency: Annotated[int, Field(ge=60, le=86_400, multiple_of=60)] = Field(
        60, description="Seconds between forecasts of a symbol, a multiple of 60."
    )
    confidence_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="Share of the confidence left after each minute (longer horizons decay slower)."
    )
    market_regimes: Annotated[tuple[Regime, ...], Field(min_length=1)] = Field(
        ("trending", "ranging", "volatile"), description="Market conditions that are told apart."
    )


class AlertThresholds(Section):
    """How bad it may get before an alert."""

    missing_data: Fraction = Field(0.1, description="Fraction of the expected minutes missing.")
    stale_data: Positive = Field(300, description="Seconds without a new candle.")
    invalid_values: Fraction = Field(0.05, description="Fraction of the rows with values that cannot be.")


class MonitorSettings(Section):
    """Data quality."""

    completeness_threshold: Fraction = Field(0.95, description="Fraction of complete rows that is wanted.")
    check_interval: Annotated[int, Field(ge=60, le=86_400, multiple_of=60)] = Field(
        60, description="Seconds of event time between checks, a multiple of 60."
    )
    webhook_url: SecretStr | None = Field(
        None, description="Where alerts are posted as JSON; a secret (TIDECAST_MONITORING__WEBHOOK_URL)."
    )
    alert_thresholds: AlertThresholds = Field(default_factory=AlertThresholds)

    @field_validator("webhook_url")
    @classmethod
    def _is_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value


class TradingSettings(Section):
    """Simulated trades."""

    strategy: Annotated[str, Field(pattern=STRATEGY_PATTERN)] = Field(
        "main", description="Name written into every trade."
    )
    horizon_minutes: Horizon = Field(15, description="Forecast horizon that is traded, minutes.")
    fee_bps: Annotated[float, Field(ge=0, le=1000)] = Field(10, description="Fee of a fill, basis points.")
    slippage_bps: Annotated[float, Field(ge=0, le=1000)] = Field(
        2, description="How much worse than the candle's price a fill is, basis points."
    )
    take_profit_atr: Positive = Field(2.0, description="Distance of the take-profit, multiples of the ATR.")
    stop_loss_atr: Positive = Field(1.5, description="Distance of the stop-loss, multiples of the ATR.")
    enabled: bool = Field(True, description="Open trades at all.")


class PipelineSettings(Section):
    """How the work is cut into pieces; that changes no row."""

    partitions: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Partitions of the symbols, fixed when a data folder is born."
    )
    max_batch_rows: Count = Field(4000, description="Candles in one batch at most.")
    max_batch_minutes: Count = Field(600, description="Minutes of event time in one batch at most.")
    snapshot_minutes: Count = Field(60, description="Minutes of event time between snapshots of the state.")
    replay: bool = Field(False, description="Recorded candles are played: no live rules, no wall clock.")
    max_lag_minutes: Count = Field(
        1200, description="Minutes of event time that a stage may run ahead of the slowest one after it."
    )
    health_port_base: Annotated[int, Field(ge=1024, le=65_000)] | None = Field(
        None,
        description="First loopback port of the workers' /health and /metrics; absent means any free port.",
    )
