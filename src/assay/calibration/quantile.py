"""Quantile: flag a fixed share of the training rows.

In: training scores (n,), anomalies included. Out: the threshold above which the share `contamination` of them
lies.

The field's usual rule, and its usual complaint: the share must be known. Where it is not, promise a
false-alarm rate instead (`FalseAlarmRate`) or ask for p-values (`Conformal`). On normal rows alone this rule
still flags the share it was told to.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from assay.base import Calibrator
from assay.core.validation import Floats, check_number


class Quantile(Calibrator):
    """Put the threshold at a quantile of the training scores.

    Parameters
    ----------
    contamination : float in [0, .5), default .1
        Share of the training rows to flag; the default is the field's convention, not a recommendation.

    Attributes
    ----------
    threshold_ : float
        The quantile.

    Examples
    --------
    >>> from assay import Quantile
    >>> Quantile(contamination=0.2).fit([1, 2, 3, 4, 5]).predict([2, 6]).tolist()
    [0, 1]
    """

    fitted_on: ClassVar[str] = "training"

    def __init__(self, contamination=0.1):
        self.contamination = contamination

    def _fit(self, scores: Floats) -> None:
        check_number(self.contamination, "contamination", low=0.0, high=0.5, strict_high=True)
        self.threshold_ = float(np.quantile(scores, 1.0 - self.contamination, method="higher"))
