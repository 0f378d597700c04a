"""RQGNN and the GIN beside it: exact parts, what training moves, checkpoints, and whether the idea matters."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F

import assay.detectors.graphs.supervised as supervised
from assay.core.graphs import Graph, as_graphs, joined_graphs
from assay.core.validation import InputError
from assay.datasets.simulators.graphs import random_graphs, signals_on_graphs
from assay.detectors.graphs.gin import GINClassifier, GINNetwork
from assay.detectors.graphs.rqgnn import RQGNN, ChebyshevFilters, RayleighNetwork
from assay.detectors.graphs.supervised import class_weights, few_nodes, focal_loss, held_out, macro_f1
from assay.kernels.graphs import laplacian, rayleigh_quotients
from assay.metrics.ranking import roc_auc
from assay.nn.graphs import batch_of
from assay.nn.state import with_arrays

TINY = {"hidden": 8, "filters": 2, "terms": 3, "epochs": 4, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def mixed():
    """Return graphs with three numbers a node, weighted edges, and oddities among them; and labels."""
    rng = np.random.default_rng(0)
    graphs = list(random_graphs("erdos_renyi", 57, low=6, high=14, links=1, random_state=rng))
    graphs = [Graph(rng.normal(size=(len(g.x), 3)), g.edges[:, g.edges[0] < g.edges[1]], None) for g in graphs]
    graphs = [g._replace(weights=rng.uniform(0.1, 3, g.edges.shape[1])) for g in graphs]
    none = np.empty((2, 0), int)
    graphs += [Graph(rng.normal(size=(1, 3)), none), Graph(rng.normal(size=(5, 3)), none)]
    graphs += [Graph(rng.normal(size=(4, 3)), np.array([[0], [1]]))]
    return joined_graphs(graphs), np.arange(60) % 5 == 0


@pytest.fixture(scope="module")
def model(mixed):
    return RQGNN(**TINY).fit(*mixed)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def naive_score(model, graph):
    """Return the score of one graph by the page's equations: dense matrices, float64, one after another."""
    w = {name: array.astype(np.float64) for name, array in model.checkpoints_[model.checkpoint].items()}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    v = len(graph.x)
    x, A = graph.x / model.scale_, np.zeros((v, v))
    A[tuple(graph.edges)] = graph.weights
    degree = A.sum(axis=1)
    root = np.array([d**-0.5 if d > 0 else 0.0 for d in degree])
    L = np.diag((degree > 0).astype(float)) - root[:, None] * A * root
    form, power = np.diag(x.T @ L @ x), np.diag(x.T @ x)
    r = np.where(power > 0, form / power, 0.0) if model.normalize else form
    h0 = leaky(linear("enter.2", leaky(linear("enter.0", x))))
    Z = L - np.eye(v)
    T = [np.eye(v), Z]
    while len(T) < model.terms:
        T.append(2 * Z @ T[-1] - T[-2])
    filtered = linear("filters.theta", np.concatenate([t @ h0 for t in T[: model.terms]], axis=1))
    h = leaky(linear("leave.2", leaky(linear("leave.0", filtered))))
    a = leaky(linear("attend.2", leaky(linear("attend.0", r))))
    pooled = sum((node @ a) * node for node in h)
    e = leaky(linear("explicit.1", linear("explicit.0", r)))
    both = np.concatenate([pooled, e])
    both = (both - w["norm.running_mean"]) / np.sqrt(w["norm.running_var"] + 1e-5) * w["norm.weight"] + w["norm.bias"]
    z = linear("head", both)
    return z[1] - z[0]


# -- exact parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, 2, 3, 6])
def test_filters_are_polynomials_of_the_spectrum(mixed, terms):
    graphs = mixed[0]
    L = laplacian(graphs).toarray()
    layer = ChebyshevFilters(3, 4, terms)
    operator = torch.from_numpy((L - np.eye(len(L))).astype(np.float32)).to_sparse()
    found = layer(torch.from_numpy(graphs.x.astype(np.float32)), operator).detach().numpy()
    values, vectors = np.linalg.eigh(L)
    theta = layer.theta.weight.detach().numpy().reshape(4, 3, terms, 3)
    for j in range(4):
        expected = layer.theta.bias.detach().numpy()[3 * j : 3 * j + 3] + sum(
            # T_k(z) = cos(k arccos z), on the eigenvalues alone
            vectors
            @ (np.cos(k * np.arccos(np.clip(values - 1, -1, 1)))[:, None] * (vectors.T @ graphs.x))
            @ theta[j, :, k].T
            for k in range(terms)
        )
        np.testing.assert_allclose(found[:, 3 * j : 3 * j + 3], expected, atol=1e-5)


