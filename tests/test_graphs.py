"""Graphs at the door, their matrices, sets in the TU layout, and random graphs."""

import warnings

import networkx
import numpy as np
import pytest
import torch
from scipy import sparse, stats
from scipy.sparse import csgraph

from assay.core.graphs import Graph, Graphs, as_graphs, joined_graphs, with_degrees
from assay.core.validation import InputError
from assay.datasets.graphs import load_graphs
from assay.datasets.simulators.graphs import FAMILIES, random_graphs, signals_on_graphs
from assay.kernels.graphs import graph_sums, laplacian, rayleigh_quotients, spectral_energy_curve
from assay.metrics.ranking import roc_auc
from assay.nn.graphs import GIN, batch_of, batches, graph_sum, sparse_tensor

with warnings.catch_warnings():  # what the import itself says
    warnings.simplefilter("ignore")
    from torch_geometric.data import Data

NONE = np.empty((2, 0), dtype=np.int64)
#: A path of three nodes, two numbers each.
PATH = Graph(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[0, 1], [1, 2]]))
BOTH_WAYS = [[0, 1, 1, 2], [1, 0, 2, 1]]


def random_weighted(n=12, seed=0):
    """Return graphs of 1 to 15 nodes with weights, some of them without edges or with isolated nodes."""
    rng = np.random.default_rng(seed)
    graphs = []
    for size in rng.integers(1, 16, n):
        ends = np.stack(np.triu_indices(size, 1))
        ends = ends[:, rng.random(ends.shape[1]) < rng.choice([0.0, 0.15, 0.5])]
        graphs.append(Graph(rng.normal(size=(size, 3)), ends, rng.uniform(0.2, 3.0, ends.shape[1])))
    return graphs


def dense(graph):
    """Return the symmetric adjacency matrix of a graph whose edges are given in one direction."""
    A = np.zeros((len(graph.x),) * 2)
    A[tuple(graph.edges)] = graph.weights
    return A + A.T


def equal(one, other):
    """Tell whether two `Graphs` are the same."""
    parts = ("x", "nodes", "edges", "weights", "starts")
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)


def refused(X, *words):
    with pytest.raises(InputError) as error:
        as_graphs(X, "graphs")
    message = str(error.value)
    assert message.startswith("graphs") and len(message) < 300, message
    assert all(word in message for word in words), message


# -- at the door -----------------------------------------------------------------------------------------------------


def test_edges_go_both_ways_sorted_without_loops_and_repetitions():
    edges = np.array([[1, 0, 2, 1, 2, 0], [0, 1, 1, 1, 2, 1]])
    graphs = as_graphs([PATH, PATH._replace(edges=edges)])
    assert graphs.edges.tolist() == [[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]]
    assert graphs.nodes.tolist() == [0, 3, 6] and graphs.starts.tolist() == [0, 4, 8]
    assert (graphs.weights == 1).all() and graphs.weights.shape == (8,)
    assert graphs.x.dtype == np.float64 and graphs.x.tolist() == PATH.x.tolist() * 2
    assert graphs.sizes.tolist() == [3, 3] and graphs.graph_of_node.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_larger_weight_counts_in_both_directions_and_zero_is_no_edge():
    edges, weights = np.array([[0, 1, 0, 2], [1, 0, 1, 0]]), np.array([2.0, 5.0, 1.0, 0.0])
    graphs = as_graphs([Graph(np.ones((3, 1)), edges, weights)])
    assert graphs.edges.tolist() == [[0, 1], [1, 0]] and graphs.weights.tolist() == [5.0, 5.0]
    assert graphs.degrees().tolist() == [5.0, 5.0, 0.0]
    assert (graphs.adjacency().toarray() == [[0, 5, 0], [5, 0, 0], [0, 0, 0]]).all()


