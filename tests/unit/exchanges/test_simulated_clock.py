import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.simulation.clock import CATCH_UP_S, MAX_SPEED, ClockMark, VirtualClock
from schemas.frames import MINUTE_MS

START = 1_700_000_040_000


class Wall:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(speed=1.0, *, now_ms=START, end_ms=None, window_minutes=10):
    wall = Wall()
    acknowledged = now_ms - now_ms % MINUTE_MS - MINUTE_MS
    clock = VirtualClock(
        now_ms=now_ms,
        speed=speed,
        end_ms=end_ms,
        acknowledged_ms=acknowledged,
        window_minutes=window_minutes,
        wall=wall,
    )
    return clock, wall


def test_time_goes_by_speed_but_stands_before_a_boundary_not_crossed():
    clock, wall = make(60.0)
    assert clock.step_ms == 15_000
    wall.now_s = 0.1
    assert clock.now_ms() == START + 6_000
    wall.now_s = 3.0
    assert clock.now_ms() == START + 15_000 - 1
    clock.cross(START + 15_000)
    assert clock.now_ms() == START + 30_000 - 1


def test_the_wait_is_the_wall_time_to_the_next_boundary():
    clock, wall = make(60.0)
    assert clock.wait_s() == pytest.approx(0.25)
    wall.now_s = 0.2
    assert clock.wait_s() == pytest.approx(0.05)
    wall.now_s = 9.0
    assert clock.wait_s() == 0.0


def test_a_pump_a_little_late_catches_up_and_one_very_late_lets_the_market_wait():
    clock, wall = make(1.0)
    wall.now_s = 1.0 + CATCH_UP_S - 0.5
    clock.cross(clock.next_boundary_ms())
    assert clock.due_ms() == START + 5_500
    wall.now_s = 100.0
    clock.cross(clock.next_boundary_ms())
    assert clock.due_ms() == START + 2_000


def test_at_max_speed_the_clock_stops_a_window_beyond_what_was_acknowledged():
    clock, _ = make(MAX_SPEED, window_minutes=10)
    crossed = 0
    while clock.wait_s() == 0.0:
        clock.cross(clock.next_boundary_ms())
        crossed += 1
    assert crossed == 10
    assert clock.now_ms() == START + 10 * MINUTE_MS
    assert clock.wait_s() is None
    clock.acknowledge(START + 2 * MINUTE_MS)
    assert clock.due_ms() == START + 13 * MINUTE_MS


def test_at_max_speed_a_clock_behind_the_acknowledged_minute_jumps_to_its_end():
    clock, _ = make(MAX_SPEED)
    clock.acknowledge(START + 50 * MINUTE_MS)
    assert clock.now_ms() == START + 51 * MINUTE_MS


def test_an_older_acknowledgement_changes_nothing():
    clock, _ = make(MAX_SPEED)
    before = clock.due_ms()
    clock.acknowledge(START - 100 * MINUTE_MS)
    assert clock.due_ms() == before


@pytest.mark.parametrize("speed", [1.0, 60.0, MAX_SPEED])
def test_the_clock_stops_at_the_end_of_the_market(speed):
    clock, wall = make(speed, end_ms=START + 3 * MINUTE_MS)
    wall.now_s = 1e6
    while not clock.ended:
        clock.cross(clock.next_boundary_ms())
    assert clock.now_ms() == START + 3 * MINUTE_MS
    assert clock.wait_s() is None


def test_a_change_of_speed_goes_on_from_now():
    clock, wall = make(1.0)
    wall.now_s = 0.5
    clock.set_speed(60.0)
    assert clock.now_ms() == START + 500
    wall.now_s = 0.6
    assert clock.now_ms() == START + 6_500


@given(
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60),
    st.sampled_from([1.0, 7.0, 60.0, 999.0]),
)
def test_time_never_goes_back_nor_past_the_next_boundary(events, speed):
    clock, wall = make(speed)
    last = clock.now_ms()
    for elapsed, crosses in events:
        wall.now_s += elapsed
        assert last <= clock.now_ms() < clock.next_boundary_ms()
        last = clock.now_ms()
        if crosses and clock.wait_s() == 0.0:
            boundary = clock.next_boundary_ms()
            clock.cross(boundary)
            assert clock.now_ms() >= boundary
            last = clock.now_ms()


@pytest.mark.slow
@given(st.floats(0.01, 1e5))
def test_a_step_divides_a_minute(speed):
    clock, _ = make(speed)
    assert MINUTE_MS % clock.step_ms == 0


@pytest.mark.parametrize("speed", [0, -1.0, float("nan")])
def test_an_impossible_speed_is_refused(speed):
    with pytest.raises(ValueError, match="speed"):
        make(speed)


def test_a_mark_comes_back_from_its_file(tmp_path):
    mark = ClockMark(market="m", first_ms=1, start_ms=2, now_ms=3, acknowledged_ms=4)
    file = tmp_path / "clock.json"
    assert ClockMark.load(file) is None
    mark.save(file)
    assert ClockMark.load(file) == mark
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"now_ms": 1})])
def test_a_damaged_mark_is_refused_with_the_remedy(tmp_path, content):
    file = tmp_path / "clock.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"clock\.json is damaged.*delete it"):
        ClockMark.load(file)
