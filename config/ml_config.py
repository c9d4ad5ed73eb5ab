"""Typed settings of the whole system, and the one way to load them.

Nobody downstream reads a file or the environment: a process calls `load` once and hands sections, or single
values, to what it builds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.allowed import allowed
from config.base import SYMBOL_PATTERN, ExchangeAlias, Symbol
from config.cross_checks import WITHOUT_REPEATS, broken_rules, repeats_in
from config.drift import DriftSettings
from config.errors import EX_CONFIG, ConfigurationError, Mistake
from config.keys import KnownKeys, known_keys
from config.market import Exchange, MarketSettings, ServerSettings
from config.redaction import redact
from config.secret_file import open_secrets
from config.sections import (
    DataSettings,
    FeatureSettings,
    ForecastSettings,
    InferenceSettings,
    MonitorSettings,
    PipelineSettings,
    SystemSettings,
    TradingSettings,
    TrainingSettings,
)
from config.shown import shown
from config.sources import Given, Layer, from_environment, from_file, from_overrides
from config.toml_types import has_type_of, is_quoted

__all__ = ["DEFAULT_FILE", "EX_CONFIG", "ConfigurationError", "Mistake", "Settings", "load"]

DEFAULT_FILE = Path(__file__).with_name("default.toml")
#: References that a symbol looks at, where the settings name none.
MOST_REFERENCES = 20
_LEADER = "features.leader"
_TRADED, _TRAINED = "trading.horizon_minutes", "training.forecast_horizons"


class Settings(BaseSettings):
    """All settings, frozen.

    `Settings()` gives the defaults and reads nothing from outside; use `load` for everything else, which also
    checks what must hold between sections.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=10_000)] = Field(
        ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "HBARUSDT"),
        description="The symbols that are watched.",
    )
    exchanges: Annotated[tuple[Annotated[Exchange, ExchangeAlias], ...], Field(min_length=1)] = Field(
        ("binanceus", "coinbase", "bybit"), description="Exchanges that market.exchange may name."
    )
    system: SystemSettings = Field(default_factory=SystemSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    features: FeatureSettings = Field(default_factory=FeatureSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)
    forecasting: ForecastSettings = Field(default_factory=ForecastSettings)
    monitoring: MonitorSettings = Field(default_factory=MonitorSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    trading: TradingSettings = Field(default_factory=TradingSettings)
    market: MarketSettings = Field(default_factory=MarketSettings)
    servers: ServerSettings = Field(default_factory=ServerSettings)
    pipeline: PipelineSettings = Field(default_factory=PipelineSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor only: `config.sources` reads the rest and knows who wrote it."""
        return (init_settings,)

    @property
    def references(self) -> tuple[str, ...]:
        """The reference symbols: those configured, else the first symbols up to 20, the leader always in."""
        chosen = self.features.reference_symbols or self.symbols[:MOST_REFERENCES]
        leader = self.features.leader
        return chosen if leader in chosen else (leader, *chosen[: MOST_REFERENCES - 1])

    def secret_values(self) -> tuple[str, ...]:
        """All secrets in plain text, for a `config.redaction.Redactor` and for nothing else."""
        return tuple(_secrets_in(self))

    def notices(self) -> tuple[str, ...]:
        """Sentences that an operator should read at the start: what is set, and yet has no effect."""
        installed = self.training.installed_model_types
        left_out = [name for name in self.training.model_types if name not in installed]
        said = []
        if left_out:
            said.append(
                f"training.model_types: {', '.join(left_out)} not installed and left out;"
                f" training {', '.join(installed)}. pip install 'tidecast[deep]' adds PyTorch"
            )
        unused = sorted(set(self.training.forecast_horizons) - set(self.forecasting.horizons))
        if unused:
            said.append(f"training.forecast_horizons: {unused} minutes are trained but never forecast")
        return tuple(said)


#: A check from outside; it raises `ConfigurationError`.
Check = Callable[[Settings], None]


def load(
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
) -> Settings:
    """Load the settings: defaults < default.toml < file < encrypted file < environment < overrides.

    Parameters
    ----------
    config_file
        A TOML file of the user's, if there is one.
    environ
        Usually ``os.environ``; nothing is read from the environment without it.
    overrides
        Dotted keys from the command line, for example ``{"features.rsi_period": "9"}``; None counts as
        not given.
    checks
        What only the caller knows how to check; done beside the settings' own rules, so that whoever has to
        mend the settings reads everything at once. A setting that is wrong already is checked as its default.

    Raises
    ------
    ConfigurationError
        If anything is wrong; it names everything that is.
    """
    environ, keys = environ or {}, known_keys(Settings)
    layers = [from_file(DEFAULT_FILE, keys)]
    if config_file is not None:
        layers.append(from_file(config_file, keys))
    layers.append(open_secrets(environ, keys))
    layers.append(from_environment(environ, keys))
    layers.append(from_overrides(overrides or {}, keys))
    chosen = _merged(layers)
    mistakes = [mistake for layer in layers for mistake in layer.mistakes]
    settings, wrong = _validated(chosen, keys)
    mistakes += wrong
    blamed = {mistake.key for mistake in mistakes}
    for about, problem in broken_rules(settings):
        if blamed.isdisjoint(about):
            mistakes.append(_mistake(about[0], problem, chosen.get(about[0]), keys, settings))
    mistakes += _found_by(checks, settings, chosen)
    if mistakes:
        raise ConfigurationError(mistakes)
    return settings


def _found_by(checks: Sequence[Check], settings: Settings, chosen: Mapping[str, Given]) -> Iterator[Mistake]:
    """Collect what the caller's checks find, and say where it was set."""
    for check in checks:
        try:
            check(settings)
        except ConfigurationError as error:
            for mistake in error.mistakes:
                given = chosen.get(mistake.key)
                yield replace(mistake, source=given.source) if given and not mistake.source else mistake


def _merged(layers: Iterable[Layer]) -> dict[str, Given]:
    """Merge the layers; the last one wins."""
    first, *rest = layers
    chosen = {given.key: given for layer in (first, *rest) for given in layer.given}
    by = {given.key: place for place, layer in enumerate(rest) for given in layer.given}
    if _LEADER not in by:
        _replace_absent_leader(chosen)
    command_line = len(rest) - 1
    if _TRADED not in by or (by.get(_TRAINED) == command_line and by[_TRADED] < command_line):
        _replace_absent_traded(chosen)
    return chosen


def _replace_absent_leader(chosen: dict[str, Given]) -> None:
    # Nobody chose a leader, so whoever chooses symbols need not choose one either.
    symbols = chosen["symbols"].value if "symbols" in chosen else Settings().symbols
    if not isinstance(symbols, (list, tuple)) or Settings().features.leader in symbols:
        return
    first = symbols[0] if symbols else None
    if isinstance(first, str) and re.fullmatch(SYMBOL_PATTERN, first):
        chosen[_LEADER] = Given(key=_LEADER, value=first, source="the first of symbols")


def _replace_absent_traded(chosen: dict[str, Given]) -> None:
    # Nobody chose which horizon is traded, or chose it among others than the command line now asks for.
    trained = chosen[_TRAINED].value if _TRAINED in chosen else Settings().training.forecast_horizons
    traded = chosen[_TRADED].value if _TRADED in chosen else Settings().trading.horizon_minutes
    try:
        horizons, wanted = [int(each) for each in trained], int(traded)
    except (TypeError, ValueError, OverflowError):
        return
    if horizons and wanted not in horizons:
        nearest = min(horizons, key=lambda horizon: (abs(horizon - wanted), horizon))
        chosen[_TRADED] = Given(key=_TRADED, value=nearest, source=f"the nearest of {_TRAINED}")


def _validated(chosen: Mapping[str, Given], keys: KnownKeys) -> tuple[Settings, list[Mistake]]:
    """Build the settings; a wrong value is reported and its default used, so that all rules are checked."""
    mistakes = {
        key: _mistake(key, _wrong_type(key, keys.fields[key], given.value), given, keys, None)
        for key, given in chosen.items()
        if given.is_typed and not has_type_of(keys.fields[key], given.value)
    }
    chosen = {key: given for key, given in chosen.items() if key not in mistakes}
    try:
        return Settings(**_nested(chosen)), list(mistakes.values())
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    for problem in problems:
        key = _key_of(problem["loc"], keys)
        if key not in mistakes:
            ours = problem["msg"].removeprefix("Value error, ") if problem["type"] == "value_error" else None
            text = (ours or _must_be(key, problem)) + _repeats(key, chosen.get(key))
            mistakes[key] = _mistake(key, text, chosen.get(key), keys, None)
    rest = {key: given for key, given in chosen.items() if key not in mistakes}
    return Settings(**_nested(rest)), list(mistakes.values())


def _wrong_type(key: str, field: FieldInfo, value: Any) -> str:
    wanted = f"must be {_allowed(key)}"
    return f"{wanted}; in TOML without quotes" if is_quoted(field, value) else wanted


def _repeats(key: str, given: Given | None) -> str:
    # The rule against repeats sees no list in which something else is wrong.
    if key not in WITHOUT_REPEATS or given is None or not isinstance(given.value, (list, tuple)):
        return ""
    problem = repeats_in(given.value)
    return f"; {redact(problem)}" if problem else ""


def _key_of(loc: tuple[int | str, ...], keys: KnownKeys) -> str:
    # What follows the key in the location is a position in a list or a branch of a union.
    for length in range(len(loc), 0, -1):
        key = ".".join(map(str, loc[:length]))
        if key in keys.fields:
            return key
    return ".".join(map(str, loc))


def _must_be(key: str, problem: Any) -> str:
    if problem["type"] == "too_short":
        return (
            f"has too few entries; must be {_allowed(key)}, with {problem['ctx']['min_length']} or more in it"
        )
    if problem["type"] == "too_long":
        return f"has too many entries; leave out all but {problem['ctx']['max_length']}"
    return f"must be {_allowed(key)}"


def _allowed(key: str) -> str:
    *path, name = key.split(".")
    model: type[BaseModel] = Settings
    for part in path:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type)
        model = inner
    return allowed(model, name)


def _mistake(
    key: str, problem: str, given: Given | None, keys: KnownKeys, settings: Settings | None
) -> Mistake:
    value = given.value if given else None
    if given is None and settings is not None:
        value = settings
        for part in key.split("."):
            value = getattr(value, part)
    text = "(secret)" if keys.is_secret(key) else shown(value)
    return Mistake(key=key, problem=problem, value=text, source=given.source if given else "default")


def _nested(chosen: Mapping[str, Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, given in chosen.items():
        *path, name = key.split(".")
        table = tree
        for part in path:
            table = table.setdefault(part, {})
        table[name] = given.value
    return tree


def _secrets_in(model: BaseModel) -> Iterable[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from _secrets_in(value)
