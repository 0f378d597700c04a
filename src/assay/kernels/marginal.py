"""The utility of a training set with one labelled row more, for every row that might be added."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, Ints
from assay.kernels.jit import jit

#: Utilities by name; their places are what `utilities_with_each` takes.
METRICS = ("f1", "auc", "brier")


@jit
def utilities_with_each(
    above: Floats,
    below: Floats,
    own_above: Floats,
    own_below: Floats,
    weight: Floats,
    own_weight: float,
    members: npt.NDArray[np.uint8],
    percent: float,
    y: Ints,
    metric: int,
) -> Floats:
    """Return U(S + j) for each row j that joins the subset S as an anomaly: (l,).

    Parameters
    ----------
    above, below : arrays of shape (n,)
        Numerator and denominator of every training row's label-propagation score without j.
    own_above, own_below : arrays of shape (l,)
        The same for the rows that may join.
    weight : array of shape (l, n)
        What j's label adds to numerator and denominator of each training row.
    own_weight : float
        What it adds to its own.
    members : array of uint8 of shape (n,)
        The rows of S.
    percent : float
        Percentile of the scores of S + j at which the probability is one half.
    y : array of shape (n,)
        1 anomaly, 0 normal: the truth for the utility.
    metric : int
        Place in `METRICS`.
    """
    l, n = weight.shape
    out = np.empty(l)
    size = 0
    for i in range(n):
        size += members[i]
    scores, fitted = np.empty(n), np.empty(size + 1)
    position = percent / 100.0 * size
    low = int(np.floor(position))
    share = position - low
    for j in range(l):
        gain = weight[j]
        for i in range(n):
            scores[i] = (above[i] + gain[i]) / (below[i] + gain[i])
        if metric == 1:
            out[j] = _auc(scores, y)
            continue
        place = 0
        for i in range(n):
            if members[i]:
                fitted[place] = scores[i]
                place += 1
        fitted[size] = (own_above[j] + own_weight) / (own_below[j] + own_weight)
        ordered = np.partition(fitted, low)
        threshold = ordered[low]
        if share > 0.0:
            threshold += share * (ordered[low + 1 :].min() - threshold)
        out[j] = _f1(scores, threshold, y) if metric == 0 else _brier(scores, threshold, y)
    return out


@jit
def _f1(scores: Floats, threshold: float, y: Ints) -> float:
    hits, flagged, anomalies = 0, 0, 0
    for i in range(len(scores)):
        over = scores[i] > threshold
        flagged += over
        anomalies += y[i]
        hits += over and y[i] == 1
    return 2.0 * hits / max(flagged + anomalies, 1)


@jit
def _brier(scores: Floats, threshold: float, y: Ints) -> float:
    total = 0.0
    for i in range(len(scores)):
        if threshold <= 0.0:
            q = 1.0 if scores[i] > 0.0 else 0.0
        else:
            ratio = scores[i] / threshold
            q = 1.0 - 2.0 ** (-ratio * ratio)
        total += (q - y[i]) ** 2
    return 1.0 - total / len(scores)


@jit
def _auc(scores: Floats, y: Ints) -> float:
    normals = np.sort(scores[y == 0])
    total, anomalies = 0.0, 0
    for i in range(len(scores)):
        if y[i] == 1:
            anomalies += 1
            total += np.searchsorted(normals, scores[i]) + np.searchsorted(normals, scores[i], side="right")
    return total / 2.0 / (anomalies * len(normals))
