"""Other people's estimators as Assay detectors: scikit-learn's and PyOD's outlier detectors, and any classifier.

In: a table (n, d), and labels where a classifier learns. Out: one score a row, higher = more anomalous.

`as_detector` recognises what it is given. scikit-learn's outlier detectors count low = abnormal
(`score_samples`, or `decision_function`), PyOD's high = abnormal (`decision_function`): the adapter turns
them into one meaning. A classifier becomes a detector that needs labels and whose score is its probability of
the anomaly class.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from assay.base import Detector
from assay.core.clone import seeded_clone
from assay.core.validation import (
    ANOMALY,
    NORMAL,
    Floats,
    InputError,
    Ints,
    check_methods,
    check_number,
    check_option,
    told,
)


class WrappedDetector(Detector):
    """A scikit-learn or PyOD outlier detector under Assay's contract.

    Parameters
    ----------
    estimator : estimator
        Anything with `fit` and either `score_samples` or `decision_function`.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone.

    Examples
    --------
    >>> from sklearn.svm import OneClassSVM
    >>> from assay.detectors.tabular.adapters import WrappedDetector
    >>> WrappedDetector(OneClassSVM()).fit([[0.0], [0.1], [0.2]]).anomaly_score([[0.1], [9.0]]).argmax()
    np.int64(1)
    """

    def __init__(self, estimator):
        self.estimator = estimator

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.estimator_ = clone(self.estimator).fit(X)

    def _score(self, X: Floats) -> Floats:
        if _is_pyod(self.estimator_):
            return np.asarray(self.estimator_.decision_function(X), dtype=np.float64)
        if hasattr(self.estimator_, "score_samples"):
            return -np.asarray(self.estimator_.score_samples(X), dtype=np.float64)
        return -np.asarray(self.estimator_.decision_function(X), dtype=np.float64)


class ClassifierDetector(Detector):
    """A supervised classifier as a detector: the score is the calibrated probability of the anomaly class.

    Unknown rows (-1) are left out of training. Trained on one class only it returns the constant 0 or 1 it
    has seen.

    Parameters
    ----------
    estimator : classifier, optional
        Anything with `predict_proba`, or a margin (`decision_function`), whose logistic is then taken; a
        logistic regression on standardised columns, classes weighted, by default.
    calibration : {"sigmoid", "isotonic", None}, default "sigmoid"
        How the probability is calibrated by cross-validation (`CalibratedClassifierCV`); None trusts the
        classifier. With a single row of a class nothing can be held out, and the classifier's own probability
        is used.
    cv : int, default 3
        Folds of the calibration, at most the rows of the smaller class.
    random_state : None, int or numpy.random.Generator
        Seed of the classifier.

    Attributes
    ----------
    estimator_ : classifier or None
        The fitted classifier; None when one class was seen.
    constant_ : float
        The probability returned when `estimator_` is None.

    Examples
    --------
    >>> from assay import ClassifierDetector
    >>> X, y = [[0.0], [0.2], [0.4], [3.0], [3.2], [3.4]], [0, 0, 0, 1, 1, 1]
    >>> score = ClassifierDetector().fit(X, y).anomaly_score([[0.1], [3.1]])
    >>> bool(score[1] > score[0])
    True
    """

    labels: ClassVar[str] = "required"
    takes_weights: ClassVar[bool] = True

    def __init__(self, estimator=None, calibration="sigmoid", cv=3, random_state=None):
        self.estimator = estimator
        self.calibration = calibration
        self.cv = cv
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_option(self.calibration, "calibration", "sigmoid", "isotonic", None)
        if self.estimator is not None:
            check_methods(self.estimator, "estimator", "fit")
        check_number(self.cv, "cv", low=2, integer=True)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self._fit_weighted(X, y, np.ones(len(X)), rng)

    def _fit_weighted(self, X: Floats, y: Ints | None, weights: Floats, rng: np.random.Generator) -> None:
        assert y is not None  # labels are required
        X, y, weights = X[y >= 0], y[y >= 0], weights[y >= 0]
        smaller = min(int((y == NORMAL).sum()), int((y == ANOMALY).sum()))
        self.constant_ = float(y.mean())
        self.estimator_ = None
        if smaller == 0:
            return
        estimator = self.estimator
        if estimator is None:
            estimator = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        seed = int(rng.integers(2**31 - 1))
        estimator = seeded_clone(estimator, seed)
        weighted = bool((weights != 1.0).any())
        steps = list(estimator.steps) if isinstance(estimator, Pipeline) else [("classifier", estimator)]
        name, last = steps[-1]
        if weighted and not has_fit_parameter(last, "sample_weight"):
            raise InputError(f"sample_weight: {type(last).__name__} takes no weights; leave rows out instead")
        folds = min(int(self.cv), smaller)
        if self.calibration is not None and folds >= 2:
            # Rows often come in blocks (real, then auxiliary), and every fold must hold some of each.
            order = np.random.default_rng(seed).permutation(len(y))
            X, y, weights = X[order], y[order], weights[order]
            if weighted and isinstance(estimator, Pipeline):
                # scikit-learn's calibration hands no weights into a pipeline: calibrate its last step
                # instead.
                steps[-1] = name, CalibratedClassifierCV(last, method=self.calibration, cv=folds)
                estimator = Pipeline(steps)
            else:
                estimator = CalibratedClassifierCV(estimator, method=self.calibration, cv=folds)
        if not weighted:
            self.estimator_ = estimator.fit(X, y)
        elif isinstance(estimator, Pipeline):
            self.estimator_ = estimator.fit(X, y, **{f"{name}__sample_weight": weights})
        else:
            self.estimator_ = estimator.fit(X, y, sample_weight=weights)

    def _score(self, X: Floats) -> Floats:
        if self.estimator_ is None:
            return np.full(len(X), self.constant_)
        if hasattr(self.estimator_, "predict_proba"):
            return np.asarray(self.estimator_.predict_proba(X)[:, 1], dtype=np.float64)
        return np.asarray(expit(self.estimator_.decision_function(X)), dtype=np.float64)

    def probability(self, X: Any) -> Floats:
        """Return the probability of being an anomaly: the score itself."""
        return self.anomaly_score(X)


def as_detector(estimator: Any) -> Detector:
    """Return `estimator` as a `Detector`.

    Parameters
    ----------
    estimator : Detector, outlier detector of scikit-learn or PyOD, or classifier
        Unfitted.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(estimator, Detector):
        return estimator
    if isinstance(estimator, type):
        raise InputError(f"detector={estimator.__name__} is a class: pass an instance, {estimator.__name__}()")
    if hasattr(estimator, "fit") and is_classifier(estimator):
        return ClassifierDetector(estimator)
    if hasattr(estimator, "fit") and (hasattr(estimator, "score_samples") or hasattr(estimator, "decision_function")):
        return WrappedDetector(estimator)
    raise InputError(
        f"detector={told(estimator)} has neither score_samples nor decision_function: it cannot score rows"
    )


def _is_pyod(estimator: Any) -> bool:
    return any(base.__module__.startswith("pyod.") for base in type(estimator).__mro__)
