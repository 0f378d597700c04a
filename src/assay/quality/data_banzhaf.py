"""Data Banzhaf: the mean contribution to subsets in which every training row is in or out by a fair coin.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [-1, 1]:

    value(j) = 2⁻ⁿ Σ_S [U(S + j) - U(S)],        over all subsets S of the n training rows,

estimated from B coin-flip subsets; U is the utility of `assay.quality.marginal`. Default B = 100 (the
reference adaptation). Departure: the published estimator (maximum sample reuse) compares the mean of U over
subsets with j and over others without; here both terms share the subset: the same expectation, and the
variance of U over subsets cancels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.validation import Ints
from assay.kernels.balls import Members
from assay.quality.marginal import MarginalQuality
from assay.quality.subsets import coin_flips


class DataBanzhaf(MarginalQuality):
    """Value an auxiliary row by its mean contribution to coin-flip subsets.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    budget : int, default 100
        Number B of subsets: detector fits an auxiliary row (reference implementation).
    metric : {"f1", "auc", "brier"}, default "f1"
        The utility U (published: F1 at probability one half).
    refit : bool, default True
        False: the short cut for `SSDO` described in `assay.quality.marginal`.
    n_jobs : int, optional
        Jobs for the detector fits, as joblib understands it.
    random_state : None, int or numpy.random.Generator
        Seed of the subsets and of every detector.

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
    Wang and Jia: Data Banzhaf: A Robust Data Valuation Framework for Machine Learning. AISTATS 2023, arXiv
    2205.15466.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import DataBanzhaf
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = DataBanzhaf(budget=3, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        budget: int = 100,
        metric: str = "f1",
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.budget = budget
        self.metric = metric
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        return coin_flips(y, np.full(int(self.budget), 0.5), rng)
