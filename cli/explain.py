"""`tidecast explain`: why a forecast says what it says, and why nothing was done on it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import numpy as np
import typer

from artifacts.store import ArtifactStore
from cli.answer import give_json, say, show_table
from cli.explain_baseline import Place, silence_words, silenced, unserved, unserved_words
from cli.folder import DEFAULT_FOLDER, ConfigOption, FolderOption, JsonOption, database_of, existing_folder
from config.ml_config import Settings
from db.connect import connect
from db.repositories import models
from db.repositories.models import Model
from domain.features.schema import NAMES
from domain.models import contributions, families
from domain.models.contributions import Contributions
from domain.models.model import ModelRefusedError
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from runtime.directory import Directory
from schemas.frames import MINUTE_MS, REASON_TEXT, Float32, Reason

_BASELINE = "last_value"

#: Why nothing is done on a forecast, and what would change that.
_MEANING = {
    "warming": "indicators were not warm after a start or a gap: no model was asked",
    "too old": "the candle was older than inference.max_prediction_age when it was processed",
    "unlike the training rows": "the minute is further from what the model has learned from than"
    " inference.dissimilarity_limit allows",
}


def explain(
    forecast_id: Annotated[
        int, typer.Argument(help='The id of a row of "persistentForecasts".', min=1, max=2**63 - 1)
    ],
    folder: FolderOption = DEFAULT_FOLDER,
    config: ConfigOption = None,
    top: Annotated[int, typer.Option("--top", help="Features to show.", min=1, max=len(NAMES))] = 12,
    as_json: JsonOption = False,
) -> None:
    """Take one forecast apart: model, inputs, contributions, thresholds, and the reason it is a WAIT."""
    directory, settings = existing_folder(folder, config)
    with database_of(directory, settings, "explain", newest=True) as url:
        answer = asyncio.run(_explained(url, directory, settings, forecast_id, top))
    if as_json:
        give_json(answer)
    else:
        _show(answer)


async def _explained(
    url: str, directory: Directory, settings: Settings, forecast_id: int, top: int
) -> dict[str, Any]:
    connection = await connect(url, give_up_s=5)
    try:
        row = await connection.fetchrow('SELECT * FROM "persistentForecasts" WHERE id = $1', forecast_id)
        if row is None:
            raise typer.BadParameter(
                f"there is no forecast {forecast_id}: it was never made, or its day has been dropped; the"
                ' ids are in the column id of "persistentForecasts"'
            )
        forecast = {name: value for name, value in row.items() if value is not None}
        answer: dict[str, Any] = {
            "forecast": forecast,
            "decision": _decision(forecast, settings),
            "thresholds": _thresholds(settings),
        }
        version = row["model_version"]
        if row["model_version"] == _BASELINE:
            version = await _stood_in(connection, settings, row, answer) or version
        model = await models.by_version(connection, version)
        if version != row["model_version"] or model is None:
            answer["rule"] = _rule(forecast)
        if model is None:
            return answer
        answer["model"] = _described(model)
        past = await _past(connection, row, settings.training.lookback_minutes)
        minute_ms = round(row["created_at"].timestamp() * 1000) - MINUTE_MS
        answer.update(_apart(directory, model, past, minute_ms, top))
        return answer
    finally:
        await connection.close()


async def _stood_in(
    connection: asyncpg.Connection, settings: Settings, row: asyncpg.Record, answer: dict[str, Any]
) -> str | None:
    """Say why the no-change forecast stood in for a model; gives the version that drift silenced."""
    place = Place(symbol=row["symbol"], horizon_minutes=row["forecast_horizon"], made_at=row["created_at"])
    if row["reason"] == REASON_TEXT[Reason.DRIFT]:
        found = await silenced(connection, settings, place)
        answer["silenced"] = found
        answer["decision"]["why"] = silence_words(found)
        return None if found is None else str(found["model_version"])
    if row["reason"] == REASON_TEXT[Reason.NO_MODEL]:
        answer["families"] = await unserved(connection, settings, place)
        answer["decision"]["why"] = unserved_words(answer["families"], place.horizon_minutes)
    return None


def _decision(forecast: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Say whether anything may be done on a forecast, and if not, why not."""
    reason = forecast.get("reason")
    if forecast["forecast_type"] != "price_direction":
        return {"signal": "WAIT", "why": "only price forecasts are acted on", "reason": reason}
    if reason == "below threshold":
        return {"signal": "WAIT", "why": _too_unsure(forecast, settings), "reason": reason}
    if reason is not None:
        return {"signal": "WAIT", "why": _MEANING.get(reason, reason), "reason": reason}
    change = float(forecast["predicted_value"])
    if change == 0:
        return {"signal": "WAIT", "why": "no change is predicted", "reason": None}
    signal = "LONG" if change > 0 else "SHORT"
    traded = forecast["forecast_horizon"] == settings.trading.horizon_minutes
    why = "confident enough" if traded else "confident enough, but this horizon is not the one that is traded"
    return {"signal": signal, "why": why, "reason": None}


