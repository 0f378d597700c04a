"""Nearest neighbours of rows in rows: a KD-tree in low dimensions, blocked brute force in high ones."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from assay.core.validation import Floats, Ints
from assay.kernels.distances import distances_to
from assay.kernels.jit import jit

#: A KD-tree wins over brute force up to this many columns, from this many rows on.
TREE_COLUMNS, TREE_ROWS = 12, 2000


@jit
def _brute(X: Floats, reference: Floats, k: int, skip_self: bool) -> tuple[Floats, Ints]:
    l, n = len(X), len(reference)
    columns = np.ascontiguousarray(reference.T)
    distances = np.full((l, k), np.inf)
    indices = np.full((l, k), -1, dtype=np.int64)
    d2 = np.empty(n)
    for x in range(l):
        distances_to(X[x], columns, d2)
        if skip_self:
            d2[x] = np.inf
        near, index = distances[x], indices[x]
        for j in range(n):
            value = d2[j]
            if value < near[k - 1]:
                place = k - 1
                while place > 0 and near[place - 1] > value:
                    near[place] = near[place - 1]
                    index[place] = index[place - 1]
                    place -= 1
                near[place] = value
                index[place] = j
    return np.sqrt(distances), indices


def nearest(X: Floats, reference: Floats, k: int, *, skip_self: bool = False) -> tuple[Floats, Ints]:
    """Return distances and indices (l, k) of the `k` nearest rows of `reference` (n, d) to each row of `X` (l, d).

    With `skip_self`, `X` is `reference` itself and row i is not its own neighbour (its duplicates are).
    Memory O(l·k + n·d).
    """
    if reference.shape[1] > TREE_COLUMNS or len(reference) < TREE_ROWS:
        distances, indices = _brute(X, reference, k, skip_self)
        return distances, indices
    if not skip_self:
        distances, indices = cKDTree(reference).query(X, k=np.arange(1, k + 1))
        return distances, indices.astype(np.int64)
    distances, indices = cKDTree(reference).query(X, k=np.arange(1, k + 2))
    # Drop the row itself wherever it stands among its duplicates; the farthest one if it is not listed.
    keep = indices != np.arange(len(X))[:, None]
    keep[keep.all(axis=1), -1] = False
    return distances[keep].reshape(len(X), k), indices[keep].reshape(len(X), k).astype(np.int64)
