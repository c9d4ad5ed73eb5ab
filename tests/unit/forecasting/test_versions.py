"""Numbers for names of versions."""

import numpy as np

from domain.forecasting.versions import VersionNumbers


def test_name_keeps_its_number():
    versions = VersionNumbers()
    assert versions.of(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert versions.of(["c", "a"]).tolist() == [2, 1]
    assert versions.names == ["b", "a", "c"]


def test_names_that_nothing_speaks_of_are_forgotten_and_the_others_sorted():
    versions = VersionNumbers()
    versions.of(["d", "c", "b", "a"])
    new = versions.forget_all_but([np.array([[3, 1]], np.int32), np.array([-1], np.int32)])
    assert versions.names == ["a", "c"]
    assert new[[3, 1]].tolist() == [0, 1]
    assert versions.of(["c", "e"]).tolist() == [1, 2]


def test_it_is_time_to_forget_when_there_are_twice_as_many_names_as_were_kept():
    versions = VersionNumbers()
    used = versions.of([f"v{k:03}" for k in range(100)])
    assert versions.too_many
    versions.forget_all_but([used])
    assert not versions.too_many
    versions.of([f"w{k:03}" for k in range(101)])
    assert versions.too_many


def test_nothing_is_named_at_first():
    new, names = VersionNumbers().in_order([np.zeros((0,), np.int32)])
    assert names == []
    assert new.tolist() == [0]
