"""False-alarm rate: a threshold that fresh normal rows exceed with at most a promised probability.

In: scores (n,) of normal rows that did not train the detector. Out: the order statistic s_(k), k = ceil((n +
1)(1 - rate)).

If calibration rows and future normal rows are exchangeable, P(score > s_(k)) <= rate, and >= rate - 1/(n + 1)
without ties: no distribution is assumed. The promise is for the average over calibration sets; one set's own
rate scatters around it like Beta(n + 1 - k, k). It says nothing about how many anomalies are found.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from assay.base import Calibrator
from assay.core.validation import Floats, check_number


class FalseAlarmRate(Calibrator):
    """Keep the false-alarm rate on fresh normal rows at or under a target.

    Parameters
    ----------
    rate : float in (0, 1), default .05
        The promised rate.

    Attributes
    ----------
    threshold_ : float
        The order statistic; the largest score if `n` is too small for the promise (a warning says so).
    guaranteed_ : float
        The rate that holds: `rate`, or 1 / (n + 1) where fewer than 1 / rate - 1 scores were given.

    References
    ----------
    Vovk, Gammerman and Shafer: Algorithmic Learning in a Random World. Springer 2005, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import FalseAlarmRate
    >>> FalseAlarmRate(rate=0.1).fit(np.arange(99.0)).threshold_
    89.0
    """

    def __init__(self, rate=0.05):
        self.rate = rate

    def _fit(self, scores: Floats) -> None:
        check_number(self.rate, "rate", low=0.0, high=1.0, strict_low=True, strict_high=True)
        n = len(scores)
        k = math.ceil((n + 1) * (1.0 - self.rate) - 1e-9)
        if k > n:
            warnings.warn(
                f"{n} normal scores cannot promise a rate of {self.rate:g}: the threshold is their largest, which "
                f"promises {1 / (n + 1):.3g}; give at least {np.ceil(1 / self.rate - 1 - 1e-9):.0f} normal rows",
                UserWarning,
                stacklevel=2,
            )
        self.guaranteed_ = max(float(self.rate), 1.0 / (n + 1))
        self.threshold_ = float(np.sort(scores)[min(k, n) - 1])
