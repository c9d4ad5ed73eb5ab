"""What must hold between settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from config.sections import ENSEMBLE_MEMBERS, INSTALLED_FAMILIES, TUNING_IS_INSTALLED

if TYPE_CHECKING:
    from config.ml_config import Settings

#: A broken rule: the keys it is about (the first is to blame) and what is wrong.
Broken = tuple[tuple[str, ...], str]
#: Lists of names in which each may stand once.
WITHOUT_REPEATS = (
    "symbols",
    "exchanges",
    "features.reference_symbols",
    "features.extra_indicators",
    "training.model_types",
    "forecasting.market_regimes",
)


def broken_rules(settings: Settings) -> Iterator[Broken]:
    """Go through all rules, and say which do not hold."""
    for rule in _RULES:
        yield from rule(settings)


def repeats_in(values: Sequence[object]) -> str | None:
    """Say which texts a list holds more than once; None where there are none."""
    texts = [value for value in values if isinstance(value, str)]
    repeated = sorted(text for text, times in Counter(texts).items() if times > 1)
    return f"the same entry more than once: {', '.join(repeated)}; name it once" if repeated else None


def _indicators(settings: Settings) -> Iterator[Broken]:
    features = settings.features
    if features.macd_fast >= features.macd_slow:
        keys = ("features.macd_fast", "features.macd_slow")
        yield keys, f"must be less than features.macd_slow ({features.macd_slow})"


def _lists_without_repeats(settings: Settings) -> Iterator[Broken]:
    for key in WITHOUT_REPEATS:
        if problem := repeats_in(attrgetter(key)(settings)):
            yield (key,), problem


def _horizons(settings: Settings) -> Iterator[Broken]:
    for key, horizons in {
        "training.forecast_horizons": settings.training.forecast_horizons,
        "forecasting.horizons": settings.forecasting.horizons,
    }.items():
        if list(horizons) != sorted(set(horizons)):
            yield (key,), "must be ascending, each horizon once"
    window = settings.training.window_size
    if too_long := tuple(each for each in settings.training.forecast_horizons if each >= window):
        keys = ("training.forecast_horizons", "training.window_size")
        yield (
            keys,
            f"{_listed(too_long)} minutes: every horizon must be shorter than the history that the first"
            f" training waits for, training.window_size ({window} minutes); leave out {_listed(too_long)}, or"
            f" raise training.window_size above {max(too_long)}",
        )
    if settings.trading.horizon_minutes not in settings.training.forecast_horizons:
        keys = ("trading.horizon_minutes", "training.forecast_horizons")
        yield (
            keys,
            f"must be one of training.forecast_horizons ({_listed(settings.training.forecast_horizons)})",
        )


def _symbols(settings: Settings) -> Iterator[Broken]:
    features, known = settings.features, set(settings.symbols)
    if features.leader not in known:
        yield ("features.leader", "symbols"), "must be one of symbols"
    if strangers := [name for name in features.reference_symbols if name not in known]:
        yield ("features.reference_symbols", "symbols"), f"not among symbols: {', '.join(strangers)}"


def _families(settings: Settings) -> Iterator[Broken]:
    if not settings.training.installed_model_types:
        yield (
            ("training.model_types",),
            f"none of these is installed; installed: {', '.join(INSTALLED_FAMILIES)}",
        )


def _weights(settings: Settings) -> Iterator[Broken]:
    weights = settings.inference.ensemble_weights
    known: set[str] = set(settings.training.model_types)
    if "ensemble" in known:
        known = known - {"ensemble"} | set(ENSEMBLE_MEMBERS)
    if strangers := sorted(set(weights) - known):
        keys = ("inference.ensemble_weights", "training.model_types")
        there = _listed(tuple(sorted(known)))
        yield keys, f"no such model family here: {', '.join(map(repr, strangers))}; there is {there}"
    if weights.get("lstm", 0) > 0 and "lstm" not in INSTALLED_FAMILIES:
        yield (
            ("inference.ensemble_weights",),
            "lstm needs PyTorch, which is not installed: pip install 'tidecast[deep]', or give it no weight",
        )
    if weights and not any(weights.values()):
        yield ("inference.ensemble_weights",), "at least one weight must be more than 0"


def _tuning(settings: Settings) -> Iterator[Broken]:
    trials = settings.training.tuning_trials
    if trials == 1:
        yield (
            ("training.tuning_trials",),
            "one trial is the settings as given, so there is nothing to choose from: take 0 for no tuning, or"
            " at least 2",
        )
    if trials and not TUNING_IS_INSTALLED:
        yield (
            ("training.tuning_trials",),
            "tuning needs Optuna, which is not installed: pip install 'tidecast[tune]', or take 0",
        )


def _retention(settings: Settings) -> Iterator[Broken]:
    data = settings.data
    if data.compression_threshold > data.retention_days:
        keys = ("data.compression_threshold", "data.retention_days")
        yield keys, f"must not be more than data.retention_days ({data.retention_days})"


def _market(settings: Settings) -> Iterator[Broken]:
    market = settings.market
    if not market.is_simulated and market.exchange not in settings.exchanges:
        yield ("market.exchange", "exchanges"), f"must be one of exchanges ({_listed(settings.exchanges)})"
    if market.from_ms is not None and market.to_ms is not None and market.from_ms >= market.to_ms:
        yield ("market.from_ms", "market.to_ms"), "must be earlier than market.to_ms"
    if not market.is_simulated and market.recorded_path is not None:
        keys = ("market.recorded_path", "market.exchange")
        yield keys, "recorded candles are played by the simulated exchange only"
    if (market.api_key is None) != (market.api_secret is None):
        yield ("market.api_key", "market.api_secret"), "api_key and api_secret belong together"


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))


_RULES: tuple[Callable[[Settings], Iterator[Broken]], ...] = (
    _indicators,
    _lists_without_repeats,
    _horizons,
    _symbols,
    _families,
    _weights,
    _tuning,
    _retention,
    _market,
)
