"""SimpleNet and the noise it learns from: exact parts, what moves in training, and whether training matters."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage import data
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import assay
from assay.core.images import as_images
from assay.core.validation import InputError
from assay.detectors.images.simplenet import SimpleNet, adaptor, discriminator, truncated_l1, with_noise
from assay.generators.features import AUTO_NOISE, FeatureNoise
from assay.nn.backbones import initial_weights
from assay.nn.patch_features import aggregated

#: A p-value that a correct implementation falls below in one of a million runs.
ALMOST_NEVER = 1e-6
TINY = {"weights": None, "image_size": 32, "hidden": 16, "epochs": 3, "batch_size": 2, "random_state": 0}


def crops(n, size, rng):
    """Return crops of scikit-image's brick wall, grey."""
    wall = data.brick()
    corners = rng.integers(0, len(wall) - size, (n, 2))
    return np.stack([wall[r : r + size, c : c + size] for r, c in corners])


def pasted(images, rng):
    """Return the images with a turned piece of themselves pasted in, a quarter of the side, a third darker."""
    out, size = images.copy(), images.shape[1] // 4
    for image in out:
        r, c, r2, c2 = rng.integers(0, len(image) - size, 4)
        image[r : r + size, c : c + size] = np.rot90(image)[r2 : r2 + size, c2 : c2 + size] * (2 / 3)
    return out


def walls(seed):
    """Return normal images to train on, fresh ones, and spoilt ones, of 128 pixels."""
    rng = np.random.default_rng(seed)
    train, good, other = (crops(n, 128, rng) for n in (60, 40, 40))
    return train, good, pasted(other, rng)


def on_walls(seed, **parameters):
    quick = {"image_size": 128, "hidden": 256, "epochs": 20, "batch_size": 4, "random_state": seed}
    return SimpleNet(**quick | parameters).fit(walls(seed)[0])


@pytest.fixture(scope="module")
def learned():
    """Return the detectors of three seeds."""
    return [on_walls(seed) for seed in range(3)]


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 40, 3), dtype=np.uint8)


# -- extractor, as the method wants it -------------------------------------------------------------------------------


def test_published_features_are_means_over_patches_rows_and_pairs():
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.normal(size=(2, 6, *side))) for side in ((7, 5), (4, 3)))
    means = aggregated([first], patch=3, aggregate="adaptive", width=6)
    torch.testing.assert_close(means, F.avg_pool2d(first, 3, 1, 1).permute(0, 2, 3, 1))
    rows = aggregated([first], patch=3, aggregate="adaptive", width=18).unflatten(3, (6, 3))
    padded = F.pad(first, (1, 1, 1, 1))
    for r in range(3):
        kernel_row = torch.stack([padded[:, :, r : r + 7, c : c + 5] for c in range(3)]).mean(dim=0)
        torch.testing.assert_close(rows[..., r], kernel_row.permute(0, 2, 3, 1))
    both = aggregated([first, second], patch=3, aggregate="adaptive", width=6)
    assert both.shape == (2, 7, 5, 6)
    torch.testing.assert_close(both[..., :3], means.unflatten(3, (3, 2)).mean(dim=4))


# -- noise and loss --------------------------------------------------------------------------------------------------


