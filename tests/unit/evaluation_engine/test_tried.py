"""What tuning tried counts among the trials that a result is judged by."""

from __future__ import annotations

import numpy as np

from domain.evaluation.deflated_sharpe import deflated_sharpe
from domain.evaluation.trials import Trial, TrialLedger
from training.evaluation.trained import Training
from training.evaluation.tried import tuned_trials
from training.tuning import TunedTrial, Tuning


def _tuning(*skills: float, first: float = 0.1) -> Tuning:
    return Tuning(
        trials=tuple(
            TunedTrial(settings={"learning_rate": first + number}, skill=skill)
            for number, skill in enumerate(skills)
        )
    )


def _training(tuning: Tuning | None, **changes: object) -> Training:
    values: dict[str, object] = {
        "family": "xgboost",
        "seed": 1,
        "symbol": "ALL",
        "horizons": (5, 15),
        "train_at_ms": 0,
        "models": (),
        "problem": "",
        "rows": 100,
        "seconds": 1.0,
        "tuning": tuning,
        **changes,
    }
    return Training(**values)  # type: ignore[arg-type]


def _ledger(*trainings: Training) -> TrialLedger:
    chance = np.random.default_rng(0)
    served = [
        Trial(
            family="xgboost",
            horizon_minutes=horizon,
            settings="served",
            seed=1,
            daily_returns_pct=tuple(chance.normal(0.1, 1.0, 60).tolist()),
        )
        for horizon in (5, 15)
    ]
    return TrialLedger().counting(*served, *tuned_trials(trainings))


def test_each_trial_that_was_not_chosen_counts_once_for_every_horizon() -> None:
    assert len(_ledger()) == 2
    assert len(_ledger(_training(None), _training(Tuning(note="too few rows")))) == 2
    assert len(_ledger(_training(_tuning(0.0, 0.2, 0.1)))) == 2 + 2 * 2
    # the same again is the same, other settings and another symbol are not
    again = _training(_tuning(0.0, 0.2, 0.1), train_at_ms=9)
    assert len(_ledger(_training(_tuning(0.0, 0.2, 0.1)), again)) == 6
    other = _training(_tuning(0.0, 0.2, 0.1, first=0.7))
    assert len(_ledger(again, other)) == 10
    assert len(_ledger(again, _training(_tuning(0.0, 0.2, 0.1), symbol="ETHUSDT"))) == 10


def test_the_more_tuning_tried_the_less_the_best_sharpe_ratio_is_worth() -> None:
    deflated = []
    for skills in ((), (0.0, 0.1, 0.2), tuple(np.linspace(0.0, 0.5, 40))):
        ledger = _ledger(_training(_tuning(*skills))) if skills else _ledger()
        best = ledger.best
        assert best is not None
        found = deflated_sharpe(
            returns=np.array(best.daily_returns_pct),
            trials=len(ledger),
            sharpe_variance=ledger.sharpe_variance,
        )
        deflated.append(found.deflated)
    assert deflated == sorted(deflated, reverse=True)
    assert deflated[0] > deflated[2] + 0.01


def test_what_never_traded_does_not_say_how_far_sharpe_ratios_lie_apart() -> None:
    tuned = _ledger(_training(_tuning(0.0, 0.1, 0.2, 0.3)))
    assert tuned.sharpe_variance == _ledger().sharpe_variance
    assert tuned.returns_pct().shape == (60, 2)
