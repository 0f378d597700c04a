"""Mahalanobis: distance to the mean in units of the covariance. The baseline every detector must beat where it matters.

In: a table (n, d), any units (units and origins of the columns do not matter, nor, but for the shrinkage, does any
invertible linear map). Out: one score a row >= 0, the squared distance; chi-squared with d degrees of freedom for many
Gaussian normals.

The covariance is shrunk by Ledoit and Wolf's rule, on standardised columns, so that it is invertible when d >
n. Time O(n d² + d³).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.covariance import ledoit_wolf

from assay.base import Detector
from assay.core.validation import Floats, Ints


class Mahalanobis(Detector):
    """Squared Mahalanobis distance to the mean of the training rows.

    Attributes
    ----------
    mean_, scale_ : arrays of shape (d,)
        Mean and standard deviation (1 where a column is constant).
    cholesky_ : array of shape (d, d)
        Lower factor of the shrunk covariance of the standardised columns.

    References
    ----------
    Ledoit and Wolf: A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices. J. Multivariate
    Analysis 88, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> Mahalanobis().fit(X).anomaly_score([[0.0, 0.0, 0.0], [5.0, 5.0, -5.0]]).argmax()
    np.int64(1)
    """

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.mean_ = X.mean(axis=0)
        spread = X.std(axis=0)
        self.scale_ = np.where(spread > 1e-12 * np.abs(self.mean_), spread, 1.0)
        covariance, _ = ledoit_wolf((X - self.mean_) / self.scale_, assume_centered=True)
        self.cholesky_ = np.linalg.cholesky(covariance + 1e-9 * np.eye(X.shape[1]))

    def _score(self, X: Floats) -> Floats:
        # What is farther than that must not overflow when it is squared.
        far = np.clip((X - self.mean_) / self.scale_, -1e140, 1e140)
        white = solve_triangular(self.cholesky_, far.T, lower=True)
        return np.square(white).sum(axis=0)
