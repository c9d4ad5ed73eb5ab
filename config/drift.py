"""The section of drift: when the market or a model counts as changed, and what follows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.base import AtLeastTwo, Fraction, Positive, Section

Reaction = Literal["warn", "widen", "lower_weight", "baseline", "retrain"]


class DriftSettings(Section):
    """Whether the market is still the one that the models learned from, and what happens if not."""

    enabled: bool = Field(True, description="Look for drift of features and of models at all.")
    reactions: tuple[Reaction, ...] = Field(
        ("warn", "lower_weight"),
        description="What follows until a newer model serves: warn, widen (intervals), lower_weight (of what"
        " a drifted model says), baseline (the no-change forecast in its place), retrain. Drift of features,"
        " which are the same for all models, leads to warn and retrain only; drift of how often outcomes miss"
        " their intervals to warn and widen.",
    )
    check_every_minutes: Annotated[int, Field(ge=60, le=10_080)] = Field(
        1440,
        description="Minutes of event time between comparisons of the features with those that the models"
        " learned from; also the length of what is compared. Trainings that drift asks for are due at these"
        " points.",
    )
    reference_blocks: AtLeastTwo = Field(
        14, description="Stretches of check_every_minutes that the reference holds at most, the latest ones."
    )
    least_reference_blocks: AtLeastTwo = Field(
        7, description="Stretches that the reference must hold before anything is compared."
    )
    psi_threshold: Positive = Field(
        0.25, description="Population stability index of a feature below which no drift is seen."
    )
    feature_error_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="Chance of one false Kolmogorov-Smirnov finding among all features in a comparison."
    )
    feature_share: Fraction = Field(
        0.1, description="Share of the features that must have drifted for an alarm."
    )
    detector: Literal["page_hinkley", "adwin"] = Field(
        "page_hinkley", description="What watches the errors of the models and the misses of the intervals."
    )
    threshold: Positive = Field(
        16.0,
        description="Page-Hinkley's threshold, in standard deviations of a block's error; at 16 about two"
        " models and horizons in a hundred are called drifted by chance in 168 blocks (a block is four"
        " horizons, at least an hour).",
    )
    adwin_error_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.002, description="ADWIN's bound on the chance of a false alarm at one look."
    )
    weight_left: Fraction = Field(
        0.5,
        description="lower_weight: share that is left of a drifted model's forecast and of its probability's"
        " distance from 1/2.",
    )
    widen_by: Annotated[float, Field(ge=1, le=10)] = Field(
        1.5,
        description="widen: factor on the intervals of a drifted model, and on those that outcomes have come"
        " to miss too often.",
    )
    gap_error_rate: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.05,
        description="Chance that a model and horizon is ever called worse live than in its walk-forward"
        " validation although it is as good, in all the time that it serves.",
    )
    spike_score: Positive = Field(
        10.0, description="A minute's move is a spike beyond so many times the usual move of late."
    )
    burst_score: Positive = Field(
        5.0, description="A minute's volume is a burst beyond so many usual deviations of its logarithm."
    )
