from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import pearsonr, spearmanr

from domain.evaluation.correlations import (
    FEWEST_RETURNS,
    Bars,
    LeadLag,
    bars_of,
    correlation,
    daily,
    lead_lag,
    views,
)
from schemas.frames import MINUTE_MS, Float64, Int64

DAY = 1440


def closes_of(*returns: Float64) -> dict[str, tuple[Int64, Float64]]:
    """Candles of every minute whose returns are these, in percent, behind a first candle."""
    names = "ABCDEFG"
    times = np.arange(len(returns[0]) + 1, dtype=np.int64) * MINUTE_MS
    return {
        names[k]: (times, 100.0 * np.exp(np.concatenate([[0.0], np.cumsum(each)]) / 100.0))
        for k, each in enumerate(returns)
    }


def bars_with(*returns: Float64) -> Bars:
    return Bars(
        timeframe_minutes=1,
        symbols=tuple("ABCDEFG"[: len(returns)]),
        open_time_ms=np.arange(len(returns[0]), dtype=np.int64) * MINUTE_MS,
        returns_pct=np.stack(returns, axis=1),
    )


def looked_at(*returns: Float64, **more: Any) -> LeadLag:
    return lead_lag(bars_with(*returns), 0, 1, looked_at=1, **more)


# --- returns ---


def test_a_return_is_there_where_both_of_its_ends_have_a_candle() -> None:
    times = np.array([0, 1, 2, 4, 5, 6], np.int64) * MINUTE_MS
    close = np.array([100.0, 101.0, 102.0, 50.0, 51.0, 52.0])
    bars = bars_of({"A": (times, close), "B": (times, close)}, 1)
    assert bars.open_time_ms.tolist() == [k * MINUTE_MS for k in range(7)]
    known = np.isfinite(bars.returns_pct[:, 0])
    assert known.tolist() == [False, True, True, False, False, True, True]
    assert bars.returns_pct[5, 0] == pytest.approx(100 * np.log(51 / 50))


def test_longer_bars_follow_the_clock_and_add_up_the_minutes() -> None:
    chance = np.random.default_rng(1)
    single = chance.normal(size=62)
    closes = {
        name: (times + 7 * MINUTE_MS, close) for name, (times, close) in closes_of(single, single).items()
    }
    bars = bars_of(closes, 15)
    assert (bars.open_time_ms // MINUTE_MS).tolist() == [0, 15, 30, 45, 60]
    # candles open at 7..69: closes at 14, 29, 44 and 59, so bars 15 to 59 have both ends
    assert np.isfinite(bars.returns_pct[:, 0]).tolist() == [False, True, True, True, False]
    assert bars.returns_pct[1, 0] == pytest.approx(single[7:22].sum())


@pytest.mark.parametrize("timeframe", [0, -5, 7, 1439, 2880])
def test_a_timeframe_that_is_no_part_of_a_day_is_refused(timeframe: int) -> None:
    with pytest.raises(ValueError, match=f"{timeframe} minutes are no whole part of a day"):
        bars_of(closes_of(np.ones(5), np.ones(5)), timeframe)


def test_one_symbol_or_a_leader_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="1 symbols are no pair"):
        views(closes_of(np.ones(5)), leader="A", seed=1)
    with pytest.raises(ValueError, match="the leader Z is not among A, B"):
        views(closes_of(np.ones(5), np.ones(5)), leader="Z", seed=1)


def test_returns_of_exactly_zero_are_counted_as_stale() -> None:
    bars = bars_with(np.array([0.0, 1.0, np.nan, 0.0, 2.0]), np.ones(5))
    assert bars.unmoved() == {"A": 0.5, "B": 0.0}


# --- together ---


