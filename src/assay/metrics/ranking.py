"""How well scores order rows: pure functions of labels and scores.

A metric that cannot be computed (one class only) is NaN, never a number that looks like a result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from assay.core.validation import InputError, as_vector, check_number


def _checked(y: Any, scores: Any) -> tuple[Any, Any]:
    y, scores = as_vector(y, "y").astype(bool), as_vector(scores, "scores")
    if y.shape != scores.shape:
        raise InputError(f"y has shape {y.shape} and scores {scores.shape}: both must be (n,)")
    return y, scores


def roc_auc(y: Any, scores: Any) -> float:
    """Return the chance that a random anomaly (y = 1) scores above a random normal, ties counting one half; in [0, 1].

    Examples
    --------
    >>> from assay.metrics.ranking import roc_auc
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, scores = _checked(y, scores)
    return float(roc_auc_score(y, scores)) if 0 < y.sum() < len(y) else float("nan")


def average_precision(y: Any, scores: Any) -> float:
    """Return the mean precision over the recall steps; in [0, 1], the share of anomalies for random scores."""
    y, scores = _checked(y, scores)
    return float(average_precision_score(y, scores)) if 0 < y.sum() < len(y) else float("nan")


def quality_auc(kind: Any, quality: Any) -> dict[str, float]:
    """Judge a quality score on a pool of known kinds (0 realistic, 1 indistinguishable, 2 unrealistic).

    Returns
    -------
    dict
        ``all``: realistic against the rest (AUC_qlt); ``indistinguishable`` and ``unrealistic``: realistic
        against that kind.
    """
    kind, quality = np.asarray(kind), np.asarray(quality, dtype=np.float64)
    good = kind == 0
    return {
        "all": roc_auc(good, quality),
        "indistinguishable": roc_auc(good[kind != 2], quality[kind != 2]),
        "unrealistic": roc_auc(good[kind != 1], quality[kind != 1]),
    }


def rank_weighted_score(found: Any, n: int) -> float:
    """Return Σ (N + 1 - i) I_i / (N (N + 1) / 2) over the first N of a ranking: 1 if all of them are interesting.

    Parameters
    ----------
    found : array of shape (m,)
        Whether the item at each place is interesting, best place first; m >= n.
    n : int
        How many places count, N.
    """
    found = np.asarray(found, dtype=bool)
    check_number(n, "n", low=1, high=len(found), integer=True)
    return float(((n - np.arange(n)) * found[:n]).sum() / (n * (n + 1) / 2))