def _too_unsure(forecast: dict[str, Any], settings: Settings) -> str:
    confidence, limit = float(forecast["confidence"]), settings.inference.confidence_threshold
    why = f"the confidence of {confidence:g} is below inference.confidence_threshold, {limit:g}"
    if confidence >= limit:
        return f"{why}, before it was rounded for the table"
    if confidence < 50:
        return f"{why}: the change points the one way, the probability the other, so nobody knows"
    return why


def _thresholds(settings: Settings) -> dict[str, Any]:
    inference, trading = settings.inference, settings.trading
    return {
        "confidence_threshold": inference.confidence_threshold,
        "dissimilarity_limit": inference.dissimilarity_limit,
        "max_prediction_age_s": inference.max_prediction_age,
        "traded_horizon_minutes": trading.horizon_minutes,
        "round_trip_cost_bps": 2 * (trading.fee_bps + trading.slippage_bps),
    }


def _rule(forecast: dict[str, Any]) -> str:
    rules = {
        "last_value": "the no-change baseline: the price stays; it serves until a model is in production, and"
        " where one may not speak",
        "har_v1": "a rule: volatility over the next minutes from that of the last minutes, hours and day",
        "regime_v1": "a rule: the slope of the past, as far as the regime lets it go on",
    }
    version = str(forecast["model_version"])
    return rules.get(version, f"{version} is not in the registry")


def _described(model: Model) -> dict[str, Any]:
    return {
        "version": model.model_version,
        "family": model.model_type,
        "symbol": model.symbol,
        "horizon_minutes": model.forecast_horizon,
        "trained_to_ms": model.metrics.get("train_at_ms"),
        "serves_from_ms": model.effective_from_ms,
        "served_until_ms": model.superseded_at_ms,
        "validation": model.metrics.get("validation"),
    }


async def _past(connection: asyncpg.Connection, row: asyncpg.Record, minutes: int) -> Windows:
    """Read the vectors of the forecast's minute and of those before it."""
    found = await connection.fetch(
        """
        SELECT "timestamp", vector FROM ml_features
        WHERE symbol = $1 AND "timestamp" > $2 AND "timestamp" < $3
        """,
        row["symbol"],
        row["created_at"] - timedelta(minutes=minutes + 1),
        row["created_at"],
    )
    times = np.array([round(each["timestamp"].timestamp() * 1000) for each in found], np.int64)
    vectors = np.array([each["vector"] for each in found], np.float32).reshape(len(found), -1)
    return Windows(vectors=vectors, symbol_index=np.zeros(len(found), np.int32), open_time_ms=times)


def _apart(directory: Directory, model: Model, past: Windows, minute_ms: int, top: int) -> dict[str, Any]:
    """Ask the model again, and see what each feature did."""
    store = ArtifactStore(directory.models)
    try:
        payload = store.read(model.artifact_path, sha256=model.artifact_sha256)
        served = ServedModel.from_bytes(
            payload, sha256=model.artifact_sha256, feature_names=NAMES, schema_hash=model.schema_hash
        )
    except ModelRefusedError as error:
        return {"not_explained": f"the model's file cannot be used: {error}"}
    places = past.places(
        symbol_index=np.zeros(1, np.int32),
        open_time_ms=np.array([minute_ms]),
        minutes=served.window or 1,
    )
    if places[0, -1] < 0:
        return {"not_explained": "the minute's vector is no longer in ml_features"}
    inputs = past.at(places)[0] if served.window else past.at(places)[0, -1]
    column = served.card.horizons.index(model.forecast_horizon)
    said = served.predict(inputs[None])
    measure = contributions.measure_of(payload)
    own = inputs if inputs.ndim == 1 else inputs[-1]
    shares = _shares(store, model, served, inputs, column)
    return {
        "said": {
            "predicted_pct": float(said.predicted_pct[0, column]),
            "probability_up": float(said.probability_up[0, column]),
            "dissimilarity": float(said.dissimilarity[0]),
        },
        "contributions": _contributions(shares, own, top),
        "most_unusual": _unusual(measure.distances(own[None])[0], own, top),
    }


