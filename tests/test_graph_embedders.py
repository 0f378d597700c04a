"""Embedders of graphs, and the cheap detectors on them: values by hand, naive twins, what each sees and does not."""

import networkx
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from assay import KNN, GraphStatistics, IsolationForest, RandomGIN, WeisfeilerLehman, as_detector
from assay.core.graphs import Graph, as_graphs, joined_graphs
from assay.core.validation import InputError
from assay.datasets.simulators.graphs import random_graphs, signals_on_graphs
from assay.detectors.graphs.on_graphs import GraphSize, OnGraphs, WLNeighbours
from assay.embedders import graphs as module
from assay.embedders.graphs import label_columns, mixed, subtree_labels
from assay.kernels.graphs import laplacian, rayleigh_quotients


def as_networkx(graph):
    made = networkx.Graph()
    made.add_nodes_from(range(len(graph.x)))
    made.add_weighted_edges_from(zip(*graph.edges.tolist(), np.asarray(graph.weights).tolist()))
    return made


def some_graphs():
    rng = np.random.default_rng(0)
    parts = [random_graphs(family, 5, random_state=1) for family in ("erdos_renyi", "barabasi_albert")]
    graphs = [graph._replace(weights=None) for part in parts for graph in part]
    # With isolated nodes, without edges, and with weights.
    graphs += [Graph(graphs[0].x[:4], np.array([[0], [1]])), Graph(graphs[0].x[:3], np.empty((2, 0), int))]
    first = graphs[0].edges[:, graphs[0].edges[0] < graphs[0].edges[1]]
    return joined_graphs([*graphs, Graph(graphs[0].x, first, rng.uniform(0.5, 2, first.shape[1]))])


# -- statistics --------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_networkx():
    graphs = some_graphs()
    rows = GraphStatistics().fit_transform(graphs)
    table = dict(zip(GraphStatistics.NAMES, rows.T))
    assert rows.shape == (13, len(GraphStatistics.NAMES) + 2 * 21)
    assert table["clustering"][5:10].min() > 0 and table["degree correlation"][5:10].min() < -0.1
    for row, graph in enumerate(graphs):
        whole = as_networkx(graph)
        v, degrees = len(graph.x), np.array([degree for _, degree in whole.degree])
        expected = {
            "nodes": np.log1p(v),
            "edges": np.log1p(whole.number_of_edges()),
            "density": networkx.density(whole),
            "components": networkx.number_connected_components(whole) / v,
            "isolated": (degrees == 0).mean(),
            "mean degree": degrees.mean(),
            "spread of degrees": degrees.std(),
            "largest degree": degrees.max(),
            "triangles a node": sum(networkx.triangles(whole).values()) / 3 / v,
            "clustering": networkx.average_clustering(whole),
            "transitivity": networkx.transitivity(whole),
            "mean weight": np.log1p(graph.weights.mean()) if len(graph.weights) else 0.0,
        }
        for name, value in expected.items():
            assert table[name][row] == pytest.approx(value, abs=1e-12), name
        if row < 10:
            correlation = networkx.degree_assortativity_coefficient(whole)
            assert table["degree correlation"][row] == pytest.approx(correlation)
            off = degrees - degrees.mean()
            assert table["skewness of degrees"][row] == pytest.approx((off**3).mean() / (off**2).mean() ** 1.5)
        values = 1 - np.linalg.eigvalsh(laplacian(joined_graphs([graph])).toarray())
        isolated = degrees == 0
        for power in (2, 3, 4):
            # An isolated node has a row of zeros in S, but the eigenvalue 0 in L = diag(degree > 0) - S.
            trace = (values**power).sum() - isolated.sum()
            assert table[f"moment {power}"][row] == pytest.approx(trace / v, abs=1e-12)
        np.testing.assert_allclose(rows[row, 17 : 17 + 21], graph.x.mean(axis=0))
    np.testing.assert_allclose(rows[:, 17 + 21 :], rayleigh_quotients(graphs))


def test_a_mean_and_a_quotient_say_what_the_numbers_do():
    path = np.diag([1.0] * 5, 1)
    smooth, rough = ((path, np.array(values)[:, None]) for values in ([1.0, 2, 3, 4, 5, 6], [1.0, 5, 3, 6, 2, 4]))
    rows = GraphStatistics().fit_transform([smooth, rough])
    assert (rows[0, :-1] == rows[1, :-1]).all() and rows[0, -1] < rows[1, -1]


def test_pieces_make_no_difference(monkeypatch):
    graphs = random_graphs("erdos_renyi", 30, random_state=0)
    embedders = (GraphStatistics(), RandomGIN(hidden=4, random_state=0))
    whole = [embedder.fit(graphs).transform(graphs) for embedder in embedders]
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr("assay.embedders.random_gin.CHUNK", 7)
    for embedder, rows in zip(embedders, whole):
        np.testing.assert_allclose(embedder.transform(graphs), rows, rtol=1e-5, atol=1e-6)


# -- subtrees ----------------------------------------------------------------------------------------------------------


