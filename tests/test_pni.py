"""PNI and the map refiner: the gates on plain grids against naive twins, then images, then refinement."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data, draw
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from assay import load, save
from assay.core.validation import InputError
from assay.detectors.images import pni as page
from assay.detectors.images.pni import (
    PNI,
    NeighbourhoodModel,
    Neighbours,
    PositionModel,
    nearest_allowed,
    window_counts,
)
from assay.generators.images import CutPaste, PerlinTexture
from assay.metrics.images import aupro
from assay.nn import map_refiner as refiner_page
from assay.nn.map_refiner import MapRefiner, augmented, refinement_loss
from assay.nn.state import arrays_of, seeded

SMALL = {"image_size": 64, "patch": 3, "coreset": 0.05, "steps": 20, "hidden": 16, "random_state": 0}


# -- grids: six prototypes in a diagonal order -----------------------------------------------------------------------


class Diagonals:
    """Normal grids: the label of a cell is (i + j + s) mod 6; anomalous ones: an interior cell has another label."""

    def __init__(self, seed: int, shifted: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.prototypes, self.shifted = self.rng.normal(size=(6, 16)), shifted

    def grids(self, n, wrong_by=0) -> np.ndarray:
        i, j = np.indices((12, 12))
        shift = self.rng.integers(6, size=n) if self.shifted else np.zeros(n, dtype=int)
        labels = (i + j + shift[:, None, None]) % 6
        rows, columns = self.rng.integers(2, 10, size=(2, n))
        labels[np.arange(n), rows, columns] += wrong_by
        return self.prototypes[labels % 6] + 0.1 * self.rng.normal(size=(n, 12, 12, 16))


def on_grids(gates, **options):
    settings = {"coreset": 60 / (30 * 144), "n_classes": 24, "radius": 1, "hidden": 64, "layers": 2, "random_state": 0}
    return PNI(patch=1, gates=gates, **settings | options)


def auroc(pni, good, bad):
    scores = np.concatenate([pni.score_grids(grids).max(axis=(1, 2)) for grids in (good, bad)])
    return roc_auc_score(np.repeat([0, 1], [len(good), len(bad)]), scores)


def test_everything_allowed_is_the_distance_to_the_bank():
    drawn = Diagonals(0, shifted=False)
    train, test = drawn.grids(8), drawn.grids(4, wrong_by=3)
    pni = on_grids(("position", "neighbourhood"), tau_position=0, tau_neighbourhood=0, steps=10).fit_grids(train)
    far = np.linalg.norm(test[..., None, :] - pni.bank_, axis=-1).min(axis=-1)
    np.testing.assert_allclose(pni.score_grids(test), 0.99 * far - np.log(0.99), rtol=1e-5)


def test_nothing_allowed_is_the_farthest_element():
    drawn = Diagonals(0, shifted=False)
    train, test = drawn.grids(8), drawn.grids(4)
    pni = on_grids(("position", "neighbourhood"), tau_position=1e9, tau_neighbourhood=1e9, steps=10).fit_grids(train)
    far = np.linalg.norm(test[..., None, :] - pni.bank_, axis=-1).max(axis=-1)
    np.testing.assert_allclose(pni.score_grids(test), 0.99 * far - np.log(0.99), rtol=1e-5)


def test_the_score_is_the_published_formula_cell_by_cell(monkeypatch):
    """The naive twin: one cell at a time, both gates by their definitions, the exponential before the logarithm."""
    monkeypatch.setattr(page, "BLOCK", 600)  # blocks of ten cells, ending within an image
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(9, 7, 8, 5)), rng.normal(size=(3, 7, 8, 5))
    options = {"coreset": 0.1, "n_classes": 9, "radius": 2, "hidden": 8, "layers": 3, "steps": 60, "tau_position": 0.9}
    pni = PNI(patch=3, tau_neighbourhood=1.1, temperature=1.5, random_state=0, **options).fit_grids(train)
    bank, n, H = pni.bank_, len(pni.bank_), pni.histogram_
    assert H.shape == (5, 6, n)
    model = NeighbourhoodModel(pni.network_, 1.0)
    expected = np.empty((3, 5, 6))
    padded = np.pad(test, ((0, 0), (2, 2), (2, 2), (0, 0)))
    gated = 0
    for image, i, j in np.ndindex(3, 5, 6):
        distances = np.linalg.norm(test[image, i + 1, j + 1] - bank, axis=1)
        window = [padded[image, i + 1 + a, j + 1 + b] for a in range(5) for b in range(5) if (a, b) != (2, 2)]
        with torch.inference_mode():
            logits = model.network(torch.tensor(np.concatenate(window)[None], dtype=torch.float32))[0].double().numpy()
        softmax = np.exp(logits / 1.5) / np.exp(logits / 1.5).sum()
        scores = []
        for allowed in (H[i, j] > 0.9 / n, softmax[pni.class_of_] > 1.1 / n):
            gated += not allowed[distances.argmin()]
            allowed = allowed | (np.arange(n) == distances.argmax())
            scores.append(-np.log((0.99 * np.exp(-0.99 * distances[allowed])).max()))
        expected[image, i, j] = np.mean(scores)
    assert gated > 20  # else the gates would not have been tried
    np.testing.assert_allclose(
        pni.score_grids(test), np.pad(expected, ((0, 0), (1, 1), (1, 1)), mode="edge"), rtol=1e-4
    )


def test_position_catches_what_is_out_of_place():
    """A window of 3 x 3 holds five of the six labels, two cells off on either side: the sixth one is out of place."""
    for seed in range(3):
        drawn = Diagonals(seed, shifted=False)
        train, good, bad = drawn.grids(30), drawn.grids(40), drawn.grids(40, wrong_by=3)
        assert abs(auroc(on_grids(()).fit_grids(train), good, bad) - 0.5) < 0.2
        assert auroc(on_grids(("position",)).fit_grids(train), good, bad) > 0.99


def test_neighbours_catch_what_position_cannot():
    drawn = Diagonals(0, shifted=True)
    train, good, bad = drawn.grids(30), drawn.grids(40), drawn.grids(40, wrong_by=drawn.rng.integers(1, 6, size=40))
    assert abs(auroc(on_grids(()).fit_grids(train), good, bad) - 0.5) < 0.2
    assert abs(auroc(on_grids(("position",)).fit_grids(train), good, bad) - 0.5) < 0.2
    both = on_grids(("position", "neighbourhood"), steps=3000).fit_grids(train)
    assert auroc(both, good, bad) > 0.97
    both.histogram_ = None
    assert auroc(both, good, bad) > 0.97


def test_a_leak_of_the_middle_would_be_noticed(monkeypatch):
    """The same test as before, with a window that holds the cell itself, as the released code's does."""

    class Leaking(Neighbours):
        def __init__(self, *args):
            super().__init__(*args)
            self.offsets = torch.cat([self.offsets[1:], torch.zeros(1, dtype=torch.long)])

    monkeypatch.setattr(page, "Neighbours", Leaking)
    drawn = Diagonals(0, shifted=True)
    train, good, bad = drawn.grids(30), drawn.grids(40), drawn.grids(40, wrong_by=drawn.rng.integers(1, 6, size=40))
    assert auroc(on_grids(("neighbourhood",), steps=3000).fit_grids(train), good, bad) < 0.8


