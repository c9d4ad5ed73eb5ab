"""A training of the LSTM beside a bare loop of PyTorch that takes the same steps."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cli.benches.base import bare_network, made_up
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure
from cli.benches.base.turns import in_turn
from domain.models import families
from domain.models.model import NoSignalError

GIVES = ("lstm_training",)
TAKES = "3 minutes"
ON_REQUEST = False

_ROWS, _FEATURES = 43_200, 72
_HORIZONS = (5, 15, 30, 60)
_TURNS = 3
#: Nothing else differs from the defaults: 20 batches of 1,000 windows of an hour an epoch.
_SETTINGS = {"max_epochs": 3, "device": "cpu"}
_SAYS = (
    "PyTorch alone: an ordinary loop with as many rows, batches and epochs, windows cut from one table,"
    " early-stopping rows scored after each epoch; the same layers, optimiser, threads and backend"
)


def run(sizes: Sizes, wanted: Collection[str]) -> Iterator[Figure]:
    """Train both ways in turn."""
    if not families.is_installed("lstm"):
        raise NotMeasuredError("PyTorch is not installed: pip install 'tidecast[deep]'")
    from domain.models.lstm_settings import LSTMSettings
    from training.parts import parts_of

    settings = LSTMSettings.of(_SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        asked = made_up.request(
            Path(folder) / "rows",
            *made_up.market(sizes.candles or _ROWS, _FEATURES),
            family="lstm",
            settings=_SETTINGS,
            horizons=_HORIZONS,
        )
        parts = parts_of(asked)
        vectors = np.load(Path(folder) / "rows" / "vectors.npy")
        family = families.load("lstm")

        def whole(chosen: dict[str, Any]) -> None:
            # the steps are the same, whether or not they lead anywhere
            with contextlib.suppress(NoSignalError):
                family.fit(
                    train=parts.learn,
                    validation=parts.stop,
                    settings=chosen,
                    seed=1,
                    progress=lambda done, text: None,
                    cancelled=lambda: False,
                )

        def bare() -> object:
            return bare_network.fit(vectors, parts.learn, parts.stop, settings=settings)

        # loads what there is to load
        whole({**_SETTINGS, "max_epochs": 1, "epoch_rows": 1_000})
        spent = in_turn({"whole": lambda: whole(_SETTINGS), "bare": bare}, _TURNS)
    ours, theirs = spent["whole"], spent["bare"]
    yield Figure(
        name=GIVES[0],
        value=ours.wall_s,
        unit="s",
        reference=theirs.wall_s,
        bound=1.3,
        bound_of_ratio=True,
        says=_SAYS,
        more={
            "rows_learned_from": len(parts.learn),
            "epochs": settings.max_epochs,
            "rows_an_epoch": min(len(parts.learn), settings.epoch_rows),
            "threads": settings.threads,
            "processor_s": ours.processor_s,
            "reference_processor_s": theirs.processor_s,
            "processor_ratio": ours.processor_s / theirs.processor_s,
        },
    )
