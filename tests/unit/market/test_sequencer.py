"""Whatever frames come, in whatever order, the same candles go out: each once, in order, none invented."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.market.candle import Candle, last_final_ms
from domain.market.lane import LaneRules, Page, Span
from domain.market.quiet import MAX_QUIET_MINUTES
from domain.market.sequencer import Sequencer
from schemas.frames import MINUTE_MS, Origin

T0 = 28_000_000 * MINUTE_MS
RULES = LaneRules()
HOLE = RULES.max_hole_ms // MINUTE_MS


# --- a tiny exchange: what its history answers, from a table of true candles ---


def at(number: int) -> int:
    return T0 + number * MINUTE_MS


def candle(number: int, close: float = 100.0, volume: float = 1.0) -> Candle:
    return Candle(at(number), close, close + 1, close - 1, close, volume)


def page_of(truth: Mapping[int, Candle], span: Span, as_of_ms: int, limit: int = 1_000) -> Page:
    """Answer with the first rows from a time on; the minute in progress is the last, and not yet itself."""
    limit = max(1, min(limit, span.minutes))
    rows = [row for t, row in sorted(truth.items()) if span.from_ms <= t < as_of_ms][:limit]
    rows = [row._replace(close=row.low) if row.open_time_ms + MINUTE_MS > as_of_ms else row for row in rows]
    covered = span.from_ms + (limit - 1) * MINUTE_MS
    covered = max(covered, rows[-1].open_time_ms) if rows else covered
    return Page(from_ms=span.from_ms, rows=rows, covered_to_ms=covered, as_of_ms=as_of_ms)


def windowed_page_of(truth: Mapping[int, Candle], span: Span, as_of_ms: int, limit: int = 300) -> Page:
    """Answer with the rows of a window of time, as exchanges do that leave out quiet minutes."""
    end = span.from_ms + (min(limit, span.minutes) - 1) * MINUTE_MS
    rows = [row for t, row in sorted(truth.items()) if span.from_ms <= t <= min(end, as_of_ms)]
    return Page(from_ms=span.from_ms, rows=rows, covered_to_ms=end, as_of_ms=as_of_ms)


def sequencer_of(*symbols: str, known_to: int = -1, omits_quiet: bool = False) -> Sequencer:
    known = {symbol: at(known_to) for symbol in symbols or ("A",)}
    return Sequencer(known_to_ms=known, rules=RULES, omits_quiet=omits_quiet)


def finish(
    sequencer: Sequencer, truths: Mapping[str, Mapping[int, Candle]], now_ms: int, answer=page_of
) -> None:
    """Ask the history for whatever is wanted, until nothing is."""
    for _ in range(10_000):
        wanted = [(lane.symbol, lane.wanted(now_ms)) for lane in sequencer]
        wanted = [(symbol, span) for symbol, span in wanted if span is not None]
        if not wanted:
            return
        for symbol, span in wanted:
            sequencer.history(symbol, answer(truths[symbol], span, now_ms))
    raise AssertionError("the sequencer never has enough")


def table(*numbers: int) -> dict[int, Candle]:
    return {at(number): candle(number, 100.0 + number % 7) for number in numbers}


# --- the sentence that matters ---


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_same_frames_in_any_order_doubled_or_lost_give_the_same_candles(data):
    present = data.draw(st.lists(st.booleans(), min_size=1, max_size=40), "minutes that exist")
    truth = table(*(n for n, exists in enumerate(present) if exists))
    times = st.sampled_from(sorted(truth) or [0])
    frames = data.draw(st.lists(times, max_size=80), "frames, in any order, doubled or lost") if truth else []
    length = len(present)
    sequencer = sequencer_of()
    for step, t in enumerate(frames):
        if t:
            sequencer.stream("A", truth[t])
        if data.draw(st.integers(0, 3), "now and then the history is asked") == 0:
            # Frames are of minutes that are over, so the clock is past all of those that came.
            clock = max(frames[: step + 1]) + MINUTE_MS + data.draw(st.integers(0, 90_000))
            span = sequencer.wanted("A", clock)
            if span is not None:
                limit = data.draw(st.integers(1, 50), "page size")
                sequencer.history("A", page_of(truth, span, clock, limit))
    finish(sequencer, {"A": truth}, at(length + HOLE + 2))

    decided = sequencer.take()
    assert [row for _, row, _ in decided.emitted] == [truth[t] for t in sorted(truth)]
    assert not decided.revised
    assert not decided.rejected
    assert sequencer["A"].known_to_ms == last_final_ms(at(length + HOLE + 2), RULES.grace_ms)
    assert sequencer.parked == 0


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_quiet_minutes_and_halts_come_out_the_same_however_the_history_is_cut(data):
    symbols = ("A", "B", "C")
    length = data.draw(st.integers(1, 60), "minutes")
    halts = data.draw(
        st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25)), max_size=2), "all are silent"
    )
    silent = {n for start, count in halts for n in range(start, start + count)}
    truths = {
        symbol: table(
            -3,
            *(
                n
                for n, trades in enumerate(
                    data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
                )
                if trades and n not in silent
            ),
        )
        for symbol in symbols
    }
    sequencer = sequencer_of(*symbols, omits_quiet=True)
    for _ in range(data.draw(st.integers(0, 30), "questions")):
        symbol = data.draw(st.sampled_from(symbols))
        clock = at(data.draw(st.integers(0, length)))
        span = sequencer.wanted(symbol, clock)
        if span is not None:
            limit = data.draw(st.integers(1, 300), "page size")
            sequencer.history(symbol, windowed_page_of(truths[symbol], span, clock, limit))
    end = at(length + HOLE + 2)
    finish(sequencer, truths, end, windowed_page_of)
    got = {symbol: [] for symbol in symbols}
    for symbol, row, origin in sequencer.take().emitted:
        got[symbol].append((row, origin))

    # The rule once more, written over the whole table at once.
    alive = {t for truth in truths.values() for t in truth}
    last = last_final_ms(end, RULES.grace_ms)
    for symbol in symbols:
        expected, price = [], truths[symbol][at(-3)].close
        for t in range(at(0), last + 1, MINUTE_MS):
            if t in truths[symbol]:
                price = truths[symbol][t].close
                expected.append((truths[symbol][t], Origin.BACKFILLED))
            elif t in alive or (run_of_dead(t, alive, last) or HOLE + 1) <= HOLE:
                expected.append((Candle.flat(t, price), Origin.SYNTHETIC))
        # The run at the very end is not decided while it may still be short.
        assert got[symbol] == expected[: len(got[symbol])]
        assert len(got[symbol]) >= sum(1 for t in truths[symbol] if at(0) <= t)


def run_of_dead(t: int, alive: set[int], last: int) -> int | None:
    """Count the run of dead minutes around one; None where its end is not known and it may still be short."""
    first, after = t, t
    while first - MINUTE_MS not in alive:
        first -= MINUTE_MS
    while after not in alive and after <= last:
        after += MINUTE_MS
    length = (after - first) // MINUTE_MS
    return None if after > last and length <= HOLE else length


# --- one situation each ---


def test_a_flagged_frame_goes_out_at_once_as_traded():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0))
    assert sequencer.take().emitted == [("A", candle(0), Origin.TRADED)]


def test_a_flat_minute_without_volume_is_synthetic():
    sequencer = sequencer_of()
    sequencer.stream("A", Candle.flat(at(0), 5.0))
    assert sequencer.take().emitted == [("A", Candle.flat(at(0), 5.0), Origin.SYNTHETIC)]


def test_later_minutes_wait_until_the_history_has_filled_the_hole():
    sequencer = sequencer_of()
    for number in (0, 2, 3):
        sequencer.stream("A", candle(number))
    assert [row.open_time_ms for _, row, _ in sequencer.take().emitted] == [at(0)]
    span = sequencer.wanted("A", at(4) + 5_000)
    assert span == Span(from_ms=at(1), to_ms=at(3))
    sequencer.history("A", page_of(table(0) | {at(n): candle(n) for n in (1, 2, 3)}, span, at(4)))
    assert [(row.open_time_ms, origin) for _, row, origin in sequencer.take().emitted] == [
        (at(1), Origin.BACKFILLED),
        (at(2), Origin.BACKFILLED),
        (at(3), Origin.TRADED),
    ]


def test_nothing_is_asked_before_the_grace_is_over():
    sequencer = sequencer_of()
    assert sequencer.wanted("A", at(1) + 4_999) is None
    assert sequencer.wanted("A", at(1) + 5_000) is not None


def test_a_minute_in_progress_is_never_taken_from_the_history():
    sequencer = sequencer_of()
    span = Span(from_ms=at(0), to_ms=at(5))
    sequencer.history("A", page_of(table(0, 1), span, at(1) + 30_000))
    assert [row for _, row, _ in sequencer.take().emitted] == [table(0)[at(0)]]


def test_a_minute_left_out_between_others_is_absent_for_good():
    sequencer = sequencer_of()
    finish(sequencer, {"A": table(0, 1, 4)}, at(5) + 5_000)
    decided = sequencer.take()
    assert decided.absent == [("A", Span(from_ms=at(2), to_ms=at(4)))]
    assert sequencer["A"].known_to_ms == at(4)


def test_an_empty_edge_is_a_halt_only_after_the_longest_hole():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0))
    early, late = at(2 + HOLE) - 1, at(2 + HOLE)
    sequencer.history("A", page_of(table(0), sequencer.wanted("A", early), early))
    assert sequencer["A"].known_to_ms == at(0)
    sequencer.history("A", page_of(table(0), sequencer.wanted("A", late), late))
    assert sequencer["A"].halted
    assert sequencer["A"].known_to_ms == last_final_ms(late, RULES.grace_ms)


def test_a_halted_symbol_moves_on_with_every_empty_answer_and_resumes_with_its_first_minute():
    sequencer = sequencer_of()
    truth = table(0, 100, 101)
    for now in range(HOLE + 2, 100):
        span = sequencer.wanted("A", at(now) + 5_000)
        if span is not None:
            sequencer.history("A", page_of(truth, span, at(now) + 5_000))
    assert sequencer["A"].known_to_ms == at(98)
    sequencer.take()
    sequencer.stream("A", truth[at(100)])
    finish(sequencer, {"A": truth}, at(101) + 5_000)
    sequencer.stream("A", truth[at(101)])
    assert [row.open_time_ms for _, row, _ in sequencer.take().emitted] == [at(100), at(101)]
    assert not sequencer["A"].halted


def test_a_changed_value_of_a_minute_that_went_out_is_a_revision():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0))
    sequencer.stream("A", candle(0))
    sequencer.stream("A", candle(0, 101.0))
    decided = sequencer.take()
    assert decided.revised == [("A", candle(0, 101.0))]
    assert decided.duplicates == 1


def test_a_minute_that_was_called_absent_and_comes_after_all_is_a_revision():
    sequencer = sequencer_of()
    finish(sequencer, {"A": table(0, 2)}, at(3) + 5_000)
    sequencer.stream("A", candle(1))
    assert sequencer.take().revised == [("A", candle(1))]


def test_minutes_from_before_a_restart_are_taken_as_unchanged_unless_somebody_asks():
    sequencer = sequencer_of(known_to=5)
    sequencer.stream("A", candle(4))
    assert not sequencer.take().revised
    sequencer.revise("A", [candle(3), candle(4)])
    assert sequencer.take().revised == [("A", candle(3))]


@pytest.mark.parametrize("times", [1, 2])
def test_a_jump_is_refused_until_the_history_has_said_it_twice(times):
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0, 100.0))
    jumped = candle(1, 1_000.0)
    sequencer.stream("A", jumped)
    truth = {at(0): candle(0), at(1): jumped, at(2): candle(2, 1_000.0)}
    for _ in range(times):
        sequencer.history("A", page_of(truth, sequencer.wanted("A", at(3) + 5_000), at(3) + 5_000))
    decided = sequencer.take()
    assert [row for _, row, _ in decided.emitted] == [
        candle(0),
        *([jumped, truth[at(2)]] if times == 2 else []),
    ]
    assert {kind for _, _, kind, _ in decided.rejected} == {"jump"}


def test_a_jump_that_the_history_does_not_confirm_never_goes_out():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0))
    sequencer.stream("A", candle(1, 1_000.0))
    finish(sequencer, {"A": {at(n): candle(n) for n in range(3)}}, at(3) + 5_000)
    assert [row.close for _, row, _ in sequencer.take().emitted] == [100.0, 100.0, 100.0]


def test_a_jump_that_an_operator_vouched_for_passes_the_first_time():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(0))
    sequencer["A"].vouch(candle(1, 1_000.0))
    truth = {at(1): candle(1, 1_000.0)}
    sequencer.history("A", page_of(truth, sequencer.wanted("A", at(2) + 5_000), at(2) + 5_000))
    assert [row.close for _, row, _ in sequencer.take().emitted] == [100.0, 1_000.0]


def test_two_closed_versions_of_one_parked_minute_are_left_to_the_history():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(1, 100.0))
    sequencer.stream("A", candle(1, 101.0))
    finish(sequencer, {"A": {at(0): candle(0), at(1): candle(1, 101.0)}}, at(2) + 5_000)
    assert [row.close for _, row, _ in sequencer.take().emitted] == [100.0, 101.0]


def test_parked_minutes_ahead_of_the_exchanges_clock_are_refused():
    sequencer = sequencer_of()
    sequencer.stream("A", candle(500))
    lane = sequencer["A"]
    assert lane.parked_after(at(60)) == [at(500)]
    lane.evict([at(500)])
    assert lane.parked == 0
    assert [kind for _, _, kind, _ in sequencer.take().rejected] == ["future"]


def test_a_symbol_that_stops_trading_while_others_go_on_gets_no_flat_candles_for_ever():
    truths = {"A": table(0), "B": table(*range(400))}
    sequencer = sequencer_of("A", "B", omits_quiet=True)
    finish(sequencer, truths, at(400) + 5_000, windowed_page_of)
    mine = [row for symbol, row, _ in sequencer.take().emitted if symbol == "A"]
    assert len(mine) == 1 + MAX_QUIET_MINUTES
    assert sequencer["A"].known_to_ms == at(399)
    assert sequencer["A"].halted


@pytest.mark.parametrize("cut", [1, 7, 30, 55])
def test_a_restart_in_the_middle_of_quiet_minutes_goes_on_with_the_same_candles(cut):
    truths = {"A": table(-5, 0, 40, 50), "B": table(*range(20), *range(35, 60))}
    whole = sequencer_of("A", "B", omits_quiet=True)
    finish(whole, truths, at(61), windowed_page_of)
    rows = [(symbol, row) for symbol, row, _ in whole.take().emitted]
    again = sequencer_of("A", "B", known_to=cut, omits_quiet=True)
    finish(again, truths, at(61), windowed_page_of)
    after = [(symbol, row) for symbol, row, _ in again.take().emitted]
    for symbol in "AB":
        assert [row for name, row in after if name == symbol] == [
            row for name, row in rows if name == symbol and row.open_time_ms > at(cut)
        ]
