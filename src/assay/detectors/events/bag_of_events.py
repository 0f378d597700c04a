"""BagOfEvents: counts of events, weighted by tf-idf; what the principal components of normal counts leave is odd.

In: event sequences, ids or names, of any length. Out: one score a sequence, >= 0; higher = more anomalous. The order
of the events plays no part.

    y_j = n_j · log((N + 1) / (N_j + 1)),   n_j: how often j occurs, N_j: in how many of N training sequences;
    score = ‖(I - P Pᵀ)(y - ȳ)‖²,           P: the fewest leading components that hold 95 % of the training variance.

Defaults of Xu et al.: tf-idf and 95 %. What is left over is compared with a Q statistic there; here with a calibrator.

Departures: 1 is added to N and N_j, so that all events that training never saw together have a weight, log(N + 1); at
least one direction is always left over. With tf-idf an event that every sequence holds weighs nothing, as published:
``weighting="counts"`` leaves the weights out. Memory: the covariance, V² numbers.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

from assay.base import Detector, TakesSequences
from assay.core.sequences import FIRST, UNKNOWN_EVENT, Sequences, Vocabulary
from assay.core.validation import Floats, InputError, Ints, check_number, check_option

#: Sequences whose counts are laid out at a time; the scores do not depend on it.
CHUNK = 4096


class BagOfEvents(TakesSequences, Detector):
    """Residual of weighted event counts outside the principal components of normal ones.

    Parameters
    ----------
    variance : float, default 0.95
        Share of the training variance that the components must hold.
    weighting : {"tf-idf", "counts"}, default "tf-idf"
        Whether rarer events weigh more.

    Attributes
    ----------
    events_ : array of shape (V,)
        The events of the training set, sorted.
    weights_, mean_ : array of shape (V + 1,)
        Weight of an event, and ȳ; the first is for all events that training never saw.
    components_ : array of shape (k, V + 1)
        Pᵀ.

    References
    ----------
    W. Xu, L. Huang, A. Fox, D. Patterson, M. Jordan: Detecting Large-Scale System Problems by Mining Console Logs.
    SOSP 2009.

    Examples
    --------
    >>> normal = [["open"] + ["read", "close"] * (i % 4) + ["write"] * (i % 3) for i in range(24)]
    >>> scores = BagOfEvents().fit(normal).anomaly_score([["open", "read", "close"], ["open", "read", "read", "read"]])
    >>> bool(scores[1] > scores[0])
    True
    """

    def __init__(self, variance: float = 0.95, weighting: str = "tf-idf") -> None:
        self.variance = variance
        self.weighting = weighting

    def _check_parameters(self) -> None:
        check_number(self.variance, "variance", low=0.0, strict_low=True, high=1.0)
        check_option(self.weighting, "weighting", "tf-idf", "counts")

    def _fit(self, X: Sequences, y: Ints | None, rng: np.random.Generator) -> None:
        self.events_ = Vocabulary.of(X).events
        counts = self._counts(X)
        n = counts.shape[0]
        self.weights_ = np.ones(counts.shape[1])
        if self.weighting == "tf-idf":
            self.weights_ = np.log((n + 1) / (counts.getnnz(axis=0) + 1))
            if not self.weights_[1:].any():
                raise InputError(
                    "X: every sequence holds every event, so that tf-idf weighs nothing; give weighting='counts'"
                )
        weighted = counts.multiply(self.weights_).tocsr()
        self.mean_ = np.asarray(weighted.mean(axis=0)).ravel()
        covariance = (weighted.T @ weighted).toarray() / n - np.outer(self.mean_, self.mean_)
        values, vectors = eigh(covariance)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        rank = int((values > values[0] * len(values) * np.finfo(float).eps).sum())
        held = np.cumsum(values) >= self.variance * values.sum()
        k = min(int(held.argmax()) + 1, max(rank - 1, 0))
        self.components_ = np.ascontiguousarray(vectors[:, :k].T)

    def _counts(self, X: Sequences) -> sparse.csr_matrix:
        """Return how often each sequence holds each event, (n, V + 1)."""
        vocabulary = Vocabulary(self.events_)
        numbers = vocabulary.numbers(X)
        shape = len(X), len(vocabulary) - FIRST + UNKNOWN_EVENT
        entries = np.ones(len(numbers.flat)), numbers.flat - UNKNOWN_EVENT, numbers.offsets
        counts = sparse.csr_matrix(entries, shape=shape)
        counts.sum_duplicates()
        return counts

    def _score(self, X: Sequences) -> Floats:
        counts = self._counts(X)
        scores = []
        for start in range(0, len(X), CHUNK):
            centred = counts[start : start + CHUNK].toarray() * self.weights_ - self.mean_
            left = centred - (centred @ self.components_.T) @ self.components_
            scores.append((left**2).sum(axis=1))
        return np.concatenate(scores)