# -- the gates -------------------------------------------------------------------------------------------------------


def test_windows_hold_all_neighbours_and_never_the_middle():
    rng = np.random.default_rng(0)
    grids = torch.from_numpy(rng.normal(size=(2, 6, 5, 3)))
    windows = Neighbours(grids, 2, 1)
    assert len(windows) == 2 * 4 * 3
    padded = np.pad(grids.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)))
    for number, (image, i, j) in enumerate(np.ndindex(2, 4, 3)):
        window = padded[image, i + 1 : i + 6, j + 1 : j + 6].reshape(25, 3)
        np.testing.assert_array_equal(windows[torch.tensor([number])][0], np.delete(window, 12, axis=0).ravel())
        moved = grids.clone()
        moved[image, i + 1, j + 1] += 1.0
        changed = (Neighbours(moved, 2, 1)[torch.arange(24)] != windows[torch.arange(24)]).any(dim=1)
        assert not changed[number] and changed.sum() > 0


def test_the_best_moment_of_the_training_is_kept(monkeypatch):
    seen, losses = [], iter([3.0, 1.0, 2.0] * 5)

    def scripted(network, *_):
        assert not network.training
        seen.append(arrays_of(network))
        return next(losses)

    monkeypatch.setattr(page, "_validation_loss", scripted)
    windows = Neighbours(torch.randn(4, 6, 6, 3, generator=torch.Generator().manual_seed(0)), 1)
    weights = NeighbourhoodModel.fit(windows, torch.arange(144) % 5, 5, np.random.default_rng(0), hidden=8, steps=30)
    assert len(seen) == page.LOOKS
    same = [all(np.array_equal(weights[name], one[name]) for name in weights) for one in seen]
    assert same == [place == 1 for place in range(page.LOOKS)]


