"""Beta Shapley: Data Shapley with more weight on small subsets, where one row matters more.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [-1, 1],
as `assay.quality.data_shapley`, from the same prefixes of permutations, with the weights

    w_c ∝ B(c + β, n - c + α) / B(c + 1, n - c + 1),        c = 0..n training rows,

B being the beta function; α = β = 1 is Data Shapley. In other words: every training row is in the subset with
a probability drawn from Beta(β, α). Defaults α = 4, β = 1 (Kwon and Zou; the reference adaptation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaln

from assay.core.validation import Floats, Ints, check_number
from assay.quality.data_shapley import Semivalue


class BetaShapley(Semivalue):
    """Value an auxiliary row by its Beta Shapley value among the training rows.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    alpha, beta : float > 0, default 4 and 1
        The law of the inclusion probability is Beta(beta, alpha) (Kwon and Zou).
    budget : int, default 100
        Number B of prefixes: detector fits an auxiliary row. The reference implementation takes about 2,500
        (100 permutations of 25 prefixes).
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
    Kwon and Zou: Beta Shapley: A Unified and Noise-reduced Data Valuation Framework for Machine Learning.
    AISTATS 2022, arXiv 2110.14049.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import BetaShapley
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = BetaShapley(budget=3, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        alpha: float = 4.0,
        beta: float = 1.0,
        budget: int = 100,
        metric: str = "f1",
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.alpha = alpha
        self.beta = beta
        self.budget = budget
        self.metric = metric
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.alpha, "alpha", low=0.0, strict_low=True)
        check_number(self.beta, "beta", low=0.0, strict_low=True)

    def _cardinality_weights(self, c: Ints, n: int) -> Floats:
        logs = betaln(c + self.beta, n - c + self.alpha) - betaln(c + 1, n - c + 1)
        return np.exp(logs - logs.max())
