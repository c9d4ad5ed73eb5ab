"""Batches cut at any moment: what is called known was handed out."""

from types import SimpleNamespace

from domain.market.candle import Candle
from domain.market.lane import LaneRules, Page, Span
from domain.market.sequencer import Sequencer
from exchanges.alarms import Alarms
from exchanges.outflow import Outflow, joined
from schemas.frames import MINUTE_MS, NULL_MS

FIRST = 1_000 * MINUTE_MS


def outflow_of(last_ms=None):
    alarms = []
    report = SimpleNamespace(
        dead_letter=lambda *_: None,
        count=lambda *_: None,
        alarm=lambda kind, message, symbol: alarms.append((kind, symbol)),
    )
    sequencer = Sequencer(known_to_ms={"A": FIRST - MINUTE_MS}, rules=LaneRules(), omits_quiet=False)
    outflow = Outflow(
        symbols=("A",),
        sequencer=sequencer,
        first_ms={"A": FIRST},
        last_ms=last_ms,
        alarms=Alarms(report, 3_600.0),
        report=report,
    )
    return outflow, sequencer, alarms


def test_a_candle_decided_by_a_frame_but_not_settled_yet_is_in_the_batch_that_calls_it_known():
    outflow, sequencer, _ = outflow_of()
    assert outflow.known_to() == [NULL_MS]
    sequencer.stream("A", Candle.flat(FIRST, 1.0))
    assert outflow.has_news()
    batch = outflow.batch(10, None, None)
    assert batch.candles.open_time_ms.tolist() == [FIRST]
    assert batch.known_to_ms.tolist() == [FIRST]


def test_a_batch_that_is_too_small_calls_only_what_it_holds_known():
    outflow, sequencer, _ = outflow_of()
    for number in range(3):
        sequencer.stream("A", Candle.flat(FIRST + number * MINUTE_MS, 1.0))
    assert outflow.batch(2, None, None).known_to_ms.tolist() == [FIRST + MINUTE_MS]
    assert outflow.batch(2, None, None).known_to_ms.tolist() == [FIRST + 2 * MINUTE_MS]
    assert outflow.batch(2, None, None) is None


def test_absent_minutes_alone_make_a_batch_and_one_alarm_however_they_are_cut():
    outflow, sequencer, alarms = outflow_of()
    sequencer.stream("A", Candle.flat(FIRST, 1.0))
    outflow.batch(10, None, None)
    for minutes in (30, 31, 32):
        end = FIRST + minutes * MINUTE_MS
        page = Page(from_ms=FIRST + MINUTE_MS, rows=[], covered_to_ms=end, as_of_ms=end + MINUTE_MS + 5_000)
        sequencer.history("A", page)
        batch = outflow.batch(10, None, None)
        assert len(batch.candles) == 0
        assert batch.known_to_ms.tolist() == [end]
    assert alarms == [("halt", "A")]


def test_spans_that_follow_one_another_are_joined_by_symbol():
    def span(first, last):
        return Span(from_ms=first * MINUTE_MS, to_ms=last * MINUTE_MS)

    cut = [("A", span(1, 2)), ("B", span(1, 3)), ("A", span(2, 4)), ("A", span(6, 7)), ("B", span(3, 5))]
    assert joined(cut) == [("A", span(1, 4)), ("B", span(1, 5)), ("A", span(6, 7))]


def test_minutes_after_a_recording_are_unknown_and_not_absent():
    outflow, sequencer, alarms = outflow_of(last_ms=FIRST + 2 * MINUTE_MS)
    sequencer.stream("A", Candle.flat(FIRST, 1.0))
    outflow.batch(10, None, None)
    for minutes in (15, 16):
        end = FIRST + minutes * MINUTE_MS
        page = Page(from_ms=FIRST + MINUTE_MS, rows=[], covered_to_ms=end, as_of_ms=end + MINUTE_MS + 5_000)
        sequencer.history("A", page)
    batch = outflow.batch(10, None, None)
    assert batch.known_to_ms.tolist() == [FIRST + 2 * MINUTE_MS]
    assert outflow.batch(10, None, None) is None
    assert [kind for kind, _ in alarms] == ["halt"]


def test_a_recording_that_is_over_raises_no_alarm():
    outflow, sequencer, alarms = outflow_of(last_ms=FIRST)
    sequencer.stream("A", Candle.flat(FIRST, 1.0))
    end = FIRST + 15 * MINUTE_MS
    page = Page(from_ms=FIRST + MINUTE_MS, rows=[], covered_to_ms=end, as_of_ms=end + MINUTE_MS + 5_000)
    sequencer.history("A", page)
    assert outflow.batch(10, None, None).known_to_ms.tolist() == [FIRST]
    assert not alarms
