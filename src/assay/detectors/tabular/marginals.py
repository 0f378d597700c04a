"""ECOD and HBOS: each feature judged on its own, the verdicts summed.

In: a table (n, d), any units. Out: one score a row >= 0 (ECOD) or a sum of negative log densities (HBOS).

ECOD sums negative log tail probabilities under the empirical distribution of each feature and takes the
largest of three sums: left tails, right tails, and per feature the tail its skewness points to. The
distribution is that of the training rows alone, so a row's score does not depend on what it is scored with
(the usual implementation mixes training and scored rows). HBOS sums negative log heights of equal-width
histograms.

Both are blind to dependence between features: rows with shuffled columns look normal to them. Time O(n d log
n) to fit, O(l d log n) to score.
"""

from __future__ import annotations

import numpy as np

from assay.base import Detector
from assay.core.validation import Floats, Ints, check_number


class ECOD(Detector):
    """Empirical-cumulative-distribution detector, inductive.

    Attributes
    ----------
    sorted_ : array of shape (n, d)
        Each feature's training values, ascending.
    skewness_ : array of shape (d,)
        Skewness of each feature.

    References
    ----------
    Li, Zhao, Hu, Botta, Ionescu and Chen: ECOD. IEEE TKDE 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ECOD
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> ECOD().fit(X).anomaly_score([[0.0, 0.0, 0.0], [5.0, 5.0, -5.0]]).argmax()
    np.int64(1)
    """

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.sorted_ = np.sort(X, axis=0)
        varies = np.ptp(X, axis=0) > 0
        self.skewness_ = np.zeros(X.shape[1])
        if varies.any():
            spread = X[:, varies].std(axis=0)
            centred = (X[:, varies] - X[:, varies].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            self.skewness_[varies] = np.nan_to_num((centred**3).mean(axis=0))

    def _score(self, X: Floats) -> Floats:
        n = len(self.sorted_)
        left, right = np.empty(X.shape), np.empty(X.shape)
        for f in range(X.shape[1]):
            column = self.sorted_[:, f]
            # The scored row counts as one more observation: no tail is empty.
            left[:, f] = -np.log((1.0 + np.searchsorted(column, X[:, f], side="right")) / (n + 1.0))
            right[:, f] = -np.log((1.0 + n - np.searchsorted(column, X[:, f], side="left")) / (n + 1.0))
        pointed = np.where(self.skewness_ < 0, left, right)
        return np.maximum.reduce([left.sum(axis=1), right.sum(axis=1), pointed.sum(axis=1)])


class HBOS(Detector):
    """Histogram-based outlier score.

    Parameters
    ----------
    n_bins : int, default 10
        Equal-width bins a feature (Goldstein and Dengel leave it open; the field's usual default).

    Attributes
    ----------
    edges_ : array of shape (d, n_bins + 1)
        Bin edges.
    heights_ : array of shape (d, n_bins + 2)
        Share of the fullest bin each bin holds, with one empty bin on either side of the range.

    References
    ----------
    Goldstein and Dengel: Histogram-based Outlier Score. KI 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import HBOS
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> HBOS().fit(X).anomaly_score([[0.0, 0.0, 0.0], [5.0, 5.0, -5.0]]).argmax()
    np.int64(1)
    """

    def __init__(self, n_bins=10):
        self.n_bins = n_bins

    def _check_parameters(self) -> None:
        check_number(self.n_bins, "n_bins", low=2, integer=True)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        d, bins = X.shape[1], int(self.n_bins)
        self.edges_ = np.empty((d, bins + 1))
        self.heights_ = np.empty((d, bins + 2))
        for f in range(d):
            counts, self.edges_[f] = np.histogram(X[:, f], bins=bins)
            # Half an observation in an empty bin keeps its logarithm finite.
            padded = np.concatenate([[0], counts, [0]])
            self.heights_[f] = np.maximum(padded, 0.5) / counts.max()

    def _score(self, X: Floats) -> Floats:
        total = np.zeros(len(X))
        last = self.edges_.shape[1] - 1
        for f in range(X.shape[1]):
            edges, x = self.edges_[f], X[:, f]
            bin_number = np.searchsorted(edges, x, side="right")
            bin_number[x == edges[last]] = last  # the last bin is closed
            total -= np.log(self.heights_[f][bin_number])
        return total
