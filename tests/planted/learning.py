"""What models make of a market.

Its candles become vectors by the live engine, a training learns from the first part, its graph predicts the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.evaluation.bootstrap import Interval
from domain.evaluation.score_intervals import accuracy_interval
from domain.features.engine import FeatureEngine
from domain.features.labels import percent_change
from domain.features.schema import FEATURES, GROUPS, NAMES
from domain.models.model import TrainingRows
from domain.models.serving import ServedModel
from domain.models.windows import Windows
from training.fitting import FitRequest, FitResult, fit
from training.rows import save_rows

from .markets import MINUTE_MS, Candles, Float64, Int64, PlantedMarket
from .optimum import probability_up

_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A market as trainings see it: one row a minute and symbol, minute by minute."""

    schema_hash: str
    vectors: NDArray[np.float32]
    symbol_index: NDArray[np.int32]
    open_time_ms: Int64
    close: Float64
    is_complete: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """How well the directions of one horizon were told after a training.

    Attributes
    ----------
    accuracy
        Of what happened, with its interval.
    expected
        Accuracy in expectation: the mean true probability of the side that was taken. What chance made of it
        is not in it, so it is much more exact than `accuracy`. 0.5 on a walk.
    best
        The same of the best possible forecast, on the same rows.
    stated
        Mean probability that the model gave the side that it took.
    calibration_error
        How far what it stated lies from the true probability, in tenths of 0.5 to 1, weighed by their rows.
    result
        Of the training.
    """

    accuracy: Interval
    expected: float
    best: float
    stated: float
    calibration_error: float
    result: FitResult = field(repr=False)

    @property
    def share(self) -> float:
        """How much of the possible edge over a coin was reached."""
        return (self.expected - 0.5) / (self.best - 0.5) if self.best > 0.5 else float("nan")


def vectors_of(candles: Candles) -> Rows:
    """Compute the vectors as live does, all symbols being references and the first one the leader."""
    minutes, symbols = candles.close.shape
    engine = FeatureEngine(symbols=candles.symbols, references=candles.symbols, leader=candles.symbols[0])
    symbol_index = np.tile(np.arange(symbols, dtype=np.int32), minutes)
    open_time_ms = np.repeat(candles.open_time_ms, symbols)
    rows = engine.advance(
        symbol_index=symbol_index,
        open_time_ms=open_time_ms,
        ohlcv=candles.ohlcv.reshape(-1, 5),
        closed_to_ms=int(candles.open_time_ms[-1]),
    )
    return Rows(
        schema_hash=engine.schema_hash,
        vectors=rows.vector,
        symbol_index=symbol_index,
        open_time_ms=open_time_ms,
        close=candles.close.ravel(),
        is_complete=rows.is_complete,
    )


