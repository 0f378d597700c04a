"""Training with auxiliary anomalies: keep or weight them by their quality, and say honestly what that gained.

`train_with_auxiliary` judges the auxiliary rows, keeps (or weights) the good ones, and fits the detector on
the real rows and these.

`cross_checked_gain` measures the gain on real anomalies that nothing used for training has seen. In each of
`n_splits` random splits the real rows are halved, class by class; the judge is fitted, the auxiliary rows are
judged and the detector is trained on one half, and the ROC AUC and average precision are taken on the other.
With a test set of its own (`test`), all real rows train, and each round judges on a bootstrap sample of the
test rows. Five arms share each round: the real rows alone, all auxiliary rows added, the kept ones, as many
chosen at random, and all weighted by quality where the detector takes weights. The auxiliary rows are the
same in every round: rows of `X` must not be among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from assay.base import Detector, QualityScore
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import (
    Bools,
    Floats,
    InputError,
    Ints,
    as_labels,
    as_matrix,
    as_vector,
    check_option,
    normals_and_anomalies,
    told,
)
from assay.detectors.tabular.adapters import ClassifierDetector, as_detector
from assay.metrics.ranking import average_precision, roc_auc
from assay.quality.eap import ExpectedAnomalyPosterior
from assay.quality.selection import keep_otsu, keep_top, weights

REAL_ONLY = "real rows only"
ALL = "all auxiliary rows added"
KEPT = "the kept ones added"
RANDOM = "as many at random added"
WEIGHTED = "all added, weighted by quality"
#: Normal rows that a measure of the gain takes.
MIN_NORMALS = 20


@dataclass(frozen=True)
class Trained:
    """A detector trained with auxiliary anomalies, and which ones.

    Attributes
    ----------
    detector : Detector
        Fitted.
    quality : array of shape (l,)
        Quality of each auxiliary row.
    kept : array of bool of shape (l,)
        Rows used (all of them when weighting).
    """

    detector: Detector
    quality: Floats
    kept: Bools


#: Learners by name; the first is the one used when none is given.
LEARNERS = ("svc", "forest", "logistic", "boosting")


def named_learner(name: str) -> Detector:
    """Return one of the usual classifiers as a detector.

    ``"svc"``, a support vector classifier with scikit-learn's defaults on standardised columns, is the
    learner of the published experiments; useless anomalies harm it. ``"forest"``, a balanced random forest,
    is robust to them.
    """
    learners: dict[str, Any] = {
        "svc": lambda: make_pipeline(StandardScaler(), SVC()),
        "forest": lambda: RandomForestClassifier(200, min_samples_leaf=2, class_weight="balanced_subsample"),
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)),
        "boosting": lambda: HistGradientBoostingClassifier(class_weight="balanced"),
    }
    if name not in learners:
        raise InputError(f"learner={name!r}: choose one of {', '.join(LEARNERS)}")
    return ClassifierDetector(learners[name](), calibration=None)


def judge_auxiliary(quality: Any, X: Floats, y: Ints, X_aux: Floats, seed: int) -> tuple[Floats, Any]:
    """Return the quality of each auxiliary row, and the fitted judge (None when numbers were given)."""
    if quality is None:
        quality = ExpectedAnomalyPosterior()
    if isinstance(quality, QualityScore) or hasattr(quality, "quality"):
        judge = seeded_clone(quality, seed).fit(X, y)
        return judge.quality(X_aux), judge
    values = as_vector(quality, "quality")
    if len(values) != len(X_aux):
        raise InputError(f"quality has shape {values.shape}: give one finite number for each of {len(X_aux)} rows")
    return values, None


def choose(values: Floats, judge: Any, X_aux: Floats, rule: str, seed: int) -> Bools:
    """Return which auxiliary rows `rule` keeps."""
    if rule == "otsu":
        return keep_otsu(values)
    if rule == "top":
        return keep_top(values, random_state=seed)
    if hasattr(judge, "select"):
        return np.asarray(judge.select(X_aux, rule=rule), dtype=bool)
    raise InputError(
        f"rule={told(rule)} needs a judge that knows it: choose 'otsu' or 'top', or pass quality=None for EAP"
    )


def train_with_auxiliary(
    detector: Any,
    X: Any,
    y: Any,
    X_aux: Any,
    quality: Any = None,
    *,
    how: str = "filter",
    rule: str = "prior",
    random_state: Any = None,
) -> Trained:
    """Fit a detector on real rows and the auxiliary anomalies worth training on.

    Parameters
    ----------
    detector : Detector, classifier, outlier detector of scikit-learn or PyOD, or None
        Unfitted; None for the support vector classifier of the published experiments. It must learn from
        labels, or the auxiliary rows cannot matter.
    X : array or dataframe of shape (n, d)
        Real rows.
    y : array of shape (n,)
        0 normal, 1 anomaly.
    X_aux : array or dataframe of shape (l, d)
        Auxiliary anomalies.
    quality : QualityScore, array of shape (l,), or None
        What judges them; None for `ExpectedAnomalyPosterior`.
    how : {"filter", "weight"}, default "filter"
        Keep the rows that `rule` selects, or keep all with their quality over the largest as weight.
    rule : str, default "prior"
        See `ExpectedAnomalyPosterior.select`.
    random_state : None, int or numpy.random.Generator
        Seed of the judge and the detector.

    Returns
    -------
    Trained
        The fitted detector, the qualities and the rows used.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ExpectedAnomalyPosterior, train_with_auxiliary
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(100, 2)), rng.normal(4.0, 0.5, size=(5, 2))])
    >>> y = np.repeat([0, 1], [100, 5])
    >>> aux = np.vstack([rng.normal(4.0, 0.5, size=(20, 2)), rng.normal(size=(20, 2))])
    >>> result = train_with_auxiliary(None, X, y, aux, ExpectedAnomalyPosterior(n_subsets=10), random_state=0)
    >>> bool(result.kept[:20].mean() > result.kept[20:].mean())
    True
    """
    check_option(how, "how", "filter", "weight")
    X, X_aux = as_matrix(X), as_matrix(X_aux, "X_aux")
    if X_aux.shape[1] != X.shape[1]:
        raise InputError(f"X_aux has {X_aux.shape[1]} columns, X has {X.shape[1]}: they must be the same columns")
    y = as_labels(y, len(X))
    detector = named_learner(LEARNERS[0]) if detector is None else as_detector(detector)
    if detector.labels == "normals":
        raise InputError(
            f"detector={type(detector).__name__} learns from normals alone, so auxiliary anomalies cannot help it: "
            "pass a classifier or SSDO"
        )
    seeds = child_seeds(as_generator(random_state), 3)
    values, judge = judge_auxiliary(quality, X, y, X_aux, seeds[0])
    if how == "weight":
        kept = np.ones(len(X_aux), dtype=bool)
        row_weights = weights(values)
    else:
        kept, row_weights = choose(values, judge, X_aux, rule, seeds[1]), None
    fitted = _train(detector, X, y, X_aux[kept], row_weights, seeds[2])
    return Trained(fitted, values, kept)


def _train(detector: Detector, X: Floats, y: Ints, X_aux: Floats, row_weights: Floats | None, seed: int) -> Detector:
    rows, labels = np.vstack([X, X_aux]), np.concatenate([y, np.ones(len(X_aux), dtype=np.int64)])
    sample_weight = None if row_weights is None else np.concatenate([np.ones(len(X)), row_weights])
    fitted: Detector = seeded_clone(detector, seed).fit(rows, labels, sample_weight)
    return fitted


def _resampled(y: Ints, rng: np.random.Generator) -> Ints:
    """Return a bootstrap sample of the rows, class by class: as many of each kind as there are."""
    rows = [rng.choice(np.flatnonzero(y == label), size=int((y == label).sum())) for label in (0, 1)]
    return np.concatenate(rows)


def cross_checked_gain(
    detector: Any,
    X: Any,
    y: Any,
    X_aux: Any,
    quality: Any = None,
    *,
    rule: str = "prior",
    n_splits: int = 5,
    test: tuple[Any, Any] | None = None,
    random_state: Any = None,
) -> list[dict[str, Any]]:
    """Measure on held-out real rows what training with the kept auxiliary anomalies gains.

    Parameters
    ----------
    detector, X, y, X_aux, quality, rule, random_state
        As for `train_with_auxiliary`; `quality` must be a judge (or None), since it is fitted anew on each
        half. At least two anomalies, one to train on and one to be found.
    n_splits : int, default 5
        Rounds.
    test : pair (X_test, y_test), optional
        Real rows to judge on, with both kinds among them; by default the half that was not trained on.

    Returns
    -------
    list of dict
        One an arm: ``training``, mean and standard deviation of ``roc_auc`` and ``average_precision`` over
        the splits, the mean number of auxiliary rows used, the share of splits in which the arm beats the
        real rows alone (ROC AUC), and the number of ``rounds``.
    """
    X, X_aux = as_matrix(X), as_matrix(X_aux, "X_aux")
    y = as_labels(y, len(X))
    normals, anomalies = normals_and_anomalies(y, min_normals=MIN_NORMALS, min_anomalies=2 if test is None else 1)
    X_test, y_test = X, y
    if test is not None:
        X_test = as_matrix(test[0], "X_test")
        y_test = as_labels(test[1], len(X_test), "y_test")
        normals_and_anomalies(y_test, min_normals=1, min_anomalies=1, name="y_test")
    detector = named_learner(LEARNERS[0]) if detector is None else as_detector(detector)
    rng = as_generator(random_state)
    records: dict[str, list[tuple[float, float, int]]] = {}
    for seed in progress(child_seeds(rng, n_splits), "cross-checking the gain", total=n_splits):
        split = np.random.default_rng(seed)
        train, judged = np.arange(len(X)), _resampled(y_test, split)
        if test is None:
            train = np.concatenate([split.permutation(group)[: len(group) // 2] for group in (normals, anomalies)])
            judged = np.setdiff1d(np.arange(len(X)), train)
        values, judge = judge_auxiliary(quality, X[train], y[train], X_aux, seed)
        kept = choose(values, judge, X_aux, rule, seed)
        chance = split.permutation(len(X_aux))[: int(kept.sum())]
        arms: dict[str, tuple[Any, Floats | None]] = {
            REAL_ONLY: (np.array([], dtype=int), None),
            ALL: (np.arange(len(X_aux)), None),
            KEPT: (np.flatnonzero(kept), None),
            RANDOM: (chance, None),
        }
        if detector.takes_weights:
            arms[WEIGHTED] = (np.arange(len(X_aux)), weights(values))
        for arm, (rows, row_weights) in arms.items():
            fitted = _train(detector, X[train], y[train], X_aux[rows], row_weights, seed)
            score, truth = fitted.anomaly_score(X_test[judged]), y_test[judged]
            records.setdefault(arm, []).append((roc_auc(truth, score), average_precision(truth, score), len(rows)))
    baseline = np.array(records[REAL_ONLY])[:, 0]
    rows = []
    for arm, record in records.items():
        auc, precision, used = np.array(record).T
        rows.append(
            {
                "training": arm,
                "roc_auc": float(auc.mean()),
                "roc_auc_std": float(auc.std()),
                "average_precision": float(precision.mean()),
                "average_precision_std": float(precision.std()),
                "auxiliary_rows": float(used.mean()),
                "wins": float((auc > baseline).mean()),
                "rounds": len(record),
            }
        )
    return rows
