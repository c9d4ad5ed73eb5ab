"""Numbers for the names of model versions, so that arrays can speak of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from schemas.frames import Int32

_FEW = 64


class VersionNumbers:
    """Gives every name a number, and forgets names that nothing speaks of any more."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        self._enough = _FEW

    def of(self, names: Sequence[str]) -> Int32:
        """Give the numbers of some names; new ones are taken in."""
        for name in names:
            if name not in self._number:
                self._number[name] = len(self.names)
                self.names.append(name)
        return np.array([self._number[name] for name in names], np.int32)

    @property
    def too_many(self) -> bool:
        """Whether it is time to forget."""
        return len(self.names) > self._enough

    def forget_all_but(self, numbers: Iterable[Int32]) -> Int32:
        """Keep the names whose numbers are given, sorted, and give the new number of each old one."""
        new, names = self.in_order(numbers)
        self.take(names)
        return new

    def in_order(self, numbers: Iterable[Int32]) -> tuple[Int32, list[str]]:
        """Give the new number that each old one would have in the order of the names kept, and those names.

        A number that is not among `numbers` becomes 0; one below 0 stands for no name.
        """
        used = np.unique(np.concatenate([np.ravel(part) for part in numbers]))
        kept = sorted((self.names[number], number) for number in used.tolist() if number >= 0)
        new = np.zeros(max(len(self.names), 1), np.int32)
        new[[number for _, number in kept]] = np.arange(len(kept), dtype=np.int32)
        return new, [name for name, _ in kept]

    def take(self, names: Sequence[str]) -> None:
        """Begin anew with these names."""
        self.names = list(names)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._enough = max(_FEW, 2 * len(self.names))
