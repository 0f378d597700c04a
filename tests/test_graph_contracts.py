"""What every system of graphs promises: detectors, generators, embedders."""

import hashlib
import inspect
import json
import re
import warnings
from functools import cache

import networkx
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import assay
from assay import Calibrated, FalseAlarmRate
from assay.base import Localizer
from assay.catalogue import find, load_class, of_role
from assay.core.graphs import Graph, Graphs, as_graphs, joined_graphs
from assay.core.validation import InputError
from assay.datasets.simulators.graphs import random_graphs
from small import SMALL_GRAPHS
from test_contracts import INHERITED, assert_clear, entries_of, parameters_of, sections_of

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {}

DETECTORS = [entry.name for entry in of_role("detector", "graphs")]
GENERATORS = [entry.name for entry in of_role("generator", "graphs")]
EMBEDDERS = [entry.name for entry in of_role("embedder", "graphs")]
EVERYTHING = DETECTORS + GENERATORS + EMBEDDERS
LOCALIZERS = [entry.name for entry in of_role("detector", "graphs") if entry.localises]
#: What single precision and another order of adding up may move.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def promise(name, systems=DETECTORS):
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return cls(**seeded, **{**SMALL_GRAPHS.get(system, {}), **parameters})


def fit(model, graphs, n_anomalies):
    """Fit on graphs of which the last `n_anomalies` are anomalies, that only those see which learn from labels."""
    if getattr(model, "labels", "normals") == "normals":
        return model.fit(graphs[: len(graphs) - n_anomalies])
    return model.fit(graphs, (np.arange(len(graphs)) >= len(graphs) - n_anomalies).astype(int))


def answer(model, graphs):
    """Return what a fitted detector or embedder says of graphs."""
    return model.anomaly_score(graphs) if hasattr(model, "anomaly_score") else model.transform(graphs)


@cache
def drawn(seed, n_normal, n_anomalous):
    """Return small-world graphs and, after them, graphs with hubs; both have two edges a node."""
    rng = np.random.default_rng(seed)
    parts = [("watts_strogatz", n_normal), ("barabasi_albert", n_anomalous)]
    graphs = [graph for kind, n in parts if n for graph in random_graphs(kind, n, low=8, high=16, random_state=rng)]
    return joined_graphs(graphs)


def relabelled(graph, rng):
    """Return the same graph, its nodes in another order."""
    order = rng.permutation(len(graph.x))
    place = np.argsort(order)
    return Graph(graph.x[order], place[graph.edges], graph.weights)


def as_data(graph):
    with warnings.catch_warnings():  # what the import itself says
        warnings.simplefilter("ignore")
        from torch_geometric.data import Data

    return Data(x=torch.from_numpy(graph.x), edge_index=torch.from_numpy(graph.edges), num_nodes=len(graph.x))


def as_networkx(graph):
    made = networkx.Graph()
    made.add_nodes_from((f"node {number}", {"x": row.tolist()}) for number, row in enumerate(graph.x))
    made.add_edges_from((f"node {a}", f"node {b}") for a, b in graph.edges.T)
    return made


def as_matrix(graph):
    matrix = np.zeros((len(graph.x),) * 2)
    matrix[tuple(graph.edges)] = 1.0
    return matrix, graph.x


