"""The class probability q(x): what a calibrated detector says about a row, and the score that says nothing else.

In: labelled rows `X` (n, d) with 0 normal and 1 anomaly (m >= 1 of them). Out: q in [0, 1] a row. Whatever
estimator is given becomes a probability model (`probability_model`); by default SSDO over an isolation forest
of 100 trees, squashed at the contamination γ = m/n, as in the reference implementation of EAP.

`ClassProbability` is EAP's ablation "q only": it ranks highest what lies farthest outside the domain, where a
detector extrapolates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from assay.base import QualityScore
from assay.calibration.calibrated import Calibrated
from assay.calibration.squash import Squash
from assay.core.clone import seeded_clone
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints, check_methods, normals_and_anomalies
from assay.detectors.tabular.adapters import ClassifierDetector, as_detector
from assay.detectors.tabular.ssdo import SSDO

#: Standard deviations that count as infinitely many: squares stay finite, and scikit-learn's single precision too.
FAR = 1e30


def minority_share(y: Ints, min_normals: int = 2) -> float:
    """Return the share γ of anomalies among the rows: one anomaly at least, and fewer than half of the rows."""
    _, anomalies = normals_and_anomalies(y, min_normals=min_normals, min_anomalies=1)
    if 2 * len(anomalies) >= len(y):
        raise InputError(f"y holds {len(anomalies)} anomalies among {len(y)} rows: they must be the minority")
    return len(anomalies) / len(y)


def standardiser(X: Floats) -> tuple[Floats, Floats]:
    """Return mean and scale of each column; a column that is constant up to rounding gets scale 1."""
    mean, scale = X.mean(axis=0), X.std(axis=0)
    return mean, np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300), scale, 1.0)


def standardised(X: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return `X` in standard deviations from the mean, at most `FAR` of them."""
    with np.errstate(over="ignore"):
        return np.clip((X - mean) / scale, -FAR, FAR)


def probability_model(detector: Any, contamination: float) -> Any:
    """Return an estimator with `fit(X, y)` and `probability(X)` made from whatever detector was given.

    A `Calibrated` detector speaks for itself; a classifier (`ClassifierDetector` or scikit-learn's) gives its
    own probability; every other detector, Assay's, scikit-learn's or PyOD's, is squashed at the
    contamination.
    """
    if detector is None:
        detector = SSDO()
    check_methods(detector, "detector", "fit")
    if isinstance(detector, Calibrated):
        if not hasattr(detector, "probability"):
            raise InputError("detector is Calibrated without a probability: use the calibrator Squash, or pass it bare")
        return detector
    if isinstance(detector, ClassifierDetector):
        return detector
    if is_classifier(detector):
        return ClassifierDetector(detector, calibration=None)
    return Calibrated(as_detector(detector), Squash(contamination), cv=None)


def fit_model(template: Any, X: Floats, y: Ints, rows: Bools, seed: int) -> Any:
    """Return a copy of `template`, seeded, fitted on the chosen rows."""
    return seeded_clone(template, seed).fit(X[rows], y[rows])


def probabilities(model: Any, X: Floats) -> Floats:
    """Return the model's probability of an anomaly for each row."""
    return np.asarray(model.probability(X), dtype=np.float64)


class ClassProbability(QualityScore):
    """The detector's probability q alone: EAP without the density.

    An ablation: it ranks rows outside the domain, where a detector extrapolates, highest.

    Parameters
    ----------
    detector : estimator, optional
        As for `ExpectedAnomalyPosterior`.
    random_state : None, int or numpy.random.Generator
        Seed of the detector.

    Attributes
    ----------
    mean_, scale_ : arrays of shape (d,)
        What standardises the columns.
    model_ : estimator
        The fitted detector with its probability.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ClassProbability
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> y = np.r_[np.zeros(95, int), np.ones(5, int)]
    >>> quality = ClassProbability(random_state=0).fit(X, y).quality([[50.0, 50.0], [0.0, 0.0]])
    >>> bool(quality[0] > quality[1])
    True
    """

    def __init__(self, detector: Any = None, random_state: Any = None) -> None:
        self.detector = detector
        self.random_state = random_state

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        _, anomalies = normals_and_anomalies(y, min_normals=2, min_anomalies=1)
        self.mean_, self.scale_ = standardiser(X)
        template = probability_model(self.detector, min(len(anomalies) / len(y), 0.49))
        X = standardised(X, self.mean_, self.scale_)
        self.model_ = fit_model(template, X, y, np.ones(len(y), dtype=bool), child_seeds(rng, 1)[0])

    def n_fits(self, n_rows: int) -> int:
        """Return 1: one detector judges every row."""
        return 1

    def _quality(self, X_aux: Floats) -> Floats:
        return probabilities(self.model_, standardised(X_aux, self.mean_, self.scale_))
