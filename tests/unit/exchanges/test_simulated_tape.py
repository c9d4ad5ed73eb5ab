import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.generator import ORIGIN_MS, GeneratedMarket
from exchanges.simulation.market import DAY_MS
from exchanges.simulation.numbers import decimal, iso_time
from exchanges.simulation.symbols import dashed, split_symbol
from exchanges.simulation.tape import Tape
from schemas.frames import MINUTE_MS

START = ORIGIN_MS + 900 * DAY_MS
MARKET = GeneratedMarket(["BTCUSDT", "HBARUSDT"], seed=7)
SYMBOLS = st.sampled_from(MARKET.symbols)
MINUTES = st.integers(0, 3 * 1_440).map(lambda minute: START + minute * MINUTE_MS)


class Listed:
    """A market from a table of open minutes."""

    def __init__(self, minutes, symbol="BTCUSDT"):
        self.symbols = (symbol,)
        self.description = "table"
        self._rows = np.array([[m * MINUTE_MS, 5, 6, 4, 5.5, 10] for m in minutes], float)

    def span(self, symbol):
        return int(self._rows[0, 0]), int(self._rows[-1, 0])

    def candles(self, symbol, from_ms, to_ms):
        times = self._rows[:, 0]
        return self._rows[(times >= from_ms) & (times < to_ms)]


@given(SYMBOLS, MINUTES)
def test_the_trades_of_a_minute_add_up_to_its_candle(symbol, minute):
    tape = Tape(MARKET, first_ms=START)
    row, trades = tape.row(symbol, minute), tape.trades(symbol, minute)
    if row[5] == 0:
        assert trades == []
        return
    prices = [trade.price for trade in trades]
    assert (prices[0], max(prices), min(prices), prices[-1]) == row[1:5]
    assert sum(trade.size for trade in trades) == pytest.approx(row[5], rel=1e-9)
    assert all(trade.size > 0 for trade in trades)
    times = [trade.time_ms for trade in trades]
    assert times == sorted(set(times))
    assert minute < times[0]
    assert times[-1] < minute + MINUTE_MS


@given(SYMBOLS, MINUTES, st.integers(0, MINUTE_MS - 1), st.integers(0, MINUTE_MS - 1))
def test_the_minute_in_progress_only_grows_and_stays_inside_its_candle(symbol, minute, one, other):
    tape = Tape(MARKET, first_ms=START)
    final = tape.row(symbol, minute)
    early, late = (tape.partial(symbol, minute + offset) for offset in sorted((one, other)))
    assert early[5] <= late[5] <= final[5] * (1 + 1e-9)
    for row in (early, late):
        if row[5] > 0:
            assert row[1] == final[1]
            assert final[3] <= row[3] <= row[2] <= final[2]
    if early[5] > 0:
        assert late[2] >= early[2]
        assert late[3] <= early[3]


@given(SYMBOLS, MINUTES, st.integers(0, MINUTE_MS - 1))
def test_nothing_visible_is_newer_than_now(symbol, minute, offset):
    tape = Tape(MARKET, first_ms=START)
    now = minute + offset
    rows = tape.visible(symbol, now - 10 * MINUTE_MS, now + 10 * MINUTE_MS, now)
    assert rows[-1][0] == minute
    assert rows[-1] == tape.partial(symbol, now)
    truth = tape.truth(symbol, now - 10 * MINUTE_MS, minute)
    assert rows[:-1] == truth
    assert all(trade.time_ms <= now for trade in tape.recent_trades(symbol, now, 30))


def test_trade_numbers_grow_over_minutes():
    tape = Tape(MARKET, first_ms=START)
    numbers = [trade.number for m in range(50) for trade in tape.trades("BTCUSDT", START + m * MINUTE_MS)]
    assert numbers == sorted(set(numbers))


def test_no_history_before_the_first_minute():
    tape = Tape(MARKET, first_ms=START)
    assert tape.visible("BTCUSDT", 0, START + MINUTE_MS, START + 5 * MINUTE_MS)[0][0] == START


