from __future__ import annotations

import numpy as np
import pytest

from domain.features.schema import NAMES

from .learning import vectors_of
from .markets import DAY_MINUTES, LEADER, MARKETS, WILD_VOLUME, Candles, Effects, plant
from .walks import VOLATILITY, clustered_walk, gaussian_walk


def _assert_sound(candles: Candles) -> None:
    opened, high, low, close, volume = np.moveaxis(candles.ohlcv, -1, 0)
    assert (low > 0).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert (volume >= 0).all()
    np.testing.assert_array_equal(opened[1:], close[:-1])


@pytest.mark.parametrize("name", MARKETS)
def test_the_same_seed_gives_the_same_candles(name: str) -> None:
    first, again, other = (plant(MARKETS[name], days=1, seed=seed).candles for seed in (3, 3, 4))
    _assert_sound(first)
    np.testing.assert_array_equal(first.ohlcv, again.ohlcv)
    assert not np.array_equal(first.ohlcv, other.ohlcv)


@pytest.mark.parametrize("candles", [gaussian_walk(days=1), clustered_walk(days=1)])
def test_the_candles_of_a_walk_are_sound(candles: Candles) -> None:
    _assert_sound(candles)


def test_all_features_are_there_after_their_warm_up() -> None:
    for candles in (plant(MARKETS["mixture"], days=2).candles, clustered_walk(days=2)):
        rows = vectors_of(candles)
        assert rows.vectors.shape == (2 * DAY_MINUTES * len(candles.symbols), len(NAMES))
        assert not np.isnan(rows.vectors[rows.open_time_ms >= candles.open_time_ms[1_600]]).any()


def test_the_leader_walks_at_random_whatever_the_others_do() -> None:
    market = plant(MARKETS["mixture"], followers=1, days=20)
    assert market.candles.symbols[0] == LEADER
    assert np.abs(_lagged_correlations(market.returns[:, 0], 30)).max() < 4.5 / np.sqrt(20 * DAY_MINUTES)


def test_wild_minutes_show_in_volume_and_size_and_not_in_the_direction() -> None:
    market = plant(Effects(wild_ratio=2.5), followers=6, days=30)
    moves, wild = market.returns[:, 1:], market.wild[:, 1:]
    volume = market.candles.ohlcv[:, 1:, 4]
    assert 0.35 < wild.mean() < 0.65
    assert moves[wild].std() / moves[~wild].std() == pytest.approx(2.5, rel=0.02)
    assert volume[wild].mean() / volume[~wild].mean() == pytest.approx(WILD_VOLUME, rel=0.02)
    assert (moves[wild] > 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(wild.sum()))
    lengths = np.diff(np.flatnonzero(np.diff(wild.T.ravel().astype(int))))
    assert lengths.mean() == pytest.approx(480, rel=0.35)


def test_extremes_of_a_candle_tell_nothing_about_the_drift() -> None:
    # given open and close; were it otherwise, the best forecast would have to look at them
    market = plant(Effects(drift=0.5), followers=6, days=20)
    opened, high, low, close, _ = np.moveaxis(market.candles.ohlcv[:, 1:], -1, 0)
    lean = np.log(high / np.maximum(opened, close)) - np.log(np.minimum(opened, close) / low)
    left = lean.ravel()
    given = np.log(close / opened).ravel()
    drift = market.drift[:, 1:].ravel()
    drift = drift - given * (drift @ given) / (given @ given)
    assert abs(np.corrcoef(left, drift)[0, 1]) < 0.012


def test_a_clustered_walk_looks_like_a_market() -> None:
    candles = clustered_walk(symbols=6, days=30, seed=1)
    returns = np.diff(np.log(candles.close), axis=0)
    standard = returns / returns.std(axis=0)
    assert (standard**4).mean(axis=0).min() > 5
    assert min(_lagged_correlations(np.abs(returns[:, i]), 20)[-1] for i in range(6)) > 0.05
    assert np.corrcoef(returns.T)[np.triu_indices(6, 1)].min() > 0.15
    flat = candles.ohlcv[:, :, 4] == 0
    assert flat.mean() == pytest.approx(0.05, abs=0.003)
    assert (np.ptp(candles.ohlcv[flat][:, :4], axis=1) == 0).all()
    assert (returns[flat[1:]] == 0).all()
    by_minute = candles.ohlcv[:, :, 4].reshape(30, DAY_MINUTES, 6).mean(axis=(0, 2))
    smooth = by_minute.reshape(24, 60).mean(axis=1)
    assert smooth.max() > 2 * smooth.min()


def test_a_gaussian_walk_is_plain() -> None:
    returns = np.diff(np.log(gaussian_walk(days=10, seed=2).close), axis=0)
    assert returns.std() == pytest.approx(VOLATILITY, rel=0.01)
    assert ((returns / returns.std()) ** 4).mean() == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("walk", [gaussian_walk, clustered_walk])
@pytest.mark.parametrize("horizon", [5, 60])
def test_no_rule_foresees_the_direction_of_a_walk(walk: type[Candles], horizon: int) -> None:
    candles = walk(symbols=6, days=40, seed=5)
    logs = np.log(candles.close)
    for back in (1, 5, 30, 240):
        past, coming = (
            logs[back:-horizon] - logs[: -back - horizon],
            logs[back + horizon :] - logs[back:-horizon],
        )
        moved = (coming != 0) & (past != 0)
        hits = np.where(moved, (past > 0) == (coming > 0), 0.5)[::horizon].mean(axis=1)
        assert abs(hits.mean() - 0.5) < 4 * hits.std() / np.sqrt(len(hits))


def _lagged_correlations(values: np.ndarray, lags: int) -> list[float]:
    centred = values - values.mean()
    return [float(centred[lag:] @ centred[:-lag] / (centred @ centred)) for lag in range(1, lags + 1)]
