"""k-nearest-neighbour balls for many random subsets at once.

Row i of the reference, if a subset holds it, owns a ball whose radius is the distance to its k-th neighbour
within that subset. For M subsets the naive way measures and sorts everything M times. Here each row's
distances are sorted once, and one walk along that order serves every subset: `members[j, b]` says whether
subset b holds row j, and the innermost loops run over b, contiguous in memory, so that the processor handles
many subsets in one instruction.

Everything compares squared distances: no square root can merge two values that differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, Ints
from assay.kernels.distances import distances_to
from assay.kernels.jit import jit

Members = npt.NDArray[np.uint8]


@jit
def capture_counts(
    sorted_d2: Floats,
    order: npt.NDArray[Any],
    rows: Ints,
    members: Members,
    targets_d2: Floats,
    smallest: npt.NDArray[np.int32],
) -> None:
    """Lower `smallest` (m, M) to the least k with which a ball of these rows captures each of m targets.

    A ball of row i captures target a iff its radius (entry k of i's sorted distances, itself first) exceeds
    d(i, a) strictly; so the least such k is the number of members, i included, at distance <= d(i, a).

    Parameters
    ----------
    sorted_d2, order : arrays of shape (r, n)
        For r reference rows the ascending squared distances to all n rows, and which row each belongs to.
    rows : array of shape (r,)
        Which reference row each line is.
    members : array of uint8 of shape (n, M)
        1 where the subset holds the row.
    targets_d2 : array of shape (r, m)
        Squared distances from the r rows to the targets.
    smallest : array of int32 of shape (m, M)
        Updated in place.
    """
    n = sorted_d2.shape[1]
    m, M = smallest.shape
    counts = np.zeros(M, dtype=np.int32)
    for i in range(len(rows)):
        counts[:] = 0
        mine = members[rows[i]]
        nearest_first = np.argsort(targets_d2[i])
        position = 0
        for a in nearest_first:
            limit = targets_d2[i, a]
            while position < n and sorted_d2[i, position] <= limit:
                member = members[order[i, position]]
                for b in range(M):
                    counts[b] += member[b]
                position += 1
            least = smallest[a]
            for b in range(M):
                if mine[b] == 1 and counts[b] < least[b]:
                    least[b] = counts[b]


@jit
def ball_radii(
    sorted_d2: Floats,
    order: npt.NDArray[Any],
    rows: Ints,
    members: Members,
    k: npt.NDArray[np.int32],
    radii: Floats,
) -> None:
    """Write each row's squared radius in each subset into `radii` (n, M); 0 where the subset does not hold the row.

    `k` (M,) numbers the neighbour that sets the radius, the row itself being number 0. The other parameters
    are those of `capture_counts`.
    """
    n = sorted_d2.shape[1]
    M = members.shape[1]
    counts = np.zeros(M, dtype=np.int32)
    longest = k.max() + 1
    for i in range(len(rows)):
        counts[:] = 0
        radius = radii[rows[i]]
        done = 0
        for position in range(n):
            member = members[order[i, position]]
            d2 = sorted_d2[i, position]
            # The last position at which fewer than k + 1 members have been met is the k-th neighbour's.
            for b in range(M):
                radius[b] = d2 if counts[b] <= k[b] else radius[b]
                counts[b] += member[b]
            if position >= longest and position % 16 == 0:
                done = 0
                for b in range(M):
                    done += counts[b] > k[b]
                if done == M:
                    break
        mine = members[rows[i]]
        for b in range(M):
            if mine[b] == 0:
                radius[b] = 0.0


@jit
def smallest_balls(X: Floats, reference: Floats, radii: Floats) -> Floats:
    """Return, per row of `X` (l, d) and subset, the smallest squared radius among the balls that hold it: (l, M).

    A ball holds x iff d(centre, x) < radius, strictly; infinity where no ball does.
    """
    n, M = radii.shape
    columns = np.ascontiguousarray(reference.T)
    widest = np.zeros(n)
    for i in range(n):
        widest[i] = radii[i].max()
    out = np.full((len(X), M), np.inf)
    d2 = np.empty(n)
    for x in range(len(X)):
        distances_to(X[x], columns, d2)
        best = out[x]
        for i in range(n):
            distance = d2[i]
            if distance >= widest[i]:
                continue
            radius = radii[i]
            for b in range(M):
                candidate = radius[b] if distance < radius[b] else np.inf
                best[b] = candidate if candidate < best[b] else best[b]
    return out


@jit
def kth_distances(sorted_d2: Floats, order: npt.NDArray[Any], members: Members, k: int, out: Floats) -> None:
    """Write into `out` (l, M) the squared distance of each row to its k-th nearest member of each subset.

    `sorted_d2` and `order` (l, n) are the ascending squared distances to the n reference rows, and which row
    each belongs to; a subset with fewer than `k` members counts its farthest one.
    """
    n = sorted_d2.shape[1]
    M = members.shape[1]
    counts = np.zeros(M, dtype=np.int32)
    for x in range(len(sorted_d2)):
        counts[:] = 0
        found = out[x]
        for position in range(n):
            member = members[order[x, position]]
            d2 = sorted_d2[x, position]
            waiting = 0
            for b in range(M):
                found[b] = d2 if member[b] == 1 and counts[b] < k else found[b]
                counts[b] += member[b]
                waiting += counts[b] < k
            if waiting == 0:
                break