def test_a_matrix_with_one_triangle_or_both_is_the_same_graph():
    A = np.array([[7.0, 2.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    expected = as_graphs([A + A.T])
    for matrix in (A, A.T, np.asarray(A, dtype=int), A.tolist(), sparse.csr_matrix(A), sparse.coo_array(A + A.T)):
        assert equal(as_graphs([matrix]), expected)
    assert expected.edges.tolist() == BOTH_WAYS and expected.weights.tolist() == [2, 2, 3, 3], "the loop is gone"
    assert as_graphs([A > 0]).weights.tolist() == [1, 1, 1, 1]


def test_every_kind_of_graph_is_the_same_graph():
    A = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    known = networkx.path_graph(["c", "a", "b"])
    for name, row in zip("cab", PATH.x):
        known.nodes[name]["x"] = row
    data = Data(x=torch.from_numpy(PATH.x), edge_index=torch.tensor(BOTH_WAYS))
    expected = as_graphs([PATH])
    for graph in (PATH._replace(edges=np.array(BOTH_WAYS)), (A, PATH.x), (sparse.csc_matrix(A), PATH.x), data, known):
        assert equal(as_graphs([graph]), expected)
    assert equal(as_graphs(iter([PATH])), expected) and equal(as_graphs((PATH,)), expected)
    assert as_graphs(expected) is expected


def test_weights_of_other_libraries():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_weight=torch.tensor([2.0, 2.0]), num_nodes=4)
    data.x = None
    graphs = as_graphs([data])
    assert graphs.weights.tolist() == [2.0, 2.0] and graphs.x.tolist() == [[1.0]] * 4
    known = networkx.Graph()
    known.add_edge("a", "b", weight=2.5)
    known.add_node("alone")
    graphs = as_graphs([known])
    assert graphs.weights.tolist() == [2.5, 2.5] and graphs.sizes.tolist() == [3] and graphs.x.shape == (3, 1)
    directed, multiple = networkx.DiGraph([(0, 1), (1, 0)]), networkx.MultiGraph([(0, 1), (0, 1)])
    for one in (directed, multiple):
        assert as_graphs([one]).edges.tolist() == [[0, 1], [1, 0]]
    numbered = networkx.Graph([(0, 1)])
    for node in numbered:
        numbered.nodes[node]["x"] = node + 0.5
    assert as_graphs([numbered]).x.tolist() == [[0.5], [1.5]], "one number is a row of one"


def test_small_graphs_are_graphs():
    graphs = as_graphs([np.zeros((1, 1)), Graph(np.empty((2, 0)), NONE), Graph(np.empty((2, 0)), [])])
    assert graphs.sizes.tolist() == [1, 2, 2] and graphs.x.tolist() == [[1.0]] * 5
    assert graphs.edges.shape == (2, 0) and graphs.weights.shape == (0,)
    assert len(joined_graphs([])) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("text", ["'text'"]),
        (7, ["7"]),
        (None, ["None"]),
        (PATH, ["list of graphs"]),
        (sparse.eye_array(3), ["list of graphs"]),
        ([], ["0 graphs", "at least 1"]),
        ([PATH, "text"], ["graph 1"]),
        ([PATH, 7], ["graph 1"]),
        ([PATH, None], ["graph 1"]),
        ([np.ones((2, 3))], ["graph 0", "(2, 3)"]),
        ([np.ones(3)], ["graph 0"]),
        ([np.ones((2, 2, 2))], ["graph 0"]),
        ([np.array([["a", "b"], ["c", "d"]])], ["graph 0"]),
        ([np.eye(2) * 1j], ["graph 0", "complex"]),
        ([-np.ones((2, 2))], ["graph 0", "negative"]),
        ([np.array([[0, np.nan], [np.nan, 0]])], ["graph 0", "not finite"]),
        ([np.zeros((0, 0))], ["graph 0", "at least one node"]),
        ([(np.eye(2), np.ones((3, 1)))], ["graph 0", "2 nodes"]),
        ([(np.eye(2), 7)], ["graph 0", "2 nodes"]),
        ([(np.eye(2), np.ones(2))], ["graph 0", "x has shape (2,)"]),
        ([(np.eye(2), [["a"], ["b"]])], ["graph 0", "numbers"]),
        ([(np.eye(2), [[1], [1, 2]])], ["graph 0", "numbers"]),
        ([PATH, PATH._replace(x=np.empty((0, 2)), edges=NONE)], ["graph 1", "at least one node"]),
        ([PATH, PATH._replace(x=PATH.x[:, :1])], ["graph 1", "1 numbers", "2"]),
        ([PATH, PATH._replace(x=np.empty((3, 0)))], ["graph 1", "0 numbers"]),
        ([PATH._replace(edges=np.array([[0], [3]]))], ["graph 0", "node 3 of 3"]),
        ([PATH._replace(edges=np.array([[0], [-1]]))], ["graph 0", "node -1"]),
        ([PATH._replace(edges=np.array([[0.0], [1.0]]))], ["graph 0", "float64"]),
        ([PATH._replace(edges=np.array([0, 1]))], ["graph 0", "(2,)"]),
        ([PATH._replace(edges=np.array([[0, 1, 2]] * 3))], ["graph 0", "(3, 3)"]),
        ([PATH._replace(weights=np.ones(3))], ["graph 0", "weights", "(3,)"]),
        ([PATH._replace(weights=np.array([1.0, -1.0]))], ["graph 0", "negative"]),
        ([PATH._replace(weights=np.array([1.0, np.inf]))], ["graph 0", "not finite"]),
        ([PATH, PATH._replace(x=np.full((3, 2), np.nan))], ["NaN", "row 3"]),
        ([PATH._replace(x=np.full((3, 2), np.inf))], ["inf"]),
        ([PATH._replace(x=np.full((3, 2), 1e200))], ["too large"]),
    ],
)
def test_bad_graphs_are_one_clear_error(wrong, words):
    refused(wrong, *words)