def odd_graphs(width=21):
    """Return graphs at the edge of what is one: a node, no edges, isolated nodes, all edges, two sides, zeros, far."""
    x, none = np.eye(width)[[4] * 6], np.empty((2, 0), int)
    full = np.stack(np.triu_indices(6, 1))
    two_sides = np.array([[a, b] for a in range(3) for b in range(3, 6)]).T
    return [
        Graph(x[:1], none),
        Graph(x, none),
        Graph(x, np.array([[0, 1], [1, 2]])),
        Graph(x, full),
        Graph(x, two_sides),
        Graph(0 * x, full),
        Graph(1e6 * x, full),
        Graph(x, full, np.geomspace(1e-6, 1e6, full.shape[1])),
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models():
    known = {}

    def fitted(system):
        if system not in known:
            known[system] = fit(make(system), drawn(0, 100, 20), 20)
        return known[system]

    return fitted


# -- everything ------------------------------------------------------------------------------------------------------


@promise("documentation", EVERYTHING)
def test_documented(system, models):
    model = models(system)
    assert entries_of(sections_of(type(model)).get("Parameters", [])) == parameters_of(type(model))
    documented = [name for cls in type(model).__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    documented += INHERITED
    assert [name for name in vars(model) if name.endswith("_") and name not in documented] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked", EVERYTHING)
def test_a_senseless_parameter_is_named(system):
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if not isinstance(parameter.default, bool):
            with pytest.raises((InputError, TypeError)) as error:
                model = fit(make(system).set_params(**{name: object()}), drawn(0, 20, 5), 5)
                if system in GENERATORS:  # a seed is read when it is needed
                    model.sample(2)
            assert_clear(error, name)


@promise("not_fitted", EVERYTHING)
def test_not_fitted(system):
    model = make(system)
    with pytest.raises(NotFittedError, match=type(model).__name__):
        model.sample(2) if system in GENERATORS else answer(model, drawn(0, 20, 5))


@promise("inputs", EVERYTHING)
@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        7,
        [],
        np.eye(4),
        Graph(np.ones((2, 1)), np.array([[0], [1]])),
        [np.ones((3, 4))],
        [np.eye(3), "text"],
        [np.eye(3), -np.ones((3, 3))],
        [Graph(np.ones((2, 2)), np.array([[0], [2]]))] * 3,
        [Graph(np.ones((2, 2)), np.array([[0], [-1]]))] * 3,
        [Graph(np.ones((0, 2)), np.empty((2, 0), int))] * 3,
        [Graph(np.full((2, 2), np.nan), np.array([[0], [1]]))] * 3,
        [Graph(np.ones((2, 2)), np.array([[0], [1]]), np.array([np.inf]))] * 3,
        [Graph(np.ones((2, 2)), np.array([[0], [1]])), Graph(np.ones((2, 3)), np.array([[0], [1]]))],
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error(system, wrong):
    model = make(system)
    labels = [[0, 1]] if getattr(model, "labels", "normals") == "required" else []
    with pytest.raises(InputError) as error:
        model.fit(wrong, *labels)
    assert_clear(error, "X_normal" if system in GENERATORS else "X")


@promise("width", DETECTORS + EMBEDDERS)
def test_another_width_than_at_fit_is_refused(system, models):
    with pytest.raises(InputError) as error:
        answer(models(system), [Graph(np.ones((3, 2)), np.array([[0, 1], [1, 2]]))])
    assert_clear(error, "X")


@promise("saving", EVERYTHING)
def test_saved_and_loaded_it_answers_the_same(system, models, tmp_path):
    assay.save(models(system), tmp_path / "model")
    again = assay.load(tmp_path / "model")
    if system in GENERATORS:
        assert bits(again) == bits(models(system))
    else:
        assert (answer(again, drawn(1, 10, 10)) == answer(models(system), drawn(1, 10, 10))).all()


def bits(model):
    """Return a hash of what a fitted system makes of fixed graphs."""
    if hasattr(model, "sample"):
        made = model.sample(6)
        parts = [made.X.x, made.X.nodes, made.X.edges, made.X.weights, made.mask, made.touched, made.parents]
        return hashlib.sha256(
            b"".join(np.ascontiguousarray(part).tobytes() for part in parts) + repr(made.meta).encode()
        ).hexdigest()
    return hashlib.sha256(answer(model, drawn(1, 10, 10)).tobytes()).hexdigest()


def fingerprints(systems):
    """Return the hashes of systems fitted here."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return {system: bits(fit(make(system), drawn(0, 40, 10), 10)) for system in systems}


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    code = "import json, test_graph_contracts as t; print(json.dumps(t.fingerprints(t.EVERYTHING)))"
    return fingerprints(EVERYTHING), json.loads(run_python(code).splitlines()[-1])


@promise("same_bits", EVERYTHING)
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("no_global_state", EVERYTHING)
def test_no_global_state_refit_forgets_and_input_stays(system):
    graphs = joined_graphs(list(drawn(0, 40, 10)))
    kept = [part.copy() for part in (graphs.x, graphs.nodes, graphs.edges, graphs.weights)]
    for part in (graphs.x, graphs.nodes, graphs.edges, graphs.weights):
        part.setflags(write=False)
    before = np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()
    model = fit(make(system), graphs, 10)
    first = bits(model)
    again = fit(fit(make(system), drawn(2, 10, 30), 10), graphs, 10)
    assert (np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()) == before
    assert bits(again) == first
    assert bits(model) == first, "answering changes nothing"
    for part, copy in zip((graphs.x, graphs.nodes, graphs.edges, graphs.weights), kept):
        assert (part == copy).all()
    assert repr(clone(model)) == repr(make(system))


@promise("kept_apart", EVERYTHING)
def test_what_is_fitted_is_the_systems_own(system):
    graphs = joined_graphs(list(drawn(0, 40, 10)))
    model = fit(make(system), graphs, 10)
    first = bits(model)
    graphs.x[:] = 7.0
    graphs.weights[:] = 7.0
    assert bits(model) == first


# -- detectors and embedders -----------------------------------------------------------------------------------------


@promise("alone", DETECTORS + EMBEDDERS)
def test_a_graph_is_judged_alone_and_in_any_order(system, models):
    mixed = joined_graphs([*drawn(1, 10, 10), *odd_graphs()])
    together = answer(models(system), mixed)
    assert len(together) == len(mixed) and np.isfinite(together).all() and together.dtype == np.float64
    for rows in ([5], [15, 0, 7], range(len(mixed))[::-1], [3, 3]):
        np.testing.assert_allclose(answer(models(system), mixed[list(rows)]), together[list(rows)], **CLOSE)


@promise("node_order", DETECTORS + EMBEDDERS)
def test_the_order_of_a_graphs_nodes_does_not_matter(system, models):
    rng = np.random.default_rng(0)
    graphs = drawn(1, 10, 10)
    same = [relabelled(graph, rng) for graph in graphs]
    np.testing.assert_allclose(answer(models(system), same), answer(models(system), graphs), rtol=1e-3, atol=1e-4)


@promise("inputs", DETECTORS + EMBEDDERS)
def test_kinds_of_graphs(system, models):
    graphs = list(drawn(1, 5, 5))
    expected = answer(models(system), graphs)
    sparse_ones = [(sparse.csr_matrix(matrix), x) for matrix, x in map(as_matrix, graphs)]
    for same in (
        tuple(graphs),
        joined_graphs(graphs),
        [as_matrix(graph) for graph in graphs],
        sparse_ones,
        [as_data(graph) for graph in graphs],
        [as_networkx(graph) for graph in graphs],
        # Edges in one direction, given twice, and a loop.
        [Graph(g.x, np.concatenate([g.edges[:, g.edges[0] < g.edges[1]]] * 2 + [[[0], [0]]], axis=1)) for g in graphs],
    ):
        np.testing.assert_allclose(answer(models(system), same), expected, rtol=1e-5, atol=1e-6)


@promise("constant", DETECTORS + EMBEDDERS)
@pytest.mark.parametrize("case", ["one graph", "the same graph", "no numbers", "no edges", "one node"])
def test_poor_training_is_learned_or_refused_by_name(system, case):
    graphs = {
        "one graph": list(drawn(0, 2, 0)[:1]),
        "the same graph": [drawn(0, 2, 0)[0]] * 24,
        "no numbers": [graph._replace(x=np.empty((len(graph.x), 0))) for graph in drawn(0, 20, 4)],
        "no edges": [graph._replace(edges=np.empty((2, 0), int), weights=None) for graph in drawn(0, 20, 4)],
        "one node": [Graph(np.ones((1, 1)), np.empty((2, 0), int))] * 24,
    }[case]
    model = make(system)
    anomalies = 4 if len(graphs) > 4 and getattr(model, "labels", "normals") != "normals" else 0
    try:
        found = answer(fit(model, graphs, anomalies), graphs)
        assert np.isfinite(found).all()
    except InputError as error:
        assert re.match(r"(X|y|n_components|n_clusters|batch_size)\b", str(error)) and "\n" not in str(error)


# -- detectors -------------------------------------------------------------------------------------------------------


@promise("training_matters")
def test_anomalies_score_higher(system, models):
    scores = models(system).anomaly_score(drawn(1, 40, 40))
    assert scores.shape == (80,) and np.isfinite(scores).all()
    assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.9


@promise("labels")
def test_labels(system):
    cls, graphs = load_class(find(system)), drawn(0, 20, 5)
    y = np.repeat([0, 1], [20, 5])
    if cls.labels == "required":
        for labels in (None, np.full(25, -1), np.zeros(25, int), np.ones(25, int)):
            with pytest.raises(InputError) as error:
                make(system).fit(graphs, labels)
            assert_clear(error, "y")
    elif cls.labels == "normals":
        with_labels, without = make(system).fit(graphs, y), make(system).fit(graphs[:20])
        assert (with_labels.anomaly_score(graphs) == without.anomaly_score(graphs)).all()
    with pytest.raises(InputError) as error:
        make(system).fit(graphs, [0, 1])
    assert_clear(error, "y")


@promise("localises", LOCALIZERS)
def test_the_map_has_a_number_a_node(system, models):
    assert isinstance(models(system), Localizer)
    graphs = drawn(1, 5, 5)
    maps = models(system).anomaly_map(graphs)
    assert [len(one) for one in maps] == graphs.sizes.tolist()
    assert all(np.isfinite(one).all() for one in maps)


@promise("calibrated")
def test_calibrated_decides(system):
    graphs, y = drawn(0, 100, 20), np.repeat([0, 1], [100, 20])
    required = load_class(find(system)).labels != "normals"
    model = Calibrated(make(system), FalseAlarmRate(0.2), cv=2, random_state=0)
    model.fit(graphs if required else graphs[:100], y if required else None)
    decisions = model.predict(drawn(1, 40, 40))
    assert set(decisions) <= {-1, 1}
    assert (decisions[40:] == -1).mean() > 0.6 > 0.5 > (decisions[:40] == -1).mean()


# -- embedders -------------------------------------------------------------------------------------------------------


@promise("embeds", EMBEDDERS)
def test_rows_differ_where_graphs_do(system, models):
    rows = models(system).transform(drawn(1, 10, 10))
    assert rows.ndim == 2 and len(rows) == 20 and np.isfinite(rows).all()
    assert (np.abs(rows[:10].mean(axis=0) - rows[10:].mean(axis=0)) > 1e-6).any()
    assert (
        make(system).fit_transform(drawn(0, 20, 5)) == make(system).fit(drawn(0, 20, 5)).transform(drawn(0, 20, 5))
    ).all()


# -- generators ------------------------------------------------------------------------------------------------------


def of_row(marks, graphs, row):
    return marks[graphs.nodes[row] : graphs.nodes[row + 1]]


def same_graph(one, other):
    return one.x.shape == other.x.shape and (one.x == other.x).all() and np.array_equal(one.edges, other.edges)


@promise("identity", GENERATORS)
def test_strength_zero_is_the_parent(system, models):
    made = models(system).sample(8, strength=0)
    for graph, parent in zip(made.X, made.parents):
        assert same_graph(graph, drawn(0, 100, 20)[int(parent)])
    assert not made.mask.any() and all(told["noop"] for told in made.meta)


@promise("layout", GENERATORS)
@pytest.mark.parametrize("strength", [0.5, 1, 3, 30])
def test_the_layout_of_what_is_drawn(system, models, strength):
    made = models(system).sample(20, strength=strength)
    assert isinstance(made.X, Graphs) and len(made) == len(made.parents) == len(made.meta) == 20
    assert made.mask.shape == made.touched.shape == (len(made.X.x),) and made.mask.dtype == made.touched.dtype == bool
    assert not (made.mask & ~made.touched).any()
    assert json.loads(json.dumps(made.meta)) == made.meta
    assert made.X.x.shape[1] == drawn(0, 100, 20).x.shape[1] and np.isfinite(made.X.x).all()
    again = joined_graphs(list(as_graphs(made.X)))
    assert np.array_equal(again.edges, made.X.edges), "both directions, sorted, no loops, no repetitions"
    for row, told in enumerate(made.meta):
        assert told["generator"] == type(models(system)).__name__ and told["strength"] == strength
        if made.parents[row] < 0:
            continue
        graph, parent = made.X[row], drawn(0, 100, 20)[int(made.parents[row])]
        assert told["noop"] == same_graph(graph, parent)
        mask = of_row(made.mask, made.X, row)
        if len(graph.x) == len(parent.x):
            assert (graph.x[~mask] == parent.x[~mask]).all()
            # An edge that is new or gone has an end that is marked.
            edges = [set(map(tuple, one.edges.T.tolist())) for one in (graph, parent)]
            assert all(mask[a] or mask[b] for a, b in edges[0] ^ edges[1])


@promise("degenerate", GENERATORS)
def test_never_degenerate(system, models):
    generator = models(system)
    for seed in range(200):
        made = generator.sample(1, random_state=seed)
        assert made.X.sizes[0] > 0 and made.mask.any() and not made.meta[0]["noop"]


@promise("seeds", GENERATORS)
def test_a_seed_decides(system, models):
    first, second = (models(system).sample(5, random_state=seed) for seed in (1, 2))
    same = models(system).sample(5, random_state=1)
    assert np.array_equal(first.X.x, same.X.x) and np.array_equal(first.X.edges, same.X.edges)
    assert not (np.array_equal(first.X.x, second.X.x) and np.array_equal(first.X.edges, second.X.edges))


@promise("inputs", GENERATORS)
def test_a_generator_takes_odd_graphs(system):
    made = make(system).fit(odd_graphs()).sample(20)
    assert np.isfinite(made.X.x).all() and (made.X.sizes > 0).all() and (made.X.weights > 0).all()


def test_every_exemption_is_about_a_system():
    assert all(system in EVERYTHING and re.search(r"\w", reason) for (_, system), reason in EXEMPT.items())