def relabelled(graphs, rounds):
    """Return the numbers of the labels by the textbook: a dictionary from (own label, sorted neighbours')."""
    names, labels = {}, []
    for graph in graphs:
        labels.append([names.setdefault(("x", *row), len(names)) for row in graph.x.tolist()])
    history = [[label for part in labels for label in part]]
    for number in range(rounds):
        following = []
        for graph, own in zip(graphs, labels):
            beside = [[] for _ in own]
            for a, b in graph.edges.T:
                beside[a].append(own[b])
            following.append(
                [names.setdefault((number, label, *sorted(near)), len(names)) for label, near in zip(own, beside)]
            )
        labels = following
        history.append([label for part in labels for label in part])
    return history


def test_labels_are_those_of_the_textbook():
    graphs = joined_graphs([*random_graphs("erdos_renyi", 40, random_state=0), *some_graphs()])
    graphs = joined_graphs([Graph(graph.x[:, :3], graph.edges) for graph in graphs])
    ours, theirs = subtree_labels(graphs, np.arange(3), 3), relabelled(graphs, 3)
    for labels, names in zip(ours, theirs, strict=True):
        # One to one: as many pairs as labels on either side.
        assert len(set(zip(labels.tolist(), names))) == len(set(labels.tolist())) == len(set(names))
    assert len({label for labels in ours for label in labels.tolist()}) == sum(len(set(names)) for names in theirs)