def test_bad_graphs_of_other_libraries_are_one_clear_error():
    known = networkx.path_graph(3)
    known.nodes[0]["x"] = [1.0]
    refused([known], "graph 0", "2 of 3 nodes lack")
    for value in ("text", [1.0, 2.0]):
        for node in known:
            known.nodes[node]["x"] = value if node else [1.0]
        refused([known], "graph 0", "'x'")
    known = networkx.Graph()
    known.add_edge(0, 1, weight="heavy")
    refused([known], "graph 0", "numbers")
    refused([networkx.Graph()], "graph 0", "at least one node")
    refused([Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [5]]))], "graph 0", "node 5 of 2")
    refused([Data(x=torch.ones(2), edge_index=torch.tensor([[0], [1]]))], "graph 0", "x has shape (2,)")


def test_slices_are_the_graphs_themselves():
    given = random_weighted(20)
    graphs = as_graphs(given)
    for index in (0, 7, -1, np.int64(3)):
        one = graphs[index]
        assert isinstance(one, Graph) and np.array_equal(one.x, given[int(index)].x)
        A = np.zeros((len(one.x),) * 2)
        A[tuple(one.edges)] = one.weights
        assert np.array_equal(A, dense(given[int(index)]))
    mask = np.arange(20) % 3 == 0
    for index in (slice(3, 9), slice(None, None, -2), [4, 4, 1], np.array([19, 0]), mask, slice(0, 0)):
        rows = np.arange(20)[index]
        expected = joined_graphs([given[row] for row in rows])
        part = graphs[index]
        if len(rows):
            assert equal(part, expected)
        assert len(part) == len(rows) and part.nodes[-1] == len(part.x)
    for index in (20, -21):
        with pytest.raises(IndexError):
            graphs[index]
    assert len(list(graphs)) == 20


