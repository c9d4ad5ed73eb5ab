from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from training.naming import batch_id, model_version

T = int(datetime(2021, 4, 3, 9, 59, tzinfo=UTC).timestamp() * 1000)


def test_names_say_what_and_when_and_end_with_the_digest() -> None:
    names = {"family": "xgboost", "symbol": "ALL", "horizon_minutes": 15, "train_at_ms": T}
    assert batch_id(**names) == "xgboost-ALL-h15-20210403T0959Z"
    assert model_version(**names, artifact_sha256="0123456789abcdef") == (
        "xgboost-ALL-h15-20210403T0959Z-01234567"
    )


@given(
    st.text(min_size=1, max_size=20),
    st.sampled_from(["xgboost", "last_value"]),
    st.integers(1, 10_080),
)
def test_names_fit_their_columns_and_are_file_names(symbol: str, family: str, horizon: int) -> None:
    names = {"family": family, "symbol": symbol, "horizon_minutes": horizon, "train_at_ms": T}
    for name in (batch_id(**names), model_version(**names, artifact_sha256="f" * 64)):
        assert len(name) <= 50
        assert name.isascii()
        assert "/" not in name


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_different_symbols_have_different_names(one: str, other: str) -> None:
    def name(symbol: str) -> str:
        return model_version(
            family="xgboost", symbol=symbol, horizon_minutes=1440, train_at_ms=T, artifact_sha256="f" * 64
        )

    assert (name(one) == name(other)) == (one == other)
