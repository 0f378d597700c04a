"""Squash: a score becomes a probability that is one half at the contamination quantile.

In: training scores (n,), non-negative, anomalies included. Out: q in [0, 1).

    t = the floor(100 (1 - γ))-th percentile of the training scores;  q(s) = 1 - 2 ** -(s / t)²

A score at t is as likely anomalous as not, a score of 0 surely normal; the decision q > ½ flags about the
share γ of the training rows. "Probability" here rests on γ alone: it is monotone and anchored, not verified
against outcomes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from assay.base import Calibrator
from assay.core.validation import Floats, check_number


class Squash(Calibrator):
    """Map scores to probabilities through the contamination quantile.

    Parameters
    ----------
    contamination : float in [0, .5), default .1
        Expected share γ of anomalies among the training rows.

    Attributes
    ----------
    threshold_ : float
        The score whose probability is one half.
    percent_ : int
        The percentile it is.
    floor_ : float
        Score that counts as zero: 0, or the smallest training score if that is negative.

    References
    ----------
    Vercruyssen et al.: Semi-supervised Anomaly Detection with an Application to Water Analytics. ICDM 2018.

    Examples
    --------
    >>> from assay import Squash
    >>> squash = Squash(contamination=0.25).fit([0.1, 0.2, 0.3, 0.4, 0.9])
    >>> round(float(squash.probability([squash.threshold_])[0]), 3)
    0.5
    """

    fitted_on: ClassVar[str] = "training"

    def __init__(self, contamination=0.1):
        self.contamination = contamination

    def _fit(self, scores: Floats) -> None:
        check_number(self.contamination, "contamination", low=0.0, high=0.5, strict_high=True)
        self.floor_ = float(min(scores.min(), 0.0))
        # The reference takes the whole percentile below, not the exact quantile.
        self.percent_ = math.floor(100.0 * (1.0 - self.contamination) + 1e-9)
        self.threshold_ = float(np.percentile(scores, self.percent_))

    @classmethod
    def anchored(cls, threshold: float, scores: object) -> Squash:
        """Return a squash whose half is at a threshold found elsewhere.

        Parameters
        ----------
        threshold : float
            The score whose probability is one half.
        scores : array of shape (n,)
            The lowest counts as zero where it is negative.
        """
        squash = cls().fit(scores)
        squash.threshold_ = float(threshold)
        squash.percent_ = math.floor(100.0 * float(np.mean(np.asarray(scores) <= threshold)))
        return squash

    def probability(self, scores: object) -> Floats:
        """Return the probability of being an anomaly, shape (n,), in [0, 1)."""
        scores = self._check_scores(scores) - self.floor_
        length = self.threshold_ - self.floor_
        if length <= 0:  # at least the share 1 - γ of the training scores is zero: whatever exceeds zero stands out
            return np.where(scores > 0, 1.0, 0.0)
        with np.errstate(over="ignore"):  # infinitely far beyond the threshold: surely anomalous
            return 1.0 - np.exp2(-np.square(np.maximum(scores, 0.0) / length))
