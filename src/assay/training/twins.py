"""A detector as P(normal), and its twins: the same detector trained again on rows drawn anew.

In: a fitted detector, the score from which it flags, rows of normal data. Out: functions of rows (n, d) that give
P(normal) (n,), in [0, 1]: one half at the threshold, by the squash of `assay.calibration.squash`. They are what
`assay.explain.counterfactuals` asks: "what would make this row ordinary" of the first, "and would next month's detector
agree" of the twins.

A twin is trained on as many rows, drawn with replacement, with a seed of its own, and flags from where it flags the
same share of the rows as the first does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.calibration.squash import Squash
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import ANOMALY, NORMAL, Floats, as_matrix, check_number

Normality = Callable[[Floats], Floats]


def normality(detector: Any, threshold: float, rows: Any) -> Normality:
    """Return P(normal) as a detector sees it.

    Parameters
    ----------
    detector : fitted detector of tables
        Anything with ``anomaly_score(X)``.
    threshold : float
        Rows above it are flagged; P(normal) is one half there.
    rows : array of shape (n, d)
        Normal rows: their lowest score counts as zero where it is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ECOD
    >>> from assay.training.twins import normality
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = ECOD().fit(X)
    >>> normal = normality(detector, np.quantile(detector.anomaly_score(X), 0.95), X)
    >>> normal(np.array([[0.0, 0.0], [6.0, 6.0]])).round(2)
    array([0.95, 0.07])
    """
    check_number(threshold, "threshold", low=-1e300, high=1e300)
    squash = Squash.anchored(threshold, detector.anomaly_score(as_matrix(rows, "rows")))
    return lambda X: 1.0 - squash.probability(detector.anomaly_score(X))


def twins(
    detector: Any, threshold: float, rows: Any, count: int = 5, random_state: Any = None, anomalies: Any = None
) -> list[Normality]:
    """Return P(normal) as the same detector would see it, trained again.

    Parameters
    ----------
    detector, threshold, rows
        See `normality`; the twins train on `rows`.
    count : int, default 5
        How many.
    random_state : None, int or numpy.random.Generator
        Seed of the draws and of the twins.
    anomalies : array of shape (m, d), optional
        Labelled anomalies, for a detector that learned from such; drawn anew too.
    """
    check_number(count, "count", low=1, integer=True)
    rows = as_matrix(rows, "rows")
    rng = as_generator(random_state)
    share = float(np.mean(detector.anomaly_score(rows) <= threshold))
    known = None if anomalies is None else as_matrix(anomalies, "anomalies")
    found = []
    for seed in progress(child_seeds(rng, count), "training again", total=count):
        drawn, labels = rows[rng.integers(len(rows), size=len(rows))], None
        if known is not None:
            drawn = np.vstack([drawn, known[rng.integers(len(known), size=len(known))]])
            labels = np.repeat([NORMAL, ANOMALY], [len(rows), len(known)])
        twin = seeded_clone(detector, seed).fit(drawn, labels)
        found.append(normality(twin, float(np.quantile(twin.anomaly_score(rows), share)), rows))
    return found