def test_histogram_of_a_grid_of_three_by_three():
    nearest = torch.tensor([[[0, 1, 1], [2, 0, 1], [2, 2, 2]]])
    counts = window_counts(nearest, 4, 1)
    assert counts[0, 0].tolist() == [2, 1, 1, 0]
    assert counts[1, 1].tolist() == [2, 3, 4, 0]
    assert counts[2, 1].tolist() == [1, 1, 4, 0]
    assert counts.sum(dim=2).tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    model = PositionModel.fit(nearest, 4, 1)
    assert model.histogram[0, 0].tolist() == [0.5, 0.25, 0.25, 0.0]
    assert model.allowed(0.25)[0].tolist() == [True, False, False, False]  # above, not at
    assert model.allowed(0.0).all()


def test_histogram_counts_every_clipped_window_of_every_image():
    rng = np.random.default_rng(0)
    nearest = rng.integers(7, size=(5, 6, 9))
    counts = window_counts(torch.from_numpy(nearest), 7, 2)
    for i, j in np.ndindex(6, 9):
        window = nearest[:, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3]
        assert counts[i, j].tolist() == np.bincount(window.ravel(), minlength=7).tolist()
    histogram = PositionModel.fit(torch.from_numpy(nearest), 7, 2).histogram
    np.testing.assert_allclose(histogram.sum(dim=2), 1.0, rtol=1e-6)


def test_the_nearest_allowed_element_and_the_farthest_otherwise():
    d2 = torch.tensor([[3.0, -1.0, 2.0], [3.0, -1.0, 2.0], [3.0, -1.0, 2.0]])
    allowed = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    assert nearest_allowed(d2, allowed).tolist() == [1, 2, 0]


def test_the_classes_are_the_first_of_the_bank():
    drawn = Diagonals(0, shifted=True)
    grids = drawn.grids(10).astype(np.float32)
    few, many = (on_grids((), coreset=share, n_classes=6).fit_grids(grids) for share in (20 / 1440, 60 / 1440))
    np.testing.assert_array_equal(few.bank_, many.bank_[:20])
    assert {row.tobytes() for row in many.bank_} <= {row.tobytes() for row in grids.reshape(-1, 16)}
    assert len(np.unique(many.bank_, axis=0)) == 60  # the first pick is one of them, none is taken twice
    far = np.linalg.norm(many.bank_[:, None] - many.bank_[:6], axis=2)
    np.testing.assert_array_equal(many.class_of_, far.argmin(axis=1))
    assert many.class_of_[:6].tolist() == list(range(6))


def test_at_most_as_many_classes_as_elements():
    pni = on_grids(("neighbourhood",), n_classes=2048, steps=5).fit_grids(Diagonals(0, shifted=True).grids(10))
    assert len(pni.bank_) == 20 and pni.class_of_.tolist() == list(range(20))


def test_the_denominator_is_an_option():
    drawn = Diagonals(0, shifted=True)
    train, test = drawn.grids(30), drawn.grids(3)
    pni = on_grids(("neighbourhood",), n_classes=6, steps=100, tau_neighbourhood=3.0).fit_grids(train)
    by_bank, by_classes = (pni.set_params(denominator=name).score_grids(test) for name in ("bank", "classes"))
    assert (by_classes >= by_bank).all() and by_classes.mean() > 2 * by_bank.mean()  # 3 / 6 asks more than 3 / 60
    np.testing.assert_array_equal(pni.set_params(tau_neighbourhood=3.0 * 6 / 60).score_grids(test), by_bank)


