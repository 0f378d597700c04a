"""Greedy k-centre selection, and keeping the largest entries of a product of matrices that is never whole.

The greedy rule (Gonzalez, 1985) picks, again and again, the row that is farthest from all rows picked so far; it
covers the rest within twice the smallest possible radius. A pick costs a distance to every row, unless a bound shows
that the row stays with the pick it has: with L the coordinates of the rows along their `LEADING` directions of largest
variance,

    |L x - L c| <= d(x, c),

so that x needs no distance to the new pick c where the left side is beyond the distance x has. On features of
networks that spares nine distances of ten, where the triangle inequality between picks spares two. The result is exact
and does not depend on the bound; ties go to the lower row; the first m picks are those of a shorter run. Time O(m n),
memory O(n) beside the rows.

Distances are sums of squared differences in single precision (no norm expansion): equal rows are at exactly 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.progress import progress
from assay.core.validation import Ints
from assay.kernels.distances import distances_to
from assay.kernels.jit import jit

Singles = npt.NDArray[np.float32]
#: Directions that the bound looks at, rows it looks at together, and rows that choose the directions.
LEADING, ROWS_IN_BLOCK, ROWS_IN_SAMPLE = 32, 512, 4096
#: Picks between two signs of life.
PICKS_IN_STEP = 256
#: Rounding of a distance, as a share of itself and of the largest distance to the mean.
ROUNDING = 1e-5, 1e-5


@jit
def _squared_distance(a: Singles, b: Singles, scratch: Singles) -> Any:
    """Return |a - b|², summed by halves: vectorised, and the same bits on every processor."""
    d = len(a)
    for j in range(d):
        difference = a[j] - b[j]
        scratch[j] = difference * difference
    while d > 8:
        half = (d + 1) // 2
        low, high = scratch[: d - half], scratch[half:d]
        for j in range(d - half):
            low[j] += high[j]
        d = half
    total = np.float32(0.0)
    for j in range(d):
        total += scratch[j]
    return total


@jit
def _pick(X: Singles, lead: Singles, margin: float, picks: Ints, d2: Singles, limit: Singles, row: int) -> int:
    """Fill `picks`, beginning with `row`, and return the row to pick next; -1 as soon as all rows are covered.

    Parameters
    ----------
    X : array of shape (n, d)
        The rows.
    lead : array of shape (blocks, LEADING, ROWS_IN_BLOCK)
        The leading coordinates of the rows, block by block.
    margin : float
        What rounding may change in a distance between leading coordinates.
    picks : array of int of shape (m,)
        Filled in; -1 where there is nothing left to pick.
    d2, limit : arrays of shape (n,)
        Squared distance of each row to its nearest pick, and that with the margin.
    row : int
        First pick.
    """
    scratch, bound = np.empty(X.shape[1], dtype=np.float32), np.empty(ROWS_IN_BLOCK, dtype=np.float32)
    grown = 1.0 + ROUNDING[0]
    for p in range(len(picks)):
        picks[p] = row
        centre = lead[row // ROWS_IN_BLOCK, :, row % ROWS_IN_BLOCK].copy()
        widest, farthest = np.float32(0.0), -1
        for block in range(len(lead)):
            distances_to(centre, lead[block], bound)
            first = block * ROWS_IN_BLOCK
            for i in range(first, min(first + ROWS_IN_BLOCK, len(X))):
                if bound[i - first] < limit[i]:
                    value = _squared_distance(X[i], X[row], scratch)
                    if value < d2[i]:
                        d2[i] = value
                        limit[i] = (np.sqrt(value) * grown + margin) ** 2
                if d2[i] > widest:
                    widest, farthest = d2[i], i
        row = farthest
        if row < 0:
            break
    return row


def greedy_coreset(X: Singles, n_picks: int, start: int = 0) -> tuple[Ints, float]:
    """Return the rows that the greedy rule picks, the first being `start`, and the radius within which they cover.

    Parameters
    ----------
    X : array of float32 of shape (n, d)
        The rows, C-ordered.
    n_picks : int
        How many; fewer are made if `X` has fewer different rows.
    start : int
        The first pick.

    Returns
    -------
    picks : array of int of shape (m,)
        Row numbers in the order of their choice.
    radius : float
        Largest distance of a row to its nearest pick.
    """
    picks = np.full(min(n_picks, len(X)), -1, dtype=np.int64)
    d2, limit = (np.full(len(X), np.inf, dtype=np.float32) for _ in range(2))
    lead, size = _leading(X)
    row = start
    for first in progress(range(0, len(picks), PICKS_IN_STEP), "selecting a coreset"):
        row = _pick(X, lead, ROUNDING[1] * size, picks[first : first + PICKS_IN_STEP], d2, limit, row)
        if row < 0:
            break
    return picks[picks >= 0], float(np.sqrt(d2.max()))


def _leading(X: Singles) -> tuple[Singles, float]:
    """Return the leading coordinates of the rows in blocks, and the largest distance of a row to the mean."""
    sample = X[:: -(-len(X) // ROWS_IN_SAMPLE)]
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    _, directions = np.linalg.eigh(np.dot((sample - mean).T, sample - mean).astype(np.float64))
    basis = np.ascontiguousarray(directions[:, -LEADING:], dtype=np.float32)
    lead = np.zeros((-(-len(X) // ROWS_IN_BLOCK), basis.shape[1], ROWS_IN_BLOCK), dtype=np.float32)
    size = 0.0
    for block, first in enumerate(range(0, len(X), ROWS_IN_BLOCK)):
        rows = X[first : first + ROWS_IN_BLOCK] - mean
        lead[block, :, : len(rows)] = (rows @ basis).T
        size = max(size, float(np.einsum("ij,ij->i", rows, rows).max()))
    return lead, float(np.sqrt(size))


@jit
def keep_largest(values: Singles, first: int, best: Singles, index: Ints) -> None:
    """Merge the columns of `values` (q, t) into the k largest of each row seen so far, largest first.

    Parameters
    ----------
    values : array of shape (q, t)
        A block of columns.
    first : int
        Number of its first column.
    best, index : arrays of shape (q, k)
        The largest values so far and their columns; -inf where there is none yet. Of equals the earlier stays.
    """
    k = best.shape[1]
    for row in range(len(values)):
        line, largest, where = values[row], best[row], index[row]
        least = largest[k - 1]
        for j in range(len(line)):
            if line[j] > least:
                place = k - 1
                while place > 0 and largest[place - 1] < line[j]:
                    largest[place] = largest[place - 1]
                    where[place] = where[place - 1]
                    place -= 1
                largest[place] = line[j]
                where[place] = first + j
                least = largest[k - 1]