@pytest.mark.parametrize("parameters", [{}, {"normalize": False}, {"terms": 1}, {"checkpoint": "f1"}])
def test_scores_are_the_pages_equations_of_each_graph(mixed, parameters):
    model = RQGNN(**TINY | parameters).fit(*mixed)
    expected = [naive_score(model, graph) for graph in mixed[0]]
    np.testing.assert_allclose(model.anomaly_score(mixed[0]), expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(expected) > 1e-3


def test_scores_do_not_depend_on_the_batch(mixed, model, monkeypatch):
    whole = model.anomaly_score(mixed[0])
    alone = np.concatenate([model.anomaly_score([graph]) for graph in mixed[0]])
    np.testing.assert_allclose(alone, whole, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(supervised, "NODES_AT_ONCE", 20)
    parts = few_nodes(mixed[0])
    assert np.array_equal(np.concatenate(parts), np.arange(60)) and len(parts) > 10
    assert max(mixed[0].sizes[part].sum() for part in parts) <= 20 + mixed[0].sizes.max()
    np.testing.assert_allclose(model.anomaly_score(mixed[0]), whole, rtol=1e-4, atol=1e-5)
    batch, _ = model._inputs(mixed[0])
    assert batch.operator.is_sparse, "no matrix of nodes times nodes"


def test_class_weights_by_hand():
    weights = class_weights([90, 10], 0.999).numpy()
    effective = np.array([(1 - 0.999**90) / 0.001, (1 - 0.999**10) / 0.001])
    np.testing.assert_allclose(weights, 2 / effective / (1 / effective).sum(), rtol=1e-5)
    assert weights[1] / weights[0] > 8
    np.testing.assert_allclose(class_weights([90, 10], 0.0), [1, 1])
    np.testing.assert_allclose(class_weights([10, 10], 0.999), [1, 1])


def test_focal_loss_by_hand():
    logits, labels = torch.tensor([[1.0, -2.0], [0.5, 0.3]]), torch.tensor([0, 1])
    ones = torch.ones(2)
    plain = 2 * F.binary_cross_entropy_with_logits(logits, F.one_hot(labels, 2).float())
    torch.testing.assert_close(focal_loss(logits, labels, ones, 0.0), plain)
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    right = np.array([[p[0, 0], 1 - p[0, 1]], [1 - p[1, 0], p[1, 1]]])
    by_hand = (np.array([[0.5], [3.0]]) * (1 - right) ** 1.5 * -np.log(right)).sum() / 2
    found = focal_loss(logits, labels, torch.tensor([0.5, 3.0]), 1.5)
    assert found.item() == pytest.approx(by_hand, rel=1e-5)
    far = torch.tensor([[-300.0, 300.0], [300.0, -300.0]], requires_grad=True)
    loss = focal_loss(far, labels, ones, 1.5)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(far.grad).all()


def test_gradient_of_the_focal_loss():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(6, 2))).requires_grad_()
    labels, weights = torch.from_numpy(rng.integers(0, 2, 6)), torch.from_numpy(rng.random(6))
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, labels, weights, 1.5), logits)


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    for share in (0.05, 0.5):
        y, flagged = rng.random(200) < share, rng.random(200) < share
        assert macro_f1(y, flagged) == pytest.approx(f1_score(y, flagged, average="macro"))
    assert macro_f1([0, 0, 1], [0, 0, 0]) == pytest.approx(0.4)


def test_a_share_of_each_class_validates():
    y = np.repeat([0, 1], [200, 20])
    held = held_out(y, 0.15, np.random.default_rng(0))
    assert (held & (y == 0)).sum() == 30 and (held & (y == 1)).sum() == 3
    assert (held != held_out(y, 0.15, np.random.default_rng(1))).any()
    for share in (0.01, 0.99):
        held = held_out(np.array([0, 0, 1, 1]), share, np.random.default_rng(0))
        assert held[:2].sum() == held[2:].sum() == 1


