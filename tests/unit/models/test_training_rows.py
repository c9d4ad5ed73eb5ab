from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from domain.models import families
from domain.models.model import BadTrainingDataError, TrainingRows, UnknownFamilyError, check_rows

NAMES = tuple("abcdef")
Make = Callable[..., TrainingRows]


def _with(rows: TrainingRows, **changes: np.ndarray) -> TrainingRows:
    return replace(rows, **changes)


def test_good_rows_pass(make_rows: Make) -> None:
    check_rows(make_rows(), part="rows", feature_names=NAMES)


def test_too_few_rows_are_refused(make_rows: Make) -> None:
    with pytest.raises(BadTrainingDataError, match="20 rows are too few"):
        check_rows(make_rows(rows=20), part="rows", feature_names=NAMES)


def test_a_constant_target_is_refused(make_rows: Make) -> None:
    rows = make_rows()
    with pytest.raises(
        BadTrainingDataError, match=r"target is 0 in all 1200 rows.*leave out symbols that nobody trades"
    ):
        check_rows(_with(rows, target_pct=np.zeros((len(rows), 1))), part="rows", feature_names=NAMES)


def test_a_target_that_is_no_number_is_refused(make_rows: Make) -> None:
    rows = make_rows()
    target = rows.target_pct.copy()
    target[3] = np.inf
    with pytest.raises(BadTrainingDataError, match="1 targets are infinite"):
        check_rows(_with(rows, target_pct=target), part="rows", feature_names=NAMES)


def test_a_feature_without_any_value_is_refused_by_name(make_rows: Make) -> None:
    rows = make_rows()
    rows.vectors[:, 2] = np.nan
    with pytest.raises(BadTrainingDataError, match="no value at all of c"):
        check_rows(rows, part="rows", feature_names=NAMES)


def test_a_feature_that_may_be_missing_is_accepted(make_rows: Make) -> None:
    rows = make_rows()
    rows.vectors[:, 2] = np.nan
    check_rows(rows, part="rows", feature_names=NAMES, may_be_missing=frozenset("c"))


def test_an_infinite_value_is_refused_by_name(make_rows: Make) -> None:
    rows = make_rows()
    rows.vectors[7, 4] = np.inf
    with pytest.raises(BadTrainingDataError, match="infinite values in e"):
        check_rows(rows, part="rows", feature_names=NAMES)


def test_an_unknown_family_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownFamilyError, match="did you mean 'xgboost'"):
        families.load("xgbost")
