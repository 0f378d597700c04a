"""Sums over all windows of a series without ever laying the windows out: a row of products, then differences."""

from __future__ import annotations

import numpy as np

from assay.core.validation import Floats


def window_moments(values: Floats, length: int) -> tuple[Floats, Floats, int]:
    """Return sum, sum of products and number of all windows of one run.

    With w the window from step t on, flattened step by step, the sum of w and that of w wᵀ over all t. The products
    of lag l at the places (i, i + l) and (i + 1, i + 1 + l) differ by one step that leaves and one that enters, so
    T · L · C² multiplications do for what T windows laid out would need T · L² · C² for. Memory: (L · C)² numbers.

    Parameters
    ----------
    values : array of shape (T, C)
        A run without gaps; centre it first, for the differences lose digits to a large mean.
    length : int
        L.

    Returns
    -------
    total : array of shape (L * C,)
        Sum of the windows.
    products : array of shape (L * C, L * C)
        Sum of their outer products.
    count : int
        T - L + 1, 0 if the run is shorter than a window.
    """
    T, C = values.shape
    n = T - length + 1
    products = np.zeros((length, C, length, C))
    if n <= 0:
        return np.zeros(length * C), products.reshape(length * C, length * C), 0
    sums = np.concatenate([np.zeros((1, C)), np.cumsum(values, axis=0)])
    total = sums[n:] - sums[:length]
    for lag in range(length):
        # The first place of this lag by one product of matrices, the others by what leaves and what enters.
        first = values[:n].T @ values[lag : lag + n]
        rest = length - lag - 1
        leaves = values[:rest, :, None] * values[lag : lag + rest, None, :]
        enters = values[n : n + rest, :, None] * values[n + lag : n + lag + rest, None, :]
        run = first + np.concatenate([np.zeros((1, C, C)), np.cumsum(enters - leaves, axis=0)])
        places = np.arange(length - lag)
        products[places, :, places + lag, :] = run
        products[places + lag, :, places, :] = run.transpose(0, 2, 1)
    return total.ravel(), products.reshape(length * C, length * C), n


def runs_of(starts: Floats) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers in sorted `starts`, as (first, last)."""
    breaks = np.flatnonzero(np.diff(starts) != 1)
    firsts = np.concatenate([starts[:1], starts[breaks + 1]])
    lasts = np.concatenate([starts[breaks], starts[-1:]])
    return [(int(first), int(last)) for first, last in zip(firsts, lasts)]
