"""Which market is watched, and the servers that are used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from config.base import ExchangeAlias, MinuteMs, NotNegative, Section, Whole
from config.postgres_url import unreadable_in

Exchange = Literal["binanceus", "coinbase", "bybit"]
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_REDIS_SCHEMES = re.compile(r"^(rediss?(\+(cluster|sentinel))?|unix)://.", re.DOTALL)


def _speed(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class MarketSettings(Section):
    """The market: a live exchange, or the simulated one."""

    exchange: Annotated[Literal["simulated", Exchange], ExchangeAlias] = Field(
        "simulated", description="Where candles come from. 'binance-us' is accepted for 'binanceus'."
    )
    protocol: Annotated[Exchange, ExchangeAlias] = Field(
        "binanceus", description="Whose wire protocol the simulated exchange is spoken to in."
    )
    seed: Whole = Field(7, description="Seed of the generated market.")
    structure: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.3, description="How predictable the generated market is; 0 is a random walk."
    )
    speed: Annotated[Annotated[float, Field(gt=0, le=1e6)] | Literal["max"], BeforeValidator(_speed)] = Field(
        1.0, description="Simulated minutes that pass in a real minute, or 'max' for as fast as it is taken."
    )
    recorded_path: Path | None = Field(
        None, description="Folder of SYMBOL-1m.parquet or .csv that is played instead of a generated market."
    )
    from_ms: MinuteMs | None = Field(
        None,
        description="First recorded minute to play: ISO date (UTC) or milliseconds. Also written 'from'.",
    )
    to_ms: MinuteMs | None = Field(
        None, description="Recorded minute to stop before: ISO date (UTC) or milliseconds. Also written 'to'."
    )
    start_ms: MinuteMs | None = Field(
        None, description="Where the simulated clock stands at the start: ISO date (UTC) or milliseconds."
    )
    faults: bool = Field(False, description="Let the simulated exchange misbehave now and then.")
    base_url: str | None = Field(
        None,
        description="Loopback address to use instead of the exchange's own, for example http://127.0.0.1:9000.",
    )
    grace_s: NotNegative = Field(
        5, description="Seconds after a minute's end before the exchange is asked whether it is closed."
    )
    api_key: SecretStr | None = Field(
        None, description="Public data needs none; a secret (TIDECAST_MARKET__API_KEY)."
    )
    api_secret: SecretStr | None = Field(
        None, description="Belongs to api_key; a secret (TIDECAST_MARKET__API_SECRET)."
    )

    @field_validator("base_url")
    @classmethod
    def _is_loopback(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            fine = parts.scheme in {"http", "https"} and parts.hostname in _LOOPBACK and not parts.username
            _ = parts.port
        except ValueError:
            fine = False
        if not fine:
            raise ValueError("must be http://127.0.0.1:PORT, without a user name")
        return value.rstrip("/")

    @property
    def is_simulated(self) -> bool:
        """Whether nothing of what is shown happened in a real market."""
        return self.exchange == "simulated"

    @property
    def wire_exchange(self) -> Exchange:
        """The exchange whose protocol is spoken, simulated or not: ccxt's name for it."""
        return self.protocol if self.exchange == "simulated" else self.exchange


class ServerSettings(Section):
    """Servers by URL; what is absent is started beside the workers."""

    postgres_url: SecretStr | None = Field(
        None, description="postgresql://USER:PASSWORD@HOST/DATABASE; a secret (TIDECAST_POSTGRES_URL)."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis:// or rediss:// URL, with +cluster or +sentinel in the scheme for those;"
        " a secret (TIDECAST_REDIS_URL).",
    )

    @field_validator("postgres_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (problem := unreadable_in(value.get_secret_value())):
            raise ValueError(problem)
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _REDIS_SCHEMES.match(value.get_secret_value()):
            raise ValueError(
                "must begin with redis:// or rediss:// (or rediss+cluster://, rediss+sentinel://)"
            )
        return value
