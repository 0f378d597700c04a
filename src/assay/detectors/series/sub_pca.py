"""Sub-PCA: what the leading principal components of normal windows leave unexplained.

In: a series (T, C), standardised by channel. Out: one score a step, >= 0. With V the eigenvectors of the windows'
covariance that explain `variance` of it and μ their mean, a window w (length L, flattened) has the score

    |w - μ - V Vᵀ (w - μ)|² / (L C),

and a step the mean over the windows that cover it. The covariance is summed up from the series itself
(`assay.kernels.windows`), no window is laid out: T L C² multiplications instead of T L² C²; it takes (L C)² numbers.

The strongest plain baseline of the TSB-AD benchmark (NeurIPS 2024), which takes the distances to all weighted
eigenvectors instead; the residual is the classical statistic (Jackson and Mudholkar, Technometrics 1979).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from assay.core.series import Series
from assay.core.validation import Floats, InputError, check_number
from assay.detectors.series.common import WindowDetector, moments
from assay.kernels.windows import runs_of, window_moments

#: Most numbers in a window: the covariance has the square of it.
LARGEST = 5000


class SubPCA(WindowDetector):
    """Residual of windows outside their principal subspace.

    Parameters
    ----------
    window : int, default 100
        Steps of a window, as TSB-AD's fallback for series without a period.
    variance : float in (0, 1), default 0.95
        Share of the variance that the leading components explain: ours.

    Attributes
    ----------
    mean_, scale_ : array of shape (C,)
        Of the training steps.
    centre_ : array of shape (window * C,)
        μ.
    components_ : array of shape (window * C, k)
        V.

    References
    ----------
    C. Aggarwal: Outlier Analysis, 2nd edition. Springer 2017, chapter 3. Q. Liu, J. Paparrizos: The Elephant in the
    Room: Towards A Reliable Time-Series Anomaly Detection Benchmark. NeurIPS 2024.

    Examples
    --------
    >>> t = np.arange(600)
    >>> series = np.sin(t / 8)
    >>> series[400:410] = 0
    >>> scores = SubPCA(window=50).fit(series[:300]).anomaly_score(series)
    >>> bool(380 < np.argmax(scores) < 430)
    True
    """

    def __init__(self, window: int = 100, variance: float = 0.95) -> None:
        self.window = window
        self.variance = variance

    def _check_parameters(self) -> None:
        check_number(self.window, "window", low=2, integer=True)
        check_number(self.variance, "variance", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        size = int(self.window) * values.shape[1]
        if size > LARGEST:
            raise InputError(
                f"window: {self.window} steps of {values.shape[1]} channels are {size} numbers, at most {LARGEST}; "
                "give a shorter window"
            )
        self.mean_, self.scale_ = moments(X.values)
        starts = self._starts(X)
        values = (values - self.mean_) / self.scale_
        total, products, count = np.zeros(size), np.zeros((size, size)), 0
        for first, last in runs_of(starts):
            sums, outer, n = window_moments(values[first : last + self.window], self.window)
            total, products, count = total + sums, products + outer, count + n
        self.centre_ = total / count
        covariance = products / count - np.outer(self.centre_, self.centre_)
        variances, vectors = scipy.linalg.eigh(covariance)
        # Rounding can leave what is 0 a little below.
        shares = np.cumsum(np.maximum(variances[::-1], 0.0))
        k = int(np.searchsorted(shares, self.variance * shares[-1])) + 1 if shares[-1] > 0 else 1
        self.components_ = np.ascontiguousarray(vectors[:, ::-1][:, :k])

    def _window_scores(self, X: Floats) -> Floats:
        w = X.reshape(len(X), -1) - self.centre_
        return np.square(w - (w @ self.components_) @ self.components_.T).mean(axis=1)
