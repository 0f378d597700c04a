"""SSDO: labels correct the scores of an unsupervised detector in their neighbourhood.

In: a table (n, d), standardised by the caller if its columns have different units; labels 0, 1 and -1
(unknown). Out: one score a row in [0, 1].

The prior detector's scores are brought to [0, 1] by the training rows' smallest and largest score, u(x).
Every labelled row then speaks for its label with the weight K(x, a) = 2 ** -(d(x, a) / η)², one half at
distance η:

    p(x) = (u(x) + α Σ_anomalies K(x, a)) / (1 + α (Σ_anomalies K(x, a) + Σ_normals K(x, b))),

where η is the harmonic mean, over the training rows, of the distance to the k-th neighbour. Far from every
label p = u.

Defaults: k = 5, α = 2.3 and an isolation forest of 100 trees, as in the reference experiments of EAP. The
paper's constrained-clustering prior is not reproduced: any detector serves as the prior. Time O(n² d) to fit,
O(l n d) to score l rows, memory O(n d).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from assay.base import Detector
from assay.core.clone import seeded_clone
from assay.core.validation import ANOMALY, NORMAL, Floats, Ints, check_methods, check_number
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.kernels.distances import distances_to
from assay.kernels.jit import jit
from assay.kernels.neighbours import nearest

#: Rows scored together: their distances fit into the innermost cache.
ROWS_IN_STEP = 512


@jit
def kernel_sums(X: Floats, labelled: Floats, eta: float) -> Floats:
    """Return Σ_a 2 ** -(d(x, a) / eta)² for each row x of `X` (l, d) over the rows a of `labelled` (n, d).

    The loops over x hold neither calls nor branches, so that they are vectorised: 2 ** -e = (exp(-e log 2 /
    64)) ** 64 by a Taylor series and six squarings, to a relative error of 1e-14.
    """
    l = len(X)
    out = np.zeros(l)
    eta = max(eta, 1e-150)  # the squares of anything smaller vanish
    scale = math.log(2.0) / 64.0 / (eta * eta)
    d2 = np.empty(ROWS_IN_STEP)
    for first in range(0, l, ROWS_IN_STEP):
        columns = np.ascontiguousarray(X[first : first + ROWS_IN_STEP].T)
        size = columns.shape[1]
        total = out[first : first + size]
        for a in range(len(labelled)):
            distances_to(labelled[a], columns, d2[:size])
            for i in range(size):
                t = -d2[i] * scale
                t = -0.7 if t < -0.7 else t  # 2 ** -64: below the rounding error of any sum
                series = 1.0 + t * (1 / 12)
                series = 1.0 + t * series * (1 / 11)
                series = 1.0 + t * series * (1 / 10)
                series = 1.0 + t * series * (1 / 9)
                series = 1.0 + t * series * (1 / 8)
                series = 1.0 + t * series * (1 / 7)
                series = 1.0 + t * series * (1 / 6)
                series = 1.0 + t * series * (1 / 5)
                series = 1.0 + t * series * (1 / 4)
                series = 1.0 + t * series * (1 / 3)
                series = 1.0 + t * series * (1 / 2)
                series = 1.0 + t * series
                for _ in range(5):
                    series *= series
                total[i] += series * series
    return out


def harmonic_length(distances: Floats) -> float:
    """Return the harmonic mean, zeros counted as the smallest positive distance; 1 if all are 0."""
    positive = distances[(distances > 0) & np.isfinite(distances)]
    if len(positive) == 0:
        return 1.0
    finite = distances[np.isfinite(distances)]
    return float(len(finite) / np.sum(1.0 / np.where(finite > 0, finite, positive.min())))


class SSDO(Detector):
    """Semi-supervised detection by label propagation over a prior detector.

    Parameters
    ----------
    detector : Detector, optional
        The prior; an `IsolationForest` by default. It sees every row and no label.
    n_neighbors : int, default 5
        Neighbour whose mean distance is the reach η of a label.
    alpha : float, default 2.3
        Weight of a label against the prior.
    random_state : None, int or numpy.random.Generator
        Seed of the prior detector.

    Attributes
    ----------
    detector_ : Detector
        The fitted prior.
    eta_ : float
        Distance at which a label's weight is one half.
    low_, high_ : float
        Smallest and largest prior score of the training rows.
    anomalies_, normals_ : arrays of shape (m, d) and (n, d)
        The labelled rows.

    References
    ----------
    Vercruyssen, Meert, Verbruggen, Maes, Bäumer and Davis: Semi-supervised Anomaly Detection with an
    Application to Water Analytics. ICDM 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import SSDO
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> y = np.where(X[:, 0] > 1.5, 1, 0)
    >>> ssdo = SSDO(random_state=0).fit(X, y)
    >>> bool(ssdo.anomaly_score([[2.0, 0.0]])[0] > ssdo.anomaly_score([[-2.0, 0.0]])[0])
    True
    """

    labels: ClassVar[str] = "optional"

    def __init__(self, detector=None, n_neighbors=5, alpha=2.3, random_state=None):
        self.detector = detector
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.detector is not None:
            check_methods(self.detector, "detector", "fit", "anomaly_score")
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)
        check_number(self.alpha, "alpha", low=0.0)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self._learn(X, y, rng)

    def _fit_score(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> Floats:
        return self._posterior(X, self._learn(X, y, rng))

    def _learn(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> Floats:
        """Fit, and return the prior detector's scores of the training rows."""
        prior = IsolationForest() if self.detector is None else self.detector
        self.detector_ = seeded_clone(prior, int(rng.integers(2**31 - 1)))
        scores: Floats = self.detector_.fit_score(X)
        self.low_, self.high_ = float(scores.min()), float(scores.max())
        k = min(int(self.n_neighbors), len(X) - 1)
        self.eta_ = harmonic_length(nearest(X, X, k, skip_self=True)[0][:, -1])
        known = np.full(len(X), -1) if y is None else y
        self.anomalies_, self.normals_ = X[known == ANOMALY], X[known == NORMAL]
        return scores

    def _score(self, X: Floats) -> Floats:
        return self._posterior(X, self.detector_.anomaly_score(X))

    def _posterior(self, X: Floats, scores: Floats) -> Floats:
        prior = np.clip((scores - self.low_) / max(self.high_ - self.low_, 1e-300), 0.0, 1.0)
        anomalous = self.alpha * kernel_sums(X, self.anomalies_, self.eta_)
        normal = self.alpha * kernel_sums(X, self.normals_, self.eta_)
        return (prior + anomalous) / (1.0 + anomalous + normal)