def test_noise_is_gaussian_in_every_dimension_of_every_row_and_new_each_time():
    q = torch.randn(4000, 32)
    drawn = [(with_noise(q, 0.3) - q).numpy() for _ in range(2)]
    assert stats.kstest(drawn[0].ravel(), stats.norm(scale=0.3).cdf).pvalue > ALMOST_NEVER
    np.testing.assert_allclose(drawn[0].std(axis=0).mean(), 0.3, rtol=0.02)
    for a, b in ((drawn[0], drawn[1]), (drawn[0][1:], drawn[0][:-1]), (drawn[0][:, 1:], drawn[0][:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_mixture_draws_a_component_a_row():
    q = torch.zeros(3000, 400)
    deviation = with_noise(q, 0.5, 3).std(dim=1).numpy()
    parts = np.argmin(np.abs(deviation[:, None] - 0.5 * 1.1 ** np.arange(3)), axis=1)
    assert stats.chisquare(np.bincount(parts, minlength=3)).pvalue > ALMOST_NEVER
    assert np.abs(deviation / (0.5 * 1.1**parts) - 1).max() < 0.2


def test_loss_is_a_straight_line_up_to_the_margin():
    zero = torch.zeros(5, requires_grad=True)
    loss = truncated_l1(zero, zero)
    loss.backward()
    assert loss.item() == 1.0
    genuine = torch.tensor([0.5, 0.7, 9.0], requires_grad=True)
    counterfeit = torch.tensor([-0.5, -0.6, -9.0], requires_grad=True)
    loss = truncated_l1(genuine, counterfeit)
    loss.backward()
    assert loss.item() == 0.0
    assert not genuine.grad.any()
    assert not counterfeit.grad.any()
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    naive = np.mean([max(0, 0.2 - x) for x in a]) + np.mean([max(0, 0.2 + x) for x in b])
    assert truncated_l1(torch.tensor(a), torch.tensor(b), 0.2).item() == pytest.approx(naive)


def test_networks_have_the_published_form():
    G, D = adaptor(12, 1), discriminator(12, 20)
    assert [tuple(p.shape) for p in G.parameters()] == [(12, 12), (12,)]
    assert [tuple(p.shape) for p in D.parameters()] == [(20, 12), (20,), (20,), (20,), (1, 20)], "no bias at the end"
    x = torch.randn(3, 12)
    assert torch.equal(adaptor(12, 0)(x), x)


# -- training --------------------------------------------------------------------------------------------------------


def test_training_moves_adaptor_and_discriminator_but_not_the_backbone(noise):
    before, after = (SimpleNet(**TINY | {"epochs": epochs}).fit(noise) for epochs in (0, 1))
    for name, array in initial_weights("efficientnet_lite0", None, np.random.default_rng(0)).items():
        assert np.array_equal(array, after.backbone_[name])
    for part in ("adaptor_", "discriminator_"):
        for name, array in getattr(before, part).items():
            assert not np.array_equal(array, getattr(after, part)[name]), f"{part} {name}"
    still = SimpleNet(**TINY, adaptor_learning_rate=0.0).fit(noise)
    assert all(np.array_equal(still.adaptor_[name], before.adaptor_[name]) for name in before.adaptor_)
    assert not np.array_equal(still.discriminator_["0.weight"], SimpleNet(**TINY).fit(noise).discriminator_["0.weight"])


def test_automatic_noise_has_the_scale_of_the_adapted_features(noise):
    net = SimpleNet(**TINY | {"epochs": 0}).fit(noise)
    o = net._extract(as_images(noise), net._features()).flatten(0, 2).numpy()
    q = o @ net.adaptor_["0.weight"].T + net.adaptor_["0.bias"]
    assert net.noise_std_ == pytest.approx(AUTO_NOISE * np.median(q.std(axis=0)), rel=1e-3)
    assert SimpleNet(**TINY | {"noise_std": 0.015}).fit(noise).noise_std_ == 0.015


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_score_is_the_largest_cell_of_minus_d_and_the_map_its_smoothed_grid(noise, layers):
    net = SimpleNet(**TINY, adaptor_layers=layers).fit(noise)
    width = len(net.discriminator_["0.weight"][0])
    G, D = adaptor(width, layers).eval(), discriminator(width, 16).eval()
    for network, arrays in ((G, net.adaptor_), (D, net.discriminator_)):
        network.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()})
    with torch.inference_mode():
        features = net._extract(as_images(noise), net._features())
        grid = -D(G(features.flatten(0, 2))).reshape(features.shape[:3])
    scores, maps = net.locate(noise)
    np.testing.assert_allclose(scores, grid.amax(dim=(1, 2)), rtol=1e-4, atol=1e-5)
    large = F.interpolate(grid[:, None], size=(32, 32), mode="bilinear")[:, 0].numpy()
    np.testing.assert_allclose(maps, [gaussian_filter(one, 4.0) for one in large], rtol=1e-4, atol=1e-5)
    assert np.array_equal(scores, net.anomaly_score(noise)), "nothing is drawn at scoring"


def test_training_matters_on_brick_walls(learned):
    y, aucs = np.repeat([0, 1], 40), []
    for seed, net in enumerate(learned):
        untrained, silent = on_walls(seed, epochs=0), on_walls(seed, epochs=5, noise_std=0.0)
        X = np.concatenate(walls(seed)[1:])
        aucs.append([roc_auc_score(y, one.anomaly_score(X)) for one in (net, untrained, silent)])
    assert min(auc for auc, *_ in aucs) >= 0.9
    trained, without, without_noise = np.mean(aucs, axis=0)
    assert trained >= without + 0.2
    assert trained >= without_noise + 0.2


def test_a_pasted_patch_raises_the_score(learned):
    for seed, net in enumerate(learned):
        good = walls(seed)[1]
        spoilt = pasted(good, np.random.default_rng(100 + seed))
        scores, maps = net.locate(spoilt)
        assert (scores > net.anomaly_score(good)).mean() >= 0.95
        assert roc_auc_score((spoilt != good).ravel(), maps.ravel()) >= 0.8


def test_subsets_order_and_saving(noise, tmp_path):
    net = SimpleNet(**TINY).fit(noise)
    scores, maps = net.locate(noise)
    np.testing.assert_allclose(net.anomaly_score(noise[[4, 1]]), scores[[4, 1]], rtol=1e-4)
    np.testing.assert_allclose(net.anomaly_map(noise[2:3])[0], maps[2], rtol=1e-4)
    assay.save(net, tmp_path / "net")
    assert np.array_equal(assay.load(tmp_path / "net").anomaly_score(noise), scores)
    assert np.array_equal(net.fit(noise[:3]).fit(noise).anomaly_score(noise), scores)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"noise_std": "wide"}, "noise_std"),
        ({"noise_std": -1.0}, "noise_std"),
        ({"mix_noise": 0}, "mix_noise"),
        ({"adaptor_layers": -1}, "adaptor_layers"),
        ({"hidden": 0}, "hidden"),
        ({"epochs": 0.5}, "epochs"),
        ({"margin": -1.0}, "margin"),
        ({"image_score": "mean"}, "image_score"),
    ],
)
def test_bad_parameters_are_named(noise, parameters, named):
    with pytest.raises(InputError, match=named):
        SimpleNet(**TINY | parameters).fit(noise)


