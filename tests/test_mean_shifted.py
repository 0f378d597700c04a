"""Mean-shifted contrast: the loss by its formula, what plain contrast spoils, and the detector around it."""

import colorsys
import copy
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from skimage import data
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import assay
from assay.core.images import as_images, resized
from assay.core.validation import InputError
from assay.detectors.images import mean_shifted as page
from assay.detectors.images.mean_shifted import (
    MeanShiftedContrastive,
    adapt,
    angular_loss,
    contrastive_loss,
    mean_shifted_loss,
    neighbour_score,
    shifted,
)
from assay.metrics.ranking import roc_auc
from assay.nn import augment
from assay.nn.backbones import initial_weights
from assay.nn.state import seeded


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def vectors(n, d=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


# -- the loss --------------------------------------------------------------------------------------------------------


def loss_by_the_formula(first, second, centre, temperature):
    views = [v / np.linalg.norm(v) - centre for v in np.vstack([first, second])]
    theta = [v / np.linalg.norm(v) for v in views]
    n = len(first)
    total = 0.0
    for i in range(2 * n):
        pair = i + n if i < n else i - n
        rest = sum(np.exp(theta[i] @ theta[j] / temperature) for j in range(2 * n) if j != i)
        total -= np.log(np.exp(theta[i] @ theta[pair] / temperature) / rest)
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.25, 1.0])
def test_the_loss_is_the_formula(temperature):
    first, second = vectors(5), vectors(5, seed=1)
    centre = vectors(1, seed=2)[0] / 5
    got = mean_shifted_loss(first, second, centre, temperature).item()
    assert got == pytest.approx(
        loss_by_the_formula(first.numpy(), second.numpy(), centre.numpy(), temperature), abs=1e-12
    )


def test_about_the_origin_it_is_plain_contrast():
    first, second = vectors(4), vectors(4, seed=1)
    plain = contrastive_loss(F.normalize(first, dim=1), F.normalize(second, dim=1))
    assert torch.equal(mean_shifted_loss(first, second, torch.zeros(6, dtype=torch.float64)), plain)


def test_rotating_everything_changes_nothing():
    first, second, centre = vectors(4), vectors(4, seed=1), vectors(1, seed=2)[0] / 4
    turn = torch.linalg.qr(vectors(6, seed=3))[0]
    assert torch.allclose(
        mean_shifted_loss(first, second, centre), mean_shifted_loss(first @ turn, second @ turn, centre @ turn)
    )


def test_only_the_direction_from_the_centre_counts():
    f = F.normalize(vectors(5), dim=1)
    centre = vectors(1, seed=2)[0] / 4
    assert torch.allclose(F.normalize(3.7 * (f - centre), dim=1), shifted(f, centre))
    assert torch.allclose(shifted(2.5 * f, centre), shifted(f, centre))


def test_one_item_alone_costs_nothing():
    first, second = vectors(1), vectors(1, seed=1)
    assert mean_shifted_loss(first, second, vectors(1, seed=2)[0]).item() == 0


@pytest.mark.parametrize("angular", [False, True])
def test_its_gradient_is_that_of_finite_differences(angular):
    first, second = vectors(3).requires_grad_(), vectors(3, seed=1).requires_grad_()
    centre = vectors(1, seed=2)[0] / 4
    assert torch.autograd.gradcheck(lambda a, b: mean_shifted_loss(a, b, centre, 0.25, angular), (first, second))


def test_the_angular_loss_in_both_published_forms():
    f, c = F.normalize(vectors(5), dim=1), vectors(1, seed=2)[0]
    unit = c / c.norm()
    assert angular_loss(f, c).item() == pytest.approx((2 - 2 * f @ unit).mean().item(), abs=1e-12)
    both = mean_shifted_loss(f, f.flip(0), c, angular=True) - mean_shifted_loss(f, f.flip(0), c)
    assert both.item() == pytest.approx((4 - 4 * f @ unit).mean().item(), abs=1e-12)