def learn(
    market: PlantedMarket | Candles,
    folder: Path,
    *,
    horizons: tuple[int, ...],
    test_days: float,
    family: str = "xgboost",
    settings: Mapping[str, Any] | None = None,
    jointly: bool = True,
    every_minutes: int = 1,
    seed: int = 1,
) -> dict[int, Learned]:
    """Train on all but the last days, let the graph that would serve predict those, and see how it did.

    Parameters
    ----------
    market
        A planted market, or a walk. Of a planted one the leader is learned from but not scored, as it walks.
    folder
        Where the rows may be put.
    test_days
        Days at the end that are predicted.
    jointly
        One training for all horizons, or one for each.
    every_minutes
        Learn only from minutes this far apart: labels overlap, so little is lost and time is won. All minutes
        stay in the history of families that look back.

    Returns
    -------
    By horizon. A training that found nothing takes no side: accuracy 0.5 without an interval.
    """
    candles = market.candles if isinstance(market, PlantedMarket) else market
    rows = vectors_of(candles)
    save_rows(
        folder,
        vectors=rows.vectors,
        symbol_index=rows.symbol_index,
        open_time_ms=rows.open_time_ms,
        close=rows.close,
        # what is not complete is not learned from
        is_complete=rows.is_complete & (rows.open_time_ms // MINUTE_MS % every_minutes == 0),
    )
    cut_ms = int(candles.open_time_ms[-1]) - round(test_days * 1440) * MINUTE_MS
    trainings = [horizons] if jointly else [(horizon,) for horizon in horizons]
    learned = {}
    for together in trainings:
        request = FitRequest(
            folder=str(folder),
            checkpoint_path="",
            family=family,
            settings=settings or {},
            seed=seed,
            symbol="ALL",
            horizons=together,
            train_at_ms=cut_ms,
            feature_names=NAMES,
            schema_hash=rows.schema_hash,
            warm_up_minutes=tuple(feature.warm_up for feature in FEATURES),
            optional_features=frozenset(feature.name for feature in GROUPS["cross-market"]),
        )
        result = fit(request, progress=lambda done, text: None, cancelled=lambda: False)
        tested = np.flatnonzero(rows.open_time_ms > cut_ms)
        probability = _predict(result, rows, tested, len(together))
        for column, horizon in enumerate(together):
            learned[horizon] = _judge(market, horizon, tested, probability[:, column], result)
    return learned


def _predict(result: FitResult, rows: Rows, tested: Int64, horizons: int) -> Float64:
    if result.model is None:
        return np.full((len(tested), horizons), 0.5)
    served = ServedModel.from_bytes(
        result.model.graph, sha256=result.model.sha256, feature_names=NAMES, schema_hash=rows.schema_hash
    )
    history = Windows(vectors=rows.vectors, symbol_index=rows.symbol_index, open_time_ms=rows.open_time_ms)
    whole = TrainingRows(
        vectors=rows.vectors,
        target_pct=np.zeros((len(rows.close), 1)),
        open_time_ms=rows.open_time_ms,
        symbol_index=rows.symbol_index,
        history=history,
    )
    pieces = np.array_split(tested, -(-len(tested) // _ROWS_AT_ONCE))
    said = [served.predict(whole.take(piece).inputs(served.window)).probability_up for piece in pieces]
    return np.concatenate(said).astype(np.float64)


def _judge(
    market: PlantedMarket | Candles, horizon: int, tested: Int64, probability: Float64, result: FitResult
) -> Learned:
    candles = market.candles if isinstance(market, PlantedMarket) else market
    symbols = len(candles.symbols)
    coming = np.stack(
        [
            percent_change(
                open_time_ms=candles.open_time_ms, close=candles.close[:, i], horizon_minutes=horizon
            )
            for i in range(symbols)
        ],
        axis=1,
    )
    up = np.full(coming.shape, 0.5)
    scored = np.ones(symbols, np.bool_)
    if isinstance(market, PlantedMarket):
        up = probability_up(market, horizon)
        scored[0] = False
    minute, symbol = tested // symbols, tested % symbols
    usable = np.isfinite(coming[minute, symbol]) & scored[symbol]
    minute, symbol, side = minute[usable], symbol[usable], probability[usable] - 0.5
    true = up[minute, symbol]
    taken = np.where(side > 0, true, np.where(side < 0, 1 - true, 0.5))
    stated = 0.5 + np.abs(side)
    return Learned(
        accuracy=accuracy_interval(
            actual=coming[minute, symbol],
            predicted=side,
            open_time_ms=candles.open_time_ms[minute],
            horizon_minutes=horizon,
            seed=0,
        ),
        expected=float(taken.mean()),
        best=float(np.maximum(true, 1 - true).mean()),
        stated=float(stated.mean()),
        calibration_error=_calibration_error(stated, taken),
        result=result,
    )


def _calibration_error(stated: Float64, true: Float64) -> float:
    tenth = np.minimum((20 * (stated - 0.5)).astype(np.int64), 9)
    return float(np.abs(np.bincount(tenth, stated - true)).sum() / len(stated))
