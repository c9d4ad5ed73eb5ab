"""Trades worked out by hand: one for every way in which a trade can end."""

import pytest

from domain.trading.book import TradeBook
from domain.trading.costs import Costs
from domain.trading.signals import Signal, direction_of
from domain.trading.trade import Candle, Exits, Trade
from domain.trading.true_range import AverageTrueRange

MINUTE = 60_000
FREE = Costs(fee_bps=0, slippage_bps=0)
#: With an average range of 1% and a horizon of 15 minutes: take-profit 2%, stop 1.5% from the entry.
EXITS = Exits(take_profit_atr=2.0, stop_loss_atr=1.5)


def signal(direction: str = "LONG", *, at: int = 0, horizon: int = 15, atr_pct: float = 1.0) -> Signal:
    return Signal(
        direction=direction,
        confidence=70.0,
        created_at_ms=at * MINUTE + MINUTE,
        horizon_minutes=horizon,
        model_version="m1",
        atr_pct=atr_pct,
        profit_likelihood=50.0,
    )


def candle(minute: int, open_: float, high: float, low: float, close: float) -> Candle:
    return Candle(open_time_ms=minute * MINUTE, open=open_, high=high, low=low, close=close)


def play(wish: Signal, *candles: Candle, costs: Costs = FREE, exits: Exits = EXITS) -> Trade:
    """Signal at the close of minute 0, then the candles; the trade as the last one left it."""
    book = TradeBook(costs=costs, exits=exits)
    book.on_signal("BTC", wish)
    trades = [trade for c in candles for trade in book.on_candle("BTC", c)]
    return trades[-1]


def flat(minute: int, price: float = 100.0) -> Candle:
    return candle(minute, price, price, price, price)


def test_signal_enters_at_the_open_of_the_next_candle_worse_by_the_slippage():
    costs = Costs(fee_bps=0, slippage_bps=10)
    long = play(signal("LONG"), candle(1, 200.0, 201.0, 199.0, 200.0), costs=costs)
    short = play(signal("SHORT"), candle(1, 200.0, 201.0, 199.0, 200.0), costs=costs)
    assert (long.entry_price, short.entry_price) == pytest.approx((200.2, 199.8))
    assert long.entered_at_ms == MINUTE


def test_stop_and_take_profit_stand_at_multiples_of_the_range():
    long = play(signal("LONG"), flat(1))
    short = play(signal("SHORT"), flat(1))
    assert (long.tp_price, long.sl_price) == pytest.approx((102.0, 98.5))
    assert (short.tp_price, short.sl_price) == pytest.approx((98.0, 101.5))


def test_range_is_scaled_to_the_horizon_by_the_root_of_time():
    trade = play(signal("LONG", horizon=60), flat(1))
    assert trade.tp_price == pytest.approx(104.0)


def test_distances_are_never_less_than_the_costs_that_they_must_cover():
    # Round trip 2 * (10 + 2) = 24 basis points: stop one of them away, take-profit two.
    costs = Costs(fee_bps=10, slippage_bps=2)
    trade = play(signal("LONG", atr_pct=0.001), flat(1), costs=costs)
    assert trade.sl_price == pytest.approx(trade.entry_price * 0.9976)
    assert trade.tp_price == pytest.approx(trade.entry_price * 1.0048)


def test_take_profit_fills_at_its_price():
    trade = play(signal(), flat(1), candle(2, 100.0, 103.0, 99.0, 101.0))
    assert (trade.exit_reason, trade.exit_price) == ("take_profit", pytest.approx(102.0))
    assert trade.profit_pct == pytest.approx(2.0)
    assert trade.completed_at_ms == 3 * MINUTE
    assert trade.current_price == 101.0


def test_stop_fills_at_its_price_worse_by_the_slippage():
    costs = Costs(fee_bps=0, slippage_bps=10)
    trade = play(
        signal(), candle(1, 100.0, 100.5, 99.0, 99.0), candle(2, 99.0, 99.0, 98.0, 99.0), costs=costs
    )
    stop = 100.1 * 0.985
    assert trade.exit_reason == "stop_loss"
    assert trade.exit_price == pytest.approx(stop * 0.999)


def test_candle_that_holds_both_counts_as_the_stop():
    trade = play(signal(), candle(1, 100.0, 103.0, 98.0, 102.0))
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", pytest.approx(98.5))
    assert trade.total_minutes == 1


def test_gap_through_the_stop_fills_at_the_open():
    trade = play(signal(), flat(1), candle(2, 97.0, 99.0, 96.0, 98.0))
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", 97.0)
    assert trade.completed_at_ms == 2 * MINUTE
    assert trade.current_price == 97.0


def test_gap_through_the_take_profit_fills_at_the_take_profit_not_better():
    trade = play(signal(), flat(1), candle(2, 105.0, 106.0, 104.0, 105.0))
    assert (trade.exit_reason, trade.exit_price) == ("take_profit", pytest.approx(102.0))


def test_short_mirrors_the_long():
    profit = play(signal("SHORT"), flat(1), candle(2, 100.0, 101.0, 97.0, 99.0))
    loss = play(signal("SHORT"), flat(1), candle(2, 100.0, 102.0, 97.0, 99.0))
    assert (profit.exit_reason, profit.profit_pct) == ("take_profit", pytest.approx(2.0))
    assert (loss.exit_reason, loss.profit_pct) == ("stop_loss", pytest.approx(-1.5))


