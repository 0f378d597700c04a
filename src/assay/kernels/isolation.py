"""Isolation trees: grown and walked in Numba.

The law is scikit-learn's: a node splits on one feature drawn at random among those that still vary there, at
a uniform threshold between the node's smallest and largest value, down to ceil(log2(sample size)) levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, Ints
from assay.kernels.jit import jit

Trees = tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.int32], Floats, Ints, Ints]


@jit
def _random(state: npt.NDArray[np.uint64]) -> float:
    """Return a uniform number of [0, 1) and advance the state (splitmix64, Steele et al., OOPSLA 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@jit
def average_path(n: float) -> float:
    """Return c(n): the mean length of an unsuccessful search in a binary tree of n leaves (Liu et al., equation 1)."""
    if n <= 1.0:
        return 0.0
    if n <= 2.0:
        return 1.0
    return 2.0 * (np.log(n - 1.0) + 0.5772156649015329) - 2.0 * (n - 1.0) / n


@jit
def grow_trees(X: Floats, n_trees: int, sample_size: int, max_depth: int, seed: int) -> Trees:
    """Grow isolation trees on the rows of `X`.

    Returns
    -------
    feature, threshold, left, path, root, levels : arrays
        One entry a node: the feature it splits on, the threshold (go left if <=), the left child (the right
        one follows it), and for a leaf its depth plus the average path of what it holds. A leaf is its own
        left child behind a threshold of infinity. One entry a tree: the number of its root, and the depth of
        its deepest leaf.
    """
    n, d = X.shape
    capacity = n_trees * (2 * min(sample_size, 2**max_depth) - 1)
    feature = np.zeros(capacity, dtype=np.int32)
    threshold = np.full(capacity, np.inf)
    left = np.zeros(capacity, dtype=np.int32)
    path = np.zeros(capacity)
    root = np.zeros(n_trees, dtype=np.int64)
    levels = np.zeros(n_trees, dtype=np.int64)
    state = np.array([seed], dtype=np.uint64)
    pool = np.arange(n)
    sample = np.empty(sample_size, dtype=np.int64)
    features = np.arange(d)
    # A node waiting to be split: its number, its part [low, high) of the sample, its depth.
    waiting = np.empty((2 * max_depth + 4, 4), dtype=np.int64)
    used = 0
    for tree in range(n_trees):
        root[tree] = used
        for i in range(sample_size):
            j = i + int(_random(state) * (n - i))
            pool[i], pool[j] = pool[j], pool[i]
            sample[i] = pool[i]
        waiting[0] = used, 0, sample_size, 0
        used += 1
        height = 1
        while height > 0:
            height -= 1
            node, low, high, depth = waiting[height]
            size = high - low
            chosen = -1
            smallest = largest = 0.0
            if depth < max_depth and size > 1:
                for f in range(d):
                    g = f + int(_random(state) * (d - f))
                    features[f], features[g] = features[g], features[f]
                    candidate = features[f]
                    smallest = largest = X[sample[low], candidate]
                    for i in range(low + 1, high):
                        value = X[sample[i], candidate]
                        smallest = value if value < smallest else smallest
                        largest = value if value > largest else largest
                    if largest > smallest:
                        chosen = candidate
                        break
            if chosen < 0:
                path[node] = depth + average_path(size)
                left[node] = node
                levels[tree] = max(levels[tree], depth)
                continue
            cut = smallest + _random(state) * (largest - smallest)
            if cut >= largest:  # rounding
                cut = smallest
            middle = low
            for i in range(low, high):
                # Swapped in any case, without a branch: what stands at `middle` goes right either way.
                row = sample[i]
                sample[i] = sample[middle]
                sample[middle] = row
                middle += X[row, chosen] <= cut
            feature[node], threshold[node], left[node] = chosen, cut, used
            waiting[height] = used, low, middle, depth + 1
            waiting[height + 1] = used + 1, middle, high, depth + 1
            height += 2
            used += 2
    return feature[:used].copy(), threshold[:used].copy(), left[:used].copy(), path[:used].copy(), root, levels


@jit
def mean_paths(
    X: Floats,
    feature: npt.NDArray[np.int32],
    threshold: Floats,
    left: npt.NDArray[np.int32],
    path: Floats,
    root: Ints,
    levels: Ints,
) -> Floats:
    """Return each row's path length averaged over the trees: (n,).

    Eight rows walk a tree in step, each as many steps as its deepest leaf needs (at a leaf they mark time):
    there is no branch to mispredict, and the loads of the eight overlap.
    """
    n, d = X.shape
    values = np.ascontiguousarray(X).ravel()
    total = np.zeros(n)
    in_step = n - n % 8
    for tree in range(len(root)):
        top, depth = root[tree], levels[tree]
        for i in range(0, in_step, 8):
            a = b = c = e = f = g = h = k = top
            x = i * d
            for _ in range(depth):
                a = left[a] + (values[x + feature[a]] > threshold[a])
                b = left[b] + (values[x + d + feature[b]] > threshold[b])
                c = left[c] + (values[x + 2 * d + feature[c]] > threshold[c])
                e = left[e] + (values[x + 3 * d + feature[e]] > threshold[e])
                f = left[f] + (values[x + 4 * d + feature[f]] > threshold[f])
                g = left[g] + (values[x + 5 * d + feature[g]] > threshold[g])
                h = left[h] + (values[x + 6 * d + feature[h]] > threshold[h])
                k = left[k] + (values[x + 7 * d + feature[k]] > threshold[k])
            total[i] += path[a]
            total[i + 1] += path[b]
            total[i + 2] += path[c]
            total[i + 3] += path[e]
            total[i + 4] += path[f]
            total[i + 5] += path[g]
            total[i + 6] += path[h]
            total[i + 7] += path[k]
        for i in range(in_step, n):
            node = top
            for _ in range(depth):
                node = left[node] + (X[i, feature[node]] > threshold[node])
            total[i] += path[node]
    return total / len(root)
