"""DOHSC and DO2HSC: the projection, the regions, what training may not do, and the three systems on them."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import assay
from assay.core.graphs import Graph, Graphs
from assay.core.validation import InputError
from assay.datasets.simulators.graphs import random_graphs
from assay.detectors.graphs.hypersphere import GraphHypersphere, GraphNetwork, mutual_information_loss
from assay.detectors.images.hypersphere import ImageHypersphere, contrast, decoder
from assay.detectors.images.hypersphere import encoder as image_encoder
from assay.detectors.tabular.hypersphere import Hypersphere
from assay.detectors.tabular.hypersphere import encoder as row_encoder
from assay.nn import hypersphere as head_module
from assay.nn.graphs import batch_of
from assay.nn.hypersphere import (
    Hypersphere as Head,
)
from assay.nn.hypersphere import (
    ball_loss,
    compress,
    guarded,
    lasting,
    orthogonal_projection,
    radii_of,
    region_score,
    shell_loss,
    turning,
)
from assay.nn.state import seeded

QUICK_ROWS = {"hidden": 64, "latent": 8, "pretrain_epochs": 10, "epochs": 10, "warm_up": 2, "random_state": 0}
QUICK_GRAPHS = {"hidden": 8, "latent": 8, "epochs": 3, "warm_up": 1, "batch_size": 20, "random_state": 0}
QUICK_IMAGES = {"latent": 16, "pretrain_epochs": 1, "epochs": 2, "warm_up": 1, "random_state": 0}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normals(n=200, k=32, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, k)) @ rng.normal(size=(k, k)) + rng.normal(size=k))


def random_labelled(kind, n=60, seed=0):
    return random_graphs(kind, n, low=8, high=16, random_state=seed)


# -- projection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [False, True])
def test_projected_columns_are_orthogonal_and_of_length_one(centred):
    Z = normals()
    shift, W = orthogonal_projection(Z, 8, centred)
    projected = (Z - shift) @ W
    torch.testing.assert_close(projected.T @ projected, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-5)
    if centred:
        torch.testing.assert_close(
            torch.cov(projected.T, correction=0), torch.eye(8, dtype=torch.float64) / 200, rtol=0, atol=1e-7
        )
    # The published code's V Λ squares the singular values instead of levelling them.
    _, values, directions = torch.linalg.svd(Z - shift, full_matrices=False)
    code = (Z - shift) @ (directions[:8].T * values[:8])
    torch.testing.assert_close(code.norm(dim=0), values[:8] ** 2)
    assert values[0] ** 2 > 2 * values[7] ** 2


def test_the_directions_kept_are_those_of_the_largest_singular_values():
    Z = torch.randn(100, 5, dtype=torch.float64) * torch.tensor([1.0, 9.0, 2.0, 7.0, 3.0])
    _, W = orthogonal_projection(Z, 2)
    assert (W.abs().sum(dim=1).argsort(descending=True)[:2].sort().values == torch.tensor([1, 3])).all()


def test_small_singular_values_are_held_up_and_none_at_all_is_refused():
    Z = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 1.0, 1e-12])
    shift, W = orthogonal_projection(Z, 3)
    largest = torch.linalg.svdvals(Z)[0]
    assert W.abs().max() <= 1 / (head_module.FLOOR * largest) * (1 + 1e-9)
    with pytest.raises(InputError, match=r"X: .*same vector"):
        orthogonal_projection(torch.zeros(10, 3), 2)
    with pytest.raises(InputError, match=r"X: .*same vector"):
        orthogonal_projection(torch.ones(8, 3), 2, centred=True)


def test_scale_does_not_depend_on_the_number_of_items_and_few_items_keep_few_directions():
    for n in (40, 4000):
        head = Head(4, 4).double()
        head.adapt(normals(n, 4))
        head.eval()
        torch.testing.assert_close(head(normals(n, 4)).square().mean(dim=0), torch.ones(4, dtype=torch.float64))
    head = Head(16, 16).double()
    few = normals(10, 16)
    head.adapt(few)
    assert (head.weight.abs().sum(dim=0) > 0).sum() == 5
    head.eval()
    # With as many directions as items a fresh item is thousands of times farther than any of them.
    assert head(normals(10, 16, 1)).norm(dim=1).max() < 100 * head(few).norm(dim=1).max()


def test_each_projection_is_turned_to_agree_with_the_one_before():
    Z, head = normals(400, 6), Head(6, 6).double()
    head.adapt(Z)
    before = ((Z - head.shift) @ head.weight).clone()
    head.adapt(Z[torch.randperm(400)[:200]])
    after = (Z - head.shift) @ head.weight
    assert (before * after).sum(dim=0).min() > 0.8 * 400
    # Plain singular vectors of two halves differ in their signs and order.
    first, second = (Z @ orthogonal_projection(part, 6)[1] for part in (Z[:200], Z[200:]))
    best = second @ turning(second, first)
    assert (best - first).norm() < (second - first).norm()
    R = turning(second, first)
    torch.testing.assert_close(R.T @ R, torch.eye(6, dtype=torch.float64))


def test_no_gradient_runs_through_the_projection_and_none_only_stretches():
    Z = normals(100, 4).requires_grad_()
    head = Head(4, 4).double()
    head.train()
    out = head(Z)
    weights = torch.randn(100, 4, dtype=torch.float64)
    (out * weights).sum().backward()
    fixed = out.detach()
    torch.testing.assert_close(Z.grad, lasting(weights, fixed) @ head.weight.T)
    G = lasting(weights, fixed)
    stretching = fixed.T @ G
    torch.testing.assert_close(stretching, -stretching.T, atol=1e-8, rtol=0)
    # A small step along it leaves the cloud round, to first order.
    moved = fixed + 1e-4 * G
    torch.testing.assert_close(moved.T @ moved / 100, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert lasting(weights, fixed, centred=True).mean(dim=0).abs().max() > 0
    # A centred ball asks for nothing that lasts.
    head = Head(4, 4, centred=True).double()
    Z.grad = None
    head.centre = torch.full((4,), 0.1, dtype=torch.float64)
    ball_loss(head.distances(Z)).backward()
    assert Z.grad.abs().max() < 1e-9


def test_a_ball_without_that_part_of_the_gradient_fits_training_rows_only(monkeypatch):
    rng = np.random.default_rng(0)
    train, fresh = rng.normal(size=(2, 150, 6)) * [1, 1, 2, 3, 4, 5]
    quick = QUICK_ROWS | {"epochs": 150, "learning_rate": 1e-3}
    false_alarms = (Hypersphere(**quick).fit(train).anomaly_score(fresh) > 0).mean()
    monkeypatch.setattr(head_module, "lasting", lambda gradient, Z, centred: gradient)
    published = (Hypersphere(**quick).fit(train).anomaly_score(fresh) > 0).mean()
    assert false_alarms < 0.15
    assert published > false_alarms + 0.1


# -- regions ---------------------------------------------------------------------------------------------------------


def test_centre_stays_away_from_zero():
    centre = guarded(torch.tensor([0.0, 0.05, -0.05, 0.3, -2.0]), 0.1)
    torch.testing.assert_close(centre, torch.tensor([0.1, 0.1, -0.1, 0.3, -2.0]))


def test_losses_are_the_closed_forms():
    d = torch.tensor([0.5, 1.5, 1.7, 4.0], requires_grad=True)
    assert ball_loss(d).item() == pytest.approx((0.25 + 2.25 + 2.89 + 16) / 4)
    loss = shell_loss(d, 1.0, 2.0)
    assert loss.item() == pytest.approx(((2 - 0.5) + 1 + 1 + (4 - 1)) / 4)
    loss.backward()
    # Pushed outward below, left alone between, pulled inward above.
    torch.testing.assert_close(d.grad, torch.tensor([-0.25, 0.0, 0.0, 0.25]))
    at_the_centre = torch.zeros(3, 2, requires_grad=True)
    shell_loss(torch.linalg.vector_norm(at_the_centre, dim=1), 1.0, 2.0).backward()
    assert torch.isfinite(at_the_centre.grad).all()


def test_radii_are_quantiles_and_scores_change_their_sign_there():
    d = np.linspace(0.0, 1.0, 101)
    assert radii_of(d, "ball", 0.1) == pytest.approx((0.0, 0.9))
    low, high = radii_of(d, "shell", 0.1)
    assert (low, high) == pytest.approx((0.1, 0.9))
    at = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    np.testing.assert_array_equal(np.sign(region_score(at, "ball", (0.0, 0.9))), [-1, -1, -1, 0, 1])
    np.testing.assert_array_equal(np.sign(region_score(at, "shell", (0.1, 0.9))), [1, 0, -1, 0, 1])
    # Equal distances: no inside, yet a score that tells how far an item is from them.
    same = radii_of(np.full(9, 2.0), "shell", 0.01)
    np.testing.assert_allclose(region_score(np.array([2.0, 2.5, 1.0]), "shell", same), [0.0, 0.25, 1.0])


def test_soap_bubble_only_the_shell_finds_the_empty_middle_in_many_dimensions():
    rng = np.random.default_rng(0)
    for width in (256, 2):
        train, fresh = np.linalg.norm(rng.normal(size=(2, 500, width)), axis=2)
        assert width == 2 or (abs(train.mean() - 16) < 0.1 and abs(train.std() - 0.7) < 0.1)
        ball, shell = (region_score(np.r_[fresh, 0.0], r, radii_of(train, r, 0.01)) for r in ("ball", "shell"))
        assert ball[-1] == ball.min(), "to the ball nothing is as normal as its centre"
        # In the plane the farthest normal item is odder than the centre, in many dimensions far less so.
        assert shell[-1] > 20 * shell[:-1].max() if width == 256 else shell[-1] < shell[:-1].max()


def test_a_ball_sees_along_the_small_axis_of_an_ellipsoid_only_after_projection():
    rng = np.random.default_rng(0)
    deviation = np.geomspace(50, 1, 8)
    train, fresh, odd = (torch.from_numpy(rng.normal(size=(400, 8)) * deviation) for _ in range(3))
    odd[:, -1] = 6.0
    aucs = []
    for orthogonal in (False, True):
        head = Head(8, 8, orthogonal).double()
        head.adapt(train)
        head.eval()
        head.centre = guarded(head(train).mean(dim=0), 0.1)
        aucs.append(roc_auc_score(np.repeat([0, 1], 400), head.distances(torch.cat([fresh, odd])).numpy()))
    assert aucs[0] < 0.6 and aucs[1] > 0.95


# -- training --------------------------------------------------------------------------------------------------------


def compressed(network, x, width=4, **options):
    head = Head(width, width, options.pop("orthogonal", True))
    options = {"region": "shell", "nu": 0.05, "guard": 0.1, "warm_up": 3, "epochs": 20, "batch_size": 50} | options
    options = {"learning_rate": 1e-3} | options
    found = compress(
        network,
        head,
        lambda rows: (network(x[rows].to(next(network.parameters()).dtype)), 0.0),
        len(x),
        np.random.default_rng(0),
        **options,
    )
    return head, found


def seeded_network(*layers):
    with seeded(np.random.default_rng(0)):
        made = [layer() for layer in layers]
    return nn.Sequential(*made)


def test_radii_of_the_shell_are_those_after_the_warm_up_and_the_frozen_projection_is_that_of_all():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))

    def build():
        linear = partial(nn.Linear, bias=False)
        return seeded_network(partial(linear, 6, 16), nn.ELU, partial(linear, 16, 4))

    _, warm = compressed(build(), x, region="ball", epochs=3)
    network = build()
    head, found = compressed(network, x)
    assert found.radii == pytest.approx(radii_of(warm.distances, "shell", 0.05), rel=1e-3)
    assert len(found.losses) == 23 and not found.collapsed
    assert head.centre.abs().min() >= 0.1 - 1e-9
    # After the warm-up the shell has a loss of its own: less lies outside, and nearer, than the ball leaves there.
    _, ball = compressed(build(), x, region="ball", epochs=23)
    outside = [np.abs(one.distances - np.clip(one.distances, *found.radii)).mean() for one in (found, ball)]
    assert outside[0] < 0.8 * outside[1]
    with torch.no_grad():
        Z = network(x.double())
        torch.testing.assert_close((Z @ head.weight).T @ (Z @ head.weight) / 200, torch.eye(4, dtype=torch.float64))
        weight = head.weight.clone()
        np.testing.assert_allclose(head.distances(Z).numpy(), found.distances, rtol=1e-9)
        head(Z[:3])
    assert torch.equal(weight, head.weight), "scoring learns nothing"


def test_the_learning_rate_falls_at_80_and_at_90_percent(monkeypatch):
    rates, plain = [], torch.optim.Adam.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return plain(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    network = seeded_network(partial(nn.Linear, 6, 4, bias=False))
    compressed(network, torch.randn(50, 6), warm_up=2, epochs=10, slow_down=True)
    assert rates == pytest.approx([1e-3] * 10 + [1e-4, 1e-5])


def test_the_monitor_tells_a_collapse_which_a_bias_makes_possible():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    for bias in (True, False):
        linear = partial(nn.Linear, bias=bias)
        network = seeded_network(partial(linear, 6, 8), nn.Tanh, partial(linear, 8, 4))
        options = {"region": "ball", "orthogonal": False, "epochs": 150, "learning_rate": 2e-2}
        _, found = compressed(network, x, **options, weight_decay=1e-2 if bias else 0.0)
        assert found.collapsed == bias


@pytest.mark.parametrize("network", [row_encoder(5, 7, 3), image_encoder(16), decoder(16), GraphNetwork(4, 8, 2)])
def test_no_layer_has_a_bias(network):
    assert not any(name.endswith("bias") for name, _ in network.named_parameters())
    assert not any(getattr(layer, "affine", False) for layer in network.modules()), "nor has batch normalisation"


# -- graphs ----------------------------------------------------------------------------------------------------------


def test_mutual_information_is_the_sum_over_nodes_and_graphs():
    nodes, graphs = torch.randn(9, 4), torch.randn(3, 4)
    owner = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 2])
    positive, negative = 0.0, 0.0
    for u in range(9):
        for g in range(3):
            t = float(nodes[u] @ graphs[g])
            if owner[u] == g:
                positive += np.log(2) - np.log1p(np.exp(-t))
            else:
                negative += np.log1p(np.exp(-t)) + t - np.log(2)
    expected = negative / (9 * 2) - positive / 9
    assert mutual_information_loss(nodes, graphs, owner).item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(mutual_information_loss(nodes[:2], graphs[:1], owner[:2]))


def test_mutual_information_and_region_shape_the_training():
    train = random_labelled("watts_strogatz")
    base = GraphHypersphere(**QUICK_GRAPHS).fit(train)
    for other in ({"information": 0.0}, {"region": "shell"}, {"orthogonal": False}, {"centred": True}):
        changed = GraphHypersphere(**QUICK_GRAPHS | other).fit(train)
        weights = [model.network_["graph.shortcut.weight"] for model in (base, changed)]
        assert not np.allclose(*weights)
        assert not np.allclose(base.distances_, changed.distances_)


@pytest.mark.parametrize("region", ["ball", "shell"])
def test_a_graph_is_scored_alone_whatever_its_batch_or_the_order_of_its_nodes(region):
    train, test = random_labelled("watts_strogatz"), random_labelled("barabasi_albert", 30)
    model = GraphHypersphere(**QUICK_GRAPHS, region=region).fit(train)
    scores = model.anomaly_score(test)
    for row in (0, 17):
        np.testing.assert_allclose(model.anomaly_score(test[row : row + 1]), scores[[row]], rtol=1e-9)
    x, edges, weights = test[3]
    order = np.random.default_rng(0).permutation(len(x))
    same = Graph(x[order], np.argsort(order)[edges], weights)
    np.testing.assert_allclose(model.anomaly_score([same]), scores[[3]], rtol=1e-8)
    assert model.set_params(batch_size=7).anomaly_score(test) == pytest.approx(scores, rel=1e-9)
    np.testing.assert_allclose(
        model.anomaly_score(train), region_score(model.distances_, region, model.radii_), rtol=1e-6, atol=1e-9
    )


def test_random_graphs_of_another_family_are_found():
    normal, other = (random_graphs(kind, 120, random_state=0) for kind in ("watts_strogatz", "erdos_renyi"))
    model = GraphHypersphere(epochs=15, random_state=0).fit(normal[:80])
    scores = [model.anomaly_score(part) for part in (normal[80:], other)]
    assert roc_auc_score(np.repeat([0, 1], [40, 120]), np.concatenate(scores)) > 0.95
    assert not model.collapsed_


def test_batch_statistics_are_those_of_the_finished_network():
    train = random_labelled("erdos_renyi")
    model = GraphHypersphere(**QUICK_GRAPHS | {"batch_size": 60}).fit(train)
    network = GraphNetwork(train.x.shape[1], 8, 3).double()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in model.network_.items()})
    network.eval()
    batch = batch_of(Graphs(train.x, train.nodes, train.edges, train.weights), train.adjacency())
    batch = batch._replace(x=batch.x.double(), operator=batch.operator.double())
    with torch.no_grad():
        nodes, _ = network.encoder(batch)
    torch.testing.assert_close(nodes.mean(dim=0), torch.zeros(24, dtype=torch.float64), atol=5e-3, rtol=0)


def test_numbers_of_nodes_are_scaled_by_training_and_zeros_and_ones_stay():
    train = random_labelled("erdos_renyi")
    assert set(GraphHypersphere(**QUICK_GRAPHS).fit(train).scale_) == {1.0}
    large = Graphs(1e6 * train.x, train.nodes, train.edges, train.weights)
    first, second = (GraphHypersphere(**QUICK_GRAPHS).fit(part).anomaly_score(part) for part in (train, large))
    np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-9)


# -- tables and images -----------------------------------------------------------------------------------------------


def bent(n, rng):
    """Draw rows near a bent sheet in 6 dimensions."""
    a, b = rng.uniform(-2, 2, size=(2, n))
    return np.stack([a, b, a * b, np.sin(2 * a), a + b, a - b], axis=1) + 0.05 * rng.normal(size=(n, 6))


@pytest.mark.parametrize("region", ["ball", "shell"])
def test_rows_off_the_sheet_are_found_alone_or_together(region):
    rng = np.random.default_rng(0)
    train, fresh = bent(300, rng), bent(100, rng)
    odd = np.stack([rng.permutation(column) for column in bent(100, rng).T], axis=1)
    model = Hypersphere(region, latent=32, pretrain_epochs=10, epochs=10, random_state=0).fit(train)
    scores = model.anomaly_score(np.concatenate([fresh, odd]))
    assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.85
    assert (scores[:100] > 0).mean() < 0.3
    np.testing.assert_allclose(model.anomaly_score(fresh[7:8]), scores[7:8], rtol=1e-11)


def test_projection_beats_deep_svdd_with_the_same_encoder_where_columns_depend_on_each_other():
    rng = np.random.default_rng(1)
    draw = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 10)) + 0.05 * rng.normal(size=(500, 10))
    odd = draw[400:].copy()
    odd += 0.4 * rng.normal(size=odd.shape)
    aucs = []
    for orthogonal in (True, False):
        model = Hypersphere(orthogonal=orthogonal, pretrain_epochs=20, epochs=10, random_state=0).fit(draw[:300])
        scores = model.anomaly_score(np.concatenate([draw[300:400], odd]))
        aucs.append(roc_auc_score(np.repeat([0, 1], 100), scores))
    assert aucs[0] > 0.9 > aucs[1] + 0.1


def test_one_column_two_rows_and_constant_tables(tmp_path):
    line = np.random.default_rng(0).normal(size=(60, 1))
    near, far = Hypersphere(**QUICK_ROWS).fit(line).anomaly_score([[0.1], [50.0]])
    assert far > 0 > near
    assert np.isfinite(Hypersphere(**QUICK_ROWS).fit(line[:2]).anomaly_score(line)).all()
    with pytest.raises(InputError, match="X: all rows are alike"):
        Hypersphere(**QUICK_ROWS).fit(np.ones((20, 3)))
    model = Hypersphere(**QUICK_ROWS).fit(line)
    assay.save(model, tmp_path / "model")
    assert (assay.load(tmp_path / "model").anomaly_score(line) == model.anomaly_score(line)).all()


def test_images_lose_brightness_and_contrast_and_grey_ones_stay_finite():
    images = np.random.default_rng(0).integers(60, 180, (3, 32, 32, 3), dtype=np.uint8)
    x = contrast(images)
    torch.testing.assert_close(x.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.abs().mean(dim=(1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(contrast(images + 20), x, atol=1e-4, rtol=1e-4)
    grey = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    model = ImageHypersphere(**QUICK_IMAGES).fit(np.concatenate([images] * 8))
    assert np.isfinite(model.anomaly_score(grey)).all()
    with pytest.raises(InputError, match="X: "):
        ImageHypersphere(**QUICK_IMAGES).fit(np.repeat(grey, 6, axis=0))


def test_the_autoencoder_gives_pictures_back_and_pretraining_moves_the_encoder():
    assert decoder(32)(torch.zeros(2, 32)).shape == (2, 3, 32, 32)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    with_it, without = (
        ImageHypersphere(**QUICK_IMAGES | {"pretrain_epochs": epochs, "epochs": 0}).fit(images) for epochs in (1, 0)
    )
    assert not np.allclose(with_it.network_["0.weight"], without.network_["0.weight"])
    with_it, without = (
        Hypersphere(**QUICK_ROWS | {"pretrain_epochs": epochs, "epochs": 0}).fit(np.eye(12)) for epochs in (1, 0)
    )
    assert not np.allclose(with_it.network_["0.weight"], without.network_["0.weight"])


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"region": "cube"}, "region"),
        ({"nu": 0.5}, "nu"),
        ({"nu": -0.1}, "nu"),
        ({"guard": -1.0}, "guard"),
        ({"warm_up": -1}, "warm_up"),
        ({"epochs": 1.5}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"latent": 0}, "latent"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_bad_parameters_are_named(parameters, named):
    for cls, X in (
        (Hypersphere, np.eye(4)),
        (GraphHypersphere, random_labelled("erdos_renyi", 4)),
        (ImageHypersphere, np.zeros((4, 32, 32, 3), dtype=np.uint8)),
    ):
        with pytest.raises(InputError, match=named):
            cls(**parameters).fit(X)
    with pytest.raises(InputError, match="latent=24: give a multiple of 16"):
        ImageHypersphere(latent=24).fit(np.zeros((4, 32, 32, 3), dtype=np.uint8))
