"""Moving-average residual: how far a value lies from the mean of the steps before it.

In: a series (T, C). Out: one score a step, >= 0:

    s(t) = mean over the channels of |x(t, c) - mean of x(t - w .. t - 1, c)| / σ(c),

σ the standard deviation of these residuals in training. The first steps are set against what came before them, the
very first one against the training median.
"""

from __future__ import annotations

import numpy as np

from assay.core.series import Series
from assay.core.validation import Floats, check_number
from assay.detectors.series.common import SeriesDetector


class MovingAverageResidual(SeriesDetector):
    """Distance to the mean of the last steps.

    Parameters
    ----------
    window : int, default 20
        w, the steps before that are averaged: ours.

    Attributes
    ----------
    scale_ : array of shape (C,)
        Standard deviation of each channel's residuals in training.

    Examples
    --------
    >>> detector = MovingAverageResidual(window=4).fit(np.sin(np.arange(100.0) / 9))
    >>> bool(np.argmax(detector.anomaly_score(np.r_[np.zeros(20), 1, np.zeros(20)])) == 20)
    True
    """

    def __init__(self, window: int = 20) -> None:
        self.window = window

    def _check_parameters(self) -> None:
        check_number(self.window, "window", low=1, integer=True)

    @property
    def reach(self) -> tuple[int, int]:
        """The steps of the window before."""
        return int(self.window), 0

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        residuals = np.where(np.isnan(X.values), np.nan, self._residuals(values))
        varies = np.nanmax(np.abs(residuals), axis=0) > 0
        self.scale_ = np.where(varies, np.sqrt(np.nanmean(residuals**2, axis=0)), 1.0)

    def _steps(self, values: Floats) -> Floats:
        return (np.abs(self._residuals(values)) / self.scale_).mean(axis=1)

    def _residuals(self, values: Floats) -> Floats:
        """Return the values less the mean of those before."""
        centred = values - self.fill_
        sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(centred, axis=0)])
        steps = np.arange(len(values))
        first = np.maximum(steps - int(self.window), 0)
        return centred - (sums[steps] - sums[first]) / np.maximum(steps - first, 1)[:, None]
