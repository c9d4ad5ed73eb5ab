"""How much of what a head says is believed, by how it did on rows it has not learned from.

Each head is multiplied by a factor in 0..1: the multiple that would have fitted best, times `1 - (error /
multiple)^2` (the positive part of the rule of James and Stein). On noise most heads end at 0, which is "no
change" and "one half"; where the signal is plain, the factor is near 1.
"""

from __future__ import annotations

import numpy as np

from schemas.frames import Bool, Float64, Int64

#: Most and fewest blocks of time that a standard error is taken over: outcomes of neighbours overlap.
_BLOCKS, _FEW_BLOCKS = 24, 4
#: Steps of Newton's method, and how far it may go.
_STEPS, _FARTHEST = 20, 10.0


def blocks_of(open_time_ms: Int64, *, overlap_ms: int) -> Int64:
    """Tell which block of time each outcome lies in; blocks are as long as outcomes overlap, if time allows.

    Parameters
    ----------
    overlap_ms
        How far outcomes reach; not above 0 where that is not known.
    """
    start, end = int(open_time_ms.min()), int(open_time_ms.max()) + 1
    fit = (end - start) // overlap_ms if overlap_ms > 0 else _BLOCKS
    return (open_time_ms - start) * min(_BLOCKS, max(_FEW_BLOCKS, fit)) // (end - start)


def of_changes(said: Float64, target: Float64, known: Bool, blocks: Int64) -> float:
    """Judge a head that says changes.

    Parameters
    ----------
    said, target
        What it said and what came, in the same unit.
    known
        Which of them count.
    blocks
        Which block of time each lies in.
    """
    said, target = said[known], target[known]
    energy = float(said @ said)
    if energy == 0:
        return 0.0
    multiple = float(said @ target) / energy
    pull = said * (target - multiple * said)
    return _believed(multiple, _error(pull, energy, blocks[known]))


def of_rises(said: Float64, rose: Bool, moved: Bool, blocks: Int64) -> float:
    """Judge a head that says logits of a rise."""
    said, came = said[moved], rose[moved].astype(np.float64)
    multiple = 0.0
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-multiple * said))
        energy = float((said**2) @ (chance * (1.0 - chance)))
        if energy == 0:
            return 0.0
        multiple = float(np.clip(multiple + (said @ (came - chance)) / energy, -_FARTHEST, _FARTHEST))
    pull = said * (came - 1.0 / (1.0 + np.exp(-multiple * said)))
    return _believed(multiple, _error(pull, energy, blocks[moved]))


def _error(pull: Float64, energy: float, blocks: Int64) -> float:
    # the sandwich estimate, with the pulls of one block of time taken together
    pulls = np.bincount(blocks, weights=pull)
    return float(np.sqrt(pulls @ pulls)) / energy


def _believed(multiple: float, error: float) -> float:
    if multiple <= 0:
        return 0.0
    return min(1.0, multiple) * max(0.0, 1.0 - (error / multiple) ** 2)
