"""Exact Shapley values of the k-nearest-neighbour game, in closed form over sorted neighbours.

The game: a set S of labelled rows earns, at one evaluation row e, the share of e's label among its nearest rows
of S,

    U(S) = 1/k · #{i <= min(k, |S|) : y_(i) = y_e}        ((i): the i-th nearest row of S to e),

and the mean of that over the evaluation rows. With N players in ascending distance to e the values are (Jia et
al., 2019; s_N for N < k as well)

    s_N = [y_N = y_e] · w_N,    s_i = s_{i+1} + ([y_i = y_e] - [y_{i+1} = y_e]) · w_i,    w_i = min(k, i) / (k i).

Ties in distance keep the order of the rows. Everything is exact; memory is bounded by one block of evaluation
rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, Ints
from assay.kernels.distances import distances_to, squared_distances
from assay.kernels.jit import jit

#: Bytes that the distances of one block of evaluation rows take.
BLOCK_BYTES = 4 * 2**20


@jit
def _weight(k: int, i: int) -> float:
    return min(k, i) / (k * i)


@jit
def _add_player_values(same: Any, order: Ints, k: int, out: Floats) -> None:
    """Add to `out` (n,) the values of n players, for each evaluation row of `order` (b, n).

    `same` (b, n) says whether the player at a place, nearest first, has the evaluation row's label.
    """
    n = order.shape[1]
    weights = np.array([_weight(k, i + 1) for i in range(n)])
    for e in range(len(order)):
        value = same[e, n - 1] * weights[n - 1]
        out[order[e, n - 1]] += value
        for i in range(n - 2, -1, -1):
            value += (int(same[e, i]) - int(same[e, i + 1])) * weights[i]
            out[order[e, i]] += value


@jit
def _add_newcomer_values(
    rows: Floats, label: Any, same: Any, sorted_d2: Floats, columns: Floats, k: int, out: Floats
) -> None:
    """Add to `out` (l,) the values of l newcomers, each of whom joins the n players alone, for each of b `rows`.

    A newcomer with p players at most as far as itself is number p + 1 of n + 1; unrolled, the recursion makes
    its value [its label = y_e] w_{p+1} - Σ_{q > p} [y_q = y_e] (w_q - w_{q+1}), the same for all newcomers of
    one p.

    Parameters
    ----------
    rows : array of shape (b, d)
        Evaluation rows.
    label : array of bool of shape (b,)
        Whether the newcomers have the evaluation row's label.
    same : array of bool of shape (b, n)
        Whether the players, nearest first, have it.
    sorted_d2 : array of shape (b, n)
        Ascending squared distances to the players.
    columns : array of shape (d, l)
        The newcomers' features.
    """
    n, l = sorted_d2.shape[1], columns.shape[1]
    weights = np.array([_weight(k, i + 1) for i in range(n + 1)])
    value, d2 = np.empty(n + 1), np.empty(l)
    for e in range(len(rows)):
        tail = 0.0
        value[n] = label[e] * weights[n]
        for p in range(n - 1, -1, -1):
            tail += same[e, p] * (weights[p] - weights[p + 1])
            value[p] = label[e] * weights[p] - tail
        distances_to(rows[e], columns, d2)
        for j in range(l):
            out[j] += value[np.searchsorted(sorted_d2[e], d2[j], side="right")]


@jit
def _settle_ties(d2: Floats, order: Any) -> None:
    """Put the places of equal distances in `order` (b, n), which sorts each row of `d2` (b, n), into the rows' order.

    With that, NumPy's fastest sort, which is not stable, serves for a stable one.
    """
    n = order.shape[1]
    for e in range(len(order)):
        first = 0
        for p in range(1, n + 1):
            if p == n or d2[e, order[e, p]] != d2[e, order[e, first]]:
                if p - first > 1:
                    order[e, first:p] = np.sort(order[e, first:p])
                first = p


def _in_blocks(X_eval: Floats, X: Floats) -> Iterator[tuple[slice, Floats, npt.NDArray[Any]]]:
    """Yield blocks of evaluation rows, their squared distances to `X`, and the order that sorts these."""
    step = max(1, BLOCK_BYTES // (8 * len(X)))
    for first in range(0, len(X_eval), step):
        block = slice(first, first + step)
        d2 = squared_distances(X_eval[block], X)
        order = np.argsort(d2, axis=1)
        _settle_ties(d2, order)
        yield block, d2, order


def knn_shapley_values(X_train: Floats, y_train: Ints, X_valid: Floats, y_valid: Ints, k: int) -> Floats:
    """Return the KNN-Shapley value of every training row, the mean over the evaluation rows: shape (n,).

    Parameters
    ----------
    X_train, y_train : arrays of shape (n, d) and (n,)
        The players and their labels.
    X_valid, y_valid : arrays of shape (v, d) and (v,)
        The evaluation rows and their labels.
    k : int
        Neighbours that count.
    """
    values = np.zeros(len(X_train))
    for block, _, order in _in_blocks(X_valid, X_train):
        _add_player_values(y_train[order] == y_valid[block, None], order, k, values)
    return values / len(X_valid)


def newcomer_values(X: Floats, y: Ints, X_new: Floats, label: int, k: int) -> Floats:
    """Return the KNN-Shapley value of each row of `X_new` if it alone, labelled `label`, joined `X`: shape (l,).

    The rows of `X` are players and evaluation rows at once, so that each is its own nearest neighbour. At equal
    distance the newcomer comes last.

    Parameters
    ----------
    X, y : arrays of shape (n, d) and (n,)
        Labelled rows.
    X_new : array of shape (l, d)
        Newcomers.
    label : int
        The label every newcomer claims.
    k : int
        Neighbours that count.
    """
    columns = np.ascontiguousarray(X_new.T)
    values = np.zeros(len(X_new))
    for block, d2, order in _in_blocks(X, X):
        same = y[order] == y[block, None]
        _add_newcomer_values(
            X[block], y[block] == label, same, np.take_along_axis(d2, order, axis=1), columns, k, values
        )
    return values / len(X)