def test_the_callers_arrays_stay_theirs():
    given = [graph._replace(x=graph.x.copy(), weights=graph.weights.copy()) for graph in random_weighted()]
    for graph in given:
        for array in graph:
            array.setflags(write=False)
    graphs = as_graphs(given)
    graphs.x[:] = 0.0
    graphs.weights[:] = 0.0
    assert all(np.array_equal(one.x, other.x) for one, other in zip(given, random_weighted()))


def test_degrees_are_one_hot_and_large_ones_share_the_last():
    star = Graph(np.empty((6, 0)), np.stack([np.zeros(5, int), np.arange(1, 6)]), np.full(5, 9.0))
    graphs = with_degrees(as_graphs([star, np.zeros((1, 1))]), highest=3)
    assert graphs.x.argmax(axis=1).tolist() == [3, 1, 1, 1, 1, 1, 0] and (graphs.x.sum(axis=1) == 1).all()
    assert graphs.x.shape == (7, 4)


# -- matrices --------------------------------------------------------------------------------------------------------


def test_laplacian_is_block_diagonal_and_that_of_scipy():
    given = random_weighted()
    graphs = as_graphs(given)
    L = laplacian(graphs)
    assert sparse.issparse(L)
    for graph, first in zip(given, graphs.nodes):
        block = slice(first, first + len(graph.x))
        expected = csgraph.laplacian(dense(graph), normed=True)
        np.testing.assert_allclose(L[block, block].toarray(), expected, atol=1e-14)
    assert L.nnz <= len(graphs.x) + len(graphs.weights)


def test_sums_over_graphs():
    graphs = as_graphs(random_weighted())
    expected = [graph.x.sum(axis=0) for graph in graphs]
    np.testing.assert_allclose(graph_sums(graphs.x, graphs), expected)
    np.testing.assert_allclose(graph_sums(graphs.x[:, 0], graphs), np.array(expected)[:, 0])
    assert graph_sums(graphs[:0].x, graphs[:0]).shape == (0, 3)


def test_quotients_are_those_of_dense_matrices():
    given = random_weighted(40)
    L = [csgraph.laplacian(dense(graph), normed=True) for graph in given]
    form = np.array([np.diag(graph.x.T @ one @ graph.x) for graph, one in zip(given, L)])
    power = np.array([(graph.x**2).sum(axis=0) for graph in given])
    graphs = as_graphs(given)
    np.testing.assert_allclose(rayleigh_quotients(graphs), form / power, atol=1e-12)
    np.testing.assert_allclose(rayleigh_quotients(graphs, normalize=False), form, atol=1e-12)
    assert (rayleigh_quotients(graphs) >= 0).all() and (rayleigh_quotients(graphs) <= 2 + 1e-12).all()


def connected(seed=0, size=30):
    """Return a random connected graph, with its dense normalised Laplacian."""
    rng = np.random.default_rng(seed)
    ends = np.stack(np.triu_indices(size, 1))
    ends = ends[:, (rng.random(ends.shape[1]) < 0.15) | (ends[1] == ends[0] + 1)]
    graph = Graph(rng.normal(size=(size, 2)), ends, rng.uniform(0.5, 2.0, ends.shape[1]))
    return graph, csgraph.laplacian(dense(graph), normed=True)


def test_the_quotient_of_an_eigenvector_is_its_eigenvalue():
    graph, L = connected()
    values, vectors = np.linalg.eigh(L)
    np.testing.assert_allclose(rayleigh_quotients(as_graphs([graph._replace(x=vectors)]))[0], values, atol=1e-12)
    root = np.sqrt(dense(graph).sum(axis=1))[:, None]
    assert rayleigh_quotients(as_graphs([graph._replace(x=root)]))[0, 0] == pytest.approx(0, abs=1e-12)


