"""Confidence: how sure a decision is, and which decisions to leave to somebody else.

In: the training scores (n,) of a detector, anomalies included; new scores (l,), higher = more anomalous; the
contamination γ, a number or an array of posterior draws (`ContaminationPosterior.samples_`). Out: one
confidence in [0, 1] a row (`confidence`), which rows to reject (`reject`), what rejecting costs
(`rejection_bounds`).

Were the training set drawn again, would the row get the same decision? Of the n training scores c lie at or
below the score; with a uniform prior the chance that a fresh one does is (ExCeeD)

    p = (1 + c) / (2 + n),    P(anomaly) = P(Binomial(n, p) > n - a) = I_p(n - a + 1, a),    a = floor(n γ),

the probability that the row lands among the a highest of n, I being the regularised incomplete beta function.
The confidence is P(anomaly) where the detector says anomaly and its complement elsewhere. For draws γ_t the
probability is averaged over the draws: the confidence then also knows how unsure γ is.

RejEx: a decision is rejected where its stability 2 |P - ½| is at most τ = 1 - 2 exp(-T). With q1 and q2 where
a row's P is exp(-T) and 1 - exp(-T), i.e. I_q1(a, n - a + 1) = exp(-T) and I_q2(a, n - a + 1) = 1 - exp(-T),
the expected rejection rate is q2 - q1, whatever the detector and the data; the upper bounds are those of the
paper's theorems, in the form of its public code. T = 32 is the paper's.

Departures, none of which changes a number where both are exact: the stability test is read as
min(P, 1 - P) >= exp(-T), both tails computed on their own, since 1 - 2 exp(-T) is 1 in double precision from
T = 37 on and coarse before; q1 and q2 are inverse incomplete beta functions, where a root search on 1 - exp(-T)
loses digits; floor(n γ) forgives rounding (100 · 0.29 is 29). One sort, one binary search and one beta
function a distinct rank: O((n + l) log n).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betainc, betaincc, betainccinv, betaincinv, xlogy

from assay.core.validation import Bools, Floats, InputError, as_vector, check_number


def confidence(train_scores: Any, scores: Any, contamination: Any, threshold: float | None = None) -> Floats:
    """Return the probability that each decision stays the same were the training set drawn again.

    Parameters
    ----------
    train_scores : array of shape (n,)
        Scores of the training rows, anomalies included.
    scores : array of shape (l,)
        Scores of the rows decided upon.
    contamination : float in [0, 1) or array of shape (t,)
        Share γ of anomalies, or draws from its posterior.
    threshold : float, optional
        Scores above are called anomalies. Default: the ``1 - γ`` quantile of `train_scores` (interpolated, as
        published; γ the mean of the draws).

    Returns
    -------
    array of shape (l,)
        Confidence in the decision, in [0, 1].

    Raises
    ------
    InputError
        If scores are empty or not finite, or a contamination is no share.

    References
    ----------
    Perini, Vercruyssen and Davis: Quantifying the Confidence of Anomaly Detectors in Their Example-Wise
    Predictions. ECML-PKDD 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.calibration.confidence import confidence
    >>> confidence(np.arange(100.0), [50.0, 89.0, 120.0], contamination=0.1).round(3).tolist()
    [1.0, 0.647, 1.0]
    """
    train, new, shares = _checked(train_scores, scores, contamination)
    if threshold is None:
        threshold = float(np.quantile(train, 1.0 - shares.mean()))
    else:
        check_number(threshold, "threshold")
    anomalous, normal = _probabilities(train, new, shares)
    return np.where(new > threshold, anomalous, normal)


def reject(train_scores: Any, scores: Any, contamination: Any, T: float = 32.0) -> Bools:
    """Return which decisions are too unstable to be made.

    Parameters
    ----------
    train_scores, scores, contamination
        As for `confidence`.
    T : float > log 2, default 32
        A decision is rejected where ``2 |P - 1/2| <= 1 - 2 exp(-T)``: a larger T rejects more.

    Returns
    -------
    array of bool of shape (l,)
        True: leave this row to a person.

    References
    ----------
    Perini and Davis: Unsupervised Anomaly Detection with Rejection. NeurIPS 2023, arXiv 2305.13189.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.calibration.confidence import reject
    >>> reject(np.arange(1000.0), [100.0, 905.0, 5000.0], contamination=0.1).tolist()
    [False, True, False]
    """
    check_number(T, "T", low=math.log(2.0), strict_low=True)
    train, new, shares = _checked(train_scores, scores, contamination)
    anomalous, normal = _probabilities(train, new, shares)
    return np.asarray(np.minimum(anomalous, normal) >= math.exp(-T))


class RejectionBounds(NamedTuple):
    """What rejecting costs, before any row is seen.

    Attributes
    ----------
    rate : float
        Expected share of rows rejected.
    rate_bound : float
        Upper bound on that share, with probability 1 - delta.
    cost_bound : float
        Upper bound on the expected cost of a row.
    """

    rate: float
    rate_bound: float
    cost_bound: float


def rejection_bounds(
    n: int,
    contamination: float,
    T: float = 32.0,
    delta: float = 0.1,
    false_alarm_cost: float = 1.0,
    miss_cost: float = 1.0,
    rejection_cost: float | None = None,
) -> RejectionBounds:
    """Return the expected rejection rate and upper bounds on it and on the cost, from n and γ alone.

    Parameters
    ----------
    n : int
        Number of training scores; ``n * contamination`` must be at least 1.
    contamination : float in (0, .5)
        Share γ of anomalies.
    T : float >= 4, default 32
        As for `reject`; the theorems need 4.
    delta : float in (0, 1), default .1
        The bound on the rate fails with at most this probability.
    false_alarm_cost, miss_cost : float >= 0, default 1
        Cost of a wrong anomaly and of a wrong normal.
    rejection_cost : float >= 0, optional
        Cost of a rejection. Default: the contamination (the paper's).

    Returns
    -------
    RejectionBounds
        Rate, its bound and the cost's.

    References
    ----------
    Perini and Davis: Unsupervised Anomaly Detection with Rejection. NeurIPS 2023, arXiv 2305.13189.

    Examples
    --------
    >>> from assay.calibration.confidence import rejection_bounds
    >>> [round(value, 3) for value in rejection_bounds(20_000, 0.1)]
    [0.032, 0.072, 0.188]
    """
    check_number(n, "n", low=1, integer=True)
    check_number(contamination, "contamination", low=0.0, high=0.5, strict_low=True, strict_high=True)
    check_number(T, "T", low=4.0)
    check_number(delta, "delta", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(false_alarm_cost, "false_alarm_cost", low=0.0)
    check_number(miss_cost, "miss_cost", low=0.0)
    rejection_cost = contamination if rejection_cost is None else rejection_cost
    check_number(rejection_cost, "rejection_cost", low=0.0)
    a = math.floor(n * contamination + 1e-9)
    if a < 1:
        raise InputError(f"n={n}: at contamination {contamination:g} not one of them is an anomaly; give more scores")
    normal = 1.0 - contamination
    q1, q2 = float(betaincinv(a, n - a + 1, math.exp(-T))), float(betainccinv(a, n - a + 1, math.exp(-T)))
    right = min(1.0, (1.0 + n - contamination * (n + 2)) / n + T * (n + 2) / math.sqrt(2.0 * n**3 * T))
    inner = 2.0 * n * (-3.0 * contamination**2 - 2.0 * n * normal**2 + 4.0 * contamination - 3.0)
    spread = max(0.0, inner + T * (n + 2.0) ** 2 - 8.0)
    left = max(0.0, (2.0 + n * normal * (n + 1.0)) / n**2 - math.sqrt(0.5 * spread * n**5) / n**4)
    bound = right - left + 2.0 * math.sqrt(math.log(2.0 / delta) / (2.0 * n))
    errors = min(contamination, q1) * false_alarm_cost + min(1.0 - q2, contamination) * miss_cost
    return RejectionBounds(q2 - q1, bound, errors + (q2 - q1) * rejection_cost)


def _checked(train_scores: Any, scores: Any, contamination: Any) -> tuple[Floats, Floats, Floats]:
    train, new = as_vector(train_scores, "train_scores"), as_vector(scores, "scores")
    if len(train) == 0:
        raise InputError("train_scores is empty: a confidence needs training scores")
    shares = as_vector(np.atleast_1d(contamination), "contamination")
    if len(shares) == 0 or (shares < 0).any() or (shares >= 1).any():
        raise InputError("contamination: give a share in [0, 1), or an array of such draws")
    return train, new, shares


def _probabilities(train: Floats, new: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Return P(anomaly) and P(normal) of each score, (l,) each, averaged over the shares."""
    n = len(train)
    below, place = np.unique(np.searchsorted(np.sort(train), new, side="right"), return_inverse=True)
    p = (1.0 + below) / (2.0 + n)
    counts, times = np.unique(np.floor(n * shares + 1e-9), return_counts=True)
    anomalous, normal = np.zeros(len(p)), np.zeros(len(p))
    for a, weight in zip(counts, times / len(shares)):
        high = p * n > n - a
        smaller = _smaller_tail(p, n, float(a), high)
        anomalous += weight * np.where(high, 1.0 - smaller, smaller)
        normal += weight * np.where(high, smaller, 1.0 - smaller)
    return anomalous[place], normal[place]


def _smaller_tail(p: Floats, n: int, a: float, high: Bools) -> Floats:
    """Return P(Binomial(n, p) <= n - a) where `high`, else P(Binomial(n, p) > n - a)."""
    tail = np.zeros(len(p))
    if a == 0:  # were no row an anomaly, none could be called one
        return tail
    # Chernoff: the tail beyond the share x is at most exp(-n KL(x, p)); most scores are so far from the quantile
    # that this is no double but 0.
    x = np.where(high, n - a, n - a + 1.0) / n
    near = n * (xlogy(x, x / p) + xlogy(1.0 - x, (1.0 - x) / (1.0 - p))) < 745.0
    for side, function in ((near & high, betaincc), (near & ~high, betainc)):
        tail[side] = function(n - a + 1.0, a, p[side])
    return tail