def _shares(
    store: ArtifactStore, model: Model, served: ServedModel, inputs: Float32, column: int
) -> Contributions:
    if model.model_type == "xgboost":
        suffix = families.load("xgboost").native_suffix
        native = store.read(
            model.artifact_path.removesuffix("onnx") + suffix, sha256=served.card.native_sha256
        )
        return contributions.of_trees(native, inputs, column)
    measure = contributions.measure_of(store.read(model.artifact_path, sha256=model.artifact_sha256))
    return contributions.by_occlusion(
        lambda rows: served.predict(rows).predicted_pct[:, column], inputs, measure.centres
    )


def _contributions(shares: Contributions, own: Float32, top: int) -> dict[str, Any]:
    order = np.argsort(-np.abs(shares.by_feature_pct), kind="stable")[:top]
    return {
        "method": shares.method,
        "base_pct": shares.base_pct,
        "features": [
            {"name": NAMES[k], "value": float(own[k]), "pct": float(shares.by_feature_pct[k])} for k in order
        ],
    }


def _unusual(distances: Float32, own: Float32, top: int) -> list[dict[str, Any]]:
    order = np.argsort(-np.abs(distances), kind="stable")[: max(3, top // 2)]
    return [{"name": NAMES[k], "value": float(own[k]), "deviations": float(distances[k])} for k in order]


def _time(name: str, value: Any) -> Any:
    if not name.endswith("_ms") or value is None:
        return value
    return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M}Z"


def _show_silenced(found: dict[str, Any]) -> None:
    check = found["check"] or {}
    show_table(["drift check", ""], [*check.items(), *found["settings"].items()])
    say(f"{found['model_version']} itself, as if it had not been silenced:")


def _show(answer: dict[str, Any]) -> None:
    forecast, decision = answer["forecast"], answer["decision"]
    say(
        f"{forecast['symbol']} {forecast['forecast_type']}, {forecast['forecast_horizon']} minutes from"
        f" {forecast['created_at']:%Y-%m-%d %H:%M}Z, by {forecast['model_version']}"
    )
    say(f"{decision['signal']}: {decision['why']}")
    show_table(["forecast", ""], list(forecast.items()))
    show_table(["threshold", ""], list(answer["thresholds"].items()))
    if "rule" in answer:
        say(answer["rule"])
    if answer.get("families"):
        show_table(
            ["family", "trained at", "version", "promoted", "why none serves"],
            [
                [
                    each["family"],
                    *(each.get(name) for name in ("trained_at", "model_version", "promoted")),
                    each["why"],
                ]
                for each in answer["families"]
            ],
        )
    if answer.get("silenced"):
        _show_silenced(answer["silenced"])
    if "model" not in answer:
        return
    told = [(name.removesuffix("_ms"), _time(name, value)) for name, value in answer["model"].items()]
    show_table(["model", ""], [pair for pair in told if pair[0] != "validation"])
    if "not_explained" in answer:
        say(answer["not_explained"])
        return
    show_table(["the model says", ""], list(answer["said"].items()))
    shares = answer["contributions"]
    show_table(
        ["feature", "value", "moves the forecast by, %"],
        [(each["name"], each["value"], each["pct"]) for each in shares["features"]],
        title=f"contributions ({shares['method']}), from {shares['base_pct']:+.5f} %",
    )
    show_table(
        ["feature", "value", "deviations from the learned median"],
        [(each["name"], each["value"], each["deviations"]) for each in answer["most_unusual"]],
        title="most unusual",
    )