def test_the_area_above_the_energy_curve_is_the_quotient():
    graph, _ = connected(1)
    graphs = as_graphs([graph])
    for column in (0, 1):
        values, energy = spectral_energy_curve(graphs, column)
        area = (np.diff(values) * (1 - energy[:-1])).sum()
        assert area == pytest.approx(rayleigh_quotients(graphs)[0, column], abs=1e-10)
        assert (np.diff(energy) >= 0).all() and energy[-1] == pytest.approx(1)
    values, energy = spectral_energy_curve(as_graphs([graph._replace(x=0 * graph.x)]))
    assert (energy == 1).all()


def test_quotients_bend_as_much_as_the_matrix_does():
    graph, L = connected(2)
    heavier = graph._replace(weights=graph.weights * np.random.default_rng(0).uniform(0.8, 1.2, len(graph.weights)))
    before, after = (rayleigh_quotients(as_graphs([one])) for one in (graph, heavier))
    gap = csgraph.laplacian(dense(heavier), normed=True) - L
    assert 0 < np.abs(after - before).max() <= np.linalg.norm(gap, 2)
    x, delta = graph.x[:, 0], 1e-6 * np.random.default_rng(1).normal(size=30)
    moved = rayleigh_quotients(as_graphs([graph._replace(x=(x + delta)[:, None])]))[0, 0] - before[0, 0]
    slope = 2 * x @ (L - before[0, 0] * np.eye(30)) @ delta / (x @ x)
    assert moved == pytest.approx(slope, rel=1e-3)


def test_quotients_ignore_the_order_of_nodes_and_the_size_of_x_and_forms_only_the_order():
    graph, _ = connected(3)
    order = np.random.default_rng(0).permutation(30)
    moved = graph._replace(x=graph.x[order], edges=np.argsort(order)[graph.edges])
    graphs, same, larger = (as_graphs([one]) for one in (graph, moved, graph._replace(x=3 * graph.x)))
    for normalize in (True, False):
        np.testing.assert_allclose(rayleigh_quotients(graphs, normalize), rayleigh_quotients(same, normalize))
    np.testing.assert_allclose(rayleigh_quotients(graphs), rayleigh_quotients(larger))
    np.testing.assert_allclose(9 * rayleigh_quotients(graphs, False), rayleigh_quotients(larger, False))


def test_quotients_at_the_edge():
    two_sides = np.array([[a, b] for a in range(3) for b in range(3, 6)]).T
    x = np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    pair = Graph(np.array([[1.0], [-1.0], [5.0]]), np.array([[0], [1]]))
    given = [
        Graph(x, two_sides),  # λ = 2
        Graph(np.abs(x), two_sides),  # λ = 0
        Graph(x[:1], NONE),
        Graph(x, NONE),
        Graph(0 * x, two_sides),
        pair,  # an isolated node has no part in xᵀLx, but in xᵀx
    ]
    np.testing.assert_allclose(rayleigh_quotients(as_graphs(given))[:, 0], [2, 0, 0, 0, 0, 4 / 27], atol=1e-12)


# -- networks --------------------------------------------------------------------------------------------------------


def test_a_batch_is_its_graphs_and_sums_are_theirs():
    graphs = as_graphs(random_weighted())
    batch = batch_of(graphs, graphs.adjacency())
    assert batch.size == len(graphs) and batch.operator.is_sparse and batch.x.dtype == torch.float32
    np.testing.assert_allclose(batch.operator.to_dense(), graphs.adjacency().toarray(), rtol=1e-6)
    np.testing.assert_allclose(graph_sum(batch.x, batch), graph_sums(graphs.x, graphs), rtol=1e-5, atol=1e-5)


def test_sparse_products_have_the_right_gradient():
    graphs = as_graphs(random_weighted(5))
    operator = sparse_tensor(laplacian(graphs))
    x = torch.from_numpy(graphs.x.astype(np.float32)).requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ((operator @ x) * weight).sum().backward()
    np.testing.assert_allclose(x.grad, operator.to_dense().T @ weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "size"), [(1, 4), (4, 4), (5, 4), (6, 4), (9, 4), (10, 3), (2, 100)])
