"""Graphs as rows of numbers: counts and moments, or subtrees.

In: graphs, see `assay.core.graphs`. Out: one row a graph, (n, c), from that graph alone; the order of its nodes does
not matter. Both work on the sparse matrices of many graphs at a time, without a loop over nodes.

`GraphStatistics`, c = 17 + 2 d for d numbers a node, with A the links as 0 and 1 and S = D^-1/2 A D^-1/2 (weighted):

    logarithms of 1 + nodes and of 1 + edges; density; components and isolated nodes, as shares of the nodes
    degrees: mean, standard deviation, skewness, largest; the correlation of the degrees at both ends of an edge
    triangles a node; the mean over nodes of the share of linked neighbours; the same share over the whole graph
    spectral moments tr S^k / v, k = 2, 3, 4: the sum of S∘S, of S²∘S, and of S²∘S²; mean weight (logarithm of 1 + it)
    of each number: its mean over the nodes, and Rayleigh's quotient xᵀLx / xᵀx, L = I − S

`WeisfeilerLehman` counts subtrees. A node's label in round 0 is its row of numbers; in every further round it is that
of its own label and the multiset of its neighbours'. The labels are 64-bit numbers,

    label ← mix(label + c · Σ_neighbours mix(label)) modulo 2^64,   mix: the finaliser of splitmix64,

the same in every process. Of each round's labels, those that most training graphs hold have a column each; one more
counts the other labels of the training set, and one those it never held. Columns of the nodes' numbers with many
different values (coordinates, charges) would make every node its own kind: they are left out of the labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.utils.validation import check_is_fitted

from assay.base import Embedder, TakesGraphs
from assay.core.graphs import Graphs
from assay.core.progress import progress
from assay.core.validation import Floats, Ints, check_number
from assay.kernels.graphs import graph_sums, laplacian, rayleigh_quotients

Labels = npt.NDArray[np.uint64]
#: Graphs that are described at a time: memory grows with it, the rows do not depend on it.
CHUNK = 512
#: A column of the nodes' numbers with more different values than this makes no labels.
MOST_VALUES = 30


class GraphStatistics(TakesGraphs, Embedder):
    """Sizes, degrees, triangles, spectral moments, means and smoothness of the nodes' numbers.

    Attributes
    ----------
    n_features_in_ : int
        How many numbers a node has.

    Examples
    --------
    >>> triangle = (np.ones((3, 3)) - np.eye(3), np.ones((3, 1)))
    >>> row = GraphStatistics().fit_transform([triangle])[0]
    >>> dict(zip(GraphStatistics.NAMES, row.round(2).tolist()))["clustering"]
    1.0
    """

    NAMES = (
        "nodes",
        "edges",
        "density",
        "components",
        "isolated",
        "mean degree",
        "spread of degrees",
        "skewness of degrees",
        "largest degree",
        "degree correlation",
        "triangles a node",
        "clustering",
        "transitivity",
        "moment 2",
        "moment 3",
        "moment 4",
        "mean weight",
    )

    def _fit(self, X: Graphs, rng: np.random.Generator) -> None:
        """Learn nothing."""

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return what each number of a row is, array of str of shape (c,)."""
        check_is_fitted(self)
        numbers = range(1, self.n_features_in_ + 1)
        own = [f"{what} of number {number}" for what in ("mean", "roughness") for number in numbers]
        return np.array([*self.NAMES, *own], dtype=object)

    def _embed(self, X: Graphs) -> Floats:
        starts = range(0, max(len(X), 1), CHUNK)
        parts = [_statistics(X[s : s + CHUNK]) for s in progress(starts, "describing graphs", len(starts))]
        return np.concatenate(parts)


def _statistics(X: Graphs) -> Floats:
    sizes, edges = X.sizes.astype(np.float64), np.diff(X.starts) / 2
    graph = X.graph_of_node
    links = sparse.csr_array(X.adjacency() > 0, dtype=np.float64)
    degrees = np.bincount(X.edges[0], minlength=len(X.x)).astype(np.float64)
    mean = graph_sums(degrees, X) / sizes
    off = degrees - mean[graph]
    spread = np.sqrt(graph_sums(off**2, X) / sizes)
    skewness = _ratio(graph_sums(off**3, X) / sizes, spread**3)
    walks = links @ links
    closed = graph_sums(np.asarray((walks * links).sum(axis=1)), X)
    wedges = graph_sums(degrees * (degrees - 1), X)
    clustering = _ratio(np.asarray((walks * links).sum(axis=1)), degrees * (degrees - 1))
    _, component = connected_components(links, directed=False)
    owner = np.zeros(int(component.max(initial=-1)) + 1, dtype=np.int64)
    owner[component] = graph
    S = sparse.csr_array(sparse.diags_array((X.degrees() > 0).astype(np.float64)) - laplacian(X))
    two = S @ S
    moments = [
        graph_sums(np.asarray(product.sum(axis=1)).ravel(), X) / sizes for product in (S * S, two * S, two * two)
    ]
    columns = [
        np.log1p(sizes),
        np.log1p(edges),
        _ratio(2 * edges, sizes * (sizes - 1)),
        np.bincount(owner, minlength=len(X)) / sizes,
        graph_sums((degrees == 0).astype(np.float64), X) / sizes,
        mean,
        spread,
        skewness,
        np.maximum.reduceat(degrees, X.nodes[:-1]),
        _degree_correlation(X, degrees),
        closed / 6 / sizes,
        graph_sums(clustering, X) / sizes,
        _ratio(closed, wedges),
        *moments,
        np.log1p(_ratio(graph_sums(X.degrees(), X), 2 * edges)),
    ]
    return np.concatenate(
        [np.stack(columns, axis=1), graph_sums(X.x, X) / sizes[:, None], rayleigh_quotients(X)], axis=1
    )