# -- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["rqgnn", "gin"])
def test_every_weight_gets_a_gradient_and_every_filter_moves(mixed, network):
    graphs, y = mixed
    torch.manual_seed(0)
    if network == "rqgnn":
        net = RayleighNetwork(3, 8, 4, 6, 0.0, True, "rayleigh")
        given = RQGNN(hidden=8)._inputs(graphs)
    else:
        net, given = GINNetwork(3, 8, 2, 0.0), (batch_of(graphs, graphs.adjacency()),)
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    focal_loss(net(*given), torch.from_numpy(y.astype(int)), torch.ones(60), 1.5).backward()
    for name, value in net.named_parameters():
        assert value.grad is not None and value.grad.abs().max() > 0, name
    optimiser.step()
    for name, value in net.named_parameters():
        assert not torch.equal(value, before[name]), name
    if network == "rqgnn":
        moved = (net.filters.theta.weight - before["filters.theta.weight"]).detach().reshape(4, 3, 6, 3)
        assert (moved.abs().amax(dim=(1, 3)) > 0).all(), "each of 4 filters, each of 6 terms"
        assert (moved[0] != moved[1]).any()


def test_fitted_filters_are_not_the_initial_ones(mixed):
    before, after = (RQGNN(**TINY | {"epochs": epochs}).fit(*mixed) for epochs in (0, 1))
    assert before.epochs_ == {"auc": 0, "f1": 0} and after.epochs_ == {"auc": 1, "f1": 1}
    for name, array in before.checkpoints_["auc"].items():
        assert not np.array_equal(array, after.checkpoints_["auc"][name]), name


def test_two_checkpoints_the_later_of_equals(mixed):
    model = RQGNN(**TINY | {"epochs": 30}).fit(*mixed)
    assert len(model.history_) == 30
    for name in ("auc", "f1"):
        values = [epoch[name] for epoch in model.history_]
        assert model.epochs_[name] == max(np.flatnonzero(np.array(values) == max(values))) + 1
    assert model.epochs_["auc"] != model.epochs_["f1"]
    graphs, y = mixed
    held = held_out(y.astype(int), 0.15, np.random.default_rng(0))
    # Validation figures are those of each checkpoint on the graphs held out.
    by_auc = model.anomaly_score(graphs[held])
    by_f1 = model.set_params(checkpoint="f1").anomaly_score(graphs[held])
    assert roc_auc(y[held], by_auc) == pytest.approx(model.history_[model.epochs_["auc"] - 1]["auc"])
    assert macro_f1(y[held], by_f1 > 0) == pytest.approx(model.history_[model.epochs_["f1"] - 1]["f1"])
    assert not np.allclose(by_auc, by_f1)
    with pytest.raises(InputError, match="checkpoint='loss'"):
        model.set_params(checkpoint="loss").anomaly_score(graphs)


def test_patience_ends_the_training(mixed):
    model = RQGNN(**TINY | {"epochs": 200, "patience": 3}).fit(*mixed)
    assert len(model.history_) == model.epochs_["f1"] + 4 < 200


def test_graphs_that_validate_teach_nothing_else(mixed):
    graphs, y = mixed
    held = held_out(y.astype(int), 0.15, np.random.default_rng(0))
    others = joined_graphs([graph._replace(x=9 * graph.x) if out else graph for graph, out in zip(graphs, held)])
    first, second = (RQGNN(**TINY).fit(X, y) for X in (graphs, others))
    assert [epoch["loss"] for epoch in first.history_] == [epoch["loss"] for epoch in second.history_]
    assert np.array_equal(first.scale_, second.scale_)
    assert np.array_equal(first.scale_, np.abs(graphs.x[np.repeat(~held, graphs.sizes)]).max(axis=0))


@pytest.mark.parametrize("cls", [RQGNN, GINClassifier])
def test_unknown_and_weightless_graphs_are_left_out(mixed, cls):
    graphs, y = mixed[0], mixed[1].astype(int)
    quick = {"hidden": 8, "epochs": 2, "batch_size": 16, "random_state": 0}
    expected = cls(**quick).fit(graphs[:40], y[:40]).anomaly_score(graphs)
    unknown = cls(**quick).fit(graphs, np.where(np.arange(60) < 40, y, -1))
    weightless = cls(**quick).fit(graphs, y, sample_weight=np.where(np.arange(60) < 40, 1.0, 0.0))
    assert np.array_equal(unknown.anomaly_score(graphs), expected)
    assert np.array_equal(weightless.anomaly_score(graphs), expected)
    uneven = cls(**quick).fit(graphs[:40], y[:40], sample_weight=np.where(y[:40] == 1, 5.0, 1.0))
    assert uneven.anomaly_score(graphs).mean() > expected.mean(), "anomalies that count more lift the scores"


