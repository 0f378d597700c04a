"""Random subsets of labelled rows, each with two normal rows at least."""

from __future__ import annotations

import numpy as np

from assay.core.validation import Floats, Ints
from assay.kernels.balls import Members


def coin_flips(y: Ints, rates: Floats, rng: np.random.Generator) -> Members:
    """Draw a subset for each inclusion rate, every row on its own, again until it holds two normal rows: (n, B)."""
    members = np.empty((len(y), len(rates)), dtype=np.uint8)
    for b, rate in enumerate(rates):
        members[:, b] = rng.random(len(y)) < rate
        while members[y == 0, b].sum() < 2:
            members[:, b] = rng.random(len(y)) < rate
    return members


def draws(y: Ints, sizes: Ints, rng: np.random.Generator) -> Members:
    """Draw a uniform subset of each size, again until it holds two normal rows: (n, B)."""
    members = np.zeros((len(y), len(sizes)), dtype=np.uint8)
    for b, size in enumerate(sizes):
        rows = rng.permutation(len(y))[:size]
        while (y[rows] == 0).sum() < 2:
            rows = rng.permutation(len(y))[:size]
        members[rows, b] = 1
    return members
