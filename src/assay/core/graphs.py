"""Graphs at the door: whatever describes a list of graphs becomes one flat batch of nodes and edges.

In: a list of graphs, each one of

    Graph(x, edges, weights)            arrays, see below
    an adjacency matrix (v, v)          array or scipy.sparse, symmetric; an entry > 0 is an edge of that weight
    (adjacency matrix, x)               with x (v, d), the numbers of each node
    a torch_geometric ``Data``          ``edge_index``, ``x``, ``edge_weight``, ``num_nodes``; nothing else of it
    a networkx graph                    node attribute ``x``, edge attribute ``weight``

Out: `Graphs`. Graphs are undirected: an edge given in one direction goes both ways. Self-loops are dropped, an edge
given twice counts once. A graph without edges, isolated nodes and a single node are graphs; nodes without numbers get
one, the constant 1 (`with_degrees` tells nodes apart by their degree).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from assay.core.validation import Floats, InputError, Ints, refuse_non_finite, told


class Graph(NamedTuple):
    """One graph.

    Attributes
    ----------
    x : array of shape (v, d)
        The numbers of each of v nodes; d may be 0.
    edges : array of int of shape (2, e)
        The nodes at both ends of each edge, from 0.
    weights : array of shape (e,), optional
        Weight of each edge, > 0; 1 by default.
    """

    x: Floats
    edges: Ints
    weights: Floats | None = None


class Graphs(Sequence[Graph]):
    """Graphs in one piece: the nodes of all, one graph after another, and their edges, numbered throughout.

    Parameters
    ----------
    x : array of shape (N, d)
        The numbers of every node.
    nodes : array of int of shape (n + 1,)
        Where the nodes of each graph begin; the last is N.
    edges : array of int of shape (2, E)
        Source and target of every edge, in both directions, sorted by graph; numbers of nodes from 0 to N - 1.
    weights : array of shape (E,)
        Weight of every edge.
    """

    def __init__(self, x: Floats, nodes: Ints, edges: Ints, weights: Floats) -> None:
        self.x = x
        self.nodes = nodes
        self.edges = edges
        self.weights = weights
        #: Where the edges of each graph begin, (n + 1,).
        self.starts: Ints = np.searchsorted(edges[0], nodes)

    def __len__(self) -> int:
        return len(self.nodes) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return one `Graph` for a number, `Graphs` for a slice, numbers or booleans."""
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[int(index)]
            first, start, stop = self.nodes[row], self.starts[row], self.starts[row + 1]
            return Graph(
                self.x[first : self.nodes[row + 1]], self.edges[:, start:stop] - first, self.weights[start:stop]
            )
        rows = np.arange(len(self))[index]
        sizes, counts = self.sizes[rows], np.diff(self.starts)[rows]
        nodes = _offsets(sizes)
        # Position in the flat arrays of each node and edge that is kept, without a loop over graphs.
        kept = _ranges(self.nodes[rows], sizes)
        taken = _ranges(self.starts[rows], counts)
        shift = np.repeat(nodes[:-1] - self.nodes[rows], counts)
        return Graphs(self.x[kept], nodes, self.edges[:, taken] + shift, self.weights[taken])

    @property
    def sizes(self) -> Ints:
        """Number of nodes of each graph, (n,)."""
        return np.diff(self.nodes)

    @property
    def graph_of_node(self) -> Ints:
        """Number of the graph of each node, (N,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def adjacency(self) -> sparse.csr_array:
        """Return the block-diagonal adjacency matrix (N, N) of all graphs."""
        total = len(self.x)
        # The edges are sorted by source: their rows need no sorting again.
        starts = np.searchsorted(self.edges[0], np.arange(total + 1))
        return sparse.csr_array((self.weights, self.edges[1], starts), shape=(total, total))

    def degrees(self) -> Floats:
        """Return the sum of the weights of each node's edges, (N,)."""
        degrees: Floats = np.bincount(self.edges[0], weights=self.weights, minlength=len(self.x)).astype(np.float64)
        return degrees


def _offsets(counts: Any) -> Ints:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """Return ``start, start + 1, …`` for each start, as many as `counts` says, one after another."""
    return np.repeat(starts - _offsets(counts)[:-1], counts) + np.arange(counts.sum())


def as_graphs(X: Any, name: str = "X", *, min_graphs: int = 1) -> Graphs:
    """Return `X` as `Graphs` of float64.

    Raises
    ------
    InputError
        If a graph cannot be read, has no node, an edge to a node that is not there, a weight that is negative or not
        finite, numbers that are not finite, or more or fewer numbers a node than the first (the message gives the
        graph's number); or if there are too few.
    """
    if not isinstance(X, Graphs):
        if isinstance(X, (str, bytes, Graph)) or sparse.issparse(X) or not hasattr(X, "__iter__"):
            raise InputError(f"{name} is {told(X)}: give a list of graphs")
        X = joined_graphs([_read(graph, f"{name}: graph {number}") for number, graph in enumerate(X)], name)
    if len(X) < min_graphs:
        raise InputError(f"{name} has {len(X)} graphs, at least {min_graphs} needed")
    refuse_non_finite(X.x, f"{name}, the nodes of all graphs one after another,")
    return X


