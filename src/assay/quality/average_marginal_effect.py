"""AME: the average marginal effect of an auxiliary row, estimated by sparse regression over random training sets.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row. For each
inclusion rate p = .2, .3, .., .9 and B / 8 models: every training row by a coin of rate p, exactly one of the
auxiliary rows at random, a detector fitted on them, its utility U taken (see `assay.quality.marginal`). Then

    value = the auxiliary rows' coefficients in a LASSO of U, centred, on the standardised indicator columns
            of all n + l rows; the penalty by 5-fold cross-validation.

Default B = 800 (8 rates of 100, the reference adaptation by Perini et al., TMLR 2024). Departures: the
columns are standardised (the reference standardises the rows of the indicator matrix), all eight rates take
part, and a fit that fails is an error. Unlike the other scores this one judges the auxiliary rows together:
they share the B models and the penalty. With fewer models than auxiliary rows most values are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LassoCV
from threadpoolctl import threadpool_limits

from assay.base import QualityScore
from assay.core.parallel import run
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, Ints, check_number, check_option
from assay.kernels.marginal import METRICS
from assay.quality.marginal import utility
from assay.quality.probability import fit_model, minority_share, probabilities, probability_model
from assay.quality.subsets import coin_flips

#: Inclusion rates of the training rows (reference implementation).
RATES = np.arange(2, 10) / 10


def sparse_effects(included: Floats, utilities: Floats) -> Floats:
    """Return the LASSO's coefficient of each column of `included` (B, n): zeros if the utilities are all equal."""
    spread = included.std(axis=0)
    columns = (included - included.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    centred = utilities - utilities.mean()
    if not centred.any():
        return np.zeros(included.shape[1])
    with threadpool_limits(1):
        # It descends in cycles and has no use for the seed, but would draw one from the global state.
        lasso = LassoCV(cv=min(5, len(centred)), tol=1e-3, max_iter=10_000, random_state=0).fit(columns, centred)
    return np.asarray(lasso.coef_)


def _utility_with(template: Any, X: Floats, y: Ints, rows: Bools, row: Floats, seed: int, metric: str) -> float:
    model = fit_model(template, np.vstack([X[rows], row]), np.append(y[rows], 1), np.ones(rows.sum() + 1, bool), seed)
    return utility(probabilities(model, X), y, metric)


class AverageMarginalEffect(QualityScore):
    """Value auxiliary rows by sparse regression of the utility on who took part.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    metric : {"f1", "auc", "brier"}, default "f1"
        The utility U (published: F1 at probability one half).
    budget : int, default 800
        Number B of detector fits (reference implementation).
    n_jobs : int, optional
        Jobs for the detector fits, as joblib understands it.
    random_state : None, int or numpy.random.Generator
        Seed of the training sets and of every detector.

    Attributes
    ----------
    X_, y_ : arrays of shape (n, d) and (n,)
        The training rows and their labels.
    members_ : array of uint8 of shape (n, B)
        Which training set holds which training row.
    seeds_ : array of int of shape (B,)
        Seed of each detector.
    seed_ : int
        Seed of the draw of the auxiliary rows.

    References
    ----------
    Lin, Zhang, Lécuyer, Li, Panda and Sen: Measuring the Effect of Training Data on Deep Learning Predictions
    via Randomized Experiments. ICML 2022, arXiv 2206.10013.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import AverageMarginalEffect
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = AverageMarginalEffect(budget=16, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        metric: str = "f1",
        budget: int = 800,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.metric = metric
        self.budget = budget
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.n_jobs is not None:
            check_number(self.n_jobs, "n_jobs", integer=True)
        check_number(self.budget, "budget", low=8, integer=True)
        check_option(self.metric, "metric", *METRICS)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        probability_model(self.detector, minority_share(y))  # better refused now than when rows are judged
        self.X_, self.y_ = X, y
        self.members_ = coin_flips(y, np.resize(RATES, int(self.budget)), rng)
        self.seeds_ = np.array(child_seeds(rng, int(self.budget)))
        self.seed_ = child_seeds(rng, 1)[0]

    def n_fits(self, n_rows: int) -> int:
        """Return the number of models, which does not depend on the auxiliary rows."""
        return int(self.budget)

    def _quality(self, X_aux: Floats) -> Floats:
        B = len(self.seeds_)
        template = probability_model(self.detector, float(np.mean(self.y_)))
        joined = np.random.default_rng(self.seed_).integers(len(X_aux), size=B)
        tasks = [
            (template, self.X_, self.y_, self.members_[:, b] == 1, X_aux[joined[b]], int(self.seeds_[b]), self.metric)
            for b in range(B)
        ]
        utilities = np.array(run(_utility_with, tasks, n_jobs=self.n_jobs, description="fitting detectors"))
        joins = (joined[:, None] == np.arange(len(X_aux))).astype(np.float64)
        included = np.hstack([self.members_.T.astype(np.float64), joins])
        return sparse_effects(included, utilities)[len(self.X_) :]
