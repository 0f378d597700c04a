"""Transitions: how surprising each event is after the one before it; the one-line baseline that many papers lose to.

In: event sequences, ids or names, of any length. Out: one score a sequence and one an event, >= 0, in nats; higher =
more anomalous.

A Markov chain of first order is counted, n(a, b) times b after a, where every sequence begins after the same start:

    p(b | a) = (n(a, b) + λ) / (n(a) + λ · (V + 1)),  V events known, and one for all that are not;
    an event's score is -log p, a sequence's the largest of these (``score="worst"``) or their mean.

One illegal step decides the largest, whatever the length; the mean adds up many slight oddities. Nothing here sees
what no pair of neighbours shows, such as a sequence that never ends its first phase.

Defaults: λ = 1 (Laplace's rule) and the largest, as one odd step is what most anomalies of logs amount to.
"""

from __future__ import annotations

import numpy as np

from assay.base import Localizer, TakesSequences
from assay.core.sequences import PAD, Sequences, Vocabulary
from assay.core.validation import Floats, Ints, check_number, check_option


def pairs(numbers: Sequences, size: int) -> tuple[Ints, Ints]:
    """Return for every event the number of the one before, 0 at the start, and the pair's own number."""
    before = np.concatenate([[PAD], numbers.flat[:-1]])
    before[numbers.offsets[:-1]] = PAD
    return before, before * size + numbers.flat


class Transitions(TakesSequences, Localizer):
    """Negative log probability of each event after the one before it.

    Parameters
    ----------
    score : {"worst", "mean"}, default "worst"
        A sequence's score: the largest or the mean of its events'.
    smoothing : float, default 1.0
        λ, added to every count; more than 0.

    Attributes
    ----------
    events_ : array of shape (V,)
        The events of the training set, sorted.
    pairs_, counts_ : array of int
        The pairs that occurred, a · (V + 2) + b with events numbered from 2 and the start as 0, sorted; how often.
    totals_ : array of int of shape (V + 2,)
        How often each number came before another event.

    Examples
    --------
    >>> normal = [[1, 2, 3] * (2 + i % 3) for i in range(40)]
    >>> Transitions().fit(normal).anomaly_map([[1, 2, 3, 1, 3]])[0].round(1).tolist()
    [0.1, 0.0, 0.0, 0.0, 4.8]
    """

    def __init__(self, score: str = "worst", smoothing: float = 1.0) -> None:
        self.score = score
        self.smoothing = smoothing

    def _check_parameters(self) -> None:
        check_option(self.score, "score", "worst", "mean")
        check_number(self.smoothing, "smoothing", low=0.0, strict_low=True, high=1e9)

    def _fit(self, X: Sequences, y: Ints | None, rng: np.random.Generator) -> None:
        vocabulary = Vocabulary.of(X)
        self.events_ = vocabulary.events
        before, together = pairs(vocabulary.numbers(X), len(vocabulary))
        self.pairs_, self.counts_ = np.unique(together, return_counts=True)
        self.totals_ = np.bincount(before, minlength=len(vocabulary))

    def _locate(self, X: Sequences) -> tuple[Floats, list[Floats]]:
        vocabulary = Vocabulary(self.events_)
        before, together = pairs(vocabulary.numbers(X), len(vocabulary))
        places = np.minimum(np.searchsorted(self.pairs_, together), len(self.pairs_) - 1)
        counts = np.where(self.pairs_[places] == together, self.counts_[places], 0)
        outcomes = len(self.events_) + 1
        surprise = np.log(self.totals_[before] + self.smoothing * outcomes) - np.log(counts + self.smoothing)
        if self.score == "worst":
            scores = np.maximum.reduceat(surprise, X.offsets[:-1])
        else:
            scores = np.add.reduceat(surprise, X.offsets[:-1]) / X.lengths
        return scores, np.split(surprise, X.offsets[1:-1])
