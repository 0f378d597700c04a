"""Influence by subsamples: the mean contribution to random subsets of a fixed share of the training rows.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [-1, 1]:

    value(j) = E_S [U(S + j) - U(S)],        S uniform among the subsets of round(ρ n) training rows,

estimated from B subsets; U is the utility of `assay.quality.marginal`. Defaults ρ = .7 (Feldman and Zhang), B
= 100 (the reference adaptation). Departure: both terms share the subset, where the published estimator
compares means over models with and without j: the same expectation, less variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.validation import Ints, check_number
from assay.kernels.balls import Members
from assay.quality.marginal import MarginalQuality
from assay.quality.subsets import draws


class SubsampleInfluence(MarginalQuality):
    """Value an auxiliary row by its mean contribution to random subsets of fixed size.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    share : float in (0, 1], default .7
        Share ρ of the training rows in a subset (Feldman and Zhang).
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
    Feldman and Zhang: What Neural Networks Memorize and Why. NeurIPS 2020, arXiv 2008.03703.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import SubsampleInfluence
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = SubsampleInfluence(budget=3, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        share: float = 0.7,
        budget: int = 100,
        metric: str = "f1",
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.share = share
        self.budget = budget
        self.metric = metric
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True)

    def _subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        size = max(2, round(self.share * len(y)))
        return draws(y, np.full(int(self.budget), size), rng)
