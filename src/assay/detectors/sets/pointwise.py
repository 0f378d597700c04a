"""Pointwise: a set is as odd as its members are on average; the baseline that does not know what a set is.

In: sets of members with d numbers each, see `assay.core.sets`. Out: one score a set and one a member, >= 0; higher =
more anomalous.

All members of all training sets are one cloud. A member's score is its squared Mahalanobis distance to the cloud's
mean, a set's the mean over its members:

    s(x) = (x - m)' C⁻¹ (x - m),   s(X) = mean of s(x) over x in X.

C is shrunk by Ledoit and Wolf's rule on standardised columns. A set of usual members in unusual proportions, or a
usual member in the wrong set, goes unseen: that is the point of the comparison.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.covariance import ledoit_wolf

from assay.base import Localizer, TakesSets
from assay.core.sets import Sets, member_moments
from assay.core.validation import Floats, Ints

#: What is farther than that, in standard deviations, must not overflow when it is squared.
FARTHEST = 1e140


class MeanMemberDistance(TakesSets, Localizer):
    """Squared Mahalanobis distance of the members, averaged over the set.

    Attributes
    ----------
    mean_, scale_ : array of shape (d,)
        Mean and standard deviation of the members (1 where a column is constant).
    cholesky_ : array of shape (d, d)
        Lower factor of the shrunk covariance of the standardised members.

    References
    ----------
    Ledoit and Wolf: A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices. J. Multivariate
    Analysis 88, 2004.

    Examples
    --------
    >>> sets = np.random.default_rng(0).normal(size=(50, 6, 2))
    >>> far = sets[0].copy()
    >>> far[3] = 9
    >>> detector = MeanMemberDistance().fit(sets)
    >>> detector.anomaly_score([sets[0], far]).argmax(), detector.anomaly_map([far])[0].argmax()
    (np.int64(1), np.int64(3))
    """

    min_rows = 1

    def _fit(self, X: Sets, y: Ints | None, rng: np.random.Generator) -> None:
        self.mean_, self.scale_ = member_moments(X)
        covariance, _ = ledoit_wolf((X.flat - self.mean_) / self.scale_, assume_centered=True)
        self.cholesky_ = np.linalg.cholesky(covariance + 1e-9 * np.eye(X.flat.shape[1]))

    def _locate(self, X: Sets) -> tuple[Floats, list[Floats]]:
        far = np.clip((X.flat - self.mean_) / self.scale_, -FARTHEST, FARTHEST)
        members = np.square(solve_triangular(self.cholesky_, far.T, lower=True)).sum(axis=0)
        return np.add.reduceat(members, X.offsets[:-1]) / X.sizes, np.split(members, X.offsets[1:-1])
