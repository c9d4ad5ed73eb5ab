"""Compile all rules, so that the first candle need not wait: `python -m domain.features.compile`."""

from __future__ import annotations

from domain.features.benchmarks import classic_live, features_live


def compile_all() -> None:
    """Compile the rules, or find them compiled on disk."""
    features_live(symbol_count=2, minutes=1, seed=0)()
    classic_live(symbol_count=2, minutes=1, seed=0)()


if __name__ == "__main__":
    compile_all()
