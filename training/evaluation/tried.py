"""All that was tried in an evaluation: what traded, and what tuning tried and did not choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from domain.evaluation.trials import Trial, settings_text
from training.evaluation.trained import Training


def tuned_trials(trainings: Sequence[Training]) -> Iterator[Trial]:
    """List what tuning tried and did not choose, for every horizon of each training.

    None of it traded; what was chosen did, and counts as that.
    """
    for training in trainings:
        tuning = training.tuning
        if tuning is None:
            continue
        for number, tried in enumerate(tuning.trials):
            if number == tuning.chosen:
                continue
            settings = {"symbol": training.symbol, "tried": dict(tried.settings)}
            for horizon in training.horizons:
                yield Trial(
                    family=training.family,
                    horizon_minutes=horizon,
                    settings=settings_text(settings),
                    seed=training.seed,
                    has_traded=False,
                )