def test_no_graph_is_left_alone_in_a_batch(n, size):
    graphs = as_graphs([PATH] * n)
    order = np.random.default_rng(0).permutation(n)
    parts = batches(graphs, size, order)
    assert np.array_equal(np.concatenate(parts), order)
    assert all(2 <= len(part) <= size + 1 for part in parts) or n == 1
    assert np.array_equal(np.concatenate(batches(graphs, size)), np.arange(n))


@pytest.mark.parametrize("centred", [True, False])
def test_gin_by_hand(centred):
    graphs = as_graphs(random_weighted(6))
    torch.manual_seed(0)
    network = GIN(3, hidden=4, layers=2, centred=centred).eval()
    with torch.no_grad():
        nodes, sums = network(batch_of(graphs, graphs.adjacency()))
        A, h, known = torch.from_numpy(graphs.adjacency().toarray()).float(), torch.from_numpy(graphs.x).float(), []
        for layer, norm in zip(network.layers, network.norms):
            h = torch.nn.functional.leaky_relu(layer(h + A @ h))
            h = h - h.mean(dim=1, keepdim=True) if centred else h
            h = norm(h)
            known.append(h)
    torch.testing.assert_close(nodes, torch.cat(known, dim=1), rtol=1e-4, atol=1e-5)
    for row, (first, last) in enumerate(zip(graphs.nodes, graphs.nodes[1:])):
        torch.testing.assert_close(sums[row], nodes[first:last].sum(dim=0), rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in network.parameters()) and len(list(network.parameters())) == 12
    assert not [name for name, _ in GIN(3, bias=False).named_parameters() if name.endswith("bias")]


# -- sets in the TU layout -------------------------------------------------------------------------------------------


def tu(folder, **files):
    """Write a folder in the TU layout: a triangle of class 1, a pair of class -1, a lone node of class 1."""
    given = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n1, 3\n3, 1\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n3\n",
        "graph_labels": "1\n-1\n1\n",
        "node_labels": "3\n5\n5\n3\n9\n9\n",
        "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, -6e-1\n",
    } | files
    folder.mkdir()
    for kind, text in given.items():
        if text is not None:
            (folder / f"{folder.name}_{kind}.txt").write_text(text)
    return folder


def test_labels_are_one_hot_and_attributes_follow(tmp_path):
    data = load_graphs(tu(tmp_path / "SET"))
    assert data.classes.tolist() == [1, -1, 1] and data.kinds.tolist() == [3, 5, 9]
    assert data.graphs.sizes.tolist() == [3, 2, 1] and np.diff(data.graphs.starts).tolist() == [6, 2, 0]
    assert data.graphs.x[:, :3].argmax(axis=1).tolist() == [0, 1, 1, 0, 2, 2]
    assert data.graphs.x[:, 3:].tolist() == [[0.5, 1], [1.5, 2], [2.5, 3], [3.5, 4], [4.5, 5], [5.5, -0.6]]
    assert data.graphs[1].edges.tolist() == [[0, 1], [1, 0]]


def test_two_parts_share_a_vocabulary(tmp_path):
    first, second = tu(tmp_path / "ONE"), tu(tmp_path / "TWO", node_labels="7\n5\n5\n3\n7\n8\n")
    kinds = np.union1d(load_graphs(first).kinds, load_graphs(second).kinds)
    parts = [load_graphs(folder, kinds=kinds) for folder in (first, second)]
    assert kinds.tolist() == [3, 5, 7, 8, 9] and all(part.graphs.x.shape[1] == 7 for part in parts)
    assert parts[1].graphs.x[:, :5].argmax(axis=1).tolist() == [2, 1, 1, 0, 2, 3]
    unknown = load_graphs(second, kinds=[3, 5])
    assert unknown.graphs.x[:, :2].tolist() == [[0, 0], [0, 1], [0, 1], [1, 0], [0, 0], [0, 0]]


