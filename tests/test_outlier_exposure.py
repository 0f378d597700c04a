"""Outlier exposure: the losses by hand, training against a plain loop, digits, the published networks, the metrics."""

import copy
import math
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import assay
from assay.core.images import Images
from assay.core.validation import InputError
from assay.detectors.images.outlier_exposure import OutlierExposure
from assay.metrics import out_of_distribution as ood
from assay.metrics.ranking import roc_auc
from assay.nn import outlier_exposure as oe
from assay.nn.augment import padded_crop
from assay.nn.state import seeded


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def logits(n, k, seed=0, scale=2.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, size=(n, k)))


# -- the losses ------------------------------------------------------------------------------------------------------


def test_flat_logits_cost_log_k_and_confidence_costs_more():
    for k in (2, 6, 1000):
        assert oe.uniform_cross_entropy(torch.full((1, k), 3.0, dtype=torch.float64)).item() == pytest.approx(
            math.log(k)
        )
    sure = torch.tensor([[0.0, 0.0, c] for c in (0.0, 1.0, 5.0, 50.0)], dtype=torch.float64)
    assert (oe.uniform_cross_entropy(sure).diff() > 0).all()


def test_it_is_the_cross_entropy_of_the_softmax_to_the_uniform():
    z = logits(8, 5)
    assert torch.allclose(oe.uniform_cross_entropy(z), -z.softmax(dim=1).log().mean(dim=1), atol=1e-12)
    far = torch.tensor([[0.0, 1e4]])
    assert oe.uniform_cross_entropy(far).item() == pytest.approx(5e3)


def test_its_gradient_is_softmax_less_one_over_k():
    z = logits(8, 5).requires_grad_()
    oe.uniform_cross_entropy(z).mean().backward()
    assert torch.allclose(z.grad, (z.softmax(dim=1) - 1 / 5) / 8, atol=1e-14)


def test_both_scores_of_a_classifier():
    z = logits(20, 4)
    assert torch.equal(oe.score(z), -z.softmax(dim=1).max(dim=1).values)
    assert torch.equal(oe.score(z, uniform=True), z.mean(dim=1) - z.logsumexp(dim=1))
    certain = torch.tensor([[0.0, 40.0], [0.0, 30.0]])  # one and the same in single precision
    assert oe.score(certain)[1] > oe.score(certain)[0]


def test_the_confidence_form_by_hand(monkeypatch):
    out, y = logits(6, 5), torch.tensor([0, 3, 1, 2, 3, 0])
    monkeypatch.setattr(torch, "rand", lambda n, device: torch.tensor([0.1, 0.9, 0.1, 0.9, 0.1, 0.9]))
    wanted = []
    for i, (row, label) in enumerate(zip(out.numpy(), y)):
        p, b = np.exp(row[:4]) / np.exp(row[:4]).sum(), 1 / (1 + np.exp(-row[4]))
        hinted = b * p[label] + 1 - b if i % 2 == 0 else p[label]
        wanted.append(-np.log(hinted) - 0.1 * np.log(b))
    form = oe.OBJECTIVES["confidence"]()
    assert np.allclose(form.task(out, y).numpy(), wanted, atol=1e-12)
    b = torch.sigmoid(out[:, 4])
    assert form.task.price == pytest.approx(0.1 / (1.01 if -b.log().mean() < 0.3 else 0.99))
    assert torch.allclose(form.exposure(out, out, None, 9), b.log(), atol=1e-12) and b.min() > 0.01
    assert torch.allclose(oe.score(out, "confidence"), -b.log(), atol=1e-12)
    ends = torch.tensor([[0.0, 0.0, -300.0], [0.0, 0.0, -1.0]], requires_grad=True)
    form.exposure(ends, ends, None, 9).sum().backward()
    assert ends.grad[1, 2] > 0 and (ends.grad[0] == 0).all()  # descent lowers b, to .01


def test_the_price_of_hints_follows_their_budget():
    y = torch.zeros(4, dtype=torch.int64)
    for logit, price in ((5.0, 0.1 / 1.01**3), (-5.0, 0.1 / 0.99**3)):
        task = oe.OBJECTIVES["confidence"]().task
        for _ in range(3):
            task(torch.tensor([[0.0, 0.0, logit]]).expand(4, -1), y)
        assert task.price == pytest.approx(price)
    assert oe.OBJECTIVES["confidence"]().task.price == 0.1