def test_trade_expires_at_the_close_of_the_horizons_last_candle():
    # The signal at the close of minute 0 speaks of the close of minute 3.
    trade = play(signal(horizon=3), flat(1), flat(2), candle(3, 100.0, 100.5, 99.9, 100.4))
    assert (trade.exit_reason, trade.exit_price) == ("expiry", 100.4)
    assert trade.completed_at_ms == trade.signal.expires_at_ms == 4 * MINUTE
    assert (trade.total_minutes, trade.profitable_minutes) == (3, 1)


def test_trade_whose_expiry_is_absent_leaves_at_the_next_open():
    trade = play(signal(horizon=3), flat(1), flat(2), candle(9, 100.5, 101.5, 100.5, 101.0))
    assert (trade.exit_reason, trade.exit_price) == ("expiry", 100.5)
    assert trade.completed_at_ms == 9 * MINUTE


def test_opposite_signal_ends_the_trade_and_opens_its_own_at_the_same_open():
    book = TradeBook(costs=FREE, exits=EXITS)
    book.on_signal("BTC", signal("LONG"))
    list(book.on_candle("BTC", flat(1)))
    book.on_signal("BTC", signal("SHORT", at=1))
    ended, opened = book.on_candle("BTC", candle(2, 100.5, 100.6, 100.4, 100.5))
    assert (ended.exit_reason, ended.exit_price) == ("opposite", 100.5)
    assert ended.completed_at_ms == 2 * MINUTE
    assert (opened.signal.direction, opened.entry_price, opened.is_active) == ("SHORT", 100.5, True)
    assert len(book) == 1


def test_signal_the_same_way_changes_nothing_while_a_trade_is_active():
    book = TradeBook(costs=FREE, exits=EXITS)
    book.on_signal("BTC", signal("LONG"))
    list(book.on_candle("BTC", flat(1)))
    book.on_signal("BTC", signal("LONG", at=1))
    (trade,) = book.on_candle("BTC", flat(2))
    assert trade.signal.created_at_ms == MINUTE


def test_signal_is_dropped_if_no_candle_comes_before_its_horizon():
    book = TradeBook(costs=FREE, exits=EXITS)
    book.on_signal("BTC", signal(horizon=5))
    assert list(book.on_candle("BTC", flat(6))) == []
    assert not book.has("BTC")


def test_profit_is_after_both_fees():
    # 1% of entry and of exit value: (110 - 100 - 1 - 1.1) / 100.
    trade = play(
        signal(horizon=2, atr_pct=50.0), flat(1), flat(2, 110.0), costs=Costs(fee_bps=100, slippage_bps=0)
    )
    assert trade.profit_pct == pytest.approx(7.9)


def test_extremes_come_from_highs_and_lows_and_profitable_minutes_from_closes():
    trade = play(
        signal(),
        candle(1, 100.0, 101.0, 99.5, 100.5),
        candle(2, 100.5, 100.6, 98.6, 99.0),
        candle(3, 99.0, 101.5, 98.9, 101.0),
    )
    assert trade.is_active
    assert (trade.profit_pct, trade.highest_profit_pct) == pytest.approx((1.0, 1.5))
    assert trade.lowest_loss_pct == pytest.approx(-1.4)
    assert (trade.profitable_minutes, trade.total_minutes) == (2, 3)


def test_book_goes_on_from_its_state():
    book = TradeBook(costs=FREE, exits=EXITS)
    book.on_signal("BTC", signal())
    list(book.on_candle("BTC", flat(1)))
    book.on_signal("ETH", signal("SHORT"))
    again = TradeBook(costs=FREE, exits=EXITS)
    again.take(book.state())
    assert list(again.on_candle("BTC", flat(2))) == list(book.on_candle("BTC", flat(2)))
    assert list(again.on_candle("ETH", flat(2))) == list(book.on_candle("ETH", flat(2)))


@pytest.mark.parametrize(
    ("predicted", "up", "expected"),
    [
        (0.1, 0.61, ("LONG", pytest.approx(61.0))),
        (-0.1, 0.39, ("SHORT", pytest.approx(61.0))),
        (0.1, 0.59, None),
        (-0.1, 0.41, None),
        (0.1, 0.2, None),
        (0.0, 0.9, None),
        (float("nan"), 0.9, None),
        (0.1, float("nan"), None),
    ],
)
def test_prediction_is_a_signal_only_with_enough_confidence_in_its_own_sign(predicted, up, expected):
    assert direction_of(predicted, up, 60.0) == expected


def test_average_true_range_is_the_mean_until_its_period_and_then_smooths_as_wilder_did():
    reach = AverageTrueRange()
    reach.update(100.0, 100.0, 100.0)
    for _ in range(14):
        assert not reach.is_warm
        reach.update(101.0, 99.0, 100.0)
    assert reach.is_warm
    assert reach.percent == pytest.approx(2.0)
    reach.update(103.0, 102.0, 100.0)  # from the previous close: 3%
    assert reach.percent == pytest.approx(2.0 + 1.0 / 14)