@settings(max_examples=60)
@given(
    st.sets(st.integers(0, 5_000), min_size=1, max_size=60),
    st.integers(0, 5_000),
    st.integers(1, 20),
    st.integers(0, 5_100),
)
def test_pages_step_over_holes_of_any_length(minutes, start, limit, now):
    tape = Tape(Listed(sorted(minutes)), first_ms=0)
    now_ms = now * MINUTE_MS
    due = [m for m in sorted(minutes) if start <= m <= now]
    first = tape.first_rows("BTCUSDT", start * MINUTE_MS, now_ms + 1, now_ms, limit)
    assert [row[0] // MINUTE_MS for row in first] == due[:limit]
    last = tape.last_rows("BTCUSDT", start * MINUTE_MS, now_ms + 1, now_ms, limit)
    assert [row[0] // MINUTE_MS for row in last] == due[-limit:]


def test_a_symbol_trades_from_its_first_to_its_last_minute():
    tape = Tape(Listed([100, 101, 102]), first_ms=0)
    assert not tape.is_listed("BTCUSDT", 99 * MINUTE_MS)
    assert tape.is_trading("BTCUSDT", 100 * MINUTE_MS)
    assert tape.is_trading("BTCUSDT", 103 * MINUTE_MS - 1)
    assert not tape.is_trading("BTCUSDT", 103 * MINUTE_MS)
    assert tape.is_listed("BTCUSDT", 999 * MINUTE_MS)


def test_a_ticker_sums_up_the_last_day():
    tape = Tape(MARKET, first_ms=START)
    now = START + 2 * DAY_MS + 30_000
    rows = MARKET.candles("BTCUSDT", START + DAY_MS, START + 2 * DAY_MS)
    ticker = tape.ticker("BTCUSDT", now)
    partial = tape.partial("BTCUSDT", now)
    assert ticker.open == rows[0, 1]
    assert ticker.last == partial[4]
    assert ticker.high == max(rows[:, 2].max(), partial[2])
    assert ticker.volume == pytest.approx(rows[:, 5].sum() + partial[5])
    assert ticker.bid < ticker.last < ticker.ask


def test_a_ticker_at_birth_without_history_is_of_the_minute_in_progress():
    tape = Tape(MARKET, first_ms=START)
    ticker = tape.ticker("BTCUSDT", START + 30_000)
    assert ticker.last == ticker.high or ticker.high > 0
    assert ticker.open > 0


def test_a_revised_candle_is_served_until_it_is_restored():
    tape = Tape(MARKET, first_ms=START)
    now = START + 5 * MINUTE_MS
    true = tape.row("BTCUSDT", START)
    other = (*true[:5], 1.0)
    tape.revise("BTCUSDT", other)
    assert tape.closed("BTCUSDT", START, now, now)[0] == other
    assert tape.truth("BTCUSDT", START, now)[0] == true
    tape.restore("BTCUSDT", START)
    assert tape.closed("BTCUSDT", START, now, now)[0] == true


def test_a_halted_minute_never_was():
    tape = Tape(MARKET, first_ms=START)
    now = START + 5 * MINUTE_MS
    tape.halt(START + MINUTE_MS, START + 2 * MINUTE_MS)
    assert tape.row("BTCUSDT", START + MINUTE_MS) is None
    assert tape.trades("BTCUSDT", START + MINUTE_MS) == []
    times = [row[0] for row in tape.closed("BTCUSDT", START, now, now)]
    assert times == [START + m * MINUTE_MS for m in (0, 2, 3, 4)]


@given(st.floats(min_value=0, max_value=1e15, allow_subnormal=False))
def test_a_number_on_the_wire_reads_back_exactly(value):
    text = decimal(value)
    assert float(text) == value
    assert "e" not in text


def test_times_are_written_in_utc_with_milliseconds():
    assert iso_time(1_617_321_600_042) == "2021-04-02T00:00:00.042Z"


def test_symbols_are_split_at_their_quote():
    assert split_symbol("BTCUSDT") == ("BTC", "USDT")
    assert split_symbol("ETHBTC") == ("ETH", "BTC")
    assert dashed("HBARUSDT") == "HBAR-USDT"
    with pytest.raises(ValueError, match="known quote"):
        split_symbol("BTCPLN")