def test_border_cells_are_no_part_of_bank_targets_and_score():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(6, 8, 8, 4)).astype(np.float32)
    train[:, [0, -1]] += 100
    train[:, :, [0, -1]] += 100
    both = PNI(patch=3, coreset=0.1, steps=5, random_state=0).fit_grids(train)
    assert both.border_ == 1 and np.abs(both.bank_).max() < 50 and both.histogram_.shape[:2] == (6, 6)
    scores = both.score_grids(train[:2])
    np.testing.assert_array_equal(scores, np.pad(scores[:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1)), mode="edge"))
    alone = PNI(patch=3, coreset=0.1, gates=("position",), random_state=0).fit_grids(train)
    assert alone.border_ == 0 and np.abs(alone.bank_).max() > 50 and alone.histogram_.shape[:2] == (8, 8)
    assert alone.score_grids(train[:2]).max() < 50  # the corner knows its own


def test_far_away_features_have_a_finite_score():
    pni = on_grids(("position",)).fit_grids(Diagonals(0, shifted=False).grids(8))
    scores = pni.score_grids(np.full((1, 12, 12, 16), 1e6))
    assert np.isfinite(scores).all() and scores.min() > 1e6  # the exponential would be 0 here


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"patch": 4}, "patch"),
        ({"gates": ("colour",)}, "gates"),
        ({"gates": "position"}, "gates"),
        ({"coreset": 0.0}, "coreset"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 1}, "layers"),
        ({"denominator": "cells"}, "denominator"),
        ({"blend": 2.0}, "blend"),
        ({"refine": MapRefiner()}, "generator"),
        ({"refine": 3}, "refine"),
        ({"patch": 25}, "patch"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options, named):
    with pytest.raises(InputError, match=named):
        PNI(**options).fit_grids(np.zeros((2, 12, 12, 4)))


def test_grids_of_another_size_are_refused():
    pni = on_grids(("position",)).fit_grids(Diagonals(0, shifted=False).grids(4))
    with pytest.raises(InputError, match="12"):
        pni.score_grids(np.zeros((1, 11, 12, 16)))
    with pytest.raises(InputError, match="grids"):
        pni.score_grids(np.zeros((12, 12, 16)))


# -- images ----------------------------------------------------------------------------------------------------------


def scenes(n, rng, order=(0, 1, 2, 3)):
    """Return (n, 160, 160, 3): four pieces of photographs on a plain plate, shaken by two pixels, with noise.

    They lie too far apart for a feature of stage3 to see two of them.
    """
    rocket, coffee, cat, text = data.rocket(), data.coffee(), data.chelsea(), np.stack([data.page()] * 3, axis=2)
    pieces = [rocket[100:132, 300:332], coffee[120:152, 180:212], cat[60:92, 120:152], text[20:52, 20:52]]
    plates = np.full((n, 160, 160, 3), 128.0)
    for plate in plates:
        for place, piece in enumerate(order):
            top, left = np.array(divmod(place, 2)) * 80 + 24 + rng.integers(-2, 3, size=2)
            if piece is not None:
                plate[top : top + 32, left : left + 32] = pieces[piece]
    return np.clip(plates + rng.normal(scale=8, size=plates.shape), 0, 255).astype(np.uint8)


def test_wrong_order_and_missing_parts_need_the_position():
    rng = np.random.default_rng(0)
    train, good = scenes(20, rng), scenes(10, rng)
    options = {"levels": ("stage3",), "image_size": 160, "patch": 3, "coreset": 0.03, "random_state": 0}
    plain, here = (PNI(gates=gates, **options).fit(train) for gates in ((), ("position",)))
    for order in ((1, 0, 2, 3), (0, 1, None, 3)):
        images, y = np.concatenate([good, scenes(10, rng, order)]), np.repeat([0, 1], 10)
        assert roc_auc_score(y, plain.anomaly_score(images)) < 0.85
        assert roc_auc_score(y, here.anomaly_score(images)) == 1.0
    wrong = here.anomaly_map(scenes(10, rng, (0, 1, None, 3))).reshape(10, -1).argmax(axis=1)
    assert all(row > 80 and column < 80 for row, column in zip(*np.divmod(wrong, 160)))  # where the piece is missing


