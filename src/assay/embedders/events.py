"""Event sequences as rows of numbers: what occurs how often, or what the events are like.

In: sequences of event ids or names, see `assay.core.sequences`. Out: one row a sequence, (n, d).

`EventCounts`, d = events + pairs + 4: how often each of the most frequent events and of the most frequent pairs of
neighbours occurs; how often another event of the training set does, another pair, and an event that was never seen;
and the length. Without pairs (``n_pairs=0``) the order of a sequence does not matter at all.

`EventVectors`, d = 2 k: every event is a vector, and a sequence the mean and the largest values of its events'. Events
that occur in the same company have similar vectors: the counts n(a, b) of events within `reach` places of each other
give

    M(a, b) = max(0, log n(a, b) − log n(a) n(b) / N − log shift),   M ≈ U_k Σ_k U_k',   vectors U_k Σ_k^(1/2),

the factorisation that word2vec's skip-grams approximate, `shift` standing for its number of negative samples. Here M
is symmetric, and its k largest eigenvalues by size are taken. An event that was never seen has the vector 0.

Time is linear in the number of events; `EventVectors` also takes the cube of the number of different events (at most
`n_events` of them, the most frequent; the others are unseen).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from sklearn.utils.validation import check_is_fitted

from assay.base import Embedder, TakesSequences
from assay.core.sequences import FIRST, Sequences, Vocabulary
from assay.core.validation import Floats, Ints, check_number


class EventCounts(TakesSequences, Embedder):
    """Counts of events and of pairs of neighbours.

    Parameters
    ----------
    n_events : int, default 500
        Most frequent events that have a column of their own (ours).
    n_pairs : int, default 500
        Most frequent pairs of neighbours that have one (ours); 0 leaves pairs out.

    Attributes
    ----------
    events_ : array of shape (V,)
        The events of the training set, sorted.
    columns_ : array of int of shape (V,)
        Column of each event.
    pairs_ : array of int
        The pairs that have a column, sorted: number of the first event · V + number of the second.

    Examples
    --------
    >>> embedder = EventCounts().fit([["a", "b"], ["a", "b", "b"]])
    >>> embedder.transform([["a", "b", "b", "c"]])  # a, b, others, unseen, ab, bb, other pairs, length
    array([[1., 2., 0., 1., 1., 1., 1., 4.]])
    """

    def __init__(self, n_events: int = 500, n_pairs: int = 500) -> None:
        self.n_events = n_events
        self.n_pairs = n_pairs

    def _check_parameters(self) -> None:
        check_number(self.n_events, "n_events", low=1, integer=True)
        check_number(self.n_pairs, "n_pairs", low=0, integer=True)

    def _fit(self, X: Sequences, rng: np.random.Generator) -> None:
        vocabulary = Vocabulary.of(X)
        self.events_ = vocabulary.events
        numbers = vocabulary.numbers(X).flat - FIRST
        kept = _most_frequent(numbers, self.n_events)
        self.columns_ = np.full(len(self.events_), len(kept), dtype=np.int64)
        self.columns_[kept] = np.arange(len(kept))
        codes, _ = _pairs(numbers, X.offsets, len(self.events_))
        self.pairs_ = _most_frequent(codes, self.n_pairs)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return what each number of a row is, array of str of shape (d,)."""
        check_is_fitted(self)
        events, size = [str(event) for event in self.events_], len(self.events_)
        width = min(self.n_events, size)
        own = [""] * width
        for event, column in zip(events, self.columns_):
            if column < width:
                own[column] = event
        names = [*own, "other events", "events never seen"]
        if self.n_pairs > 0:
            names += [f"{events[code // size]}, then {events[code % size]}" for code in self.pairs_]
            names.append("other pairs")
        return np.array([*names, "length"], dtype=object)

    def _embed(self, X: Sequences) -> Floats:
        n, size = len(X), len(self.events_)
        numbers = Vocabulary(self.events_).numbers(X).flat - FIRST
        owner = np.repeat(np.arange(n), X.lengths)
        width = min(self.n_events, size)
        # A column for the events without one, and one for those never seen.
        columns = np.where(numbers < 0, width + 1, self.columns_[numbers])
        parts = [_counted(owner, columns, n, width + 2)]
        if self.n_pairs > 0:
            codes, first = _pairs(numbers, X.offsets, size)
            places = np.minimum(np.searchsorted(self.pairs_, codes), max(len(self.pairs_) - 1, 0))
            known = self.pairs_[places] == codes if len(self.pairs_) else np.zeros(len(codes), dtype=bool)
            parts.append(_counted(owner[first], np.where(known, places, len(self.pairs_)), n, len(self.pairs_) + 1))
        return np.concatenate([*parts, X.lengths[:, None].astype(np.float64)], axis=1)


def _most_frequent(values: Ints, most: int) -> Ints:
    """Return the most frequent values, sorted; of equally frequent ones the smaller."""
    distinct, counts = np.unique(values, return_counts=True)
    return np.sort(distinct[np.argsort(-counts, kind="stable")[:most]])


