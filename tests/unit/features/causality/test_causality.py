"""Every leak is refused by its name, and nothing that looks back only."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from domain.features.added_subjects import own_function, user_indicator
from domain.features.built_in_subjects import indicator_file, vector_and_chart
from domain.features.causality import EXACT, PANDAS, Columns, Subject, check
from domain.features.cuts import History, Market, choose_cuts, cut_market, with_other_future
from domain.features.engine import FeatureEngine
from domain.features.user_indicators import known_names
from domain.features.verdict import Reason, Verdict
from runtime.proving_market import SYMBOLS, proving_market
from schemas.frames import MINUTE_MS

from . import across, ahead, honest, sometimes, unrepeatable, whole

MARKET = proving_market(1_000, SYMBOLS[:3])
CUTS = 40
#: With another symbol.
FOUR = proving_market(1_000)
#: For leaks that reach further, or need two days.
LONG_MARKET = proving_market(3_000)
FAR = {"looks_a_day_ahead", "peeks_only_in_a_long_history"}
#: Those of the library that look ahead, each with a column that does.
LOOKS_AHEAD = {"dpo": "DPO_20", "ichimoku": "ICS_26", "tos_stdevall": "TOS_STDEVALL_LR"}
LOOKS_BACK = (
    *(
        "ema(length=50)",
        "vwma",
        "willr",
        "aroon",
        "obv",
        "vwap",
        "macd",
        "rsi",
        "bbands",
        "atr",
        "zscore",
    ),
    *("dpo(lookahead=False)", "ichimoku(lookahead=False)"),
)


def features_of(module: ModuleType, first_parameter: str = "f") -> dict[str, Callable[..., Any]]:
    """Functions of one parameter that are defined in a module; those with more serve the others."""
    return {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        == [first_parameter]
    }


LEAKS = {
    name: function
    for module in (ahead, whole, sometimes)
    for name, function in features_of(module).items()
    if name not in {"returns_of", "missing_before"}
}
SOMETIMES = features_of(sometimes)
ACROSS = {name: function for name, function in features_of(across, "frames").items() if name != "closes_of"}


def judge(
    function: Callable[..., Any], market: Market = MARKET, cuts: int = CUTS, **options: Any
) -> tuple[Verdict, ...]:
    return check(own_function(function, **options), market, cuts=cuts)


def only(verdicts: tuple[Verdict, ...]) -> Verdict:
    (verdict,) = verdicts
    return verdict


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_refused_by_its_name(name: str) -> None:
    cuts = CUTS if name in SOMETIMES else 20
    verdict = only(judge(LEAKS[name], LONG_MARKET if name in FAR else MARKET, cuts))

    assert verdict.reason is Reason.CHANGES_PAST
    assert str(verdict).startswith(f"{name} changes its past: ")


def test_there_are_far_more_than_twenty_leaks() -> None:
    assert len(LEAKS) + len(ACROSS) >= 50


@pytest.mark.parametrize("name", features_of(honest))
def test_what_looks_back_only_is_let_through(name: str) -> None:
    assert [
        str(verdict) for verdict in judge(features_of(honest)[name], cuts=20) if not verdict.is_causal
    ] == []


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (unrepeatable.draws_random_numbers, Reason.NOT_REPEATABLE),
        (unrepeatable.breaks_ties_at_random, Reason.NOT_REPEATABLE),
        (unrepeatable.reads_the_clock, Reason.NOT_REPEATABLE),
        (unrepeatable.counts_its_calls, Reason.REMEMBERS),
        (unrepeatable.goes_on_from_the_end_of_its_last_call, Reason.REMEMBERS),
        (unrepeatable.keeps_its_largest_volume_in_a_default, Reason.CHANGES_PAST),
        (unrepeatable.fits_its_scale_in_the_first_call, Reason.CHANGES_PAST),
        (unrepeatable.Scaler(), Reason.CHANGES_PAST),
        (unrepeatable.Scaler().__call__, Reason.CHANGES_PAST),
    ],
)
def test_what_is_no_function_of_its_candles_is_refused_for_that(
    function: Callable[..., Any], reason: Reason
) -> None:
    verdict = only(judge(function))

    assert verdict.reason in {reason, Reason.REMEMBERS}
    assert "random" not in str(verdict) or reason is Reason.NOT_REPEATABLE


@pytest.mark.slow
@pytest.mark.parametrize("name", ACROSS)
def test_other_symbols_may_be_looked_at_as_of_their_previous_minute_only(name: str) -> None:
    verdict = only(judge(ACROSS[name], FOUR, cuts=6, takes="market"))

    assert verdict.is_causal is name.startswith("honest")
    if "same_minute" in name or "within_a_minute" in name:
        assert verdict.reason is Reason.SAME_MINUTE
    elif not verdict.is_causal:
        assert verdict.reason is Reason.CHANGES_PAST


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKS_BACK)
def test_an_indicator_of_the_library_that_looks_back_only_is_let_through(name: str) -> None:
    verdicts = check(user_indicator(name), proving_market(1_000, SYMBOLS[1:3]), cuts=4)

    assert [str(verdict) for verdict in verdicts if not verdict.is_causal] == []


@pytest.mark.slow
def test_of_the_whole_library_only_those_that_look_ahead_are_refused() -> None:
    market = proving_market(800, SYMBOLS[:2])
    verdicts = [each for name in known_names() for each in check(user_indicator(name), market, cuts=5)]
    refused = {each.feature for each in verdicts if each.reason is Reason.CHANGES_PAST}

    assert refused == set(LOOKS_AHEAD)
    assert {each.reason for each in verdicts} <= {None, Reason.CHANGES_PAST, Reason.FAILS}


@pytest.mark.parametrize("name", LOOKS_AHEAD)
def test_an_indicator_of_the_library_that_looks_ahead_is_refused_with_its_column(name: str) -> None:
    refused = [each for each in check(user_indicator(name), MARKET, cuts=4) if not each.is_causal]

    assert {each.feature for each in refused} == {name}
    assert LOOKS_AHEAD[name] in {each.column for each in refused}


def test_the_message_says_what_changed_when_by_how_much_and_what_to_do() -> None:
    def two_ahead(f: pd.DataFrame) -> pd.Series:
        return f.close.shift(-2, fill_value=0.0)

    verdict = only(judge(two_ahead))
    evidence = verdict.evidence

    assert evidence is not None
    assert evidence.reach == 2
    assert evidence.known == 0.0
    times = MARKET[evidence.symbol].open_time_ms
    row = int(np.searchsorted(times, evidence.minute_ms))
    assert evidence.later == MARKET[evidence.symbol].ohlcv[row + 2, 3]
    said = str(verdict)
    for word in ("two_ahead", evidence.symbol, "was 0 when history ended at", "(by ", "up to 2 candles"):
        assert word in said


def test_columns_are_told_apart() -> None:
    def mixed(f: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"well": f.close.diff(), "ill": f.close.diff(-1)})

    assert {verdict.column: verdict.is_causal for verdict in judge(mixed)} == {"well": True, "ill": False}


def test_arrays_do_as_well_as_frames() -> None:
    def next_volume(open_time_ms: np.ndarray, ohlcv: np.ndarray) -> np.ndarray:
        return np.append(ohlcv[1:, 4], 0.0)

    def volume_an_hour(open_time_ms: np.ndarray, ohlcv: np.ndarray) -> np.ndarray:
        return ohlcv[:, 4] * 60.0

    assert not only(judge(next_volume, takes="arrays")).is_causal
    assert only(judge(volume_an_hour, takes="arrays")).is_causal


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda f: f.close.to_numpy()[1:], "one value per candle"),
        (lambda f: ["a"] * len(f), "could not convert"),
        (lambda f: f.closing, "closing"),
        (lambda f: f.close if len(f) > 800 else f.nothing, "on a history of"),
    ],
)
def test_what_gives_no_column_is_refused_with_what_it_said(
    function: Callable[..., Any], complaint: str
) -> None:
    verdict = only(judge(function, name="mine"))

    assert verdict.reason is Reason.FAILS
    assert verdict.name == "mine"
    assert complaint in str(verdict)


def test_a_feature_may_fail_on_a_history_that_is_shorter_than_its_warm_up() -> None:
    def impatient(f: pd.DataFrame) -> pd.Series:
        if len(f) < 50:
            raise ValueError("too few")
        return f.close

    assert only(judge(impatient)).is_causal


def test_what_gives_no_values_is_said_so() -> None:
    verdict = only(judge(honest.nothing_at_all))

    assert verdict.is_causal
    assert not verdict.has_values
    assert "no values" in str(verdict)


def test_the_functions_own_state_is_left_alone() -> None:
    scaler = unrepeatable.Scaler()
    judge(scaler)
    judge(unrepeatable.counts_its_calls)

    assert scaler.largest is None
    assert unrepeatable._calls == 0


def test_a_feature_cannot_spoil_the_candles_of_the_market() -> None:
    before = {name: history.ohlcv.tobytes() for name, history in MARKET.items()}

    def spoils(open_time_ms: np.ndarray, ohlcv: np.ndarray) -> np.ndarray:
        ohlcv[:] = 1.0
        return ohlcv[:, 0]

    judge(spoils, takes="arrays")
    assert {name: history.ohlcv.tobytes() for name, history in MARKET.items()} == before


@pytest.mark.parametrize(("share", "is_caught"), [(1e-9, True), (1e-10, True), (1e-13, False)])
def test_the_tolerance_of_pandas_lies_between_a_small_leak_and_the_noise_of_sums(
    share: float, is_caught: bool
) -> None:
    def faint(f: pd.DataFrame) -> pd.Series:
        return f.close * (1 + share * np.sign(f.close.shift(-1) - f.close).fillna(0.0))

    assert only(judge(faint)).is_causal is not is_caught


def test_without_tolerance_a_single_bit_counts() -> None:
    def one_bit(market: Any) -> Any:
        result = {}
        for name, history in market.items():
            close = history.ohlcv[:, 3]
            rises = np.append(close[1:] > close[:-1], False)
            result[name] = {"one_bit": np.where(rises, np.nextafter(close, np.inf), close)}
        return result

    def subject(tolerance: Any) -> Subject:
        return Subject(name="one_bit", fresh=lambda: one_bit, tolerance=tolerance)

    assert not only(check(subject(EXACT), MARKET, cuts=CUTS)).is_causal
    assert only(check(subject(PANDAS), MARKET, cuts=CUTS)).is_causal


def test_cuts_are_of_every_kind_at_every_symbol() -> None:
    cuts = choose_cuts(MARKET, count=CUTS, least=2)
    kept = {name: {cut.kept for cut in cuts if cut.symbol == name} for name in MARKET}

    for name, history in MARKET.items():
        minutes = history.open_time_ms // MINUTE_MS
        last = [row - 1 for row in kept[name]]
        assert len(last) >= CUTS // len(MARKET) - 1
        assert any(minutes[row] % 1_440 == 1_439 for row in last)
        assert any(minutes[row + 1] - minutes[row] > 1 for row in last)
        assert any(minutes[row] - minutes[row - 1] > 1 for row in last)
        assert min(last) < 100
        assert len({int(minutes[row] % 15) for row in last}) >= 5


def test_in_a_cut_only_the_cut_symbol_has_the_last_minute() -> None:
    for cut in choose_cuts(MARKET, count=20, least=100):
        ragged, even = cut_market(MARKET, cut), cut_market(MARKET, cut, same_minute=True)
        end = ragged[cut.symbol].open_time_ms[-1]
        others = [history for name, history in ragged.items() if name != cut.symbol]

        assert len(ragged[cut.symbol]) == cut.kept
        assert all(history.open_time_ms[-1] < end for history in others)
        assert max(history.open_time_ms[-1] for history in even.values()) == end


def test_another_future_leaves_the_past_alone_and_candles_possible() -> None:
    cut = choose_cuts(MARKET, count=1, least=500)[0]
    past = cut_market(MARKET, cut)
    other = with_other_future(MARKET, past)

    for name, history in other.items():
        kept = len(past[name])
        assert history.ohlcv[:kept].tobytes() == past[name].ohlcv.tobytes()
        assert (history.ohlcv[kept:, 3] != MARKET[name].ohlcv[kept:, 3]).all()
        first, high, low, close, volume = history.ohlcv.T
        assert (low > 0).all()
        assert (low <= np.minimum(first, close)).all()
        assert (high >= np.maximum(first, close)).all()
        assert (volume >= 0).all()


def test_the_market_has_every_kind_of_trouble() -> None:
    for history in LONG_MARKET.values():
        steps = np.diff(history.open_time_ms // MINUTE_MS)
        assert (steps >= 30).any()
        assert ((steps > 1) & (steps < 7)).any()
        assert history.ohlcv[:, 4].max() > 50 * np.median(history.ohlcv[:, 4])
    quiet: History = LONG_MARKET["HBARUSDT"]
    assert (quiet.ohlcv[:, 4] == 0).sum() > 30


@pytest.mark.slow
def test_built_in_features_that_saw_the_leaders_same_minute_would_be_refused_by_name() -> None:
    symbols = SYMBOLS[:3]

    def compute(market: Market) -> dict[str, Columns]:
        # The leader's candles are handed in a minute too early.
        leader = market["BTCUSDT"]
        early = History(open_time_ms=leader.open_time_ms - MINUTE_MS, ohlcv=leader.ohlcv)
        return honest_engine({**market, "BTCUSDT": early})

    built_in = vector_and_chart(lambda: FeatureEngine(symbols=symbols, references=symbols, leader="BTCUSDT"))
    honest_engine = built_in.fresh()
    verdicts = check(replace(built_in, fresh=lambda: compute), MARKET, cuts=6)
    refused = {each.column: each.reason for each in verdicts if not each.is_causal}

    assert {"leader_return_1", "leader_beta", "breadth_1", "market_return_15"} <= set(refused)
    assert set(refused.values()) == {Reason.SAME_MINUTE}
    assert all(name.startswith(("leader_", "breadth_", "market_", "relative_")) for name in refused)


def test_an_average_that_starts_at_the_whole_mean_is_caught_in_a_rule_of_one_candle_at_a_time() -> None:
    honest_rule = indicator_file("ema").fresh()

    def compute(market: Market) -> dict[str, Columns]:
        mean = {name: history.ohlcv[:, 3].mean() for name, history in market.items()}
        columns = honest_rule(market)
        return {name: {"ema": part["ema"] + 1e-13 * mean[name]} for name, part in columns.items()}

    subject = replace(indicator_file("ema"), fresh=lambda: compute)

    assert only(check(subject, MARKET, cuts=4)).reason is Reason.CHANGES_PAST
