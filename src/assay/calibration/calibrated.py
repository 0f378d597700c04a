"""Calibrated: a detector that decides, in scikit-learn's manner.

In: a `Detector`, a `Calibrator`, rows. Out: `predict` (+1 inlier, -1 outlier), `decision_function` (negative
= outlier) and `score_samples` (the negated anomaly score), so that it works wherever a scikit-learn outlier
detector does.

A calibrator's promise needs scores the detector did not train on: training scores are too low, and a
threshold from them raises too many false alarms. So the rows are split in `cv` folds, each scored by a
detector fitted on the others, and the calibrator learns from these out-of-fold scores of the rows not known
to be anomalies; the detector in use is then fitted on everything. A calibrator made for training scores
(`Quantile`, `Squash`) gets those, as published.

Of a series the folds are blocks of time, cut out of the training of the detector that scores them. Neighbouring steps
are alike, so a promise holds for the steps on average over many series of this kind, less closely than for rows drawn
independently. A step without a score (nothing was measured) is an inlier.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from assay.base import System, TakesGraphs, TakesImages, TakesSequences, TakesSeries, TakesSets
from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import (
    ANOMALY,
    UNKNOWN,
    Floats,
    InputError,
    Ints,
    LabelWarning,
    as_labels,
    check_methods,
    check_number,
    known_labels,
)
from assay.detectors.tabular.isolation_forest import IsolationForest


def _has_probability(self: Calibrated) -> bool:
    return hasattr(self.calibrator, "probability")


class Calibrated(OutlierMixin, System, BaseEstimator):
    """A detector with a threshold that keeps its calibrator's promise.

    Parameters
    ----------
    detector : Detector, optional
        What scores; an `IsolationForest` by default.
    calibrator : Calibrator, optional
        What decides; `FalseAlarmRate(0.05)` by default.
    cv : int or None, default 5
        Folds for the out-of-fold scores of a calibrator that needs held-out ones; None uses training scores
        (the promise then fails for detectors that remember their training rows).
    random_state : None, int or numpy.random.Generator
        Seed of the folds and of the detectors.

    Attributes
    ----------
    detector_ : Detector
        Fitted on all rows.
    calibrator_ : Calibrator
        Fitted on the scores.
    offset_ : float
        ``score_samples - offset_ = decision_function``, as scikit-learn defines it.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import Calibrated, FalseAlarmRate, IsolationForest
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = Calibrated(IsolationForest(), FalseAlarmRate(0.05), random_state=0).fit(X)
    >>> model.predict([[0.0, 0.0], [8.0, 8.0]]).tolist()
    [1, -1]
    """

    def __init__(self, detector=None, calibrator=None, cv=5, random_state=None):
        self.detector = detector
        self.calibrator = calibrator
        self.cv = cv
        self.random_state = random_state

    def _check_table(self, X: Any, **how: Any) -> Any:
        # What an item is, is the detector's affair: here items are only counted and numbered.
        if isinstance(self.detector, (TakesImages, TakesSeries, TakesSequences, TakesSets, TakesGraphs)):
            return self.detector._check_table(X, **how)
        return super()._check_table(X, **how)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = getattr(self.detector, "labels", None) == "required"
        return tags

    def fit(self, X: Any, y: Any = None) -> Calibrated:
        """Fit the detector and calibrate it.

        Parameters
        ----------
        X : array or dataframe of shape (n, d)
            Rows.
        y : array of shape (n,), optional
            0 normal, 1 anomaly, -1 unknown. As scikit-learn's outlier detectors tolerate any `y`, other
            values only warn and count as unknown.
        """
        if self.cv is not None:
            check_number(self.cv, "cv", low=2, integer=True)
        if self.detector is not None:
            check_methods(self.detector, "detector", "fit", "anomaly_score")
        if self.calibrator is not None:
            check_methods(self.calibrator, "calibrator", "fit", "predict")
        X = self._check_table(X, reset=True, min_rows=2)
        labels = None if y is None else _lenient_labels(y, len(X))
        detector = IsolationForest() if self.detector is None else self.detector
        calibrator = FalseAlarmRate() if self.calibrator is None else self.calibrator
        rng = as_generator(self.random_state)
        seeds = child_seeds(rng, 2)
        self.detector_ = seeded_clone(detector, seeds[0])
        if calibrator.fitted_on == "normals" and self.cv is not None:
            self.detector_.fit(X, labels)
            scores = self._out_of_fold(detector, X, labels, seeds[1])
        else:
            scores = _fit_score(self.detector_, X, labels)
            if calibrator.fitted_on == "normals" and labels is not None:
                scores = scores[labels != ANOMALY]
            scores = scores[~np.isnan(scores)]
        self.calibrator_ = clone(calibrator).fit(scores)
        self.offset_ = -self.calibrator_.threshold_
        return self

    def _out_of_fold(self, detector: Any, X: Floats, y: Ints | None, seed: int) -> Floats:
        """Return the scores of the rows not known to be anomalies; the known ones train in every fold."""
        if isinstance(detector, TakesSeries):
            return self._out_of_block(detector, X, y, seed)
        rng = np.random.default_rng(seed)
        calibrating = np.arange(len(X)) if y is None else np.flatnonzero(y != ANOMALY)
        if len(calibrating) == 0:
            raise InputError("y holds anomalies (1) alone: a threshold needs rows that may be normal")
        fold = np.full(len(X), -1)
        fold[calibrating] = rng.permutation(np.arange(len(calibrating)) % min(self.cv, len(calibrating)))
        scores = np.empty(len(X))
        folds = int(fold.max()) + 1
        for number, fold_seed in enumerate(progress(child_seeds(rng, folds), "calibrating", total=folds)):
            held = fold == number
            model = seeded_clone(detector, fold_seed).fit(X[~held], None if y is None else y[~held])
            scores[held] = model.anomaly_score(X[held])
        return scores[calibrating]

    def _out_of_block(self, detector: Any, X: Any, y: Ints | None, seed: int) -> Floats:
        """Return the scores of time steps not known to be anomalies, each from a detector that never saw its block."""
        blocks = np.array_split(np.arange(len(X)), self.cv)
        parts = []
        for block, block_seed in zip(
            progress(blocks, "calibrating", total=self.cv), child_seeds(as_generator(seed), self.cv)
        ):
            # What is marked as an anomaly teaches nothing: so time goes on through the hole.
            marked = np.full(len(X), UNKNOWN) if y is None else y.copy()
            marked[block] = ANOMALY
            scores = seeded_clone(detector, block_seed).fit(X, marked).anomaly_score(X[block])
            usable = ~np.isnan(scores) if y is None else ~np.isnan(scores) & (y[block] != ANOMALY)
            parts.append(scores[usable])
        return np.concatenate(parts)

    def anomaly_score(self, X: Any) -> Floats:
        """Return the detector's scores, higher = more anomalous: (n,)."""
        check_is_fitted(self)
        return self.detector_.anomaly_score(self._check_table(X, reset=False))

    def score_samples(self, X: Any) -> Floats:
        """Return the negated anomaly scores, as scikit-learn counts: (n,)."""
        return -self.anomaly_score(X)

    def decision_function(self, X: Any) -> Floats:
        """Return threshold minus score: negative for outliers, (n,)."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> Ints:
        """Return +1 for inliers and -1 for outliers: (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: Any, y: Any = None) -> Ints:
        """Fit, and return +1 for inliers and -1 for outliers among the same rows: (n,)."""
        return self.fit(X, y).predict(X)

    @available_if(_has_probability)
    def probability(self, X: Any) -> Floats:
        """Return the probability of being an anomaly, where the calibrator gives one: (n,)."""
        return self.calibrator_.probability(self.anomaly_score(X))


def _fit_score(detector: Any, X: Floats, y: Ints | None) -> Floats:
    """Fit and score the training rows; a pipeline that ends in a detector cannot do both at once."""
    if hasattr(detector, "fit_score"):
        return detector.fit_score(X, y)
    return detector.fit(X, y).anomaly_score(X)


def _lenient_labels(y: Any, n: int) -> Ints:
    import warnings

    try:
        return as_labels(y, n)
    except InputError as error:
        labels = np.asarray(y)
        if labels.shape[:1] != (n,) or labels.size != n:
            raise
        warnings.warn(f"{error}; read as unknown (-1)", LabelWarning, stacklevel=3)
        labels, known = known_labels(labels.ravel())
        lenient = np.full(n, UNKNOWN, dtype=np.int64)
        lenient[known] = labels[known]
        return lenient
