"""Greedy k-centre and the bank's search against loops; PatchCore and PaDiM against their definitions."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from assay import PaDiM, PatchCore
from assay.core.images import as_images
from assay.core.validation import InputError
from assay.datasets.images import load_images
from assay.detectors.images.common import in_batches
from assay.kernels.coreset import greedy_coreset
from assay.metrics.ranking import roc_auc
from assay.nn import memory_bank
from assay.nn.memory_bank import choose_bank, nearest_in_bank, sampled


def naive_greedy(X, n_picks, start):
    """Pick the farthest row again and again; of equals the lower row."""
    X = X.astype(np.float64)
    picks, d2 = [start], ((X - X[start]) ** 2).sum(axis=1)
    while len(picks) < n_picks and d2.max() > 0:
        picks.append(int(d2.argmax()))
        d2 = np.minimum(d2, ((X - X[picks[-1]]) ** 2).sum(axis=1))
    return picks, np.sqrt(d2.max())


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_greedy_picks_are_those_of_the_loop(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 700)), int(rng.integers(1, 40))
    X = rng.integers(-4, 5, size=(n, d)).astype(np.float32)  # ties and duplicates; every distance is exact
    picks, radius = greedy_coreset(X, int(rng.integers(1, n + 1)), start := int(rng.integers(n)))
    expected, covered = naive_greedy(X, len(picks), start)
    assert picks.tolist() == expected
    assert radius == pytest.approx(covered, rel=1e-6)


def test_a_shorter_coreset_is_the_beginning_of_a_longer_one():
    X = np.random.default_rng(0).normal(size=(3000, 60)).astype(np.float32)
    long, short = greedy_coreset(X, 700)[0], greedy_coreset(X, 90)[0]
    assert long[:90].tolist() == short.tolist() and long[0] == 0
    assert len(set(long.tolist())) == 700


def test_no_more_picks_than_different_rows():
    X = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    picks, radius = greedy_coreset(X, 10)
    assert len(picks) == 3 and radius == 0
    assert greedy_coreset(X[:1], 5)[0].tolist() == [0]


def test_the_coreset_covers_what_it_says():
    X = np.random.default_rng(1).normal(size=(800, 5)).astype(np.float32)
    picks, radius = greedy_coreset(X, 50)
    assert cdist(X, X[picks]).min(axis=1).max() == pytest.approx(radius, rel=1e-5)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_the_bank_finds_the_nearest(k, offset, monkeypatch):
    monkeypatch.setattr(memory_bank, "ELEMENTS", 37)
    monkeypatch.setattr(memory_bank, "QUERIES", 23)
    rng = np.random.default_rng(0)
    queries, bank = (rng.normal(size=(size, 12)).astype(np.float32) + np.float32(offset) for size in (101, 150))
    distances, indices = nearest_in_bank(queries, bank, k)
    exact = cdist(queries.astype(np.float64), bank.astype(np.float64))
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :k], rtol=1e-5)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, indices, 1), rtol=1e-5)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_a_query_that_is_in_the_bank_is_at_distance_zero():
    bank = np.random.default_rng(0).normal(size=(500, 30)).astype(np.float32) + 5
    distances, indices = nearest_in_bank(bank[::7], bank)
    assert (distances == 0).all() and (indices[:, 0] == np.arange(0, 500, 7)).all()
    with pytest.raises(InputError, match="k=9"):
        nearest_in_bank(bank, bank[:3], 9)


def test_a_bank_is_chosen_in_a_projection_and_follows_the_seed():
    X = np.random.default_rng(0).normal(size=(400, 200)).astype(np.float32)
    one, same, other = (choose_bank(X, 0.1, np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    assert len(one) == 40 and one.tolist() == same.tolist() != other.tolist()


def test_features_are_drawn_from_every_image():
    rng = np.random.default_rng(0)
    batches = [torch.arange(b * 100, (b + 1) * 100).float().reshape(2, 5, 10, 1) for b in range(3)]
    few = sampled(iter(batches), 6, 60, rng)
    assert few.shape == (60, 1)
    assert np.bincount((few[:, 0] // 50).astype(int), minlength=6).tolist() == [10] * 6
    assert len(sampled(iter(batches), 6, 1000, rng)) == 300


# -- PatchCore -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs():
    from skimage import data

    rng = np.random.default_rng(0)
    brick = data.brick()
    places = rng.integers(0, 512 - 96, size=(18, 2))
    return np.stack([brick[r : r + 96, c : c + 96] for r, c in places])


def naive_patchcore(detector, images):
    features = detector._features()
    scores, grids = [], []
    for batch in in_batches(as_images(images), detector.image_size, ""):
        for image in features(batch).flatten(1, 2).numpy().astype(np.float64):
            bank = detector.bank_.astype(np.float64)
            away = cdist(image, bank)
            grid = away.min(axis=1)
            worst = grid.argmax()
            element = away[worst].argmin()
            around = cdist(bank[element][None], bank)[0].argsort(kind="stable")[: detector.neighbours]
            weight = 1 - np.exp(grid[worst]) / np.exp(away[worst][around]).sum()
            scores.append(grid[worst] * (weight if detector.reweight else 1.0))
            grids.append(grid)
    return np.array(scores), np.array(grids)


@pytest.mark.parametrize("reweight", [True, False])
def test_patchcore_is_its_definition(photographs, reweight):
    detector = PatchCore(image_size=96, reweight=reweight, random_state=0).fit(photographs[:12])
    scores, maps = detector.locate(photographs[12:])
    expected, grids = naive_patchcore(detector, photographs[12:])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(detector.anomaly_score(photographs[12:]), scores, rtol=1e-12)
    assert maps.shape == (6, 96, 96) and (maps.max(axis=(1, 2)) <= grids.max(axis=1) * 1.001).all()
    cells = 12 * 12 * 12
    assert len(detector.bank_) == round(0.1 * cells)


def test_patchcore_holds_no_more_features_than_it_says(photographs):
    detector = PatchCore(image_size=96, max_features=300, coreset=0.5, random_state=0).fit(photographs[:12])
    assert len(detector.bank_) == 150


def test_real_defects_need_real_features():
    """The one check that random weights cannot pass: published weights find real defects, random ones guess."""
    if not (Path(os.environ.get("ASSAY_DATA", "")) / "images" / "magnetic_tile").is_dir():
        pytest.skip("ASSAY_DATA names no folder that holds images/magnetic_tile")
    data = load_images("magnetic_tile", random_state=0)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(data.labels == label))[:30] for label in (0, 1)]
    train, test = data.train[rng.permutation(len(data.train))[:60]], data.test[np.concatenate(rows)]
    areas = {}
    for weights in ("imagenet", None):
        detector = PatchCore(weights=weights, image_size=160, random_state=0).fit(train)
        areas[weights] = roc_auc(np.repeat([0, 1], 30), detector.anomaly_score(test))
    assert areas["imagenet"] > 0.8 and areas["imagenet"] > areas[None] + 0.2, areas


# -- PaDiM -----------------------------------------------------------------------------------------------------------


def test_padim_is_its_definition(photographs):
    detector = PaDiM(image_size=96, n_features=30, smoothing=0.0, image_score="max_grid", random_state=0)
    detector.fit(photographs[:12])
    scorer = detector._scorer()
    network_input = next(as_images(photographs[12:]).batches((96, 96)))
    train = next(as_images(photographs[:12]).batches((96, 96)))
    from assay.nn.backbones import build

    network = build("efficientnet_lite0", detector.backbone_)
    with torch.inference_mode():
        grid = scorer(network_input).numpy()
        Z, fresh = (
            detector._stacked(network, batch)[..., detector.channels_].numpy() for batch in (train, network_input)
        )
    for row, column in [(0, 0), (5, 9), (23, 23)]:
        here = Z[:, row, column].astype(np.float64)
        inverse = np.linalg.inv(np.cov(here.T) + 0.01 * np.eye(30))
        away = fresh[:, row, column] - here.mean(axis=0)
        expected = np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away))
        np.testing.assert_allclose(grid[:, row, column], expected, rtol=1e-3)
    assert grid.shape == (6, 24, 24) and len(set(detector.channels_.tolist())) == 30


def test_padim_takes_at_most_all_channels(photographs):
    detector = PaDiM(image_size=64, levels=("stage3",), n_features=1000, random_state=0).fit(photographs[:4])
    assert len(detector.channels_) == 40
    with pytest.raises(InputError, match="X holds 1 image"):
        PaDiM(image_size=64).fit(photographs[:1])