@pytest.mark.parametrize("cls", [RQGNN, GINClassifier])
def test_too_few_of_a_kind_are_named(mixed, cls):
    for y in (np.arange(60) < 1, np.arange(60) > 0):
        with pytest.raises(InputError, match=r"^y holds 1 (anomalies|normal graphs)"):
            cls().fit(mixed[0], y)
    with pytest.raises(InputError, match="X has 3 graphs"):
        cls().fit(mixed[0][:3], [0, 1, 1])
    two = cls(epochs=2).fit(mixed[0][:4], [0, 0, 1, 1])
    assert np.isfinite(two.anomaly_score(mixed[0])).all()


@pytest.mark.parametrize("cls", [RQGNN, GINClassifier])
def test_what_is_far_from_training_has_a_finite_score(mixed, cls):
    model = cls(hidden=8, epochs=2, random_state=0).fit(*mixed)
    far = [Graph(graph.x * 1e100, graph.edges, graph.weights * 1e290) for graph in mixed[0]]
    assert np.isfinite(model.anomaly_score(far)).all()
    small = [Graph(graph.x * 1e-200, graph.edges, graph.weights * 1e-290) for graph in mixed[0]]
    assert np.isfinite(model.anomaly_score(small)).all()


def test_columns_are_divided_by_their_largest_size(mixed):
    graphs, y = mixed
    larger = joined_graphs([graph._replace(x=graph.x * [1.0, 1024.0, 2.0**-20]) for graph in graphs])
    first, second = (RQGNN(**TINY).fit(X, y).anomaly_score(X) for X in (graphs, larger))
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_probabilities_are_the_softmax(mixed, model):
    batch = model._inputs(model._scaled(mixed[0]))
    with torch.inference_mode():
        logits = model._fitted_network()(*batch)
    p = model.predict_proba(mixed[0])
    np.testing.assert_allclose(p, torch.softmax(logits.double(), dim=1), rtol=1e-4, atol=1e-6)
    assert (p[:, 1] > 0.5).tolist() == (model.anomaly_score(mixed[0]) > 0).tolist()


# -- explanation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"explicit": False}, {"pooling": "sum"}, {"normalize": False}])
def test_explained_parts_add_up_to_the_score(mixed, parameters):
    model = RQGNN(**TINY | parameters).fit(*mixed)
    told = model.explain(mixed[0])
    total = told.constant + told.explicit + [nodes.sum() for nodes in told.nodes]
    np.testing.assert_allclose(total, model.anomaly_score(mixed[0]), rtol=1e-4, atol=1e-4)
    assert [len(nodes) for nodes in told.nodes] == [len(nodes) for nodes in told.weights] == mixed[0].sizes.tolist()
    expected = rayleigh_quotients(model._scaled(mixed[0]), model.normalize)
    np.testing.assert_allclose(told.quotients, expected, rtol=1e-5, atol=1e-7)
    assert (told.explicit == 0).all() == ("explicit" in parameters)
    assert (np.concatenate(told.weights) == 1).all() == ("pooling" in parameters)


def test_node_weights_are_inner_products_without_a_softmax(mixed, model):
    batch, r = model._inputs(model._scaled(mixed[0]))
    network = model._fitted_network()
    with torch.inference_mode():
        nodes, alpha, _ = network.parts(batch, r)
        a = network.attend(r)
    expected = [float(nodes[v] @ a[batch.graph[v]]) for v in range(len(nodes))]
    np.testing.assert_allclose(np.concatenate(model.explain(mixed[0]).weights), expected, rtol=1e-4, atol=1e-6)


def test_quotients_ignore_the_size_of_a_signal_and_forms_do_not(mixed):
    graphs = mixed[0]
    larger = joined_graphs([graph._replace(x=3 * graph.x) for graph in graphs])
    for normalize in (True, False):
        model = RQGNN(**TINY | {"normalize": normalize}).fit(*mixed)
        same = np.allclose(model.explain(graphs).explicit, model.explain(larger).explicit, rtol=1e-4, atol=1e-5)
        assert same == normalize


