"""Conformal p-values, and selections whose share of false discoveries is controlled.

In: scores (n,) of normal rows that did not train the detector. Out, for a new score s:

    p(s) = (1 + #{calibration scores >= s}) / (n + 1),

super-uniform for a normal row, whatever the detector: P(p <= a) <= a. For a batch of new rows, Benjamini and
Hochberg's rule on these p-values keeps the expected share of normals among the selected at or under the level
(they are positively dependent, Bates et al., theorem 2). `predict` is the single-row rule p <= alpha, so a
row's decision does not depend on its batch; `discoveries` is the batch rule, and does.
"""

from __future__ import annotations

import numpy as np

from assay.base import Calibrator
from assay.core.validation import Bools, Floats, check_number


class Conformal(Calibrator):
    """Give p-values and select with false-discovery control.

    Parameters
    ----------
    alpha : float in (0, 1), default .05
        Level of the single-row decision: the false-alarm rate on fresh normal rows.

    Attributes
    ----------
    scores_ : array of shape (n,)
        The calibration scores, ascending.
    threshold_ : float
        Scores above have p <= alpha.

    References
    ----------
    Bates, Candès, Lei, Romano and Sesia: Testing for Outliers with Conformal p-values. Annals of Statistics
    51, 2023. Benjamini and Hochberg: Controlling the False Discovery Rate. JRSS B 57, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import Conformal
    >>> conformal = Conformal().fit(np.arange(99.0))
    >>> conformal.p_value([200.0, 50.0]).round(2).tolist()
    [0.01, 0.5]
    """

    def __init__(self, alpha=0.05):
        self.alpha = alpha

    def _fit(self, scores: Floats) -> None:
        check_number(self.alpha, "alpha", low=0.0, high=1.0, strict_low=True, strict_high=True)
        self.scores_ = np.sort(scores)
        allowed = int(np.floor(self.alpha * (len(scores) + 1) + 1e-9)) - 1
        # p <= alpha iff at most `allowed` calibration scores are >= s; if not even none suffices, nothing is
        # flagged.
        self.threshold_ = float(self.scores_[-(allowed + 1)]) if allowed >= 0 else float("inf")

    def p_value(self, scores: object) -> Floats:
        """Return one p-value a score, shape (l,), in (0, 1]; small = anomalous."""
        scores = self._check_scores(scores)
        n = len(self.scores_)
        return (1.0 + n - np.searchsorted(self.scores_, scores, side="left")) / (n + 1.0)

    def discoveries(self, scores: object, fdr: float = 0.1) -> Bools:
        """Return which rows of this batch to call anomalies, shape (l,).

        The expected share of normals among them is at most `fdr` times the share of normals in the batch.
        """
        check_number(fdr, "fdr", low=0.0, high=1.0, strict_low=True, strict_high=True)
        p = self.p_value(scores)
        ordered = np.sort(p)
        passing = np.flatnonzero(ordered <= fdr * np.arange(1, len(p) + 1) / len(p))
        if len(passing) == 0:
            return np.zeros(len(p), dtype=bool)
        return np.asarray(p <= ordered[passing[-1]])
