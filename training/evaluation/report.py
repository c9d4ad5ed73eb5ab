"""The answer of an evaluation as plain values: for `--json`, for tables and for pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from domain.evaluation.backtest_overfitting import probability_of_backtest_overfitting
from domain.evaluation.deflated_sharpe import deflated_sharpe
from domain.evaluation.evidence import DEFAULT_FAMILY_WISE_ERROR
from training.evaluation.earnings import Earnings
from training.evaluation.evaluation import BASELINE, Evaluation, Way
from training.evaluation.scoring import HorizonScores

#: Scores that are told as mean and spread over seeds.
_OVER_SEEDS = ("rmse", "mae", "r2", "skill", "accuracy", "ic", "brier", "ece")
#: Ratios of fewer days than this say little.
ENOUGH_DAYS = 30
NO_EVIDENCE = "no evidence of skill"


def answer(found: Evaluation, *, seconds: float) -> dict[str, Any]:
    """Put an evaluation into words and numbers.

    `families` holds the scores of each family's newest model at every time, promoted or not (`always`), and
    the money that its promoted models earned (`served`); both are there both ways under their names.
    """
    best = found.trials.best
    variance = found.trials.sharpe_variance
    returns = found.trials.returns_pct()
    overfitting = probability_of_backtest_overfitting(returns) if returns.size else None
    deflated = (
        deflated_sharpe(
            returns=np.array(best.daily_returns_pct), trials=len(found.trials), sharpe_variance=variance
        )
        if best is not None
        else None
    )
    families = {family: _family(found, family) for family in found.walk.families}
    evident = [
        f"{family} {horizon} min"
        for family, told in families.items()
        for horizon, scores in told["horizons"].items()
        if scores["evidence"]
    ]
    return {
        "families": families,
        "trials": len(found.trials),
        "deflated_sharpe": None if deflated is None else deflated.deflated,
        "pbo": None if overfitting is None else overfitting.probability,
        "seconds": round(seconds, 1),
        "verdict": f"evidence of skill: {', '.join(evident)}" if evident else NO_EVIDENCE,
        "best_trial": None
        if best is None or deflated is None
        else {
            "family": best.family,
            "horizon": best.horizon_minutes,
            "seed": best.seed,
            "settings": best.settings,
            **asdict(deflated),
        },
        "overfitting": None if overfitting is None else asdict(overfitting),
        "family_wise_error": DEFAULT_FAMILY_WISE_ERROR,
        "buy_and_hold": asdict(found.held.scores),
        "span": {"from": _iso(found.span_ms[0]), "to": _iso(found.span_ms[1])},
        "data": {
            "symbols": list(found.data.symbols),
            "candles": found.data.candles,
            "from": _iso(found.data.first_ms),
            "to": _iso(found.data.last_ms),
        },
        "seeds": list(found.walk.seeds),
        "importance": [asdict(each) for each in found.importance],
        "trainings": _trainings(found),
    }


def few_days(told: Mapping[str, Any]) -> str:
    """Say that the ratios of an answer are of too few days to mean much; empty where they are not."""
    days: float = told["buy_and_hold"]["days"]
    if days >= ENOUGH_DAYS:
        return ""
    return (
        f"Sharpe and Sortino are annualised from {days:.1f} days; of fewer than {ENOUGH_DAYS} they say"
        " little."
    )


def _family(found: Evaluation, family: str) -> dict[str, Any]:
    return {
        "horizons": {str(h): _horizon(found, family, h, "always") for h in found.walk.horizons},
        "pnl": _pnl(found, family, found.walk.trade_horizon, "served"),
        "served": {
            "horizons": {str(h): _horizon(found, family, h, "served") for h in found.walk.horizons},
            "pnl_by_horizon": {
                str(h): _pnl(found, family, h, "served") for h in sorted(found.walk.strategies)
            },
        },
        "always": {
            "pnl_by_horizon": {
                str(h): _pnl(found, family, h, "always") for h in sorted(found.walk.strategies)
            }
        },
    }


def _horizon(found: Evaluation, family: str, horizon: int, way: Way) -> dict[str, Any]:
    """Tell the scores of the first seed, with mean and spread over all of them where there are several."""
    each = [found.run(family, seed, way).horizons[horizon] for seed in found.walk.seeds]
    verdicts = [found.verdicts.get((family, horizon, seed)) for seed in found.walk.seeds]
    told = _scores(each[0])
    if way == "always":
        # What holds with one seed and not with another is chance.
        told["evidence"] = all(verdict is not None and verdict.evidence for verdict in verdicts)
        told["verdict"] = (
            f"{NO_EVIDENCE}: it is the no-change forecast"
            if family == BASELINE or verdicts[0] is None
            else next(
                (v.sentence for v in verdicts if v is not None and not v.evidence), verdicts[0].sentence
            )
        )
    if len(each) > 1:
        told["seeds"] = {name: _spread([getattr(scores, name) for scores in each]) for name in _OVER_SEEDS}
        told.update({name: told["seeds"][name]["mean"] for name in _OVER_SEEDS})
    return told


def _scores(scores: HorizonScores) -> dict[str, Any]:
    return {
        "n": scores.n,
        "rmse": scores.rmse,
        "mae": scores.mae,
        "r2": scores.r2,
        "skill": scores.skill,
        "skill_ci": list(scores.skill_ci),
        "accuracy": scores.accuracy,
        "accuracy_ci": list(scores.accuracy_ci),
        "ic": scores.ic,
        "brier": scores.brier,
        "ece": scores.ece,
        "coverage": dict(scores.coverage),
        "coverage_ci": {level: list(bounds) for level, bounds in scores.coverage_ci.items()},
        "width_pct": dict(scores.width_pct),
        "modelled": scores.modelled,
        "independent_blocks": scores.blocks,
        "by_regime": {name: asdict(group) for name, group in scores.by_regime.items()},
        "by_hour": {name: asdict(group) for name, group in scores.by_hour.items()},
        "reliability": [asdict(point) for point in scores.reliability],
    }


def _pnl(found: Evaluation, family: str, horizon: int, way: Way) -> dict[str, Any]:
    each = [found.run(family, seed, way).earned[horizon] for seed in found.walk.seeds]
    told = _earned(found, each[0])
    if len(each) > 1:
        told["seeds"] = {
            "return_pct": _spread([one.trading.total_return_pct for one in each]),
            "sharpe": _spread([one.trading.sharpe for one in each]),
        }
    return {
        "horizon": horizon,
        **told,
        "buy_and_hold_pct": found.held.scores.total_return_pct,
        "buy_and_hold_sharpe": found.held.scores.sharpe,
    }


def _earned(found: Evaluation, earned: Earnings) -> dict[str, Any]:
    trading = asdict(earned.trading)
    returns = trading.pop("total_return_pct")
    deflated = deflated_sharpe(
        returns=earned.daily_pct,
        trials=max(len(found.trials), 1),
        sharpe_variance=found.trials.sharpe_variance,
    )
    return {
        "return_pct": returns,
        **trading,
        "still_open": earned.still_open,
        "coin_flip_pct": earned.coin.mean_pct,
        "coin_flip_low_pct": earned.coin.low_pct,
        "coin_flip_high_pct": earned.coin.high_pct,
        "coin_flip_p": earned.coin.p_value,
        "deflated_sharpe": deflated.deflated,
        "probabilistic_sharpe": deflated.probabilistic,
    }


def _trainings(found: Evaluation) -> list[dict[str, Any]]:
    told = []
    for training in found.trainings:
        common = {
            "family": training.family,
            "seed": training.seed,
            "symbol": training.symbol,
            "train_at": _iso(training.train_at_ms),
            "rows": training.rows,
            **({} if training.tuning is None else {"tuning": training.tuning.told()}),
        }
        told += [
            {
                **common,
                "horizon": model.horizon_minutes,
                "model_version": model.version,
                "sha256": model.sha256,
                "promoted": model.decision.promote,
                "served_from": None if model.served_from_ms is None else _iso(model.served_from_ms),
                "reason": model.decision.reason,
            }
            for model in training.models
        ]
        if not training.models:
            told += [
                {
                    **common,
                    "horizon": horizon,
                    "model_version": None,
                    "sha256": None,
                    "promoted": False,
                    "served_from": None,
                    "reason": training.problem,
                }
                for horizon in training.horizons
            ]
    return told


def _spread(values: Sequence[float]) -> Mapping[str, float]:
    known = [value for value in values if math.isfinite(value)]
    nan = float("nan")
    return {
        "mean": float(np.mean(known)) if known else nan,
        "deviation": float(np.std(known, ddof=1)) if len(known) > 1 else nan,
        "lowest": min(known, default=nan),
        "highest": max(known, default=nan),
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
