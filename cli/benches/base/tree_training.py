"""A whole training of XGBoost beside the bare library, on the same made-up market, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cli.benches.base import bare_trees, made_up
from cli.benches.base.bench import NotMeasuredError
from cli.benches.base.figure import Figure
from cli.benches.base.turns import Spent, in_turn
from domain.models.model import TrainingRows

_SAYS = (
    "XGBoost alone: QuantileDMatrix and train, on all rows that the training is given, with the same"
    " parameters, bins, threads and as many trees as the model ended up with"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes
    ----------
    whole, bare
        The training, and the library alone on all rows that the training was given.
    more
        Further numbers, among them the library alone on only those rows that the training learns from.
    """

    whole: Spent
    bare: Spent
    more: Mapping[str, Any]


def measure(
    *, minutes: int, features: int, horizons: tuple[int, ...], settings: Mapping[str, Any], turns: int
) -> Trained:
    """Train in turn.

    Raises
    ------
    NotMeasuredError
        If the market is too short to learn anything from.
    """
    from domain.models.xgboost_settings import XGBoostSettings
    from training import fitting
    from training.parts import parts_of

    chosen = XGBoostSettings.of(settings)
    with tempfile.TemporaryDirectory() as folder:
        asked = made_up.request(
            Path(folder) / "rows",
            *made_up.market(minutes, features),
            family="xgboost",
            settings=settings,
            horizons=horizons,
        )

        def whole() -> fitting.FitResult:
            return fitting.fit(asked, progress=lambda done, text: None, cancelled=lambda: False)

        # this one loads the libraries, and tells how many trees there will be
        result = whole()
        if result.model is None:
            raise NotMeasuredError(f"nothing was learned from the made-up market: {result.reason}")
        learned, given = parts_of(asked).learn, _given(asked)
        trees = [
            int(result.model.metrics[f"rounds_{kind}{column}"])
            for column in range(len(horizons))
            for kind in ("change", "rise")
        ]
        leaf_rows = bare_trees.leaf_rows(learned, chosen)

        def bare(rows: TrainingRows) -> list[Any]:
            return bare_trees.fit(rows, settings=chosen, trees=trees, leaf_rows=leaf_rows)

        spent = in_turn(
            {"whole": whole, "bare": lambda: bare(given), "learned": lambda: bare(learned)}, turns
        )
    return Trained(whole=spent["whole"], bare=spent["bare"], more=_more(spent, trees, given, learned, chosen))


def figures(
    found: Trained,
    *,
    ratio: str,
    most_of_bare: float,
    seconds: str,
    most_s: float,
    wanted: Collection[str],
) -> Iterator[Figure]:
    """Promise a share of the library's own time under one name, and seconds under another."""
    for name, bound, of_ratio in ((ratio, most_of_bare, True), (seconds, most_s, False)):
        if name in wanted:
            yield Figure(
                name=name,
                value=found.whole.wall_s,
                unit="s",
                reference=found.bare.wall_s,
                bound=bound,
                bound_of_ratio=of_ratio,
                says=_SAYS,
                more=found.more,
            )


def _given(asked: Any) -> TrainingRows:
    from training.parts import labelled

    rows, usable = labelled(asked)
    taken = rows.take(usable)
    return TrainingRows(
        vectors=np.asarray(taken.vectors),
        target_pct=taken.target_pct,
        open_time_ms=taken.open_time_ms,
        symbol_index=taken.symbol_index,
    )


def _more(
    spent: Mapping[str, Spent], trees: list[int], given: TrainingRows, learned: TrainingRows, chosen: Any
) -> dict[str, Any]:
    whole, bare, strict = (spent[name] for name in ("whole", "bare", "learned"))
    return {
        "rows": len(given),
        "rows_learned_from": len(learned),
        "features": given.vectors.shape[1],
        "horizons": given.horizons,
        "trees": sum(trees),
        "threads": chosen.threads,
        "fastest_s": min(whole.wall),
        "processor_s": whole.processor_s,
        "reference_processor_s": bare.processor_s,
        "processor_ratio": whole.processor_s / bare.processor_s,
        "learned_rows_reference_s": strict.wall_s,
        "learned_rows_ratio": whole.wall_s / strict.wall_s,
        "learned_rows_processor_ratio": whole.processor_s / strict.processor_s,
    }
