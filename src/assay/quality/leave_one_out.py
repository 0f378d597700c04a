"""Leave-one-out: what the auxiliary row adds to the whole training set.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [-1, 1]:

    value(j) = U(train + j) - U(train),

U being the utility of `assay.quality.marginal` (F1 on the training rows). One fit an auxiliary row, one more
for the training set. F1 on a few anomalies takes few values, so ties at 0 are common: the rival's own
weakness, not smoothed here. As adapted by Perini et al., TMLR 2024.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.validation import Ints
from assay.kernels.balls import Members
from assay.quality.marginal import MarginalQuality


class LeaveOneOut(MarginalQuality):
    """Value an auxiliary row by what it adds to the whole training set.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    metric : {"f1", "auc", "brier"}, default "f1"
        The utility U (published: F1 at probability one half).
    refit : bool, default True
        False: the short cut for `SSDO` described in `assay.quality.marginal`.
    n_jobs : int, optional
        Jobs for the detector fits, as joblib understands it.
    random_state : None, int or numpy.random.Generator
        Seed of the detector.

    Attributes
    ----------
    members_ : array of uint8 of shape (n, B)
        Which subset holds which training row.
    models_ : list
        The detector of each subset.
    utility_ : array of shape (B,)
        U of each subset, without an auxiliary row.
    seeds_ : array of int of shape (B,)
        Seed of each subset's detector, with and without the auxiliary row.
    X_, y_ : arrays of shape (n, d) and (n,)
        The training rows and their labels.

    References
    ----------
    Cook: Detection of Influential Observation in Linear Regression. Technometrics 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import LeaveOneOut
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = LeaveOneOut(random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        metric: str = "f1",
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.metric = metric
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        return np.ones((len(y), 1), dtype=np.uint8)
