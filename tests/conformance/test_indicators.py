"""The promises of an indicator, kept by every file of `domain/indicators`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from domain.features.benchmarks import random_walk
from domain.indicators import load, names

CANDLES = 700
EVERY = pytest.mark.parametrize("name", names())
# What exponential averages forget within 400 candles; windows forget all.
FORGOTTEN = 1e-9


def candles(seed: int = 1, count: int = CANDLES) -> np.ndarray:
    return np.ascontiguousarray(random_walk(np.random.default_rng(seed), count, 1)[:, 0])


def parameters(name: str) -> tuple[float, ...]:
    return load(name).SPEC.defaults


def fresh(name: str) -> np.ndarray:
    return np.zeros(load(name).SPEC.state_size(*parameters(name)))


def run(name: str, rows: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
    indicator = load(name)
    state = fresh(name) if state is None else state
    out = np.full((len(rows), len(indicator.SPEC.outputs)), -1.0)
    for candle, values in zip(rows, out, strict=True):
        indicator.update(state, candle, values, *parameters(name))
    return out


@EVERY
def test_it_says_what_it_is(name: str) -> None:
    spec = load(name).SPEC

    assert all((spec.title, spec.unit, spec.formula, spec.source, spec.outputs))
    assert len(set(spec.outputs)) == len(spec.outputs)
    assert name in spec.outputs or any(output.startswith(name) for output in spec.outputs)


@EVERY
def test_it_is_nan_until_its_stated_warm_up_and_a_number_from_then_on(name: str) -> None:
    out = run(name, candles())

    first = load(name).SPEC.warm_up(*parameters(name)) - 1
    assert np.isnan(out[:first]).all()
    assert np.isfinite(out[first:]).all()


@EVERY
@pytest.mark.parametrize("cut", [1, 2, 17, 300])
def test_a_copied_state_goes_on_with_the_same_bits(name: str, cut: int) -> None:
    rows = candles()
    whole = run(name, rows)

    state = fresh(name)
    head = run(name, rows[:cut], state)
    tail = run(name, rows[cut:], np.frombuffer(state.tobytes()).copy())

    assert np.concatenate([head, tail]).tobytes() == whole.tobytes()


@EVERY
def test_later_candles_do_not_change_earlier_values(name: str) -> None:
    rows = candles()
    changed = rows.copy()
    changed[400:] = candles(seed=2)[400:]

    assert run(name, rows)[:400].tobytes() == run(name, changed)[:400].tobytes()


@EVERY
def test_where_history_starts_is_forgotten(name: str) -> None:
    rows = candles()

    late = run(name, rows[200:])[400:]
    whole = run(name, rows)[600:]

    scale = np.abs(whole).max(axis=0)
    np.testing.assert_allclose(
        late, whole, rtol=0, atol=FORGOTTEN * np.maximum(scale, rows[:, 3].max()).max()
    )


@EVERY
def test_it_stays_within_its_state_and_its_outputs(name: str) -> None:
    indicator = load(name)
    size, outputs = len(fresh(name)), len(indicator.SPEC.outputs)
    state, out = np.zeros(size + 8), np.zeros(outputs + 8)
    state[size:] = out[outputs:] = 12345.0

    for candle in candles(count=200):
        indicator.update(state[:size], candle, out[:outputs], *parameters(name))

    assert (state[size:] == 12345.0).all()
    assert (out[outputs:] == 12345.0).all()


@EVERY
@pytest.mark.parametrize("price", [0.0731, 1.0, 61234.57])
def test_a_flat_market_without_volume_gives_the_same_number_for_ever(name: str, price: float) -> None:
    flat = np.tile([price, price, price, price, 0.0], (CANDLES, 1))

    out = run(name, flat)[load(name).SPEC.warm_up(*parameters(name)) - 1 :]

    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, np.broadcast_to(out[0], out.shape), rtol=1e-12, atol=1e-12 * price)


@EVERY
def test_a_market_that_falls_silent_stays_finite(name: str) -> None:
    rows = np.concatenate([candles(count=100), np.tile(candles()[99], (3_000, 1))])
    rows[100:, 0] = rows[100:, 1] = rows[100:, 2] = rows[99, 3]
    rows[100:, 4] = 0.0

    out = run(name, rows)

    assert np.isfinite(out[100:]).all()


@EVERY
def test_compiled_and_interpreted_rule_agree(name: str) -> None:
    indicator = load(name)
    interpreted = indicator.update.py_func  # type: ignore[attr-defined]
    rows = candles(count=120)
    state = fresh(name)
    out = np.empty((len(rows), len(indicator.SPEC.outputs)))

    for candle, values in zip(rows, out, strict=True):
        interpreted(state, candle, values, *parameters(name))

    np.testing.assert_allclose(run(name, rows), out, rtol=1e-13)


def test_a_file_is_found_by_its_name() -> None:
    assert "rsi" in names()
    assert math.isfinite(load("rsi").SPEC.warm_up(14))


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no indicator 'rsy'; there are: .*rsi"):
        load("rsy")