# -- the idea --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arranged():
    """Return signals to train on and fresh ones; a twentieth stands at other nodes than it should."""
    return signals_on_graphs(240, 0.05, random_state=0), signals_on_graphs(400, 0.05, random_state=1)


def test_arrangement_of_a_signal_is_seen(arranged):
    (graphs, y), (fresh, truth) = arranged
    quick = {"hidden": 32, "batch_size": 64, "epochs": 40, "random_state": 0}
    trained = RQGNN(**quick).fit(graphs, y)
    assert roc_auc(truth, trained.anomaly_score(fresh)) >= 0.95
    untrained = RQGNN(**quick | {"epochs": 0}).fit(graphs, y)
    assert roc_auc(truth, untrained.anomaly_score(fresh)) <= 0.85
    assert roc_auc(truth, rayleigh_quotients(fresh)[:, 0]) >= 0.99
    assert not np.array_equal(trained.explain(fresh).explicit, untrained.explain(fresh).explicit)


def test_gin_adds_up_what_it_sees(mixed):
    graphs, y = mixed
    model = GINClassifier(hidden=8, epochs=2, batch_size=16, random_state=0).fit(graphs, y)
    network, bias = model._fitted_network(), 0.0
    bias = float(network.head.bias[1] - network.head.bias[0])
    g = graphs[0]
    twice = Graph(
        np.concatenate([g.x] * 2), np.concatenate([g.edges, g.edges + len(g.x)], axis=1), np.tile(g.weights, 2)
    )
    once, both = model.anomaly_score([g, twice]) - bias
    assert both == pytest.approx(2 * once, rel=1e-4), "two parts that do not touch count twice"
    with torch.inference_mode():
        nodes, sums = network.encoder(*model._inputs(model._scaled(as_graphs([g]))))
    torch.testing.assert_close(sums[0], nodes.sum(dim=0))


def test_gin_scores_are_those_of_the_definition(mixed):
    graphs, y = mixed
    model = GINClassifier(hidden=8, layers=2, epochs=3, batch_size=16, random_state=0).fit(graphs, y)
    w = {name: array.astype(np.float64) for name, array in model.checkpoints_["auc"].items()}
    for graph, score in zip(graphs, model.anomaly_score(graphs)):
        A = np.zeros((len(graph.x),) * 2)
        A[tuple(graph.edges)] = graph.weights
        h, known = graph.x / model.scale_, []
        for l in range(2):
            h = h + A @ h
            h = leaky(h @ w[f"encoder.layers.{l}.0.weight"].T + w[f"encoder.layers.{l}.0.bias"])
            h = leaky(h @ w[f"encoder.layers.{l}.2.weight"].T + w[f"encoder.layers.{l}.2.bias"])
            norm = {name: w[f"encoder.norms.{l}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
            h = (h - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
            known.append(h.sum(axis=0))
        z = np.concatenate(known) @ w["head.weight"].T + w["head.bias"]
        assert score == pytest.approx(z[1] - z[0], rel=1e-3, abs=1e-3)


def test_scoring_changes_no_statistics(model, mixed):
    arrays = {name: array.copy() for name, array in model.checkpoints_["auc"].items()}
    model.anomaly_score(mixed[0][:7])
    assert all(np.array_equal(array, model.checkpoints_["auc"][name]) for name, array in arrays.items())
    with torch.device("meta"):
        network = model._network(3)
    assert not with_arrays(network, arrays).training


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"hidden": 0}, "hidden"),
        ({"filters": 0}, "filters"),
        ({"terms": 0}, "terms"),
        ({"dropout": 1.0}, "dropout"),
        ({"normalize": "yes"}, "normalize"),
        ({"explicit": 1}, "explicit"),
        ({"pooling": "max"}, "pooling"),
        ({"beta": 1.0}, "beta"),
        ({"gamma": -1.0}, "gamma"),
        ({"validation": 0.0}, "validation"),
        ({"checkpoint": "loss"}, "checkpoint"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_parameters_are_named(mixed, parameters, named):
    with pytest.raises(InputError, match=f"^{named}="):
        RQGNN(**TINY | parameters).fit(*mixed)


def test_a_training_that_diverges_is_named(mixed):
    try:
        scores = RQGNN(**TINY | {"learning_rate": 1000.0, "epochs": 20}).fit(*mixed).anomaly_score(mixed[0])
        assert np.isfinite(scores).all()
    except InputError as error:
        assert str(error).startswith("learning_rate=1000.0")
