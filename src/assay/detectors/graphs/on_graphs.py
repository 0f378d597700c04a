"""On graphs: any detector of tables on embedded graphs, and the two baselines that a new method must beat.

In: graphs, see `assay.core.graphs`. Out: one score a graph, >= 0 for the baselines; higher = more anomalous.

`OnGraphs` shows a detector of tables the rows of an embedder, standardised by training: the graphs' statistics and the
distance to the nearest neighbours by default. Assay's other detectors and PyOD's (through `assay.as_detector`), and the
embedders that `assay list` shows for graphs, go in as they are. An isolation forest never cuts a column that is
constant in training, such as the count of subtrees never seen: with `WeisfeilerLehman` it may be no better than chance.

`GraphSize` sees the number of nodes and the mean degree alone: the distance of their logarithms to the training means,
in standard deviations. In many sets one class is simply larger; a method that does not beat this has learned nothing
of graphs.

`WLNeighbours` is the distance to the k-th nearest training graph in the space of all Weisfeiler-Lehman subtrees,

    d(g, h)² = 2 − 2 K(g, h) / (K(g, g) K(h, h))^1/2,   K(g, h) = Σ over labels of count in g · count in h.

Subtrees that training never held count in K(g, g) alone. Ours: k = 5, and the columns that make labels, those of few
different values (see `assay.embedders.graphs`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from assay.base import Detector, TakesGraphs
from assay.catalogue import find, load_class
from assay.core.clone import seeded_clone
from assay.core.graphs import Graphs
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, Ints, check_methods, check_number, told
from assay.embedders.graphs import GraphStatistics, Labels, label_columns, subtree_labels

#: Graphs whose distances to all training graphs are held at a time.
CHUNK = 256


class OnGraphs(TakesGraphs, Detector):
    """A detector of rows, on embedded graphs.

    Parameters
    ----------
    embedder : Embedder, optional
        Of graphs; `GraphStatistics` if None.
    detector : Detector, optional
        Of tables; `KNN` with its defaults if None.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    embedder_ : Embedder
        Fitted on the training graphs.
    center_, scale_ : arrays of shape (c,)
        Mean and standard deviation of the training rows; 1 where they are constant.
    detector_ : Detector
        Fitted on the standardised rows.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> small_worlds = random_graphs("watts_strogatz", 60, random_state=0)
    >>> model = OnGraphs(random_state=0).fit(small_worlds[:50])
    >>> hubs = random_graphs("barabasi_albert", 10, random_state=0)
    >>> bool(model.anomaly_score(hubs).min() > model.anomaly_score(small_worlds[50:]).max())
    True
    """

    def __init__(self, embedder: Any = None, detector: Any = None, random_state: Any = None) -> None:
        self.embedder = embedder
        self.detector = detector
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.embedder is not None:
            check_methods(self.embedder, "embedder", "fit", "transform")
            if getattr(self.embedder, "data", "tables") != "graphs":
                raise InputError(f"embedder={told(self.embedder)} is not made for graphs")
        if self.detector is not None:
            check_methods(self.detector, "detector", "fit", "anomaly_score")
            if getattr(self.detector, "data", "tables") != "tables":
                raise InputError(f"detector={told(self.detector)} is not made for rows of a table")

    def _fit(self, X: Graphs, y: Ints | None, rng: np.random.Generator) -> None:
        embedder = GraphStatistics() if self.embedder is None else self.embedder
        detector = load_class(find("knn"))() if self.detector is None else self.detector
        self.embedder_ = seeded_clone(embedder, int(rng.integers(2**31)))
        rows = self.embedder_.fit_transform(X)
        self.center_ = rows.mean(axis=0)
        # What rounding alone moves is constant.
        spread = rows.std(axis=0)
        self.scale_ = np.where(spread > 1e-9 * np.maximum(1.0, np.abs(self.center_)), spread, 1.0)
        self.detector_ = seeded_clone(detector, int(rng.integers(2**31)))
        self.detector_.fit((rows - self.center_) / self.scale_)

    def _score(self, X: Graphs) -> Floats:
        return self.detector_.anomaly_score((self.embedder_.transform(X) - self.center_) / self.scale_)


class GraphSize(TakesGraphs, Detector):
    """Distance to the mean size and density.

    Attributes
    ----------
    center_, scale_ : arrays of shape (2,)
        Mean and standard deviation of the logarithms of 1 + nodes and of 1 + mean degree; 1 where they are constant.

    Examples
    --------
    >>> graphs = [np.ones((v, v)) for v in (3, 4, 5)]
    >>> GraphSize().fit(graphs).anomaly_score([np.ones((4, 4)), np.ones((40, 40))]).round(1).tolist()
    [0.1, 16.9]
    """

    def _fit(self, X: Graphs, y: Ints | None, rng: np.random.Generator) -> None:
        rows = self._rows(X)
        self.center_ = rows.mean(axis=0)
        self.scale_ = np.where(rows.std(axis=0) > 1e-9, rows.std(axis=0), 1.0)

    def _rows(self, X: Graphs) -> Floats:
        return np.log1p(np.stack([X.sizes, np.diff(X.starts) / X.sizes], axis=1))

    def _score(self, X: Graphs) -> Floats:
        rows = (self._rows(X) - self.center_) / self.scale_
        return np.sqrt((rows**2).sum(axis=1))


class WLNeighbours(TakesGraphs, Detector):
    """Distance to the k-th nearest training graph by their subtrees.

    Parameters
    ----------
    n_neighbors : int, default 5
        k; all training graphs where they are fewer (ours).
    rounds : int, default 3
        Rounds of Weisfeiler and Lehman (paper: 1 to 5).

    Attributes
    ----------
    columns_ : array of int
        Columns of the nodes' numbers that make the labels.
    labels_ : array of uint64
        All labels of the training set, round after round, sorted.
    counts_, places_, starts_ : arrays
        How often each training graph has which of them, divided by the root of K(g, g): a sparse matrix by rows.

    References
    ----------
    N. Shervashidze, P. Schweitzer, E. J. van Leeuwen, K. Mehlhorn, K. M. Borgwardt: Weisfeiler-Lehman Graph Kernels.
    JMLR 2011.

    Examples
    --------
    >>> ring = [np.roll(np.eye(v), 1, axis=0) for v in (5, 6, 7, 8)]
    >>> star = np.zeros((6, 6))
    >>> star[0, 1:] = 1
    >>> WLNeighbours(n_neighbors=1).fit(ring[:3]).anomaly_score([ring[3], star]).round(2).tolist()
    [0.0, 1.2]
    """

    def __init__(self, n_neighbors: int = 5, rounds: int = 3) -> None:
        self.n_neighbors = n_neighbors
        self.rounds = rounds

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)
        check_number(self.rounds, "rounds", low=0, high=20, integer=True)

    def _fit(self, X: Graphs, y: Ints | None, rng: np.random.Generator) -> None:
        self.columns_ = label_columns(X)
        self.labels_ = np.unique(self._labels(X))
        counts = self._counts(X)
        self.counts_, self.places_, self.starts_ = counts.data, counts.indices, counts.indptr

    def _labels(self, X: Graphs) -> Labels:
        """Return the labels of all rounds (rounds + 1, N); those of different rounds differ."""
        return np.stack(subtree_labels(X, self.columns_, self.rounds))

    def _counts(self, X: Graphs) -> sparse.csr_array:
        """Return how often each known label occurs in each graph, divided by the root of K(g, g)."""
        labels, graph = self._labels(X), np.broadcast_to(X.graph_of_node, (self.rounds + 1, len(X.x)))
        distinct, numbers = np.unique(labels, return_inverse=True)
        shape = (len(X), len(distinct))
        counts = sparse.csr_array(sparse.coo_array((np.ones(labels.size), (graph.ravel(), numbers.ravel())), shape))
        norm = np.sqrt(np.asarray((counts * counts).sum(axis=1)).ravel())
        counts = sparse.csr_array(sparse.diags_array(1.0 / norm) @ counts)
        place = np.minimum(np.searchsorted(self.labels_, distinct), len(self.labels_) - 1)
        known = np.flatnonzero(self.labels_[place] == distinct)
        onto = sparse.csr_array((np.ones(len(known)), (known, place[known])), (len(distinct), len(self.labels_)))
        return sparse.csr_array(counts @ onto)

    def _score(self, X: Graphs) -> Floats:
        shape = (len(self.starts_) - 1, len(self.labels_))
        training = sparse.csr_array((self.counts_, self.places_, self.starts_), shape).T.tocsr()
        rows, k = self._counts(X), min(self.n_neighbors, shape[0])
        parts = []
        for start in progress(range(0, len(X), CHUNK), "comparing graphs", -(-len(X) // CHUNK)):
            alike = (rows[start : start + CHUNK] @ training).toarray()
            parts.append(np.partition(alike, -k, axis=1)[:, -k])
        return np.sqrt(np.maximum(2.0 - 2.0 * np.concatenate(parts), 0.0))