def test_correlations_are_those_of_scipy_on_common_minutes() -> None:
    chance = np.random.default_rng(2)
    x = chance.standard_t(3, 3000)
    y = 0.5 * x + chance.standard_t(3, 3000)
    x[100:200], y[150:400] = np.nan, np.nan
    both = np.isfinite(x) & np.isfinite(y)
    found = correlation(bars_with(x, y), 0, 1, seed=1, draws=200)
    assert found.n == both.sum() == 2700
    assert found.pearson.estimate == pytest.approx(pearsonr(x[both], y[both]).statistic)
    assert found.rank.estimate == pytest.approx(spearmanr(x[both], y[both]).statistic)
    assert found.pearson.low < found.pearson.estimate < found.pearson.high


def test_a_known_correlation_lies_in_its_interval_though_volatility_comes_in_bursts() -> None:
    runs, covered = 100, 0
    for seed in range(runs):
        chance = np.random.default_rng(seed)
        burst = np.repeat(np.exp(0.6 * chance.normal(size=50)), 60)
        shared = chance.normal(size=3000)
        x, y = (burst * (shared + chance.normal(size=3000)) for _ in range(2))
        found = correlation(bars_with(x, y), 0, 1, seed=seed, draws=300).pearson
        covered += found.low <= 0.5 <= found.high
    assert covered >= 88  # 95 of 100 are meant to; below 88 has a chance of one in 400


def test_correlation_is_told_day_by_day() -> None:
    chance = np.random.default_rng(3)
    x, other = chance.normal(size=(2, 3 * DAY))
    y = np.concatenate([x[:DAY], other[DAY : 2 * DAY], -x[2 * DAY :]])
    y[2 * DAY + 5 :] = np.nan
    found = daily(bars_with(x, y), 0, 1)
    assert (found.day_ms // MINUTE_MS).tolist() == [0, DAY, 2 * DAY]
    assert found.correlation[0] == pytest.approx(1.0)
    assert abs(found.correlation[1]) < 0.1
    assert np.isnan(found.correlation[2])


def test_a_planted_beta_is_found_with_what_it_explains() -> None:
    chance = np.random.default_rng(4)
    leader = chance.normal(size=5000)
    other = 1.5 * leader + 1.5 * chance.normal(size=5000)
    view = views(closes_of(other, leader), timeframes=(1,), leader="B", seed=1, draws=300)[0]
    (beta,) = view.betas
    assert (beta.symbol, beta.leader) == ("A", "B")
    assert beta.beta.low < 1.5 < beta.beta.high
    assert beta.beta.high - beta.beta.low < 0.2
    assert beta.r2 == pytest.approx(0.5, abs=0.05)


# --- across time ---


def planted(lag: int, share: float, n: int = 6000, seed: int = 5) -> tuple[Float64, Float64]:
    """A leader, and a follower that repeats a share of it some minutes later; both share a market."""
    chance = np.random.default_rng(seed)
    market = chance.normal(size=n)
    leader = market + chance.normal(size=n)
    follower = market + chance.normal(size=n)
    follower[lag:] += share * leader[:-lag]
    return leader, follower


@pytest.mark.parametrize(("lag", "share"), [(1, 0.2), (7, 0.2), (30, 0.2), (3, -0.2)])
def test_a_planted_lead_is_found_with_its_minutes_and_its_sign(lag: int, share: float) -> None:
    leader, follower = planted(lag, share)
    found = looked_at(leader, follower)
    assert (found.leader, found.follower, found.lead_bars, found.lead_minutes) == ("A", "B", lag, lag)
    assert found.lead_correlation == pytest.approx(share * np.sqrt(2) / np.std(follower), abs=0.05)
    assert abs(found.excess) > 0.1
    turned = looked_at(follower, leader)
    assert (turned.leader, turned.lead_bars) == ("B", lag)


def test_a_lead_beyond_the_lags_that_are_looked_at_is_nobodys() -> None:
    leader, follower = planted(31, 0.3)
    assert looked_at(leader, follower).leader == ""
    assert looked_at(leader, follower, most_lags=31).lead_bars == 31


def test_a_lead_of_ten_minutes_shows_in_bars_of_five() -> None:
    leader, follower = planted(10, 0.5, n=20_000)
    five = views(closes_of(leader, follower), timeframes=(5,), leader="A", seed=1, draws=50)[0]
    assert five.lead_lags[0].leader == "A"
    assert five.lead_lags[0].lead_minutes == 10


def test_a_halt_takes_nothing_but_its_own_minutes_out() -> None:
    leader, follower = planted(2, 0.3)
    leader[1000:1300] = np.nan
    follower[2000:2005] = np.nan
    found = looked_at(leader, follower)
    assert (found.leader, found.lead_bars, found.n) == ("A", 2, 6000 - 305)


def test_symbols_that_share_an_autocorrelated_market_have_no_leader() -> None:
    chance = np.random.default_rng(6)
    market = chance.normal(size=20_000)
    for k in range(1, len(market)):
        market[k] += 0.4 * market[k - 1]
    found = looked_at(*(market + chance.normal(size=20_000) for _ in range(2)))
    assert found.leader == ""
    # though both of them foretell the other, by more than chance explains
    beyond = np.abs(found.correlation) > found.bound
    assert beyond[29]
    assert beyond[31]


def test_without_a_lead_hardly_any_report_names_one() -> None:
    false = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        bursts = np.repeat(np.exp(0.7 * chance.normal(size=40)), 30)
        x, y = chance.standard_t(4, (2, 1200))
        for k in range(1, 1200):
            x[k] += 0.5 * x[k - 1]
            y[k] += 0.5 * y[k - 1]
        false += looked_at(bursts * x, bursts * y).leader != ""
    assert false <= 8  # 3 of 60 are allowed; more than 8 have a chance of one in 200


def test_more_looks_make_the_bounds_wider() -> None:
    bars = bars_with(*planted(1, 0.2))
    few, many = (lead_lag(bars, 0, 1, looked_at=looks) for looks in (1, 100))
    assert (many.bound[:30] > few.bound[:30]).all()
    assert many.adjusted_p >= few.adjusted_p


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(FEWEST_RETURNS, 200), st.just(2)), elements=st.floats(-5, 5))
)
def test_turning_a_pair_around_mirrors_its_lags(returns: Float64) -> None:
    one = looked_at(returns[:, 0], returns[:, 1])
    other = looked_at(returns[:, 1], returns[:, 0])
    np.testing.assert_allclose(one.correlation, other.correlation[::-1], atol=1e-12)
    np.testing.assert_allclose(one.bound, other.bound[::-1], atol=1e-12)


