"""`tidecast rollback`: the model before the one in production serves again, from the next free minute on."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
import typer

from artifacts.store import ArtifactStore
from cli.answer import give_json, say
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from db.connect import connect
from db.repositories import checkpoints, models, terms
from db.repositories.checkpoints import moment
from db.repositories.terms import Term
from domain.models.model import ModelRefusedError
from schemas.frames import MINUTE_MS

BASELINE = "last_value"
_SERVES = "ml_inference"


class RollbackError(OSError):
    """The rollback that was asked for cannot be made; the message says what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to roll back: None is any.

    Attributes
    ----------
    symbol, horizon, family
        Of the model; horizon in minutes.
    to
        The version that shall serve, or `BASELINE`; None for the one before.
    everything
        Whether several may match.
    """

    symbol: str | None
    horizon: int | None
    family: str | None
    to: str | None
    everything: bool

    def matches(self, term: Term) -> bool:
        """Tell whether a term is of what was asked for."""
        key = term.key
        return (
            self.symbol in (None, key.symbol)
            and self.horizon in (None, key.forecast_horizon)
            and self.family in (None, key.model_type)
        )

    def words(self) -> str:
        """Name what was asked for."""
        parts = (("symbol", self.symbol), ("horizon", self.horizon), ("family", self.family))
        return ", ".join(f"{what} {value}" for what, value in parts if value is not None) or "anything"


def rollback(
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    symbol: Annotated[
        str | None, typer.Option("--symbol", help="The model's symbol; ALL for one over all symbols.")
    ] = None,
    horizon: Annotated[int | None, typer.Option("--horizon", help="Minutes ahead.", min=1)] = None,
    family: Annotated[str | None, typer.Option("--family", help="The model family.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help=f"The version that shall serve, one that served before; {BASELINE}: no model."
            " Without it, the one before.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that match, where more than one does.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "rolled back by hand",
    as_json: JsonOption = False,
) -> None:
    """Put the model before back into production, or no model; a running pipeline follows within seconds."""
    directory, settings = existing_folder(folder, config)
    if settings.pipeline.replay and directory.holder() is not None:
        raise RollbackError(
            f"a replay runs in {directory.path}: a rollback in the middle of it would fall on another minute"
            " every time; let it end, or stop it (`tidecast down`), and roll back then"
        )
    asked = Asked(symbol=symbol, horizon=horizon, family=family, to=to, everything=everything)
    with database_of(directory, settings, "rollback", newest=True) as url:
        done = asyncio.run(_roll_back(url, ArtifactStore(directory.models), asked, reason))
    if as_json:
        give_json({"rolled_back": done})
        return
    for each in done:
        say(_told(each))


async def _roll_back(url: str, store: ArtifactStore, asked: Asked, reason: str) -> list[dict[str, Any]]:
    connection = await connect(url)
    try:
        async with connection.transaction():
            every = await terms.timeline(connection)
            begin_ms = await _next_minute(connection)
            ends = chosen(every, asked)
            return [await _one(connection, store, every, term, asked.to, begin_ms, reason) for term in ends]
    finally:
        await connection.close()


def chosen(every: Sequence[Term], asked: Asked) -> list[Term]:
    """Choose the terms that a rollback ends: last ones of their key that match what was asked.

    Raises
    ------
    RollbackError
        If none matches, or several do where one was asked for; it says what is in production, or what to do.
    """
    last = [term for term in every if term.superseded_at_ms is None]
    serving = [term for term in last if term.model_version is not None]
    if asked.to in (None, BASELINE):
        found = [term for term in serving if asked.matches(term)]
    else:
        first = next((term for term in every if term.model_version == asked.to), None)
        if first is None:
            raise RollbackError(
                f"{asked.to} never served, so it cannot serve again: `tidecast models --all` lists what did"
            )
        if not asked.matches(first):
            raise RollbackError(_of_another_key(first, asked, serving))
        found = [term for term in last if term.key == first.key]
    if not found:
        raise RollbackError(_none_in_production(asked, serving))
    if len(found) > 1 and not asked.everything:
        raise RollbackError(
            f"{len(found)} models in production match: {_listed(found)}. Say which by --symbol, --horizon and"
            " --family, or --all for all of them"
        )
    return found


def _of_another_key(term: Term, asked: Asked, serving: Sequence[Term]) -> str:
    """Say that the version is not of what was asked for, and what is in production there."""
    key = term.key
    of = [
        f"{what} {has}, not {wanted}"
        for what, has, wanted in (
            ("symbol", key.symbol, asked.symbol),
            ("horizon", key.forecast_horizon, asked.horizon),
            ("family", key.model_type, asked.family),
        )
        if wanted not in (None, has)
    ]
    there = [each for each in serving if asked.matches(each)]
    return (
        f"{asked.to} is of {' and of '.join(of)}; in production for {asked.words()}:"
        f" {_listed(there) or 'no model, the no-change forecast'}. `tidecast models --all` lists what served"
        " when"
    )


def _none_in_production(asked: Asked, serving: Sequence[Term]) -> str:
    """Say that there is nothing to roll back, and what there is."""
    again = "`tidecast models --all` lists what served before; --to VERSION lets one of those serve again"
    if not serving:
        return (
            "no model is in production, so there is nothing to roll back: the no-change forecast stands until"
            f" a model is promoted. {again}"
        )
    return (
        f"no model is in production for {asked.words()}: the no-change forecast stands there. In production:"
        f" {_listed(serving)}. {again}"
    )


def _listed(found: Sequence[Term]) -> str:
    return ", ".join(
        f"{_described(term)} ({term.model_version})" if term.model_version else _described(term)
        for term in found
    )


def _described(term: Term) -> str:
    key = term.key
    return f"{key.symbol} {key.forecast_horizon} {key.model_type}"


async def _one(
    connection: asyncpg.Connection,
    store: ArtifactStore,
    every: Sequence[Term],
    term: Term,
    to: str | None,
    begin_ms: int,
    reason: str,
) -> dict[str, Any]:
    if to is None:
        target = await _predecessor(connection, store, every, term)
    else:
        target = None if to == BASELINE else to
        await _check(connection, store, target)
    if target == term.model_version:
        raise RollbackError(f"{target or 'no model'} is in production for {_described(term)} already")
    try:
        done = await terms.roll_back(
            connection, term, to=target, from_ms=begin_ms, reason=reason, decided_by=_who()
        )
    except terms.StaleTermError as error:
        raise RollbackError(f"{error}: look at `tidecast models`, and try again") from error
    return {
        "symbol": term.key.symbol,
        "horizon": term.key.forecast_horizon,
        "family": term.key.model_type,
        "from": done.ended[0] if done.ended else BASELINE,
        "to": target or BASELINE,
        "effective_from": moment(done.from_ms).isoformat(),
        "never_served": list(done.never_served),
        "by": _who(),
        "reason": reason,
    }


def _told(done: Mapping[str, Any]) -> str:
    """Say what was done, and what was about to begin and does not."""
    said = f"{done['to']} serves from {done['effective_from']} on"
    if done["from"] not in done["never_served"]:
        said = f"{done['from']} is rolled back; {said}"
    for version in done["never_served"]:
        said += f"; {version}, which was about to begin, does not"
    return said


async def _predecessor(
    connection: asyncpg.Connection, store: ArtifactStore, every: Sequence[Term], term: Term
) -> str | None:
    """Find what served before: the newest other model that was not rolled back itself and can be read."""
    first = min(
        each.number for each in every if each.key == term.key and each.model_version == term.model_version
    )
    earlier = [
        each
        for each in every
        if each.key == term.key and each.number < first and each.effective_from_ms != each.superseded_at_ms
    ]
    for each in sorted(earlier, key=lambda one: -one.number):
        if each.model_version is None:
            continue
        model = await models.by_version(connection, each.model_version)
        if model is None or model.rolled_back_at_ms is not None:
            continue
        try:
            await _check(connection, store, each.model_version)
        except RollbackError:
            continue
        return each.model_version
    return None


async def _check(connection: asyncpg.Connection, store: ArtifactStore, version: str | None) -> None:
    if version is None:
        return
    model = await models.by_version(connection, version)
    assert model is not None, "it served"
    try:
        store.read(model.artifact_path, sha256=model.artifact_sha256)
    except ModelRefusedError as error:
        raise RollbackError(f"{version} cannot serve again: {error}") from error


async def _next_minute(connection: asyncpg.Connection) -> int:
    """Give the event time of the first candle that no process has predicted yet."""
    places = await checkpoints.progress(connection, [_SERVES])
    reached = [place.event_time_ms for place in places.values() if place.event_time_ms is not None]
    if not reached:
        raise RollbackError("nothing was predicted yet, so there is nothing to roll back")
    # the checkpoint names the open minute, whose event time is a minute later
    return max(reached) + 2 * MINUTE_MS


def _who() -> str:
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):
        return "somebody"