def test_nodes_without_numbers_tell_their_degree(tmp_path):
    bare = load_graphs(tu(tmp_path / "BARE", node_labels=None, node_attributes=None))
    assert bare.graphs.x.argmax(axis=1).tolist() == [2, 2, 2, 1, 1, 0] and bare.kinds.tolist() == []
    alike = load_graphs(tu(tmp_path / "ALIKE", node_labels="4\n" * 6, node_attributes=None))
    assert np.array_equal(alike.graphs.x, bare.graphs.x)
    asked = load_graphs(tu(tmp_path / "ASKED"), features="degrees")
    assert np.array_equal(asked.graphs.x, bare.graphs.x)
    assert load_graphs(tu(tmp_path / "BOTH", node_labels="4\n" * 6)).graphs.x.shape == (6, 3), "attributes tell enough"


def test_files_in_any_order_and_graphs_without_nodes(tmp_path):
    shuffled = load_graphs(
        tu(
            tmp_path / "SHUFFLED",
            A="2,6\n6,2\n1,5\n",
            graph_indicator="4\n1\n3\n1\n4\n1\n",
            graph_labels="0\n5\n1\n0\n",
            node_labels="1\n2\n3\n2\n1\n2\n",
            node_attributes="1\n2\n3\n4\n5\n6\n",
        )
    )
    assert shuffled.classes.tolist() == [0, 1, 0] and shuffled.graphs.sizes.tolist() == [3, 1, 2]
    assert shuffled.graphs.x[:, 3].tolist() == [2, 4, 6, 3, 1, 5]
    assert shuffled.graphs.edges.tolist() == [[0, 2, 4, 5], [2, 0, 5, 4]]
    empty = load_graphs(tu(tmp_path / "EMPTY", A=""))
    assert empty.graphs.edges.shape == (2, 0) and len(empty.graphs) == 3


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"A": None}, "SET_A.txt is missing"),
        ({"graph_indicator": None}, "SET_graph_indicator.txt is missing"),
        ({"graph_labels": None}, "SET_graph_labels.txt is missing"),
        ({"A": "1, two\n"}, "SET_A.txt"),
        ({"A": "1, 2\n3\n"}, "SET_A.txt"),
        ({"A": "1\n2\n"}, "SET_A.txt"),
        ({"A": "0, 1\n"}, "SET_A.txt"),
        ({"A": "1, 7\n"}, "SET_A.txt"),
        ({"A": "3, 4\n"}, "between two graphs"),
        ({"graph_indicator": "1\n1\n1\n2\n2\n4\n"}, "SET_graph_indicator.txt names graph 4 of 3"),
        ({"graph_indicator": "1\n1\n1\n2\n2\nx\n"}, "SET_graph_indicator.txt"),
        ({"graph_labels": "1\n\nnan\n"}, "SET_graph_labels.txt"),
        ({"node_labels": "1\n2\n"}, "SET_node_labels.txt has 2 lines for 6 nodes"),
        ({"node_attributes": "1, 2\n" * 5}, "SET_node_attributes.txt has 5 lines for 6 nodes"),
        ({"node_attributes": "1, 2\n" * 5 + "1, \n"}, "SET_node_attributes.txt"),
        ({"node_attributes": "1, 2\n" * 5 + "1, inf\n"}, "SET_node_attributes.txt"),
    ],
)
def test_broken_folders_are_one_clear_error(tmp_path, files, named):
    with pytest.raises(InputError) as error:
        load_graphs(tu(tmp_path / "SET", **files))
    assert named in str(error.value) and "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_folders_are_found_by_name_or_refused(tmp_path, monkeypatch):
    (tmp_path / "graphs").mkdir()
    tu(tmp_path / "graphs" / "SET")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    assert len(load_graphs("SET").graphs) == 3
    for missing in ("OTHER", tmp_path / "OTHER"):
        with pytest.raises(InputError, match=r"OTHER does not exist.*ASSAY_DATA"):
            load_graphs(missing)
    with pytest.raises(InputError, match=r"^features="):
        load_graphs("SET", features="colours")


