"""Median deviation: how far a value lies from the training median, the one line that many methods lose to.

In: a series (T, C). Out: one score a step, >= 0:

    s(t) = mean over the channels of |x(t, c) - median(c)| / σ(c),

σ the training standard deviation, 1 for a constant channel. No context at all: a step is judged alone.
"""

from __future__ import annotations

import numpy as np

from assay.core.series import Series
from assay.core.validation import Floats
from assay.detectors.series.common import SeriesDetector, moments


class MedianDeviation(SeriesDetector):
    """Distance to the median.

    Attributes
    ----------
    scale_ : array of shape (C,)
        Standard deviation of each channel in training.

    References
    ----------
    R. Wu, E. Keogh: Current Time Series Anomaly Detection Benchmarks are Flawed and are Creating the Illusion of
    Progress. TKDE 2021.

    Examples
    --------
    >>> detector = MedianDeviation().fit(np.sin(np.arange(100.0)))
    >>> detector.anomaly_score(np.array([0.0, 9.0])).round(1).tolist()
    [0.0, 12.7]
    """

    @property
    def reach(self) -> tuple[int, int]:
        """The step alone."""
        return 0, 0

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        self.scale_ = moments(X.values)[1]

    def _steps(self, values: Floats) -> Floats:
        return (np.abs(values - self.fill_) / self.scale_).mean(axis=1)
