import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.generator import KNOWN, ORIGIN_MS, GeneratedMarket
from exchanges.simulation.market import DAY_MS
from schemas.frames import MINUTE_MS

SYMBOLS = tuple(KNOWN)
START = ORIGIN_MS + 1_500 * DAY_MS


@pytest.fixture(scope="module")
def month() -> dict[str, np.ndarray]:
    market = GeneratedMarket(SYMBOLS, seed=7)
    return {symbol: market.candles(symbol, START, START + 30 * DAY_MS) for symbol in SYMBOLS}


def returns(candles: np.ndarray) -> np.ndarray:
    return np.diff(np.log(candles[:, 4]))


def lagged(values: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SYMBOLS),
    st.integers(0, 3 * 1_440),
    st.integers(0, 2_000),
)
def test_any_window_holds_the_same_values_whatever_was_asked_before(symbol, offset, length):
    fresh = GeneratedMarket([symbol], seed=11)
    worn = GeneratedMarket(SYMBOLS, seed=11)
    from_ms = START + offset * MINUTE_MS
    worn.candles("BTCUSDT", from_ms + 700 * DAY_MS, from_ms + 701 * DAY_MS)
    whole = worn.candles(symbol, START, START + 6 * DAY_MS)
    part = fresh.candles(symbol, from_ms, from_ms + length * MINUTE_MS)
    np.testing.assert_array_equal(part, whole[offset : offset + length])


def test_another_seed_is_another_market():
    one, other = (
        GeneratedMarket(["BTCUSDT"], seed=seed).candles("BTCUSDT", START, START + DAY_MS) for seed in (1, 2)
    )
    assert not np.array_equal(one[:, 4], other[:, 4])


def test_every_candle_is_possible_and_no_minute_is_missing(month):
    for candles in month.values():
        assert len(candles) == 30 * 1_440
        assert (np.diff(candles[:, 0]) == MINUTE_MS).all()
        assert (candles[:, 2] >= candles[:, 1:5].max(axis=1)).all()
        assert (candles[:, 3] <= candles[:, 1:5].min(axis=1)).all()
        assert (candles[:, 1:5] > 0).all()
        assert (candles[:, 5] >= 0).all()


def test_each_minute_opens_within_a_tick_of_the_last_close_also_at_midnight(month):
    for symbol, candles in month.items():
        tick = 10.0 ** -KNOWN[symbol].decimals
        assert np.abs(candles[1:, 1] - candles[:-1, 4]).max() <= tick * 1.001


def test_returns_have_fat_tails(month):
    for candles in month.values():
        standard = returns(candles) / returns(candles).std()
        assert (standard**4).mean() > 5


def test_volatility_comes_in_clusters_and_returns_do_not(month):
    for candles in month.values():
        sizes = np.abs(returns(candles))
        assert lagged(sizes, 1) > 0.1
        assert lagged(sizes, 60) > 0.05
        assert abs(lagged(returns(candles), 1)) < 0.05


def test_symbols_move_together(month):
    moves = np.corrcoef([returns(candles) for candles in month.values()])
    off_diagonal = moves[~np.eye(len(moves), dtype=bool)]
    assert off_diagonal.min() > 0.2
    assert off_diagonal.max() < 0.98


def test_volume_has_a_daily_season_and_goes_with_movement(month):
    candles = month["BTCUSDT"]
    by_hour = candles[:, 5].reshape(-1, 24, 60).mean(axis=(0, 2))
    assert by_hour[13:17].mean() > 1.5 * by_hour[1:5].mean()
    assert np.corrcoef(np.abs(returns(candles)), np.log(candles[1:, 5]))[0, 1] > 0.2


def test_daily_volatility_is_plausible(month):
    for candles in month.values():
        daily = returns(candles).std() * np.sqrt(1_440)
        assert 0.005 < daily < 0.15


def test_prices_stay_near_their_level_for_years():
    market = GeneratedMarket(SYMBOLS, seed=3)
    for symbol in SYMBOLS:
        closes = [
            market.candles(symbol, day, day + MINUTE_MS)[0, 4]
            for day in range(ORIGIN_MS, ORIGIN_MS + 2_500 * DAY_MS, 250 * DAY_MS)
        ]
        ratios = np.array(closes) / KNOWN[symbol].level
        assert (ratios > 0.05).all()
        assert (ratios < 20).all()


def test_a_thin_symbol_has_flat_minutes_without_a_trade(month):
    candles = month["HBARUSDT"]
    quiet = candles[candles[:, 5] == 0]
    assert 0.01 < len(quiet) / len(candles) < 0.03
    assert (quiet[:, 1:4] == quiet[:, [4]]).all()
    assert (month["BTCUSDT"][:, 5] > 0).all()


def test_structure_makes_trends_push_on_and_ranges_pull_back():
    strong = GeneratedMarket(["BTCUSDT"], seed=5, structure=0.4)
    none = GeneratedMarket(["BTCUSDT"], seed=5, structure=0.0)
    variances = []
    for market in (strong, none):
        moves = returns(market.candles("BTCUSDT", START, START + 60 * DAY_MS))
        hours = np.array([lagged(hour, 1) for hour in moves[: len(moves) // 60 * 60].reshape(-1, 60)])
        variances.append(hours.var())
    assert variances[0] > 1.1 * variances[1]  # hours differ more from one another than chance makes them


def test_an_unknown_symbol_gets_a_character_from_its_name():
    market = GeneratedMarket([f"C{number}USDT" for number in range(20)], seed=1)
    prices = [market.candles(symbol, START, START + MINUTE_MS)[0, 4] for symbol in market.symbols]
    assert len(set(prices)) == 20


def test_nothing_exists_before_the_origin():
    market = GeneratedMarket(["BTCUSDT"], seed=1)
    assert len(market.candles("BTCUSDT", 0, ORIGIN_MS)) == 0
    assert len(market.candles("BTCUSDT", 0, ORIGIN_MS + MINUTE_MS)) == 1


@pytest.mark.parametrize(
    ("symbols", "structure", "named"),
    [([], 0.0, "at least one"), (["A", "A"], 0.0, "twice"), (["A"], 0.9, "structure")],
)
def test_impossible_markets_are_refused(symbols, structure, named):
    with pytest.raises(ValueError, match=named):
        GeneratedMarket(symbols, seed=1, structure=structure)