def test_the_score_is_four_minus_twice_the_cosines_in_any_number_of_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    queries, normals = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 30, 8)))
    cosines = np.sort(queries @ normals.T, axis=1)[:, -2:]
    squared = np.sort(((queries[:, None] - normals) ** 2).sum(axis=2), axis=1)[:, :2]
    scores = neighbour_score(queries, normals)
    assert np.allclose(scores, 4 - 2 * cosines.sum(axis=1), atol=1e-12)
    assert np.allclose(scores, squared.sum(axis=1), atol=1e-12)
    monkeypatch.setattr("assay.detectors.images.mean_shifted.ROWS", 7)
    assert np.allclose(neighbour_score(queries, normals), scores, atol=1e-13)
    assert np.allclose(neighbour_score(queries, normals[:1], k=2), ((queries - normals[0]) ** 2).sum(axis=1))


def test_to_first_order_the_distance_to_the_centre_is_free_but_plain_contrast_raises_it():
    rng = np.random.default_rng(0)
    cone = np.concatenate([np.full((40, 1), 3.0), rng.normal(0, 0.5, size=(40, 15))], axis=1)
    twins = torch.from_numpy(cone + rng.normal(0, 0.1, size=cone.shape))
    f, twins = (F.normalize(x, dim=1) for x in (torch.from_numpy(cone), twins))
    centre = f.mean(dim=0)
    push = {}
    for name, origin in (("shifted", centre), ("plain", torch.zeros_like(centre))):
        leaf = f.clone().requires_grad_()
        loss = contrastive_loss(F.normalize(leaf - origin, dim=1), F.normalize(twins - origin, dim=1))
        (gradient,) = torch.autograd.grad(loss, leaf)
        push[name] = -(gradient * (f - centre)).sum(dim=1)
    assert push["shifted"].abs().max() < 1e-12
    assert (push["plain"] > 0).double().mean() > 0.9


# -- a pretrained encoder of small digits: 0 to 4 play ImageNet, each of 5 to 9 is normal in turn ---------------------


DIGITS = load_digits()
PIXELS = torch.from_numpy((DIGITS.data / 16).astype(np.float32))


def encoder_of_digits():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())