def joined_graphs(graphs: Sequence[Graph], name: str = "X") -> Graphs:
    """Return graphs as one `Graphs`: edges in both directions, without loops and repetitions, sorted.

    Raises
    ------
    InputError
        If a graph's nodes have another width than those of the first.
    """
    if not graphs:
        return Graphs(np.empty((0, 1)), np.zeros(1, np.int64), np.empty((2, 0), np.int64), np.empty(0))
    widths = [graph.x.shape[1] for graph in graphs]
    for number, width in enumerate(widths):
        if width != widths[0]:
            raise InputError(f"{name}: nodes of graph {number} have {width} numbers, those of the first {widths[0]}")
    nodes = _offsets([len(graph.x) for graph in graphs])
    total = int(nodes[-1])
    x = np.concatenate([graph.x for graph in graphs]) if widths[0] else np.ones((total, 1))
    ends = np.concatenate([graph.edges + first for graph, first in zip(graphs, nodes)], axis=1).astype(np.int64)
    weights = np.concatenate(
        [np.ones(graph.edges.shape[1]) if graph.weights is None else graph.weights for graph in graphs]
    )
    real = (ends[0] != ends[1]) & (weights > 0)
    ends, weights = np.concatenate([ends[:, real], ends[::-1, real]], axis=1), np.concatenate([weights[real]] * 2)
    # Of an edge given twice the larger weight counts, so that both its directions stay alike.
    order = np.lexsort((-weights, ends[1], ends[0]))
    ends, weights = ends[:, order], weights[order]
    first_of_its_kind = np.ones(len(weights), dtype=bool)
    first_of_its_kind[1:] = (ends[:, 1:] != ends[:, :-1]).any(axis=0)
    return Graphs(
        np.ascontiguousarray(x, dtype=np.float64), nodes, ends[:, first_of_its_kind], weights[first_of_its_kind]
    )


def _read(graph: Any, name: str) -> Graph:
    """Return one graph of any accepted kind as arrays."""
    if isinstance(graph, Graph):
        x, edges, weights = graph
    elif hasattr(graph, "edge_index"):
        x, edges, weights = _from_torch_geometric(graph)
    elif hasattr(graph, "nodes") and hasattr(graph, "edges"):
        x, edges, weights = _from_networkx(graph, name)
    else:
        x, edges, weights = _from_adjacency(graph, name)
    return _checked(x, edges, weights, name)


def _from_torch_geometric(data: Any) -> tuple[Any, Any, Any]:
    x, weights = getattr(data, "x", None), getattr(data, "edge_weight", None)
    x = np.empty((int(data.num_nodes), 0)) if x is None else np.asarray(x)
    return x, np.asarray(data.edge_index), None if weights is None else np.asarray(weights)


def _from_networkx(graph: Any, name: str) -> tuple[Any, Any, Any]:
    place = {node: number for number, node in enumerate(graph.nodes)}
    told_of = [attributes["x"] for _, attributes in graph.nodes(data=True) if "x" in attributes]
    if 0 < len(told_of) < len(place):
        raise InputError(f"{name}: {len(place) - len(told_of)} of {len(place)} nodes lack the attribute 'x'")
    try:
        x = np.array([np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in told_of])
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: attribute 'x' of the nodes is not as many numbers for each: {error}") from error
    rows = [(place[a], place[b], attributes.get("weight", 1.0)) for a, b, attributes in graph.edges(data=True)]
    edges = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2).T
    return x if told_of else np.empty((len(place), 0)), edges, np.array([row[2] for row in rows])


def _from_adjacency(graph: Any, name: str) -> tuple[Any, Any, Any]:
    matrix, x = graph if isinstance(graph, tuple) and len(graph) == 2 else (graph, None)
    try:
        matrix = sparse.coo_array(matrix)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {told(graph)}: give a Graph, an adjacency matrix or (matrix, x)") from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"{name}: the adjacency matrix has shape {matrix.shape}, give it as many rows as columns")
    if matrix.dtype.kind not in "biuf":
        raise InputError(f"{name}: the adjacency matrix holds {matrix.dtype}: give numbers")
    if x is not None and (not hasattr(x, "__len__") or len(x) != matrix.shape[0]):
        raise InputError(f"{name}: x is {told(x)} for {matrix.shape[0]} nodes: give a row of numbers for each")
    x = np.empty((matrix.shape[0], 0)) if x is None else x
    return x, np.stack([matrix.row, matrix.col]), matrix.data


def _checked(x: Any, edges: Any, weights: Any, name: str) -> Graph:
    """Return arrays of the right kinds, or raise one clear error."""
    try:
        x = np.asarray(x, dtype=np.float64)
        ends = np.asarray(edges)
        ends = ends.reshape(2, 0) if ends.size == 0 else ends
        weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as arrays of numbers: {error}") from error
    if x.ndim != 2 or len(x) == 0:
        raise InputError(f"{name}: x has shape {x.shape}: give (nodes, numbers), at least one node")
    if ends.ndim != 2 or len(ends) != 2 or (ends.size and ends.dtype.kind not in "iu"):
        raise InputError(f"{name}: edges is {ends.dtype} of shape {ends.shape}: give numbers of nodes (2, edges)")
    if ends.size and not 0 <= ends.min() <= ends.max() < len(x):
        raise InputError(f"{name}: an edge ends at node {ends.max() if ends.min() >= 0 else ends.min()} of {len(x)}")
    if weights is not None:
        if weights.shape != ends.shape[1:]:
            raise InputError(f"{name}: weights has shape {weights.shape}: give one for each of {ends.shape[1]} edges")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise InputError(f"{name}: a weight is negative or not finite; give numbers >= 0")
    return Graph(x, ends.astype(np.int64), weights)


def with_degrees(graphs: Graphs, highest: int = 20) -> Graphs:
    """Return graphs whose nodes tell their degree: `highest` + 1 zeros and ones, larger degrees in the last."""
    neighbours = np.bincount(graphs.edges[0], minlength=len(graphs.x))
    x = np.zeros((len(graphs.x), highest + 1))
    x[np.arange(len(x)), np.minimum(neighbours, highest)] = 1.0
    return Graphs(x, graphs.nodes, graphs.edges, graphs.weights)
