"""How well scores find what is outside the training distribution, and how honest the confidence is: pure functions.

Outliers are the positive class throughout (y = 1, higher scores), so that the precision of random scores is the share
of outliers, which is fixed by design: `detection_report` draws one outlier for five inliers, ten times over. A
confidence is a number in [0, 1], the claimed chance of being right; an outlier cannot be classified rightly, so it
counts as an error whatever was said: `calibration_report`. (Protocol: Hendrycks et al., ICLR 2019.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from assay.core.validation import Floats, InputError, as_matrix, as_vector, check_number, check_option
from assay.metrics.ranking import average_precision, roc_auc

#: Where the temperature is looked for, and how exactly.
TEMPERATURES, CLOSE = (0.2, 5.0), 1e-4


def false_positive_rate(y: Any, scores: Any, recall: float = 0.95) -> float:
    """Return the share of inliers (y = 0) flagged where at least `recall` of the outliers (y = 1) are; else NaN.

    Items of equal score are flagged together. (The official code takes the threshold of *nearest* recall instead, which
    may find fewer than were asked for.)

    Examples
    --------
    >>> from assay.metrics.out_of_distribution import false_positive_rate
    >>> false_positive_rate([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.6, 0.9], recall=1.0)
    0.25
    """
    check_number(recall, "recall", low=0.0, high=1.0, strict_low=True)
    y, scores = as_vector(y, "y").astype(bool), as_vector(scores, "scores")
    if y.shape != scores.shape:
        raise InputError(f"y has shape {y.shape} and scores {scores.shape}: both must be (n,)")
    outliers, inliers = np.sort(scores[y]), scores[~y]
    if len(outliers) == 0 or len(inliers) == 0:
        return float("nan")
    needed = max(1, math.ceil(recall * len(outliers) - 1e-9))
    return float((inliers >= outliers[len(outliers) - needed]).mean())


def detection_report(
    inliers: Any,
    outliers: Any,
    *,
    ratio: float = 0.2,
    repeats: int = 10,
    recall: float = 0.95,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Judge the scores of inliers (n,) against those of outliers (m,), a few outliers at a time.

    Parameters
    ----------
    inliers, outliers : arrays of shape (n,) and (m,)
        Scores, higher = more anomalous.
    ratio : float, default .2
        Outliers drawn for each inlier, without replacement; all of them where there are no more.
    repeats : int, default 10
        Draws.
    recall : float, default .95
        Where the false-positive rate is taken.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    dict
        Means over the draws ``fpr``, ``auroc`` and ``aupr`` in [0, 1], their standard deviations ``…_std``, and
        ``base_rate``, the share of outliers, which is the ``aupr`` of random scores.
    """
    check_number(ratio, "ratio", low=0.0, strict_low=True)
    check_number(repeats, "repeats", low=1, integer=True)
    inside, outside = as_vector(inliers, "inliers"), as_vector(outliers, "outliers")
    drawn = min(len(outside), max(1, round(ratio * len(inside))))
    y = np.repeat([0, 1], [len(inside), drawn])
    figures = []
    for _ in range(repeats):
        scores = np.concatenate([inside, rng.choice(outside, size=drawn, replace=False)])
        figures.append((false_positive_rate(y, scores, recall), roc_auc(y, scores), average_precision(y, scores)))
    means, spreads = np.mean(figures, axis=0), np.std(figures, axis=0)
    report = {"base_rate": float(y.mean())}
    for name, mean, spread in zip(("fpr", "auroc", "aupr"), means, spreads):
        report |= {name: float(mean), f"{name}_std": float(spread)}
    return report


# -- confidence -------------------------------------------------------------------------------------------------------


def temperature(logits: Any, y: Any) -> float:
    """Return the T in [0.2, 5] that makes softmax(logits / T) most likely on held-out items, by bisection.

    Parameters
    ----------
    logits : array of shape (n, K)
        Of items that were not trained on.
    y : array of int of shape (n,)
        Their classes.
    """
    z = as_matrix(logits, "logits")
    right = z[np.arange(len(z)), np.asarray(y, dtype=np.int64)]
    low, high = TEMPERATURES
    while high - low > CLOSE:
        middle = (low + high) / 2
        # The sign of the likelihood's slope: it falls with 1/T up to the best T and changes sign once.
        slope = (right - (softmax(z / middle, axis=1) * z).sum(axis=1)).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2