def _ratio(a: npt.NDArray[Any], b: Floats) -> Floats:
    """Return a / b, 0 where b is next to nothing."""
    return np.divide(a, b, out=np.zeros(len(a)), where=np.abs(b) > 1e-12)


def _degree_correlation(X: Graphs, degrees: Floats) -> Floats:
    """Return the correlation, over each graph's edges, of the degrees at both ends; 0 where these are all the same."""
    graph = X.graph_of_node[X.edges[0]]
    ends = degrees[X.edges]
    count = np.bincount(graph, minlength=len(X)).astype(np.float64)
    middle = _ratio(np.bincount(graph, ends[0], minlength=len(X)), count)
    off = ends - middle[graph]
    both, own = (np.bincount(graph, product, minlength=len(X)) for product in (off[0] * off[1], off[0] ** 2))
    return _ratio(both, own)


def mixed(values: Labels) -> Labels:
    """Return 64-bit numbers whose bits all depend on all bits of those given (Steele's splitmix64 finaliser)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def subtree_labels(X: Graphs, columns: Ints, rounds: int) -> list[Labels]:
    """Return the labels (N,) of the nodes in round 0, 1, … `rounds`, from these columns of their numbers."""
    odd = np.uint64(0x9E3779B97F4A7C15)
    # Adding 0 makes one zero of two.
    values = np.ascontiguousarray(X.x[:, columns] + 0.0).view(np.uint64)
    places = mixed(np.arange(1, len(columns) + 1, dtype=np.uint64) * odd)
    labels = [mixed(mixed(values + places).sum(axis=1, dtype=np.uint64))]
    starts = np.searchsorted(X.edges[0], np.arange(len(X.x) + 1))
    for number in range(1, rounds + 1):
        # Sums of neighbours as differences of running sums, which is exact modulo 2^64.
        running = np.zeros(X.edges.shape[1] + 1, dtype=np.uint64)
        np.cumsum(mixed(labels[-1] + np.uint64(number))[X.edges[1]], out=running[1:])
        labels.append(mixed(labels[-1] + odd * (running[starts[1:]] - running[starts[:-1]])))
    return labels


def label_columns(X: Graphs, most: int = MOST_VALUES) -> Ints:
    """Return which columns of the nodes' numbers make labels: those with at most `most` different values."""
    return np.flatnonzero([len(np.unique(column)) <= most for column in X.x.T])


class WeisfeilerLehman(TakesGraphs, Embedder):
    """How often each subtree of up to three rounds occurs.

    Parameters
    ----------
    rounds : int, default 3
        Rounds after the nodes' own labels (papers: 1 to 5).
    n_labels : int, default 30
        Labels of each round that have a column, those that most training graphs hold (ours).

    Attributes
    ----------
    columns_ : array of int
        Columns of the nodes' numbers that make the labels.
    labels_ : list of arrays of uint64
        For each round the labels with a column, sorted.
    others_ : list of arrays of uint64
        For each round the other labels of the training set, sorted.

    References
    ----------
    N. Shervashidze, P. Schweitzer, E. J. van Leeuwen, K. Mehlhorn, K. M. Borgwardt: Weisfeiler-Lehman Graph Kernels.
    JMLR 2011.

    Examples
    --------
    >>> path = np.diag([1, 1], 1)
    >>> WeisfeilerLehman(rounds=1).fit([path]).transform([path, np.ones((3, 3))])
    array([[3., 0., 0., 2., 1., 0., 0.],
           [3., 0., 0., 0., 3., 0., 0.]])
    """

    def __init__(self, rounds: int = 3, n_labels: int = 30) -> None:
        self.rounds = rounds
        self.n_labels = n_labels

    def _check_parameters(self) -> None:
        check_number(self.rounds, "rounds", low=0, high=20, integer=True)
        check_number(self.n_labels, "n_labels", low=1, integer=True)

    def _fit(self, X: Graphs, rng: np.random.Generator) -> None:
        self.columns_ = label_columns(X)
        self.labels_, self.others_ = [], []
        graph = X.graph_of_node
        for labels in subtree_labels(X, self.columns_, self.rounds):
            distinct, numbers = np.unique(labels, return_inverse=True)
            # In how many graphs each occurs: a node that repeats the label of one before it in its graph adds nothing.
            pairs = np.unique(graph * len(distinct) + numbers.ravel())
            graphs = np.bincount(pairs % len(distinct), minlength=len(distinct))
            order = np.argsort(-graphs, kind="stable")
            self.labels_.append(np.sort(distinct[order[: self.n_labels]]))
            self.others_.append(np.sort(distinct[order[self.n_labels :]]))

    def _embed(self, X: Graphs) -> Floats:
        graph, parts = X.graph_of_node, []
        for labels, kept, others in zip(subtree_labels(X, self.columns_, self.rounds), self.labels_, self.others_):
            place = np.minimum(np.searchsorted(kept, labels), len(kept) - 1)
            column = np.where(kept[place] == labels, place, len(kept) + 1 - np.isin(labels, others))
            width = len(kept) + 2
            counts = np.bincount(graph * width + column, minlength=len(X) * width)
            parts.append(counts.reshape(len(X), width).astype(np.float64))
        return np.concatenate(parts, axis=1)
