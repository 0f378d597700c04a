"""Isolation trees: grown and walked in Numba.

The law is scikit-learn's: a node splits on one feature drawn at random among those that still vary there, at
a uniform threshold between the node's smallest and largest value, down to ceil(log2(sample size)) levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, Ints
from assay.kernels.jit import jit


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
def grow_trees(
    X: Floats, n_trees: int, sample_size: int, max_depth: int, seed: int
) -> tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.int32], Floats, Ints]:
    """Grow isolation trees on the rows of `X`.

    Returns
    -------
    feature, threshold, left, path, start : arrays
        One entry a node: the feature it splits on (-1 for a leaf), the threshold (go left if <=), the left
        child (the right one follows it), and for a leaf its depth plus the average path of what it holds.
        `start` numbers the roots, with the total at the end.
    """
    n, d = X.shape
    capacity = n_trees * (2 * min(sample_size, 2**max_depth) - 1)
    feature = np.full(capacity, -1, dtype=np.int32)
    threshold = np.zeros(capacity)
    left = np.zeros(capacity, dtype=np.int32)
    path = np.zeros(capacity)
    start = np.zeros(n_trees + 1, dtype=np.int64)
    state = np.array([seed], dtype=np.uint64)
    pool = np.arange(n)
    sample = np.empty(sample_size, dtype=np.int64)
    features = np.arange(d)
    # A node waiting to be split: its number, its part [low, high) of the sample, its depth.
    waiting = np.empty((2 * max_depth + 4, 4), dtype=np.int64)
    used = 0
    for tree in range(n_trees):
        start[tree] = used
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
                        smallest = min(smallest, value)
                        largest = max(largest, value)
                    if largest > smallest:
                        chosen = candidate
                        break
            if chosen < 0:
                path[node] = depth + average_path(size)
                continue
            cut = smallest + _random(state) * (largest - smallest)
            if cut >= largest:  # rounding
                cut = smallest
            middle = low
            for i in range(low, high):
                if X[sample[i], chosen] <= cut:
                    sample[i], sample[middle] = sample[middle], sample[i]
                    middle += 1
            feature[node], threshold[node], left[node] = chosen, cut, used
            waiting[height] = used, low, middle, depth + 1
            waiting[height + 1] = used + 1, middle, high, depth + 1
            height += 2
            used += 2
    start[n_trees] = used
    return feature[:used].copy(), threshold[:used].copy(), left[:used].copy(), path[:used].copy(), start


@jit
def mean_paths(
    X: Floats, feature: npt.NDArray[Any], threshold: Floats, left: npt.NDArray[Any], path: Floats, start: Ints
) -> Floats:
    """Return each row's path length averaged over the trees: (n,)."""
    n = len(X)
    total = np.zeros(n)
    n_trees = len(start) - 1
    for tree in range(n_trees):
        root = start[tree]
        for i in range(n):
            node = root
            while feature[node] >= 0:
                node = left[node] + (X[i, feature[node]] > threshold[node])
            total[i] += path[node]
    return total / n_trees
