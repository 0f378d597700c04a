"""EAP with a part left out: what its two ideas, density as evidence and the mean over subsets, are worth.

In: labelled rows (n, d) with 0 normal and 1 anomaly, auxiliary rows (l, d). Out: a number a row.

- `DensityPlusProbability`: N(x) + q(x), the pseudo-count and the probability added up, both from all training
  rows: density as a score instead of as evidence ("CondProbDensity" of the reference implementation).
- `SinglePosterior`: φ(x) from one detector and one set of balls fitted on all training rows: no mean over
  subsets.

The other two ablations, q alone and N alone, are `ClassProbability` and `RarityDensity`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.base import QualityScore
from assay.core.validation import Floats, Ints, check_number
from assay.kernels.balls import Members
from assay.quality.density import RarityDensity
from assay.quality.eap import ExpectedAnomalyPosterior
from assay.quality.probability import ClassProbability, standardised, standardiser


class DensityPlusProbability(QualityScore):
    """Score N(x) + q(x): density and probability added up.

    Parameters
    ----------
    detector : estimator, optional
        As for `ExpectedAnomalyPosterior`.
    min_neighbors : int, default 5
        Smallest k of the balls (reference implementation).
    random_state : None, int or numpy.random.Generator
        Seed of the detector.

    Attributes
    ----------
    mean_, scale_ : arrays of shape (d,)
        What standardises the columns.
    density_ : RarityDensity
        The fitted density.
    probability_ : ClassProbability
        The fitted probability.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import DensityPlusProbability
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = DensityPlusProbability(random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> bool(judge.quality([[4.0, 4.0]])[0] > judge.quality([[90.0, -90.0]])[0])
    True
    """

    def __init__(self, detector: Any = None, min_neighbors: int = 5, random_state: Any = None) -> None:
        self.detector = detector
        self.min_neighbors = min_neighbors
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.min_neighbors, "min_neighbors", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        self.mean_, self.scale_ = standardiser(X)
        X = standardised(X, self.mean_, self.scale_)
        self.density_ = RarityDensity(min_neighbors=self.min_neighbors).fit(X, y)
        self.probability_ = ClassProbability(self.detector, random_state=rng).fit(X, y)

    def n_fits(self, n_rows: int) -> int:
        """Return 1: one detector judges every row."""
        return 1

    def _quality(self, X_aux: Floats) -> Floats:
        X = standardised(X_aux, self.mean_, self.scale_)
        return np.asarray(self.density_.quality(X) + self.probability_.quality(X))


class SinglePosterior(ExpectedAnomalyPosterior):
    """Score φ(x) with one detector and one set of balls, fitted on all training rows.

    Parameters
    ----------
    detector : estimator, optional
        As for `ExpectedAnomalyPosterior`.
    min_neighbors : int, default 5
        Smallest k of the balls (reference implementation).
    prior : float or pair of floats, optional
        As for `ExpectedAnomalyPosterior`.
    evidence_scale : float, default 1
        As for `ExpectedAnomalyPosterior`.
    random_state : None, int or numpy.random.Generator
        Seed of the detector.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import SinglePosterior
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = SinglePosterior(random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> bool(judge.quality([[4.0, 4.0]])[0] > judge.quality([[0.0, 0.0]])[0])
    True
    """

    n_subsets = 1
    n_jobs = None
    density = "balls"

    def __init__(
        self,
        detector: Any = None,
        min_neighbors: int = 5,
        prior: float | tuple[float, float] | None = None,
        evidence_scale: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.min_neighbors = min_neighbors
        self.prior = prior
        self.evidence_scale = evidence_scale
        self.random_state = random_state

    def _draw_subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        return np.ones((len(y), 1), dtype=np.uint8)