def test_pairs_with_too_few_common_returns_are_left_out() -> None:
    long, short = np.ones(1000), np.ones(FEWEST_RETURNS - 1)
    chance = np.random.default_rng(7)
    closes = closes_of(chance.normal(size=1000), chance.normal(size=1000))
    closes["C"] = closes_of(chance.normal(size=len(short)))["A"]
    view = views(closes, timeframes=(1,), leader="A", seed=1, draws=50)[0]
    assert [(each.first, each.second) for each in view.correlations] == [("A", "B")]
    assert [each.symbol for each in view.betas] == ["B"]
    assert view.returns == {"A": len(long), "B": len(long), "C": len(short)}


def test_prices_that_never_move_are_correlated_with_nothing() -> None:
    flat, moving = np.zeros(3000), np.random.default_rng(8).normal(size=3000)
    view = views(closes_of(flat, moving), timeframes=(1,), leader="B", seed=1, draws=50)[0]
    assert np.isnan(view.correlations[0].pearson.estimate)
    assert view.lead_lags[0].leader == ""
    assert view.unmoved["A"] == 1.0


def test_the_same_candles_and_seed_give_the_same_report() -> None:
    closes = closes_of(*planted(1, 0.2, n=2000))
    one, other = (views(closes, timeframes=(1, 5), leader="A", seed=3, draws=100) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.correlations == b.correlations
        assert a.betas == b.betas