def test_the_margin_holds_for_every_pair_and_is_silent_once_satisfied():
    nll, other = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 12.0, 40.0])
    wanted = [np.mean([max(0, 10 + a - b) for a in (1, 5)]) for b in (3, 12, 40)]
    assert oe.margin(nll, other, 10).tolist() == wanted
    nll, other = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([13.0, 20.0], requires_grad=True)
    oe.OBJECTIVES["margin_nll"]().exposure(nll, other, None, 10).mean().backward()
    assert (nll.grad == 0).all() and (other.grad == 0).all()


def test_tokens_that_are_not_there_do_not_count():
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 7)))
    y = torch.tensor([[1, 2, 3, -1], [6, -1, -1, -1]])
    form = oe.OBJECTIVES["token_ce"]()
    logp = z.log_softmax(dim=2)
    wanted = torch.stack([-(logp[0, 0, 1] + logp[0, 1, 2] + logp[0, 2, 3]) / 3, -logp[1, 0, 6]])
    assert torch.allclose(form.task(z, y), wanted)
    flat = torch.stack([-logp[0, :3].mean(), -logp[1, :1].mean()])
    assert torch.allclose(form.exposure(z, z, y, 4), flat)
    assert torch.allclose(oe.score(z, "token_ce", tokens=y), -flat)
    assert torch.allclose(oe.score(z, "token_ce"), logp.mean(dim=(1, 2)))


def test_the_binary_form_is_logistic_regression():
    z = logits(6, 1)
    form = oe.OBJECTIVES["bce"]()
    for got, label in ((form.task(z, torch.zeros(6)), 0.0), (form.exposure(z, z, None, 1), 1.0)):
        wanted = F.binary_cross_entropy_with_logits(z[:, 0], torch.full((6,), label).double(), reduction="none")
        assert torch.allclose(got, wanted)
    assert torch.equal(oe.score(z, "bce"), z[:, 0])


# -- the training ----------------------------------------------------------------------------------------------------


def small_network(seed=0, dropout=0.3):
    with seeded(np.random.default_rng(seed)):
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def table(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 5)).astype(np.float32), rng.integers(3, size=n)


def plain_loop(network, x, y, outliers, rng, lam, epochs, rate, size, outlier_size, weights, outlier_weights):
    """Train as written on the page: momentum, decay and cosine by hand."""
    seeds = [int(seed) for seed in rng.integers(0, 2**31 - 1, size=3)]
    order, places = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[1])
    speed = [torch.zeros_like(p) for p in network.parameters()]
    steps, step = epochs * math.ceil(len(x) / size), 0
    network.train()
    with seeded(np.random.default_rng(seeds[2])):
        for _ in range(epochs):
            rows = order.permutation(len(x))
            start = places.integers(len(outliers))
            for first in range(0, len(x), size):
                part = rows[first : first + size]
                shown = [(start + i) % len(outliers) for i in range(outlier_size)]
                start += outlier_size
                both = np.concatenate([x[part], outliers[shown]]) if lam else x[part]
                out = network(torch.from_numpy(both)).log_softmax(dim=1)
                task = -(out[range(len(part)), y[part]] * torch.from_numpy(weights[part])).sum() / len(part)
                if lam:
                    flat = -out[len(part) :].mean(dim=1) * torch.from_numpy(outlier_weights[shown])
                    task = task + lam * flat.sum() / outlier_size
                network.zero_grad()
                task.backward()
                now = 1e-6 + (rate - 1e-6) * (1 + math.cos(math.pi * step / steps)) / 2
                with torch.no_grad():
                    for p, v in zip(network.parameters(), speed):
                        gradient = p.grad + 5e-4 * p
                        v.mul_(0.9).add_(gradient)
                        p.sub_(now * (gradient + 0.9 * v))
                step += 1


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_training_is_the_plain_loop(lam):
    (x, y), (outliers, _) = table(23, 0), table(17, 1)
    rng = np.random.default_rng(2)
    weights, outlier_weights = rng.random(23).astype(np.float32), rng.random(17).astype(np.float32)
    ours, twin = small_network(), small_network()
    oe.expose(
        ours,
        x,
        y,
        outliers,
        np.random.default_rng(3),
        lam=lam,
        epochs=3,
        learning_rate=0.1,
        batch_size=10,
        outlier_batch_size=20,
        weights=weights,
        outlier_weights=outlier_weights,
    )
    plain_loop(twin, x, y, outliers, np.random.default_rng(3), lam, 3, 0.1, 10, 20, weights, outlier_weights)
    for a, b in zip(ours.parameters(), twin.parameters()):
        assert torch.allclose(a, b, atol=1e-5)
    assert not ours.training


