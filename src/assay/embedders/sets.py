"""Sets as rows of numbers: statistics of the members' columns, or the mean of random features of the members.

In: sets of members with d numbers each, see `assay.core.sets`. Out: one row a set, (n, k); the order of the members
does not matter, and every column is in units of training.

`SetStatistics`, k = d (2 + quantiles) + 1: of each column the mean, the standard deviation and some quantiles over the
members, and the logarithm of the size. It sees every column on its own: what only the joint distribution shows, such as
two columns that go together, it does not.

`RandomDeepSets`, k = 2 features + 1: φ is drawn, not learned, and ρ is left out,

    mean over x in X of (cos Wx, sin Wx),   W ~ N(0, 1 / width²) on standardised members,   and the log size.

The distance of two such rows tends to the maximum mean discrepancy of the two sets under a Gaussian kernel of that
width, which is zero for equal distributions alone: it sees what the statistics do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from assay.base import Embedder, TakesSets
from assay.core.sets import Sets, member_moments
from assay.core.validation import Floats, InputError, check_number, told

#: Members whose features are computed at a time.
BLOCK = 2**14


def _log_sizes(X: Sets) -> Floats:
    return np.log(X.sizes.astype(np.float64))[:, None]


class SetStatistics(TakesSets, Embedder):
    """Mean, standard deviation and quantiles of the members' columns, and the logarithm of the size.

    Parameters
    ----------
    quantiles : tuple of float in [0, 1], default (0, .25, .5, .75, 1)
        Which ones (ours).

    Attributes
    ----------
    centre_, scale_ : array of shape (d,)
        Mean and standard deviation of the training members (1 where a column is constant).

    Examples
    --------
    >>> embedder = SetStatistics(quantiles=(0.5,)).fit([[[0.0], [2.0]], [[0.0], [2.0]]])
    >>> embedder.transform([[[1.0], [1.0], [4.0]]]).round(2)  # mean, deviation, median in training units; log 3
    array([[1.  , 1.41, 0.  , 1.1 ]])
    """

    def __init__(self, quantiles: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> None:
        self.quantiles = quantiles

    def _check_parameters(self) -> None:
        if not isinstance(self.quantiles, (tuple, list)):
            raise InputError(f"quantiles={told(self.quantiles)}: give a tuple of numbers in [0, 1]")
        for quantile in self.quantiles:
            check_number(quantile, "quantiles", low=0.0, high=1.0)

    def _fit(self, X: Sets, rng: np.random.Generator) -> None:
        self.centre_, self.scale_ = member_moments(X)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return what each number of a row is, array of str of shape (k,)."""
        check_is_fitted(self)
        columns = range(1, len(self.centre_) + 1)
        statistics = ["mean", "deviation", *(f"{quantile:g} quantile" for quantile in self.quantiles)]
        names = [f"{what} of number {column}" for what in statistics for column in columns]
        return np.array([*names, "log of the size"], dtype=object)

    def _embed(self, X: Sets) -> Floats:
        scaled = Sets((X.flat - self.centre_) / self.scale_, X.offsets)
        rows = [
            np.concatenate([part.mean(axis=0), part.std(axis=0), np.quantile(part, self.quantiles, axis=0).ravel()])
            for part in scaled
        ]
        return np.concatenate([np.array(rows), _log_sizes(X)], axis=1)


class RandomDeepSets(TakesSets, Embedder):
    """Mean of random cosines and sines of the members, and the logarithm of the size.

    Parameters
    ----------
    features : int, default 128
        Random directions; each gives a cosine and a sine (ours).
    width : float, default 1
        Of the Gaussian kernel, in units of √d standard deviations of the members (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centre_, scale_ : array of shape (d,)
        Mean and standard deviation of the training members (1 where a column is constant).
    directions_ : array of shape (d, features)
        W, transposed.

    References
    ----------
    A. Rahimi, B. Recht: Random Features for Large-Scale Kernel Machines. NeurIPS 2007.

    Examples
    --------
    >>> sets = np.random.default_rng(0).normal(size=(4, 10, 3))
    >>> embedder = RandomDeepSets(features=8, random_state=0).fit(sets)
    >>> rows = embedder.transform([sets[0], sets[0][::-1]])
    >>> rows.shape, bool(np.allclose(rows[0], rows[1]))
    ((2, 17), True)
    """

    def __init__(self, features: int = 128, width: float = 1.0, random_state: Any = None) -> None:
        self.features = features
        self.width = width
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.features, "features", low=1, high=100_000, integer=True)
        check_number(self.width, "width", low=0.0, strict_low=True, high=1e6)

    def _fit(self, X: Sets, rng: np.random.Generator) -> None:
        self.centre_, self.scale_ = member_moments(X)
        d = X.flat.shape[1]
        self.directions_ = rng.normal(size=(d, self.features)) / (self.width * np.sqrt(d))

    def _embed(self, X: Sets) -> Floats:
        sums = np.zeros((len(X), 2 * self.features))
        owner = np.repeat(np.arange(len(X)), X.sizes)
        for first in range(0, len(X.flat), BLOCK):
            block = slice(first, first + BLOCK)
            # Beyond a billion standard deviations a phase is noise anyway, and must not overflow.
            z = np.clip((X.flat[block] - self.centre_) / self.scale_, -1e9, 1e9) @ self.directions_
            starts = np.flatnonzero(np.diff(owner[block], prepend=-1))
            sums[owner[block][starts]] += np.add.reduceat(np.concatenate([np.cos(z), np.sin(z)], axis=1), starts)
        return np.concatenate([sums / X.sizes[:, None], _log_sizes(X)], axis=1)
