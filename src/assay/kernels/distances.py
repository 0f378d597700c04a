"""Squared Euclidean distances between rows.

Differences are squared and summed feature by feature (no norm expansion): equal rows are at distance exactly
0 and d(a, b) = d(b, a) to the bit, which strict balls rely on.
"""

from __future__ import annotations

import numpy as np

from assay.core.validation import Floats
from assay.kernels.jit import jit


@jit
def squared_distances(A: Floats, B: Floats) -> Floats:
    """Return the (n, m) squared distances between the rows of `A` (n, d) and `B` (m, d)."""
    n, d = A.shape
    m = B.shape[0]
    columns = np.ascontiguousarray(B.T)
    out = np.zeros((n, m))
    for i in range(n):
        row = out[i]
        for f in range(d):
            a = A[i, f]
            column = columns[f]
            for j in range(m):
                difference = a - column[j]
                row[j] += difference * difference
    return out