def test_without_lambda_outliers_change_no_bit():
    x, y = table(40, 0)
    networks = [small_network(), small_network()]
    for network, seed in zip(networks, (1, 2)):
        history = oe.expose(network, x, y, table(30, seed)[0], np.random.default_rng(0), lam=0, epochs=2)
        assert np.isnan(history[0]["exposure"])
    assert all(torch.equal(a, b) for a, b in zip(*(network.parameters() for network in networks)))


def test_outliers_of_no_weight_change_nothing():
    x, y = table(40, 0)
    outliers, _ = table(30, 1)
    networks = [small_network(dropout=0.0), small_network(dropout=0.0)]
    for network, lam in zip(networks, (0.0, 0.5)):
        oe.expose(network, x, y, outliers, np.random.default_rng(0), lam=lam, epochs=3, outlier_weights=np.zeros(30))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*(network.parameters() for network in networks)))


class Watched(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.last, self.sizes = nn.BatchNorm1d(5), nn.Linear(5, 3), []

    def forward(self, x):
        self.sizes.append((len(x), self.training))
        return self.last(self.norm(x))


def test_one_forward_pass_a_step_with_twice_as_many_outliers_and_shared_statistics():
    x, y = table(256, 0)
    outliers = table(700, 1)[0] + 7
    network = Watched()
    network.norm.momentum = None  # the running mean is then that of all steps
    oe.expose(network, x, y, outliers, np.random.default_rng(0), mode="tune", epochs=1)
    assert network.sizes == [(128 + 256, True)] * 2
    assert np.allclose(network.norm.running_mean.numpy(), x.mean(axis=0) / 3 + 7 * 2 / 3, atol=0.3)


def test_the_two_modes_differ_in_schedule(monkeypatch):
    seen = []
    real = torch.optim.SGD

    def watched(*args, **options):
        seen.append(options)
        return real(*args, **options)

    monkeypatch.setattr(torch.optim, "SGD", watched)
    x, y = table(8, 0)
    for mode in ("tune", "scratch"):
        history = oe.expose(small_network(), x, y, x + 5, np.random.default_rng(0), mode=mode)
        seen[-1]["epochs"] = len(history)
    assert [(s["lr"], s["epochs"]) for s in seen] == [(0.001, 10), (0.1, 100)]
    assert all(s["nesterov"] and s["momentum"] == 0.9 and s["weight_decay"] == 5e-4 for s in seen)


class Huge:
    """Ten billion outliers, none of which exists before it is asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 10**10

    def __getitem__(self, rows):
        self.asked.append(rows)
        return np.repeat((rows % 97)[:, None] / 97, 5, axis=1)


def test_only_the_rows_of_a_step_are_read_in_order_from_a_new_place_each_epoch():
    x, y = table(300, 0)
    outliers = Huge()
    oe.expose(small_network(), x, y, outliers, np.random.default_rng(0), epochs=3)
    assert [len(rows) for rows in outliers.asked] == [256] * 9  # three batches of data an epoch, then anew
    epochs = np.reshape(outliers.asked, (3, -1))
    assert (np.diff(epochs, axis=1) == 1).all()
    assert len(set(epochs[:, 0])) == 3


def test_windows_begin_anew_at_the_end():
    places = oe.windows(5, 3, np.random.default_rng(0))
    rows = np.concatenate([next(places) for _ in range(5)])
    assert (np.diff(rows) % 5 == 1).all() and set(rows) == set(range(5))
    assert {int(next(oe.windows(5, 1, np.random.default_rng(seed)))[0]) for seed in range(40)} == set(range(5))


def test_images_are_augmented_and_brought_to_tensors_alike():
    rng = np.random.default_rng(0)
    inside = Images(rng.integers(0, 100, size=(12, 16, 16, 3), dtype=np.uint8))
    outside = Images(rng.integers(150, 255, size=(20, 16, 16, 3), dtype=np.uint8))

    def prepare(images):
        x = torch.from_numpy(next(images.batches((16, 16), len(images)))).permute(0, 3, 1, 2) / 255
        return padded_crop(x, rng, pad=2)

    with seeded(rng):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    oe.expose(network, inside, None, outside, rng, loss="bce", mode="scratch", epochs=40, prepare=prepare)
    scores = [oe.score(oe.outputs(network, kind, prepare=prepare), "bce") for kind in (inside, outside)]
    assert scores[1].min() > scores[0].max()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"loss": "hinge"}, "loss"),
        ({"mode": "both"}, "mode"),
        ({"lam": -1.0}, "lam"),
        ({"outlier_weights": [1.0]}, "outlier_weights"),
        ({"weights": -np.ones(8)}, "weights"),
    ],
)
def test_what_makes_no_sense_is_named(options, named):
    x, y = table(8, 0)
    with pytest.raises(InputError, match=named):
        oe.expose(small_network(), x, y, x + 5, np.random.default_rng(0), **options)
    with pytest.raises(InputError, match="outliers is empty"):
        oe.expose(small_network(), x, y, x[:0], np.random.default_rng(0))


class Gaussian(nn.Module):
    """The density of images under the Gaussian of these, slightly widened, to be tuned."""

    def __init__(self, images):
        super().__init__()
        flat = torch.from_numpy(images).flatten(1)
        covariance = torch.cov(flat.T) + 0.01 * torch.eye(64)
        self.mean = nn.Parameter(flat.mean(dim=0))
        self.root = nn.Parameter(torch.linalg.cholesky(torch.linalg.inv(covariance)).T.contiguous())

    def forward(self, x):
        z = (x.flatten(1) - self.mean) @ self.root.T
        return 0.5 * (z**2).sum(dim=1) + 32 * math.log(2 * math.pi) - torch.linalg.slogdet(self.root)[1]


def test_a_density_model_learns_that_outliers_are_unlikely_by_the_margin():
    train, test, _ = known(0)
    rng, middle = np.random.default_rng(0), X[train].mean(axis=0)
    # Near the mean of the digits: likely under a Gaussian, and no digits.
    outliers, unseen = (middle + 0.3 * (kind(X[train], 1000, rng) - middle) for kind in (permuted, noise))
    network = Gaussian(X[train])

    def figures():
        inside, pushed, new = (oe.score(oe.outputs(network, x), "margin_nll") for x in (X[test], outliers, unseen))
        auc = roc_auc(np.repeat([0, 1], [len(test), 1000]), torch.cat([inside, new]).numpy())
        return (pushed.mean() - inside.mean()).item(), auc

    gap, auc = figures()
    options = {"epochs": 100, "learning_rate": 3e-3, "weight_decay": 0.0}
    history = oe.expose(network, X[train], None, outliers, rng, loss="margin_nll", **options)
    wider, better = figures()
    assert gap < 15 and 0.8 * 64 < wider < 1.6 * 64
    assert history[-1]["exposure"] < 0.4 * history[0]["exposure"]
    assert better > auc + 0.05


def test_a_learned_confidence_falls_on_outliers():
    train, test, _ = known(0)
    rng = np.random.default_rng(0)
    with seeded(rng):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 7))
    options = {"loss": "confidence", "mode": "scratch", "epochs": 60, "learning_rate": 0.05}
    outliers, aucs = permuted(X[train], 1000, rng), []
    for lam in (0.0, 0.5):
        oe.expose(network, X[train], Y[train], outliers, rng, lam=lam, **options)
        inside, outside = (oe.outputs(network, x) for x in (X[test], noise(X, 300, np.random.default_rng(1))))
        assert (inside[:, :6].argmax(dim=1).numpy() == Y[test]).mean() > 0.95
        scores = torch.cat([oe.score(out, "confidence") for out in (inside, outside)]).numpy()
        aucs.append(roc_auc(np.repeat([0, 1], [len(test), 300]), scores))
    assert aucs[1] > max(0.95, aucs[0])


def test_a_language_model_and_a_vocabulary_of_its_own_texts():
    rng = np.random.default_rng(0)
    chain = ["abcdefgh"[(i + j) % 8] for i in range(200) for j in range(12)]
    texts = [chain[i : i + 12] for i in range(0, len(chain), 12)]
    strange = [list(rng.choice(list("abcdefghXYZ"), size=9)) for _ in range(300)]
    words = oe.vocabulary(texts)
    assert sorted(words) == list("abcdefgh") and sorted(words.values()) == list(range(1, 9))
    assert oe.vocabulary(texts, size=3).keys() == {"a", "b", "c"} or len(oe.vocabulary(texts, size=3)) == 3
    inside, outside = oe.encoded(texts, words, 12), oe.encoded(strange, words, 12)
    assert (outside[:, 9:] == -1).all() and (outside == 0).any()

    class Bigram(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(9, 9))

        def forward(self, tokens):
            return self.table[tokens.clamp(min=0)]

    network = Bigram()
    options = {"loss": "token_ce", "lam": 1.0, "mode": "scratch", "epochs": 40, "learning_rate": 1.0}
    history = oe.expose(
        network, inside[:, :-1], inside[:, 1:], outside[:, :-1], rng, outlier_targets=outside[:, 1:], **options
    )
    assert history[-1]["task"] < history[0]["task"]
    scores = [
        oe.score(oe.outputs(network, x[:, :-1]), "token_ce", tokens=torch.from_numpy(x[:, 1:])).numpy()
        for x in (inside, outside)
    ]
    assert roc_auc(np.repeat([0, 1], [200, 300]), np.concatenate(scores)) > 0.95


def test_what_is_in_both_sets_is_found():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 255, size=(5, 4, 4, 3), dtype=np.uint8)
    b = np.concatenate([a[[3, 1]], 255 - a])
    assert oe.shared_items(Images(a), Images(b)).tolist() == [1, 3]
    assert len(oe.shared_items(a, a.astype(np.float32))) == 0  # other bytes
    assert len(oe.shared_items(a, a.reshape(5, 3, 4, 4))) == 0
    assert oe.shared_items(["truck", "cat"], ["dog", "cat"]).tolist() == [1]


# -- digits: 0 to 5 are known, 6 to 9 are not ------------------------------------------------------------------------

DIGITS = load_digits()
X, Y = (DIGITS.images / 16).astype(np.float32), DIGITS.target


def known(seed):
    """Return training rows, test rows and spare rows of the classes 0 to 5."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(Y < 6))
    return rows[:500], rows[500:800], rows[800:]


def blends(images, n, rng):
    a, b = rng.integers(len(images), size=(2, n))
    return (images[a] + images[b]) / 2


def permuted(images, n, rng):
    flat = images[rng.integers(len(images), size=n)].reshape(n, -1)
    return rng.permuted(flat, axis=1).reshape(n, 8, 8)


def inverted(images, n, rng):
    return 1 - images[rng.integers(len(images), size=n)]


def noise(images, n, rng):
    return rng.random((n, 8, 8)).astype(np.float32)


def blobs(n, rng):
    x = gaussian_filter((rng.random((n, 8, 8)) < 0.7).astype(float), (0, 1.0, 1.0))
    x = (x - x.min(axis=(1, 2), keepdims=True)) / np.ptp(x, axis=(1, 2), keepdims=True)
    return np.where(x < 0.5, 0, x).astype(np.float32)


def mixed(images, n, rng):
    return np.concatenate([kind(images, n // 4, rng) for kind in (blends, permuted, inverted, noise)])[
        rng.permutation(n // 4 * 4)
    ]


def classifier(rng):
    with seeded(rng):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6))


SCHEDULE = {"batch_size": 50, "outlier_batch_size": 100, "weight_decay": 5e-4}


@cache
def baseline(seed):
    train, _, _ = known(seed)
    rng = np.random.default_rng(seed)
    network = classifier(rng)
    oe.expose(
        network, X[train], Y[train], X[train][:1], rng, lam=0, mode="scratch", epochs=40, learning_rate=0.05, **SCHEDULE
    )
    return network


def exposed(seed, outliers, *, mode="tune", lam=0.5, weights=None):
    """Return a network trained on digits with outliers, and its losses: 15 epochs more, or 40 from the start."""
    train, _, _ = known(seed)
    rng = np.random.default_rng(100 + seed)
    network = copy.deepcopy(baseline(seed)) if mode == "tune" else classifier(np.random.default_rng(seed))
    epochs, rate = (15, 0.02) if mode == "tune" else (40, 0.05)
    history = oe.expose(
        network,
        X[train],
        Y[train],
        outliers,
        rng,
        lam=lam,
        mode=mode,
        outlier_weights=weights,
        epochs=epochs,
        learning_rate=rate,
        **SCHEDULE,
    )
    return network, history


def judged(network, seed, uniform=False):
    """Return AUROC and FPR95, means over the kinds of unseen anomalies (digits 6 to 9, blobs), and the accuracy."""
    _, test, _ = known(seed)
    inside = oe.outputs(network, X[test])
    kinds = (X[Y >= 6], blobs(300, np.random.default_rng(9)))
    figures = []
    for kind in kinds:
        s = np.concatenate([oe.score(out, uniform=uniform).numpy() for out in (inside, oe.outputs(network, kind))])
        y = np.repeat([0, 1], [len(test), len(kind)])
        figures.append((roc_auc(y, s), ood.false_positive_rate(y, s)))
    auc, fpr = np.mean(figures, axis=0)
    return auc, fpr, float((inside.argmax(dim=1).numpy() == Y[test]).mean())


SEEDS = range(5)


@cache
def outliers_of(kind, seed, n=2000):
    return kind(X[known(seed)[0]], n, np.random.default_rng(50 + seed))


def mean_of(figures):
    return np.mean(figures, axis=0)


@cache
def baseline_figures():
    return mean_of([judged(baseline(seed), seed) for seed in SEEDS])


@cache
def tuned_on(kind):
    return [exposed(seed, outliers_of(kind, seed)) for seed in SEEDS]


def figures_of(runs):
    return mean_of([judged(network, seed) for seed, (network, _) in zip(SEEDS, runs)])


def test_unseen_anomalies_of_digits_are_found_and_accuracy_stays():
    before, after = baseline_figures(), figures_of(tuned_on(mixed))
    assert after[0] > before[0] + 0.03
    assert after[1] < before[1] / 2
    assert after[2] > before[2] - 0.01
    for _, history in tuned_on(mixed):
        exposure = [epoch["exposure"] for epoch in history]
        assert exposure[-1] < exposure[0] / 2 and min(exposure) >= math.log(6)
    scratch = mean_of([judged(exposed(s, outliers_of(mixed, s), mode="scratch")[0], s) for s in SEEDS])
    assert scratch[0] >= after[0] - 0.002
    assert scratch[2] > before[2] - 0.01


def test_both_scores_gain():
    before = mean_of([judged(baseline(seed), seed, uniform=True) for seed in SEEDS])
    after = mean_of([judged(network, seed, uniform=True) for seed, (network, _) in zip(SEEDS, tuned_on(mixed))])
    assert after[0] > before[0] + 0.03


def test_lambda_has_a_best_value_in_between():
    sweep = [baseline_figures()[0]]
    for lam in (0.5, 5.0):
        sweep.append(figures_of([exposed(s, outliers_of(mixed, s), lam=lam) for s in SEEDS])[0])
    assert sweep[1] > max(sweep[0], sweep[2]) + 0.03


def test_normals_as_outliers_harm_and_weights_of_zero_undo_it():
    """With λ = 2, where the harm is plain."""

    def pool(seed):
        good, spare = outliers_of(permuted, seed, 600), X[known(seed)[2]]
        bad = np.concatenate([spare] * 3)[:600]
        rows = np.random.default_rng(seed).permutation(1200)
        return np.concatenate([good, bad])[rows], np.repeat([1.0, 0.0], 600)[rows]

    good, bad, both, weighted = (
        figures_of([exposed(seed, x, lam=2.0, weights=w) for seed in SEEDS for x, w in [choose(seed)]])
        for choose in (
            lambda seed: (outliers_of(permuted, seed, 600), None),
            lambda seed: (X[known(seed)[2]], None),
            lambda seed: (pool(seed)[0], None),
            pool,
        )
    )
    assert bad[0] < baseline_figures()[0] - 0.03 < good[0]
    assert bad[2] < baseline_figures()[2] - 0.02
    assert both[2] < weighted[2] - 0.005
    assert weighted[2] > good[2] - 0.01 and weighted[0] > good[0] - 0.02


# -- the authors' networks -------------------------------------------------------------------------------------------


class PublishedNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = F.relu(F.max_pool2d(conv(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


#: file -> error rate, AUROC against Gaussian noise, Bernoulli noise and negatives, in % (the authors' log)
PUBLISHED = {
    "baseline_epoch_9": (0.94, 99.96, 99.81, 98.55),
    "oe_tune_epoch_4": (0.92, 100.0, 100.0, 99.90),
    "oe_scratch_epoch_9": (1.03, 100.0, 100.0, 99.95),
}


def published_files():
    root = Path(os.environ.get("ASSAY_DATA", "no folder"))
    files = [root.parent / "weights" / "oe_mnist" / f"{name}.pt" for name in PUBLISHED]
    files.append(root / "images" / "mnist" / "mnist_20k_10k.npz")
    missing = [path for path in files if not path.is_file()]
    if missing:
        pytest.skip(f"needs MNIST and the authors' networks beside ASSAY_DATA: {missing[0]} is not there")
    return files


def test_the_published_networks_give_the_published_figures():
    *networks, mnist = published_files()
    digits = np.load(mnist)
    x, y = (digits["X_test"][:, None] / 255).astype(np.float32), digits["y_test"]
    rng = np.random.default_rng(0)
    kinds = (
        np.clip(rng.normal(0.5, 0.5, size=(2000, 1, 28, 28)), 0, 1).astype(np.float32),
        rng.integers(2, size=(2000, 1, 28, 28)).astype(np.float32),
        1 - x[rng.permutation(len(x))[:2000]],
    )
    for path, (error, *published) in zip(networks, PUBLISHED.values()):
        network = PublishedNetwork()
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        out = oe.outputs(network, x)
        assert 100 * (out.argmax(dim=1).numpy() != y).mean() == pytest.approx(error, abs=0.05)
        inside = oe.score(out).numpy()
        for kind, auroc in zip(kinds, published):
            outside = oe.score(oe.outputs(network, kind)).numpy()
            report = ood.detection_report(inside, outside, rng=rng)
            assert 100 * report["auroc"] == pytest.approx(auroc, abs=0.25)
            assert report["base_rate"] == pytest.approx(1 / 6)


# -- calibration (the metrics themselves: test_out_of_distribution.py) ----------------------------------------------


def test_exposure_improves_calibration_where_outliers_are_about():
    def error(network):
        _, test, _ = known(0)
        inside, outside = oe.outputs(network, X[test]).numpy(), oe.outputs(network, X[Y >= 6][:60]).numpy()
        return ood.calibration_report(inside, Y[test], outside, size=30)["rms"]

    assert error(tuned_on(mixed)[0][0]) < error(baseline(0))


# -- the detector ----------------------------------------------------------------------------------------------------


def crops(n, seed, size=64):
    rng = np.random.default_rng(seed)
    wall = data.brick()
    places = rng.integers(512 - size, size=(n, 2))
    return np.stack([wall[top : top + size, left : left + size] for top, left in places])


def pasted(images, seed):
    """Return the images with a square of themselves, turned and put elsewhere."""
    rng = np.random.default_rng(seed)
    images = images.copy()
    for image in images:
        (a, b), (top, left) = rng.integers(40, size=(2, 2))
        image[top : top + 24, left : left + 24] = np.rot90(image[a : a + 24, b : b + 24]).copy()
    return images


def stained(images, seed):
    """Return the images with a dark disc somewhere: what no training outlier shows."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    centres = rng.integers(12, 52, size=(len(images), 2))
    discs = [(rows - r) ** 2 + (columns - c) ** 2 < 100 for r, c in centres]
    return np.where(discs, images // 3, images)


SMALL = {"image_size": 64, "random_state": 0}


@pytest.fixture(scope="module")
def bricks():
    normals = crops(40, 0)
    return np.concatenate([normals, pasted(normals, 1)]), np.repeat([0, 1], 40)


@pytest.fixture(scope="module")
def detector(bricks):
    return OutlierExposure(**SMALL).fit(*bricks)


def found(detector, kind):
    good = crops(30, 5)
    return roc_auc(np.repeat([0, 1], 30), detector.anomaly_score(np.concatenate([good, kind(good, 6)])))


def test_fresh_outliers_and_unseen_stains_are_found(detector, bricks):
    assert found(detector, pasted) > 0.9
    assert found(detector, stained) > 0.8
    unexposed = OutlierExposure(**SMALL, lam=0.0).fit(*bricks)
    assert found(detector, stained) > found(unexposed, stained)


def test_pseudo_classes_learn_from_outliers_too(bricks):
    exposed, alone = (
        OutlierExposure(**SMALL, loss="uniform_ce", n_classes=4, lam=lam).fit(*bricks) for lam in (0.5, 0.0)
    )
    assert exposed.head_["2.weight"].shape[0] == 4
    assert found(exposed, pasted) > max(0.8, found(alone, pasted))


def test_outliers_without_weight_do_not_count_and_unknown_images_are_left_out(bricks, detector):
    X, y = bricks
    weights = np.where(y == 1, 0.0, 1.0)
    silent, unexposed = OutlierExposure(**SMALL).fit(X, y, weights), OutlierExposure(**SMALL, lam=0.0).fit(X, y)
    queries = crops(5, 7)
    assert np.allclose(silent.anomaly_score(queries), unexposed.anomaly_score(queries), atol=1e-4)
    assert np.array_equal(
        OutlierExposure(**SMALL).fit(X, y, np.ones(80)).anomaly_score(queries), detector.anomaly_score(queries)
    )
    more = np.concatenate([X, stained(X[:10], 3)]), np.concatenate([y, np.full(10, -1)])
    assert np.allclose(
        OutlierExposure(**SMALL).fit(*more).anomaly_score(queries), detector.anomaly_score(queries), atol=1e-3
    )


def test_normals_without_weight_do_not_count(bricks):
    X, y = bricks
    stains = stained(X[:20], 3)
    rows, labels = np.concatenate([X, stains]), np.concatenate([y, np.zeros(20, dtype=int)])
    weights = np.ones(100)
    weights[80:] = 0.0
    left_out, counted = (OutlierExposure(**SMALL).fit(rows, labels, w) for w in (weights, None))
    assert found(left_out, stained) > found(counted, stained) + 0.1


def test_subsets_and_saving(detector, tmp_path):
    queries = crops(5, 4)
    scores = detector.anomaly_score(queries)
    assert np.allclose(detector.anomaly_score(queries[[3, 1]]), scores[[3, 1]], rtol=1e-4)
    assay.save(detector, tmp_path / "detector")
    assert np.array_equal(assay.load(tmp_path / "detector").anomaly_score(queries), scores)


def test_what_cannot_be_learned_from_is_refused(bricks):
    X, y = bricks
    with pytest.raises(InputError, match="y holds no outliers"):
        OutlierExposure(**SMALL).fit(X, np.zeros(80))
    with pytest.raises(InputError, match="y holds no normal"):
        OutlierExposure(**SMALL).fit(X, np.ones(80))
    with pytest.raises(InputError, match="requires y"):
        OutlierExposure(**SMALL).fit(X)
    doubled = np.concatenate([X, X[3:5]]), np.concatenate([y, [1, 1]])
    with pytest.raises(InputError, match=r"2 outliers are also among the normal images, X\[80\] first"):
        OutlierExposure(**SMALL).fit(*doubled)
