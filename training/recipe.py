"""What a model was made by, apart from the data: two models of one recipe differ in nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from domain.models import families
from training.settings import TrainingPlan
from training.task import TrainTask


def recipe_hash(plan: TrainingPlan, task: TrainTask) -> str:
    """Digest the family, its settings, the features, the horizons and how rows are split.

    The seed is not part of it: that of every training is another one, and chance is no better recipe. Nor are
    the settings that a tuning chose: the recipe is "so many trials around these settings".
    """
    recipe: dict[str, Any] = {
        "family": task.family,
        "symbol": task.symbol,
        "horizons": task.horizons,
        "settings": dict(task.settings),
        "schema_hash": plan.schema_hash,
        "feature_names": plan.feature_names,
        "validation_fraction": plan.validation_fraction,
        "embargo_minutes": plan.embargo_minutes,
        "history_minutes": plan.history_minutes,
    }
    if plan.tuning_trials and task.family in families.TUNABLE:
        recipe["tuning_trials"] = plan.tuning_trials
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