def negative_log_likelihood(logits: Any, y: Any, temperature: float = 1.0) -> float:
    """Return the mean of -log softmax(logits / temperature) at the true classes, in nats."""
    z = as_matrix(logits, "logits") / temperature
    return float((logsumexp(z, axis=1) - z[np.arange(len(z)), np.asarray(y, dtype=np.int64)]).mean())


def confidences(logits: Any, temperature: float = 1.0, *, rescaled: bool = False) -> Floats:
    """Return the largest softmax(logits / temperature), (n,); `rescaled` from [1/K, 1] to [0, 1]."""
    z = as_matrix(logits, "logits")
    largest = softmax(z / temperature, axis=1).max(axis=1)
    return np.asarray((largest - 1 / z.shape[1]) / (1 - 1 / z.shape[1]) if rescaled else largest)


def calibration_error(confidence: Any, right: Any, norm: str = "rms", size: int = 100) -> float:
    """Return how far confidence and accuracy lie apart, over bins of `size` items of neighbouring confidence.

    Parameters
    ----------
    confidence : array of shape (n,)
        In [0, 1].
    right : array of bool of shape (n,)
        Whether each decision was right.
    norm : {"rms", "mad"}
        Root of the mean square, or mean of the absolute differences, bins counting by their size.
    size : int, default 100
        Items a bin; the last one takes what is left over.
    """
    check_option(norm, "norm", "rms", "mad")
    check_number(size, "size", low=1, integer=True)
    c, correct = _decisions(confidence, right)
    order = np.argsort(c, kind="stable")
    starts = np.arange(max(1, len(c) // size)) * size
    counts = np.diff(np.append(starts, len(c)))
    gaps = np.add.reduceat((c - correct)[order], starts) / counts
    shares = counts / len(c)
    return float(np.sqrt((shares * gaps**2).sum()) if norm == "rms" else (shares * np.abs(gaps)).sum())


def soft_f1(confidence: Any, right: Any) -> float:
    """Return 2 Σ (1 - c) w / Σ (1 - c + w), w = 1 where wrong: does low confidence find the errors? 1 is perfect."""
    c, correct = _decisions(confidence, right)
    wrong = 1.0 - correct
    total = (1.0 - c + wrong).sum()
    return float(2 * ((1.0 - c) * wrong).sum() / total) if total > 0 else float("nan")


def calibration_report(
    logits: Any, y: Any, outlier_logits: Any, *, temperature: float = 1.0, rescaled: bool = False, size: int = 100
) -> dict[str, float]:
    """Judge a classifier's confidence on inliers and outliers together, each outlier counting as an error.

    Parameters
    ----------
    logits : array of shape (n, K)
        Of inliers.
    y : array of int of shape (n,)
        Their classes.
    outlier_logits : array of shape (m, K)
        Of outliers.
    temperature : float, default 1
        See `temperature`; fitted on other items.
    rescaled : bool, default False
        See `confidences`.
    size : int, default 100
        Items a bin.

    Returns
    -------
    dict
        ``rms``, ``mad``, ``soft_f1`` and ``accuracy`` (on the inliers alone), in [0, 1].
    """
    inside, outside = as_matrix(logits, "logits"), as_matrix(outlier_logits, "outlier_logits")
    right = inside.argmax(axis=1) == np.asarray(y)
    c = confidences(np.vstack([inside, outside]), temperature, rescaled=rescaled)
    decided = np.concatenate([right, np.zeros(len(outside), dtype=bool)])
    return {
        "rms": calibration_error(c, decided, "rms", size),
        "mad": calibration_error(c, decided, "mad", size),
        "soft_f1": soft_f1(c, decided),
        "accuracy": float(right.mean()),
    }


def _decisions(confidence: Any, right: Any) -> tuple[Floats, Floats]:
    c, correct = as_vector(confidence, "confidence"), as_vector(right, "right")
    if c.shape != correct.shape or len(c) == 0:
        raise InputError(f"confidence has shape {c.shape} and right {correct.shape}: both must be (n,), n >= 1")
    return c, correct
