"""Squared Euclidean distances between rows.

Differences are squared and summed feature by feature (no norm expansion): equal rows are at distance exactly
0 and d(a, b) = d(b, a) to the bit, which strict balls rely on.
"""

from __future__ import annotations

import numpy as np

from assay.core.validation import Floats
from assay.kernels.jit import jit


@jit
def distances_to(row: Floats, columns: Floats, out: Floats) -> None:
    """Write into `out` (n,) the squared distances from `row` (d,) to n rows given by their `columns` (d, n).

    The inner loop runs along a column, contiguous in memory, so that it is vectorised.
    """
    out[:] = 0.0
    for f in range(len(row)):
        value = row[f]
        column = columns[f]
        for j in range(len(out)):
            difference = value - column[j]
            out[j] += difference * difference


@jit
def squared_distances(A: Floats, B: Floats) -> Floats:
    """Return the (n, m) squared distances between the rows of `A` (n, d) and `B` (m, d)."""
    columns = np.ascontiguousarray(B.T)
    out = np.empty((len(A), len(B)))
    for i in range(len(A)):
        distances_to(A[i], columns, out[i])
    return out
