"""Data Shapley: the mean contribution to the rows that stand before it in a random permutation.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [-1, 1].
With N = n + 1 players, the auxiliary row j among them, and Δ_c(j) the mean of U(S + j) - U(S) over the
subsets S of c training rows,

    value(j) = Σ_c w_c Δ_c(j) / Σ_c w_c,        w_c = 1 for every cardinality c = 0..n.

Δ_c is estimated from prefixes of random permutations of the training rows: sizes from 50 up (half of the
rows, if fewer) in random steps of at most 2 n / 50, permutation after permutation until the budget of B
prefixes is spent; U is the utility of `assay.quality.marginal`. Cardinalities that no prefix had take no part
in the average. Departures: no truncation by a tolerance (every prefix in the budget is used), and no
Gelman-Rubin stopping, which the reference adaptation disables too; it also divides by the counts twice.

`Semivalue` is the base it shares with `BetaShapley`, which weighs the cardinalities otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.validation import Floats, Ints
from assay.kernels.balls import Members
from assay.quality.marginal import MarginalQuality

#: Smallest prefix, and into how many steps (at least half as many) a permutation is cut (reference implementation).
SMALLEST, STEPS = 50, 50


class Semivalue(MarginalQuality):
    """Base of the semivalues: means of marginal contributions by cardinality, weighted."""

    budget: int

    def _subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        n = len(y)
        first, step = min(SMALLEST, max(n // 2, 1)), max(1, 2 * n // STEPS)
        prefixes: list[Ints] = []
        while len(prefixes) < self.budget:
            order, size = rng.permutation(n), first
            while size <= n and len(prefixes) < self.budget:
                if (y[order[:size]] == 0).sum() >= 2:
                    prefixes.append(order[:size])
                size += int(rng.integers(1, step + 1))
        members = np.zeros((n, len(prefixes)), dtype=np.uint8)
        for b, prefix in enumerate(prefixes):
            members[prefix, b] = 1
        return members

    def _average(self, marginals: Floats) -> Floats:
        sizes = self.members_.sum(axis=0, dtype=np.int64)
        cardinality, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
        weights = self._cardinality_weights(cardinality, len(self.members_))
        return marginals @ (weights / counts)[inverse] / weights.sum()

    def _cardinality_weights(self, c: Ints, n: int) -> Floats:
        """Return the weights w_c, up to a factor, of the numbers `c` of training rows, of `n`."""
        raise NotImplementedError


class DataShapley(Semivalue):
    """Value an auxiliary row by its Shapley value among the training rows.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
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
    Ghorbani and Zou: Data Shapley: Equitable Valuation of Data for Machine Learning. ICML 2019, arXiv
    1904.02868.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import DataShapley
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = DataShapley(budget=3, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
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

    def _cardinality_weights(self, c: Ints, n: int) -> Floats:
        return np.ones(len(c))