@cache
def pretrained(seed):
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(DIGITS.target < 5))
    train, test = rows[:700], rows[700:]
    with seeded(rng):
        encoder, head = encoder_of_digits(), nn.Linear(64, 5)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(15):
        for part in np.array_split(rng.permutation(train), 12):
            loss = F.cross_entropy(head(encoder(PIXELS[part])), torch.from_numpy(DIGITS.target[part]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    right = head(encoder(PIXELS[test])).argmax(dim=1).numpy() == DIGITS.target[test]
    assert right.mean() > 0.95
    return encoder


def digit_views(rows, rng):
    """Moved by up to a pixel, of another brightness, with noise."""
    x = augment.padded_crop(PIXELS[rows].reshape(-1, 1, 8, 8), rng, pad=1).flatten(1)
    factor = torch.from_numpy(rng.uniform(0.7, 1.3, size=(len(rows), 1)).astype(np.float32))
    return x * factor + torch.from_numpy(rng.normal(0, 0.1, size=x.shape).astype(np.float32))


def features(encoder, rows):
    with torch.inference_mode():
        return F.normalize(encoder(PIXELS[rows]), dim=1)


def adapted_digits(seed, normal, arm):
    """Return the ROC AUC of one-class detection of a digit after adaptation."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(DIGITS.target == normal))
    train = rows[:100]
    test = np.concatenate([rows[100:], np.flatnonzero((DIGITS.target >= 5) & (DIGITS.target != normal))])
    encoder = copy.deepcopy(pretrained(seed))
    centre = features(encoder, train).mean(dim=0).clone()
    if arm != "frozen":
        origin = torch.zeros_like(centre) if arm == "plain" else centre
        options = {"learning_rate": 1e-3, "batch_size": 32, "epochs": 20}
        adapt(encoder, lambda part: digit_views(train[part], rng), len(train), origin, rng, **options)
    after = features(encoder, train)
    scores = neighbour_score(features(encoder, test).double().numpy(), after.double().numpy())
    return roc_auc(DIGITS.target[test] != normal, scores)


def test_about_the_mean_the_directions_of_one_class_are_spread():
    rows = np.flatnonzero(DIGITS.target == 7)
    f = features(pretrained(0), rows).double()
    theta = shifted(f, f.mean(dim=0))

    def mean_cosine(x):
        return ((x @ x.T).sum() - len(x)).item() / (len(x) * (len(x) - 1))

    def effective_rank(x):
        share = torch.linalg.svdvals(x) ** 2
        share = share / share.sum()
        return torch.exp(-torch.xlogy(share, share).sum()).item()

    assert mean_cosine(f) > 0.6
    assert abs(mean_cosine(theta)) < 0.1
    assert effective_rank(theta) > 1.5 * effective_rank(f)


def test_adapting_digits_costs_nothing_and_plain_contrast_is_no_better():
    """Over 5 classes and 3 seeds; on these digits plain contrast does not collapse, see the test of textures."""
    runs = [(seed, normal) for seed in range(3) for normal in range(5, 10)]
    frozen, about_mean, plain = (
        np.mean([adapted_digits(seed, normal, arm) for seed, normal in runs]) for arm in ("frozen", "msc", "plain")
    )
    assert about_mean >= frozen - 0.005
    assert about_mean > plain


def test_a_step_of_the_training_is_plain_gradient_descent():
    encoder = copy.deepcopy(pretrained(0))
    twin = copy.deepcopy(encoder)
    rows = np.flatnonzero(DIGITS.target == 6)[:20]
    centre = features(encoder, rows).mean(dim=0).clone()
    options = {"learning_rate": 0.5, "weight_decay": 0.01, "batch_size": 32, "epochs": 1}
    losses = adapt(encoder, lambda part: PIXELS[np.sort(rows[part])], 20, centre, np.random.default_rng(0), **options)
    loss = mean_shifted_loss(twin(PIXELS[rows]), twin(PIXELS[rows]), centre)
    loss.backward()
    assert losses == pytest.approx([loss.item()], rel=1e-5)
    for weight, moved in zip(twin.parameters(), encoder.parameters()):
        assert torch.allclose(weight - 0.5 * (weight.grad + 0.01 * weight), moved, atol=1e-6)


# -- the detector ----------------------------------------------------------------------------------------------------


def crops(n, seed, size=64):
    rng = np.random.default_rng(seed)
    wall = data.brick()
    places = rng.integers(512 - size, size=(n, 2))
    return np.stack([wall[top : top + size, left : left + size] for top, left in places])


def spoilt(images, seed):
    """Return the images with a square of gravel somewhere."""
    rng = np.random.default_rng(seed)
    stones, images = data.gravel(), images.copy()
    for image in images:
        top, left = rng.integers(40, size=2)
        a, b = rng.integers(480, size=2)
        image[top : top + 24, left : left + 24] = stones[a : a + 24, b : b + 24]
    return images


SMALL = {"image_size": 64, "batch_size": 16, "epochs": 2, "learning_rate": 1e-3, "random_state": 0}


@pytest.fixture(scope="module")
def bricks():
    return crops(32, 0)


@pytest.fixture(scope="module")
def model(bricks):
    return MeanShiftedContrastive(**SMALL).fit(bricks)


def test_plain_contrast_opens_the_cone_of_pretrained_features_and_the_shifted_one_does_not(bricks, monkeypatch):
    pretrained = MeanShiftedContrastive(**SMALL | {"epochs": 0}).fit(bricks)

    def distance(model):
        assert np.array_equal(model.centre_, pretrained.centre_)  # never computed again
        return np.linalg.norm(model.normals_ - model.centre_, axis=1).mean()

    def adapted(**parameters):
        return MeanShiftedContrastive(**SMALL | {"learning_rate": 3e-3, "epochs": 4} | parameters).fit(bricks)

    real = page.adapt

    def about_the_origin(encoder, views, n, centre, *rest, **options):
        return real(encoder, views, n, torch.zeros_like(centre), *rest, **options)

    about_mean, pulled = distance(adapted()), distance(adapted(angular=True))
    monkeypatch.setattr(page, "adapt", about_the_origin)
    before = distance(pretrained)
    assert 0.9 * before < about_mean < 1.1 * before
    assert distance(adapted()) > 1.15 * before
    assert pulled < about_mean


def test_what_is_frozen_stays_and_running_statistics_do_not_move(model):
    start = initial_weights("efficientnet_lite0", "imagenet", np.random.default_rng(0))
    changed = {name for name in start if not np.array_equal(start[name], model.backbone_[name])}
    assert changed and not [name for name in changed if "running" in name or "num_batches" in name]
    assert {name.split(".")[0] for name in changed} == {"stage4", "stage5", "stage6", "stage7", "head"}


def test_resnets_freeze_their_first_layers_too(bricks):
    parameters = SMALL | {"backbone": "resnet18", "weights": None, "epochs": 1, "learning_rate": 0.1}
    start = initial_weights("resnet18", None, np.random.default_rng(0))
    trained = MeanShiftedContrastive(**parameters, frozen="layer2").fit(bricks[:8]).backbone_
    changed = {name.split(".")[0] for name in start if not np.array_equal(start[name], trained[name])}
    assert changed == {"layer3", "layer4"}
    everything = MeanShiftedContrastive(**parameters, frozen=None).fit(bricks[:8]).backbone_
    assert not np.array_equal(everything["conv1.weight"], start["conv1.weight"])


def test_without_epochs_it_is_near_neighbours_of_pretrained_features(bricks):
    plain = MeanShiftedContrastive(**SMALL | {"epochs": 0}).fit(bricks)
    queries = spoilt(crops(6, 5), 6)
    rows, normals = plain.transform(queries), plain.transform(bricks)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(plain.centre_, normals.mean(axis=0), atol=1e-6)
    squared = np.sort(((rows[:, None] - normals) ** 2).sum(axis=2), axis=1)[:, :2].sum(axis=1)
    assert np.allclose(plain.anomaly_score(queries), squared, atol=1e-5)


def test_spoilt_bricks_score_higher(model):
    good = crops(30, 1)
    scores = model.anomaly_score(np.concatenate([good, spoilt(good, 2)]))
    assert roc_auc(np.repeat([0, 1], 30), scores) > 0.85
    assert (scores >= 0).all() and (scores <= 8).all()


def test_the_same_seed_gives_the_same_network_and_another_one_does_not(bricks, model):
    again = MeanShiftedContrastive(**SMALL).fit(bricks)
    other = MeanShiftedContrastive(**SMALL | {"random_state": 1}).fit(bricks)
    queries = crops(4, 3)
    assert np.array_equal(again.anomaly_score(queries), model.anomaly_score(queries))
    assert not np.array_equal(other.anomaly_score(queries), model.anomaly_score(queries))


def test_subsets_and_saving(model, tmp_path):
    queries = crops(5, 4)
    scores = model.anomaly_score(queries)
    assert np.allclose(model.anomaly_score(queries[[3, 1]]), scores[[3, 1]], rtol=1e-4)
    assay.save(model, tmp_path / "model")
    assert np.array_equal(assay.load(tmp_path / "model").anomaly_score(queries), scores)


def test_freezing_everything_is_refused(bricks):
    with pytest.raises(InputError, match="frozen='head'"):
        MeanShiftedContrastive(frozen="head").fit(bricks)
    with pytest.raises(InputError, match="layer2"):
        MeanShiftedContrastive(frozen="layer2").fit(bricks)


# -- augmentations ---------------------------------------------------------------------------------------------------


def batch(n=6, h=10, w=12, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, 3, h, w)))


def turned(rgb, turn):
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    return colorsys.hsv_to_rgb((h + turn) % 1, s, v)


@pytest.mark.parametrize("turn", [-0.4, -0.1, 0.0, 0.05, 0.37])
def test_hue_is_a_turn_of_the_colour_wheel(turn):
    x = batch(2, 4, 5)
    x[0, :, 0, 0] = 0.3  # grey has no hue
    got = augment.hue(x, torch.full((2,), turn, dtype=x.dtype)).permute(0, 2, 3, 1).reshape(-1, 3)
    wanted = [turned(rgb, turn) for rgb in x.permute(0, 2, 3, 1).reshape(-1, 3).tolist()]
    assert np.allclose(got.numpy(), wanted, atol=1e-12)


def test_brightness_contrast_and_saturation_by_pillow():
    image = np.random.default_rng(0).integers(60, 180, size=(9, 11, 3), dtype=np.uint8)
    x = torch.from_numpy(image / 255.0).permute(2, 0, 1)[None]
    pairs = (
        (augment.brightness, ImageEnhance.Brightness),
        (augment.contrast, ImageEnhance.Contrast),
        (augment.saturation, ImageEnhance.Color),
    )
    for ours, theirs in pairs:
        for factor in (0.6, 1.0, 1.4):
            got = ours(x, torch.tensor([factor], dtype=x.dtype))[0].permute(1, 2, 0) * 255
            wanted = np.asarray(theirs(Image.fromarray(image)).enhance(factor)).astype(float)
            assert np.abs(got.numpy() - wanted).max() < 1.6  # Pillow rounds the grey and the result


def test_each_image_of_a_batch_draws_its_own_factors_and_order():
    x = batch(1).expand(40, -1, -1, -1)
    y = augment.jittered(x, np.random.default_rng(0), share=0.5)
    kept = (y == x).flatten(1).all(dim=1).sum().item()
    assert 10 <= kept <= 30
    assert len({tuple(image.flatten().tolist()) for image in y}) == 41 - kept
    still = augment.jittered(x, np.random.default_rng(0), strength=(0.0, 0.0, 0.0, 0.0), share=1.0)
    assert torch.allclose(still, x, atol=1e-12)


def test_blur_is_scipys_away_from_the_border_and_keeps_constants():
    x = batch(1, 40, 40)
    y = augment.blurred(x, np.random.default_rng(0), sigma=(1.5, 1.5), share=1.0)
    wanted = gaussian_filter(x[0].numpy(), (0, 1.5, 1.5), truncate=4.0)
    assert np.allclose(y[0, :, 8:-8, 8:-8], wanted[:, 8:-8, 8:-8], atol=1e-10)
    flat = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    assert torch.allclose(augment.blurred(flat, np.random.default_rng(0), share=1.0), flat)
    sharp = augment.blurred(x, np.random.default_rng(0), sigma=(0.1, 0.1), share=1.0)
    assert torch.allclose(sharp, x, atol=1e-12)


def test_flip_grey_and_padded_crop():
    x = batch(200)
    y = augment.flipped(x, np.random.default_rng(0))
    mirrored = (y == x.flip(3)).flatten(1).all(dim=1)
    assert ((y == x).flatten(1).all(dim=1) ^ mirrored).all() and 70 <= mirrored.sum() <= 130
    y = augment.greyed(x, np.random.default_rng(0))
    plain = (y[:, :1] == y).flatten(1).all(dim=1)
    assert 20 <= plain.sum() <= 60
    assert torch.allclose(y[plain, 0], 0.299 * x[plain, 0] + 0.587 * x[plain, 1] + 0.114 * x[plain, 2])
    y = augment.padded_crop(x, np.random.default_rng(0), pad=2)
    padded = F.pad(x, (2, 2, 2, 2))
    places = [(t, l) for t in range(5) for l in range(5)]
    found = {
        next(p for p in places if torch.equal(a, b[:, p[0] : p[0] + 10, p[1] : p[1] + 12])) for a, b in zip(y, padded)
    }
    assert len(found) == 25


def test_crops_have_the_published_areas_and_shapes_and_lie_inside():
    rng = np.random.default_rng(0)
    boxes = np.array([augment.crop_box(300, 400, rng) for _ in range(2000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 300).all() and (left + width <= 400).all()
    area, shape = height * width / 120_000, width / height
    assert 0.195 < area.min() < 0.22 and 0.9 < area.max() <= 1.0
    assert 0.74 < shape.min() < 0.78 and 1.28 < shape.max() < 1.35
    square = np.array([augment.crop_box(300, 300, rng)[2:] for _ in range(2000)])
    assert np.log(square[:, 1] / square[:, 0]).mean() == pytest.approx(0, abs=0.015)


def test_a_shape_that_never_fits_gives_the_middle():
    assert augment.crop_box(10, 100, np.random.default_rng(0), area=(1.0, 1.0)) == (0, 43, 10, 13)
    assert augment.crop_box(100, 10, np.random.default_rng(0), area=(1.0, 1.0)) == (43, 0, 13, 10)


def test_a_crop_of_everything_is_the_resized_image_and_a_view_is_a_function_of_its_seed():
    images = as_images([data.astronaut()[:90, :90], data.chelsea()[:80, :120]])
    square = images[0]
    whole = np.random.default_rng(3)
    while augment.crop_box(90, 90, copy.deepcopy(whole), area=(1.0, 1.0)) != (0, 0, 90, 90):
        whole.random()
    assert np.array_equal(augment.resized_crop(square, 32, whole, area=(1.0, 1.0)), resized(square, (32, 32)))
    first, again, other = (augment.contrastive_view(images, 48, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == (2, 48, 48, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)