def walls(n, rng, size=64):
    corners = rng.integers(0, 512 - size, size=(n, 2))
    grey = np.stack([data.brick()[r : r + size, c : c + size] for r, c in corners])
    return np.repeat(grey[..., None], 3, axis=3)


def test_scores_of_grids_and_of_images_agree():
    X = walls(6, np.random.default_rng(0))
    pni = PNI(smoothing=0, **SMALL).fit(X)
    scores, maps = pni.locate(X)
    grids = pni.score_grids(pni._features()(X))
    np.testing.assert_allclose(scores, grids.max(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(maps[:, ::63, ::63], grids[:, ::7, ::7], rtol=1e-5)  # its corners are the grid's
    assert scores.min() >= -np.log(0.99)


def test_grids_alone_do_not_make_it_ready_for_images():
    pni = PNI(**SMALL).fit(walls(4, np.random.default_rng(0)))
    pni.fit_grids(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
    with pytest.raises(NotFittedError):
        pni.anomaly_score(walls(1, np.random.default_rng(0)))
    with pytest.raises(NotFittedError):
        PNI().score_grids(np.zeros((1, 8, 8, 3)))


def test_features_are_projected_for_the_network_only_where_they_are_long():
    X = walls(4, np.random.default_rng(0))
    assert PNI(projection=8, **SMALL).fit(X).projection_.shape == (152, 8)
    assert PNI(projection=152, **SMALL).fit(X).projection_ is None


# -- refinement ------------------------------------------------------------------------------------------------------


def pairs(n, rng, size=32):
    """Return images of noise with a dark square, coarse maps that know no more than its surroundings, and masks."""
    masks = np.zeros((n, size, size), dtype=bool)
    for mask in masks:
        top, left = rng.integers(4, size - 12, size=2)
        mask[top : top + 8, left : left + 8] = True
    images = rng.integers(120, 180, size=(n, size, size, 3))
    images[masks] -= 60
    coarse = gaussian_filter(masks.astype(float), (0, 5, 5)) * 2 + rng.normal(scale=0.05, size=masks.shape)
    return images.astype(np.uint8), coarse, masks


def spoilt(images, rng):
    """Return the images with a stain, a scratch or a blur each, and the masks: no kind that the generators make."""
    out, masks, size = images.astype(float), np.zeros(images.shape[:3], dtype=bool), images.shape[1]
    for number, (image, mask) in enumerate(zip(out, masks)):
        centre = rng.integers(16, size - 16, size=2)
        if number % 3 == 1:
            end = np.clip(centre + rng.integers(-25, 26, size=2), 2, size - 3)
            rows, columns = draw.line(*centre, *end)
            mask[rows, columns] = mask[rows + 1, columns] = True
            image[mask] = image[mask] / 2 + 110
            continue
        mask[draw.disk(centre, rng.integers(5, 12))] = True
        image[mask] = image[mask] * 0.3 if number % 3 == 0 else gaussian_filter(image, (3, 3, 0))[mask]
    return np.clip(out, 0, 255).astype(np.uint8), masks


def test_the_loss_compares_the_map_and_its_edges():
    mask = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    assert refinement_loss(mask, mask).tolist() == [0.0]
    assert refinement_loss(mask + 2, mask).tolist() == [2.0]  # half of 2², and no edge is wrong
    bump = mask.clone()
    bump[0, 0, 0] += 1
    # 1 of 6 pixels, 1 of 3 differences along x, 1 of 4 along y
    assert refinement_loss(bump, mask).item() == pytest.approx(1 / 12 + 1 / 12 + 1 / 16)
    both = refinement_loss(torch.cat([bump, mask]), torch.cat([mask, mask]))
    assert both.tolist() == pytest.approx([1 / 12 + 1 / 12 + 1 / 16, 0])


def test_without_its_residual_the_output_is_the_coarse_map():
    images, coarse, masks = pairs(4, np.random.default_rng(0), size=30)  # no multiple of 8
    refiner = MapRefiner(width=4, steps=3, random_state=0).fit(images, coarse, masks)
    assert np.abs(refiner.refine(images, coarse) - coarse).max() > 1e-4
    refiner.network_ = refiner.network_ | {
        name: np.zeros_like(refiner.network_[name]) for name in ("head.weight", "head.bias")
    }
    np.testing.assert_array_equal(refiner.refine(images, coarse), coarse.astype(np.float32))


def test_training_lowers_the_loss_of_fresh_pairs():
    rng = np.random.default_rng(0)
    refiner = MapRefiner(width=8, steps=100, random_state=0).fit(*pairs(40, rng))
    images, coarse, masks = pairs(20, rng)
    refined = refiner.refine(images, coarse)
    before, after = (
        refinement_loss(torch.from_numpy(maps).float(), torch.from_numpy(masks).float()).mean()
        for maps in (coarse, refined)
    )
    assert after < before / 2
    assert aupro(masks, refined) > aupro(masks, coarse)
    np.testing.assert_allclose(refiner.refine(images[3:4], coarse[3:4])[0], refined[3], atol=1e-5)


def test_pairs_of_no_weight_are_never_seen():
    images, coarse, masks = pairs(6, np.random.default_rng(0))
    settings = MapRefiner(width=4, steps=4, batch_size=4, random_state=0)
    alone = settings.fit(images, coarse, masks, np.array([1.0, 2, 1, 1, 1, 1])).network_
    strange = np.full_like(images, 255), np.full_like(coarse, 50.0), ~masks
    more = [np.concatenate(parts) for parts in zip((images, coarse, masks), strange)]
    weights = np.repeat([2.0, 0.0], 6)
    weights[1] = 4.0
    again = settings.fit(*more, weights).network_
    equal = settings.fit(images, coarse, masks).network_
    assert all(np.array_equal(again[name], alone[name]) for name in alone)
    assert any(not np.array_equal(equal[name], alone[name]) for name in alone)


def test_image_map_and_mask_are_moved_together(monkeypatch):
    monkeypatch.setattr(refiner_page, "_recoloured", lambda image: image)
    masks = gaussian_filter(np.random.default_rng(0).normal(size=(8, 48, 48)), (0, 4, 4)) > 0
    mask = torch.from_numpy(masks).float()
    with seeded(np.random.default_rng(0)):
        image, coarse, moved = augmented(mask[:, None].expand(8, 3, 48, 48), mask, mask)
    assert torch.equal(image[:, 1], coarse) and ((coarse > 0.5) == (moved > 0.5)).float().mean() > 0.99
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    flips = [mask, mask.flip(1), mask.flip(2), mask.flip(1, 2)]
    likeness = torch.stack([(moved == flipped).float().mean(dim=(1, 2)) for flipped in flips])
    assert (likeness.max(dim=0).values > 0.8).all() and len(
        likeness.argmax(dim=0).unique()
    ) >= 3  # turned by 5° at most


def test_colours_stay_colours():
    with seeded(np.random.default_rng(0)):
        image = augmented(torch.rand(64, 3, 8, 8), torch.zeros(64, 8, 8), torch.zeros(64, 8, 8))[0]
    assert image.min() >= 0 and image.max() <= 1 and image.mean(dim=(1, 2, 3)).std() > 0.05


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": np.zeros((4, 32, 32), dtype=np.uint8)}, "images"),
        ({"maps": np.zeros((4, 32, 31))}, "maps"),
        ({"maps": np.full((4, 32, 32), np.nan)}, "maps"),
        ({"masks": np.zeros((4, 32, 32))}, "masks"),
        ({"weights": [1, 1, 1]}, "weights"),
        ({"weights": [1, 1, 1, -1]}, "weights"),
        ({"weights": [0, 0, 0, 0]}, "weights"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(change, named):
    images, maps, masks = pairs(4, np.random.default_rng(0))
    with pytest.raises(InputError, match=named):
        MapRefiner(steps=1).fit(**{"images": images, "maps": maps, "masks": masks} | change)


def test_refinement_finds_more_of_defects_it_never_saw():
    """Trained on pasted patches and foreign textures, judged on stains, scratches and blurs."""
    rng = np.random.default_rng(0)
    train, held, (test, masks) = walls(40, rng), walls(20, rng), spoilt(walls(30, rng), rng)
    pni = PNI(gates=(), patch=3, image_size=64, coreset=0.05, smoothing=2.0, random_state=0).fit(train)
    normal = pni.anomaly_map(held)
    low, high = normal.min(), normal.max()
    made = [kind(image_size=64, random_state=0).fit(held).sample(40) for kind in (PerlinTexture, CutPaste)]
    images, truth = (np.concatenate([getattr(one, name) for one in made]) for name in ("X", "mask"))
    shown, coarse = ((pni.anomaly_map(X) - low) / (high - low) for X in (images, test))
    refined = MapRefiner(steps=100, random_state=0).fit(images, shown, truth).refine(test, coarse)
    assert aupro(masks, refined) > aupro(masks, coarse) + 0.02
    assert aupro(masks, 0.9 * coarse + 0.1 * refined) > aupro(masks, coarse)


def refining(**options):
    refiner = {"refine": MapRefiner(width=4, steps=5, batch_size=4), "generator": CutPaste(image_size=64)}
    return PNI(**SMALL | refiner | {"n_pairs": 6, "blend": 0.5} | options)


def test_refined_maps_blend_both_in_the_unit_of_held_out_normals(monkeypatch):
    X = walls(10, np.random.default_rng(0))
    seen = []
    fit = MapRefiner.fit
    monkeypatch.setattr(MapRefiner, "fit", lambda self, *pair: seen.append(pair) or fit(self, *pair))
    pni = refining().fit(X)
    coarse = PNI(**SMALL).set_params(smoothing=pni.smoothing)
    coarse.__dict__.update({name: value for name, value in vars(pni).items() if name.endswith("_")})
    coarse.refiner_ = None
    scores, maps = coarse.locate(X)
    low, high = pni.range_
    inside = ((maps >= low) & (maps <= high)).all(axis=(1, 2))
    assert np.isclose(maps.min(axis=(1, 2)), low).any() and np.isclose(maps.max(axis=(1, 2)), high).any()
    assert inside.sum() >= 2  # the two held-out images made the range, and not those of the bank
    unit = (maps - low) / (high - low)
    expected = 0.5 * unit + 0.5 * pni.refiner_.refine(X, unit)
    np.testing.assert_allclose(pni.anomaly_map(X), expected, atol=1e-5)
    np.testing.assert_allclose(pni.anomaly_score(X), scores, rtol=1e-6)
    pni.set_params(image_score="max_map")
    np.testing.assert_allclose(pni.anomaly_score(X), expected.max(axis=(1, 2)), atol=1e-5)
    images, shown, masks = seen[0]
    assert images.shape == (6, 64, 64, 3) and masks.any(axis=(1, 2)).all() and masks.dtype == bool
    np.testing.assert_allclose(shown, (coarse.anomaly_map(images) - low) / (high - low), atol=1e-5)


def test_a_refiner_of_your_own_is_taken_as_it_is():
    X = walls(8, np.random.default_rng(0))
    own = MapRefiner(width=4, steps=2, random_state=0).fit(*pairs(4, np.random.default_rng(0), 64))
    pni = refining(refine=own, generator=None).fit(X)
    assert pni.refiner_ is own


def test_the_same_seed_gives_the_same_scores_and_another_refit_forgets():
    X, other = (walls(8, np.random.default_rng(seed)) for seed in (0, 1))
    pni = refining().fit(X)
    maps = pni.anomaly_map(other)
    np.testing.assert_array_equal(pni.fit(other).fit(X).anomaly_map(other), maps)
    np.testing.assert_array_equal(refining().fit(X).anomaly_map(other), maps)
    assert not np.array_equal(refining(random_state=1).fit(X).anomaly_map(other), maps)
    plain = pni.set_params(refine=None).fit(X)
    assert plain.refiner_ is None and plain.range_ is None


def test_saved_with_its_refiner_it_gives_the_same_maps(tmp_path):
    X = walls(8, np.random.default_rng(0))
    pni = refining().fit(X)
    save(pni, tmp_path / "pni")
    again = load(tmp_path / "pni")
    np.testing.assert_array_equal(again.anomaly_map(X), pni.anomaly_map(X))
    np.testing.assert_array_equal(again.anomaly_score(X), pni.anomaly_score(X))


def test_too_few_normals_to_hold_some_out():
    with pytest.raises(InputError, match="held_out"):
        refining(held_out=0.9).fit(walls(2, np.random.default_rng(0)))