def test_labels_are_fixed_numbers():
    # The first output of splitmix64 with seed 0, as published with the generator.
    assert int(mixed(np.array([0x9E3779B97F4A7C15], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
    [[own], *_] = subtree_labels(as_graphs([np.zeros((1, 1))]), np.arange(1), 1)
    assert int(own) == int(subtree_labels(as_graphs([np.zeros((1, 1))]), np.arange(1), 0)[0][0])
    zeros = as_graphs([(np.zeros((2, 2)), np.array([[0.0], [-0.0]]))])
    assert len(np.unique(subtree_labels(zeros, np.arange(1), 0)[0])) == 1, "there is one zero"


def test_subtrees_tell_order_apart_from_counts():
    # A hexagon and two triangles: every degree is 2, and three rounds see no more. A path of six differs.
    hexagon = np.roll(np.eye(6), 1, axis=0)
    triangles = np.kron(np.eye(2), np.roll(np.eye(3), 1, axis=0))
    rows = WeisfeilerLehman().fit_transform([hexagon, triangles, np.diag([1.0] * 5, 1)])
    assert (rows[0] == rows[1]).all() and (rows[0] != rows[2]).any()
    # Where the same two kinds of nodes stand matters from round 1 on.
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    path = np.diag([1.0] * 3, 1)
    first, second = WeisfeilerLehman(rounds=1).fit_transform([(path, x), (path, x[[0, 2, 1, 3]])])
    assert (first[:4] == second[:4]).all() and (first[4:] != second[4:]).any()


def test_rare_and_new_subtrees_are_counted():
    train = [np.diag([1.0] * 3, 1), np.diag([1.0] * 4, 1)]
    embedder = WeisfeilerLehman(rounds=1, n_labels=1).fit(train)
    star = np.zeros((4, 4))
    star[0, 1:] = 1
    # Round 0: all alike. Round 1: inner nodes of paths have a column, ends are others, the star's middle is new.
    for graph, inner, ends, new in ((train[0], 2, 2, 0), (train[1], 3, 2, 0), (star, 0, 3, 1)):
        row = embedder.transform([graph])[0]
        assert row.tolist() in ([len(graph), 0, 0, inner, ends, new], [len(graph), 0, 0, ends, inner, new])
        assert row[:3].sum() == row[3:].sum() == len(graph)


def test_columns_of_many_values_make_no_labels():
    rng = np.random.default_rng(0)
    graphs = [(np.ones((8, 8)), np.stack([rng.normal(size=8), rng.integers(0, 3, 8)], axis=1)) for _ in range(10)]
    assert label_columns(as_graphs(graphs)).tolist() == [1]
    rows = WeisfeilerLehman(rounds=1).fit_transform(graphs)
    assert rows.shape[1] < 40
    alone = [(matrix, x[:, 1:]) for matrix, x in graphs]
    assert (WeisfeilerLehman(rounds=1).fit_transform(alone) == rows).all()
    none = [(matrix, x[:, :1]) for matrix, x in graphs]
    assert label_columns(as_graphs(none)).size == 0 and np.isfinite(WeisfeilerLehman().fit_transform(none)).all()


# -- random network ----------------------------------------------------------------------------------------------------


def test_a_random_network_sees_families_and_grows_with_the_graph():
    parts = [random_graphs(family, 60, random_state=0) for family in ("erdos_renyi", "watts_strogatz")]
    embedder = RandomGIN(random_state=0).fit(parts[0][:30])
    scores = KNN().fit(embedder.transform(parts[0][:30])).anomaly_score
    fresh = [scores(embedder.transform(part)) for part in (parts[0][30:], parts[1][30:])]
    assert roc_auc_score(np.repeat([0, 1], 30), np.concatenate(fresh)) > 0.75
    # Normalised by training: its own nodes have mean 0 in every column.
    graphs = parts[0][:30]
    sums = embedder.transform(graphs)
    sums = np.sign(sums) * np.expm1(np.abs(sums))
    assert np.abs(sums.sum(axis=0) / graphs.sizes.sum()).max() < 1e-2
    other = RandomGIN(random_state=1).fit(parts[0][:30]).transform(parts[0][:30])
    assert not np.allclose(other, embedder.transform(parts[0][:30]))


# -- the cheap detectors -----------------------------------------------------------------------------------------------


def test_any_detector_of_tables():
    from sklearn.neighbors import LocalOutlierFactor

    train = random_graphs("watts_strogatz", 80, random_state=0)
    test = joined_graphs([*random_graphs("watts_strogatz", 40, random_state=1), *_hubs(40)])
    of_scikit_learn = as_detector(LocalOutlierFactor(novelty=True))
    choices = [(None, None), (None, IsolationForest()), (None, of_scikit_learn), (WeisfeilerLehman(), None)]
    for embedder, detector in choices:
        model = OnGraphs(embedder, detector, random_state=0).fit(train)
        assert roc_auc_score(np.repeat([0, 1], 40), model.anomaly_score(test)) > 0.9
    for wrong in (OnGraphs(embedder=KNN()), OnGraphs(embedder=assay_counts()), OnGraphs(detector=WLNeighbours())):
        with pytest.raises(InputError, match=r"embedder|detector"):
            wrong.fit(train)


def _hubs(n):
    return random_graphs("barabasi_albert", n, random_state=0)


def assay_counts():
    from assay import EventCounts

    return EventCounts()


def test_standardised_by_training():
    train = random_graphs("watts_strogatz", 60, random_state=0)
    model = OnGraphs(random_state=0).fit(train)
    rows = (GraphStatistics().fit_transform(train) - model.center_) / model.scale_
    varied = rows.std(axis=0) > 1e-6
    assert np.allclose(rows[:, varied].std(axis=0), 1) and (rows[:, ~varied] < 1e-6).all()
    assert np.allclose(KNN().fit(rows).anomaly_score(rows), model.anomaly_score(train))


def test_size_is_what_graph_size_sees():
    small, large = (
        random_graphs("erdos_renyi", 60, random_state=0),
        random_graphs("erdos_renyi", 30, low=60, high=80, random_state=1),
    )
    model = GraphSize().fit(small[:30])
    scores = model.anomaly_score(joined_graphs([*small[30:], *large]))
    assert roc_auc_score(np.repeat([0, 1], 30), scores) > 0.98
    # By hand: the nearest to the mean is the least anomalous, whatever its edges are like.
    rows = np.log1p([[len(graph.x), graph.edges.shape[1] / len(graph.x)] for graph in small])
    away = (rows - rows[:30].mean(axis=0)) / rows[:30].std(axis=0)
    np.testing.assert_allclose(model.anomaly_score(small), np.sqrt((away**2).sum(axis=1)))
    signals = signals_on_graphs(200, 0.5, random_state=0)
    blind = GraphSize().fit(signals.graphs[signals.labels == 0]).anomaly_score(signals.graphs)
    assert abs(roc_auc_score(signals.labels, blind) - 0.5) < 0.1, "where the numbers stand it does not see"
    seeing = OnGraphs(random_state=0).fit(signals.graphs[signals.labels == 0]).anomaly_score(signals.graphs)
    assert roc_auc_score(signals.labels, seeing) > 0.9


def test_wl_distance_is_that_of_its_kernel():
    train, test = random_graphs("erdos_renyi", 12, random_state=0), joined_graphs([*_hubs(5), *some_graphs()])
    both = joined_graphs([*train, *test])
    history = relabelled(both, 3)
    graph = both.graph_of_node
    counts = np.zeros((len(both), 1 + max(max(labels) for labels in history)))
    for labels in history:
        np.add.at(counts, (graph, labels), 1)
    kernel = counts @ counts.T
    alike = kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    distances = np.sqrt(np.maximum(2 - 2 * alike[12:, :12], 0))
    for k in (1, 3, 12):
        found = WLNeighbours(n_neighbors=k).fit(train).anomaly_score(test)
        np.testing.assert_allclose(found, np.sort(distances, axis=1)[:, k - 1], atol=1e-7)
    # The root of 2 - 2 makes 1e-8 of the last bit.
    assert WLNeighbours(n_neighbors=1).fit(train).anomaly_score(train).max() < 1e-7
    few = WLNeighbours(n_neighbors=99).fit(train).anomaly_score(test)
    np.testing.assert_allclose(few, distances.max(axis=1), atol=1e-7)


def test_more_of_another_kind_is_farther():
    ring, scores = np.roll(np.eye(12), 1, axis=0), []
    model = WLNeighbours(n_neighbors=1).fit([ring, np.roll(np.eye(13), 1, axis=0)])
    for extra in range(5):
        matrix = ring.copy()
        matrix[0, 2 : 2 + extra] = 1
        scores.append(model.anomaly_score([matrix])[0])
    assert spearmanr(range(5), scores).statistic == pytest.approx(1.0)