# -- simulators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_families_have_two_edges_a_node(family):
    graphs = random_graphs(family, 150, low=10, high=30, random_state=0)
    assert len(graphs) == 150 and graphs.sizes.min() == 10 and graphs.sizes.max() == 30
    edges = np.diff(graphs.starts) / 2
    assert edges.sum() / (2 * (graphs.sizes - 2)).sum() == pytest.approx(1.08, abs=0.14)
    same = random_graphs(family, 150, low=10, high=30, random_state=0)
    assert equal(graphs, same) and not equal(graphs, random_graphs(family, 150, low=10, high=30, random_state=1))
    assert np.array_equal(graphs.x.argmax(axis=1), np.minimum(graphs.degrees(), 20))


def test_families_have_their_own_degrees():
    spread = {
        family: random_graphs(family, 100, low=40, high=40, random_state=0).degrees().reshape(100, 40)
        for family in FAMILIES
    }
    erdos, hubs, small = (spread[family] for family in FAMILIES)
    assert hubs.max(axis=1).mean() > erdos.max(axis=1).mean() + 3 > small.max(axis=1).mean() + 3
    assert small.std(axis=1).mean() < erdos.std(axis=1).mean() < hubs.std(axis=1).mean()
    assert stats.kstest((erdos.mean(axis=1) - erdos.mean()) / erdos.mean(axis=1).std(), stats.norm.cdf).pvalue > 1e-4
    assert hubs.min() >= 1 and (hubs.sum(axis=1) == 2 * 2 * 38).all()


def test_signals_differ_in_their_arrangement_alone():
    graphs, labels = signals_on_graphs(600, 0.1, random_state=0)
    assert len(graphs) == 600 and labels.sum() == 60 and graphs.sizes.min() >= 20 and graphs.sizes.max() <= 40
    mean = graph_sums(graphs.x, graphs)[:, 0] / graphs.sizes
    spread = graph_sums(graphs.x**2, graphs)[:, 0] / graphs.sizes
    assert np.abs(mean).max() < 1e-12 and np.abs(spread - 1).max() < 1e-9
    assert roc_auc(labels, rayleigh_quotients(graphs)[:, 0]) > 0.99
    largest = np.maximum.reduceat(graphs.x[:, 0], graphs.nodes[:-1])
    for blind in (graphs.sizes, np.diff(graphs.starts), largest):
        assert 0.35 < roc_auc(labels, blind) < 0.65
    again = signals_on_graphs(600, 0.1, random_state=0)
    assert equal(graphs, again.graphs) and np.array_equal(labels, again.labels)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: random_graphs("stars"), "family"),
        (lambda: random_graphs("erdos_renyi", 0), "n"),
        (lambda: random_graphs("erdos_renyi", 5, low=3), "low"),
        (lambda: random_graphs("erdos_renyi", 5, low=9, high=8), "high"),
        (lambda: random_graphs("erdos_renyi", 5, links=0), "links"),
        (lambda: signals_on_graphs(0), "n"),
        (lambda: signals_on_graphs(5, share=2.0), "share"),
        (lambda: signals_on_graphs(5, low=1), "low"),
        (lambda: signals_on_graphs(5, low=9, high=8), "high"),
    ],
)
def test_senseless_simulations_are_named(call, named):
    with pytest.raises(InputError, match=f"^{named}="):
        call()


def test_a_graphs_object_is_a_sequence():
    graphs = as_graphs([PATH, PATH])
    assert isinstance(graphs, Graphs) and len(graphs) == 2
    assert [one.edges.tolist() for one in graphs] == [BOTH_WAYS] * 2