def _pairs(numbers: Ints, offsets: Ints, size: int) -> tuple[Ints, Ints]:
    """Return a code for every two neighbours (-1 with an unseen event), and the place of the first one."""
    inside = np.ones(max(len(numbers) - 1, 0), dtype=bool)
    inside[offsets[1:-1] - 1] = False
    first = np.flatnonzero(inside)
    left, right = numbers[first], numbers[first + 1]
    return np.where((left < 0) | (right < 0), -1, left * size + right), first


def _counted(rows: Ints, columns: Ints, n: int, width: int) -> Floats:
    return np.bincount(rows * width + columns, minlength=n * width).reshape(n, width).astype(np.float64)


class EventVectors(TakesSequences, Embedder):
    """Mean and largest values of the events' vectors, learned from which events occur near each other.

    Parameters
    ----------
    n_components : int, default 32
        k, dimensions of a vector; those beyond the number of different events are 0 (ours).
    reach : int, default 5
        Places within which events are near each other (word2vec).
    shift : float >= 1, default 1
        Divides what counts as more than chance; 5 stands for word2vec's five negative samples (paper: 1, 5, 15).
    n_events : int, default 2000
        Most frequent events that get a vector (ours).

    Attributes
    ----------
    events_ : array of shape (V,)
        The events that have a vector, sorted.
    vectors_ : array of shape (V, k)
        Their vectors.

    References
    ----------
    O. Levy, Y. Goldberg: Neural Word Embedding as Implicit Matrix Factorization. NeurIPS 2014.

    Examples
    --------
    >>> X = [["red", "wine"], ["white", "wine"], ["hot", "dog"], ["big", "dog"]]
    >>> embedder = EventVectors(n_components=2).fit(X)
    >>> vectors = dict(zip(embedder.events_, embedder.vectors_.round(6)))
    >>> bool((vectors["red"] == vectors["white"]).all()), bool((vectors["red"] == vectors["hot"]).all())
    (True, False)
    """

    def __init__(self, n_components: int = 32, reach: int = 5, shift: float = 1.0, n_events: int = 2000) -> None:
        self.n_components = n_components
        self.reach = reach
        self.shift = shift
        self.n_events = n_events

    def _check_parameters(self) -> None:
        check_number(self.n_components, "n_components", low=1, integer=True)
        check_number(self.reach, "reach", low=1, integer=True)
        check_number(self.shift, "shift", low=1.0, high=1e6)
        check_number(self.n_events, "n_events", low=1, high=20_000, integer=True)

    def _fit(self, X: Sequences, rng: np.random.Generator) -> None:
        events, numbers = np.unique(X.flat, return_inverse=True)
        kept = _most_frequent(numbers.ravel(), self.n_events)
        self.events_ = events[kept]
        numbers = Vocabulary(self.events_).numbers(X).flat - FIRST
        near = _company(numbers, X.offsets, self.reach, len(self.events_))
        self.vectors_ = np.zeros((len(self.events_), self.n_components))
        found = _factor(_positive_information(near, self.shift), self.n_components)
        self.vectors_[:, : found.shape[1]] = found

    def _embed(self, X: Sequences) -> Floats:
        numbers = Vocabulary(self.events_).numbers(X).flat - FIRST
        vectors = np.where(numbers[:, None] < 0, 0.0, self.vectors_[numbers])
        starts = X.offsets[:-1]
        mean = np.add.reduceat(vectors, starts, axis=0) / X.lengths[:, None]
        return np.concatenate([mean, np.maximum.reduceat(vectors, starts, axis=0)], axis=1)


def _company(numbers: Ints, offsets: Ints, reach: int, size: int) -> Floats:
    """Return how often each two events occur within `reach` places of a sequence, (V, V), symmetric."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    counts = np.zeros(size * size)
    for step in range(1, min(reach, len(numbers) - 1) + 1):
        left, right = numbers[:-step], numbers[step:]
        usable = (owner[:-step] == owner[step:]) & (left >= 0) & (right >= 0)
        counts += np.bincount(left[usable] * size + right[usable], minlength=size * size)
    table = counts.reshape(size, size)
    return table + table.T


def _positive_information(near: Floats, shift: float) -> Floats:
    """Return the positive part of the shifted pointwise mutual information of a table of counts."""
    total, margin = near.sum(), near.sum(axis=0)
    expected = np.outer(margin, margin)
    ratio = np.divide(near * total, expected * shift, out=np.ones_like(near), where=near > 0)
    return np.log(np.maximum(ratio, 1.0))


def _factor(table: Floats, k: int) -> Floats:
    """Return eigenvectors times the root of the eigenvalue's size, for the k largest; the sign is made definite."""
    values, vectors = scipy.linalg.eigh(table)
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1.0, signs) * np.sqrt(np.abs(values[order]))
