"""A quiet market, a silent stream and a dead feed look different."""

import pytest

from domain.market.liveness import Pulse, Verdict, judge

ALIVE = {
    "now_s": 1_000.0,
    "frame_s": 999.0,
    "pong_s": 999.0,
    "connected_s": 500.0,
    "rest_s": 999.0,
    "candle_s": 990.0,
}


@pytest.mark.parametrize(
    ("changes", "exchange_passed_s", "verdict"),
    [
        ({}, 1.0, Verdict.ALIVE),
        ({"frame_s": 930.0, "pong_s": 930.0}, 70.0, Verdict.SILENT_SOCKET),
        # It answers pings: a thin market gets twice the time.
        ({"frame_s": 930.0}, 70.0, Verdict.ALIVE),
        ({"frame_s": 870.0}, 130.0, Verdict.SILENT_SOCKET),
        # The exchange's clock stands, as that of a simulated one that waits for us: nothing can have come.
        ({"frame_s": 870.0, "pong_s": 870.0}, 0.0, Verdict.ALIVE),
        # It was connected again just now: give it time.
        ({"frame_s": 870.0, "pong_s": 870.0, "connected_s": 990.0}, 130.0, Verdict.ALIVE),
        ({"candle_s": 700.0}, 1.0, Verdict.QUIET),
        ({"frame_s": 700.0, "rest_s": 700.0, "candle_s": 700.0}, 300.0, Verdict.DEAD),
        # Neither pongs nor connecting again are data.
        (
            {"frame_s": 700.0, "rest_s": 700.0, "candle_s": 700.0, "pong_s": 999.0, "connected_s": 999.0},
            300.0,
            Verdict.DEAD,
        ),
    ],
)
def test_each_silence_has_its_name(changes, exchange_passed_s, verdict):
    pulse = Pulse(**(ALIVE | changes), exchange_passed_s=exchange_passed_s)
    assert judge(pulse, idle_s=60.0, stale_data_s=300.0) is verdict


def test_a_dead_feed_is_called_dead_in_time():
    for stale_s in (1.0, 30.0, 300.0):
        seconds = next(
            tenth * stale_s / 10
            for tenth in range(1, 12)
            if judge(
                Pulse(
                    now_s=tenth * stale_s / 10,
                    frame_s=0.0,
                    pong_s=0.0,
                    connected_s=0.0,
                    rest_s=0.0,
                    candle_s=0.0,
                    exchange_passed_s=0.0,
                ),
                idle_s=60.0,
                stale_data_s=stale_s,
            )
            is Verdict.DEAD
        )
        assert seconds <= stale_s