# -- the same noise on tables ----------------------------------------------------------------------------------------


def test_feature_noise_follows_its_law():
    X = np.random.default_rng(0).normal(size=(300, 8)) * [1, 10, 100, 1, 1, 1, 1, 0]
    generator = FeatureNoise(0.5, mix_noise=3).fit(X)
    for strength in (1.0, 0.5):
        auxiliary = generator.sample(4000, strength=strength, random_state=0)
        std = np.array([drawn["std"] for drawn in auxiliary.meta])
        parts = np.rint(np.log(std / (0.5 * strength)) / np.log(1.1)).astype(int)
        np.testing.assert_allclose(std, 0.5 * strength * 1.1**parts)
        assert stats.chisquare(np.bincount(parts, minlength=3)).pvalue > ALMOST_NEVER
        noise = (auxiliary.X - X[auxiliary.parents]) / std[:, None]
        assert stats.kstest(noise[:, :7].ravel(), stats.norm.cdf).pvalue > ALMOST_NEVER
        assert not noise[:, 7].any(), "a constant column stays constant"
        assert stats.chisquare(np.bincount(auxiliary.parents, minlength=300)).pvalue > ALMOST_NEVER


def test_automatic_feature_noise_scales_with_the_data():
    X = np.random.default_rng(0).normal(size=(50, 5)) * [1, 2, 3, 4, 0]
    generator = FeatureNoise().fit(X)
    assert generator.noise_std_ == pytest.approx(AUTO_NOISE * np.median(X[:, :4].std(axis=0)))
    rows, larger = (FeatureNoise(random_state=0).fit(k * X).sample(20).X for k in (1, 1000))
    np.testing.assert_allclose(larger, 1000 * rows)


@pytest.mark.parametrize(
    ("generator", "named"),
    [(FeatureNoise(0.0), "noise_std"), (FeatureNoise("big"), "noise_std"), (FeatureNoise(mix_noise=0), "mix_noise")],
)
def test_bad_noise_is_named(generator, named):
    with pytest.raises(InputError, match=named):
        generator.fit(np.random.default_rng(0).normal(size=(10, 3)))
