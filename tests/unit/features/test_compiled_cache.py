"""A compiled rule is served from disk only while no rule has changed."""

from __future__ import annotations

import numpy as np
import pytest

from domain.features import kernel
from domain.features.engine import FeatureEngine
from domain.indicators.base import compiled
from schemas.frames import MINUTE_MS, NULL_MS


def test_the_key_of_a_compiled_loop_changes_with_the_sources_of_all_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from numba.core.registry import cpu_target

    loop_cache = kernel.advance_rows._cache  # type: ignore[attr-defined]
    codegen = cpu_target.target_context.codegen()
    before = loop_cache._index_key((), codegen)
    monkeypatch.setattr(compiled, "rules_digest", lambda: "of other sources")

    assert loop_cache._index_key((), codegen) != before


def test_columns_out_of_a_message_need_no_compiling_of_their_own() -> None:
    engine = FeatureEngine(symbols=("A",), references=("A",), leader="A")
    candles = np.frombuffer(b"." + np.ones((2, 5)).tobytes(), offset=1).reshape(2, 5)
    times = np.array([27_000_000 * MINUTE_MS, 27_000_001 * MINUTE_MS])
    times.flags.writeable = False

    engine.advance(
        symbol_index=np.zeros(4, np.int32)[::2], open_time_ms=times, ohlcv=candles, closed_to_ms=NULL_MS
    )

    assert len(kernel.advance_rows.signatures) == 1  # type: ignore[attr-defined]


def test_rules_do_not_reorder_arithmetic() -> None:
    options = kernel.advance_rows.targetoptions  # type: ignore[attr-defined]

    assert not options.get("fastmath")
    assert not options.get("parallel")
