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

from typing import ClassVar

import numpy as np

from assay.base import Detector
from assay.core.clone import seeded_clone
from assay.core.validation import ANOMALY, NORMAL, Floats, Ints, check_methods, check_number
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.kernels.jit import jit
from assay.kernels.neighbours import nearest


@jit
def kernel_sums(X: Floats, labelled: Floats, eta: float) -> Floats:
    """Return Σ_a 2 ** -(d(x, a) / eta)² for each row x of `X` (l, d) over the rows a of `labelled` (n, d)."""
    l, d = X.shape
    n = len(labelled)
    columns = np.ascontiguousarray(labelled.T)
    out = np.zeros(l)
    d2 = np.empty(n)
    scale = 1.0 / (eta * eta)
    for x in range(l):
        d2[:] = 0.0
        for f in range(d):
            value = X[x, f]
            column = columns[f]
            for j in range(n):
                difference = value - column[j]
                d2[j] += difference * difference
        total = 0.0
        for j in range(n):
            exponent = d2[j] * scale
            if exponent < 60.0:  # beyond, the term is below the rounding error of any sum that matters
                total += 2.0**-exponent
        out[x] = total
    return out


def harmonic_length(distances: Floats) -> float:
    """Return the harmonic mean of the positive distances, zeros counted as the smallest positive one; 1 if all are 0."""
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
        prior = IsolationForest() if self.detector is None else self.detector
        self.detector_ = seeded_clone(prior, int(rng.integers(2**31 - 1))).fit(X)
        scores = self.detector_.anomaly_score(X)
        self.low_, self.high_ = float(scores.min()), float(scores.max())
        k = min(int(self.n_neighbors), len(X) - 1)
        self.eta_ = harmonic_length(nearest(X, X, k, skip_self=True)[0][:, -1])
        known = np.full(len(X), -1) if y is None else y
        self.anomalies_, self.normals_ = X[known == ANOMALY], X[known == NORMAL]

    def _score(self, X: Floats) -> Floats:
        prior = (self.detector_.anomaly_score(X) - self.low_) / max(self.high_ - self.low_, 1e-300)
        prior = np.clip(prior, 0.0, 1.0)
        anomalous = self.alpha * kernel_sums(X, self.anomalies_, self.eta_)
        normal = self.alpha * kernel_sums(X, self.normals_, self.eta_)
        return (prior + anomalous) / (1.0 + anomalous + normal)
