"""Everything that was tried, so that the best of it can be judged by how much there was to choose from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from domain.evaluation.equity import sharpe_ratio
from schemas.frames import Float64


def settings_text(settings: Mapping[str, object]) -> str:
    """Write settings so that equal settings are equal text, whatever the order of their keys."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One thing that was tried.

    Attributes
    ----------
    family, settings, seed
        The recipe; settings as `settings_text` writes them.
    horizon_minutes
        None if it traded on several horizons together.
    daily_returns_pct
        What it earned each day (`equity.daily_returns_pct`); empty if it came to nothing, which counts as
        tried all the same.
    has_traded
        False for what was tried in a tuning and not chosen. It counts as tried, but says nothing of how far
        Sharpe ratios lie apart: that it had none must not make the best of the others look less lucky.
    """

    family: str
    horizon_minutes: int | None
    settings: str
    seed: int
    daily_returns_pct: tuple[float, ...] = ()
    has_traded: bool = True

    @property
    def key(self) -> tuple[str, int | None, str, int]:
        """What makes it a trial of its own."""
        return self.family, self.horizon_minutes, self.settings, self.seed

    @property
    def sharpe(self) -> float:
        """Sharpe ratio per day; NaN if its returns do not vary."""
        return sharpe_ratio(np.array(self.daily_returns_pct))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLedger:
    """All that was tried; the same recipe tried again counts once, with its last result.

    Attributes
    ----------
    trials
        In the order in which they were first tried.
    """

    trials: tuple[Trial, ...] = ()

    def __len__(self) -> int:
        return len(self.trials)

    def counting(self, *more: Trial) -> TrialLedger:
        """Give the ledger with more trials in it."""
        by_key = {trial.key: trial for trial in self.trials}
        by_key.update({trial.key: trial for trial in more})
        return TrialLedger(trials=tuple(by_key.values()))

    def merged(self, other: TrialLedger) -> TrialLedger:
        """Give the ledger with all of another's trials in it."""
        return self.counting(*other.trials)

    @property
    def sharpe_variance(self) -> float:
        """Variance of the Sharpe ratios per day of what traded; one without counts as 0, NaN below two."""
        traded = [trial.sharpe for trial in self.trials if trial.has_traded]
        if len(traded) < 2:
            return float("nan")
        sharpes = np.nan_to_num(np.array(traded), nan=0.0)
        return float(np.var(sharpes, ddof=1))

    @property
    def best(self) -> Trial | None:
        """The trial with the highest Sharpe ratio, the first of equals; None if none has one."""
        scored = [trial for trial in self.trials if not np.isnan(trial.sharpe)]
        return max(scored, key=lambda trial: trial.sharpe, default=None)

    def returns_pct(self) -> Float64:
        """Give the daily returns of the trials that have any, shape (days, trials).

        Raises
        ------
        ValueError
            If trials cover different numbers of days.
        """
        with_returns = [trial for trial in self.trials if trial.daily_returns_pct]
        days = {len(trial.daily_returns_pct) for trial in with_returns}
        if len(days) > 1:
            raise ValueError(
                f"trials cover different numbers of days ({sorted(days)}): score all over one span"
            )
        by_trial = np.array([trial.daily_returns_pct for trial in with_returns], np.float64)
        return by_trial.reshape(len(with_returns), max(days, default=0)).T
