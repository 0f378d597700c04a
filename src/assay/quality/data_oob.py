"""Data-OOB: do detectors that never saw the auxiliary row agree that it is an anomaly?

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [0, 1]. B
detectors are fitted, each on a random half of the training rows (every row by a fair coin); with h(j) the
share of them whose probability for row j exceeds one half,

    value(j) = F1 of the votes against the label 1 = 2 h(j) / (1 + h(j)).

An auxiliary row is out of every bag, so B fits serve all rows. Default B = 100, and halves instead of the
paper's bootstrap samples (both the reference adaptation by Perini et al., TMLR 2024). A vote is all or
nothing, so the values are multiples of one another at B + 1 levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.base import QualityScore
from assay.core.parallel import run
from assay.core.random import child_seeds
from assay.core.validation import Floats, Ints, check_number
from assay.quality.probability import fit_model, minority_share, probabilities, probability_model
from assay.quality.subsets import coin_flips


class DataOOB(QualityScore):
    """Value an auxiliary row by the votes of detectors fitted on random halves of the training rows.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    budget : int, default 100
        Number B of detector fits (reference implementation).
    n_jobs : int, optional
        Jobs for the detector fits, as joblib understands it.
    random_state : None, int or numpy.random.Generator
        Seed of the halves and of every detector.

    Attributes
    ----------
    models_ : list
        The fitted detectors.

    References
    ----------
    Kwon and Zou: Data-OOB: Out-of-bag Estimate as a Simple and Efficient Data Value. ICML 2023, arXiv
    2304.07718.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import DataOOB
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = DataOOB(budget=10, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> among_anomalies, among_normals = judge.quality([[4.0, 4.0], [0.0, 0.0]])
    >>> bool(among_anomalies > among_normals)
    True
    """

    def __init__(
        self, detector: Any = None, budget: int = 100, n_jobs: int | None = None, random_state: Any = None
    ) -> None:
        self.detector = detector
        self.budget = budget
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.n_jobs is not None:
            check_number(self.n_jobs, "n_jobs", integer=True)
        check_number(self.budget, "budget", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        template = probability_model(self.detector, minority_share(y))
        members = coin_flips(y, np.full(int(self.budget), 0.5), rng)
        seeds = child_seeds(rng, int(self.budget))
        tasks = [(template, X, y, members[:, b] == 1, seed) for b, seed in enumerate(seeds)]
        self.models_ = run(fit_model, tasks, n_jobs=self.n_jobs, description="fitting detectors")

    def n_fits(self, n_rows: int) -> int:
        """Return the number of detectors: the auxiliary rows cost no fit."""
        return int(self.budget)

    def _quality(self, X_aux: Floats) -> Floats:
        tasks = [(model, X_aux) for model in self.models_]
        q = run(probabilities, tasks, n_jobs=self.n_jobs, description="judging rows")
        share = np.mean([each > 0.5 for each in q], axis=0)
        return np.asarray(2.0 * share / (1.0 + share))
