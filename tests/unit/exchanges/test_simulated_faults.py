import pytest

from exchanges.simulation.faults import SWITCHES, BadFaultError, Faults
from exchanges.simulation.limits import WeightLimit


class Wall:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def strikes(faults, name, times):
    return [faults.strike(name) is not None for _ in range(times)]


def test_nothing_strikes_unless_switched_on():
    faults = Faults()
    assert faults.quiet
    assert not any(faults.strike(name) for name in SWITCHES)


def test_the_same_seed_strikes_at_the_same_occasions():
    runs = []
    for seed in (1, 1, 2):
        faults = Faults()
        faults.set({"missing": {"probability": 0.3, "seed": seed}})
        runs.append(strikes(faults, "missing", 200))
    assert runs[0] == runs[1] != runs[2]
    assert 30 < sum(runs[0]) < 90


def test_a_count_runs_out():
    faults = Faults()
    faults.set({"cut": {"count": 2}})
    assert strikes(faults, "cut", 5) == [True, True, False, False, False]
    assert faults.quiet
    assert faults.counts["cut"] == 2


def test_a_duration_runs_out():
    wall = Wall()
    faults = Faults(wall)
    faults.set({"silence": {"duration_s": 5}})
    assert faults.lasts("silence")
    wall.now_s += 4.9
    assert faults.strike("silence")
    wall.now_s += 0.2
    assert not faults.strike("silence")
    assert faults.active() == []


@pytest.mark.parametrize("off", [False, None, {"probability": 0}])
def test_a_switch_goes_off(off):
    faults = Faults()
    faults.set({"429": True, "5xx": True})
    faults.set({"429": off})
    assert faults.active() == ["5xx"]
    faults.set({"all": False})
    assert faults.quiet


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"fire": True}, "no fault is called 'fire'"),
        ({"cut": {"chance": 1}}, "cut: options are"),
        ({"cut": {"probability": "often"}}, "cut: every option"),
        ({"cut": {"probability": -1}}, "cut: every option"),
        ({"cut": 3}, "cut: options are"),
        ({"all": True}, "all can only be false"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(wanted, named):
    with pytest.raises(BadFaultError, match=named):
        Faults().set(wanted)


def test_weight_is_refused_beyond_the_limit_until_the_window_is_over():
    wall = Wall()
    wall.now_s = 1_200.0
    limit = WeightLimit(weight=10, window_s=60, wall=wall)
    assert [limit.ask(4).status for _ in range(3)] == [200, 200, 429]
    wall.now_s += 12.5
    verdict = limit.ask(1)
    assert (verdict.status, verdict.retry_after_s) == (429, 48)
    wall.now_s = 1_260.0
    assert (limit.ask(4).status, limit.ask(1).used) == (200, 5)


def test_who_goes_on_after_refusals_is_banned_for_a_while():
    wall = Wall()
    limit = WeightLimit(weight=1, window_s=60, strikes=3, ban_s=120, wall=wall)
    assert [limit.ask(1).status for _ in range(6)] == [200, 429, 429, 429, 418, 418]
    wall.now_s += 119
    assert limit.ask(1).status == 418
    wall.now_s += 2
    assert limit.ask(1).status == 200
