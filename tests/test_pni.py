"""PNI and the map refiner: the gates on plain grids against naive twins, then images, then refinement."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

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
from assay.nn.map_refiner import MapRefiner

SMALL = {"weights": None, "image_size": 64, "patch": 3, "coreset": 0.05, "steps": 20, "hidden": 16, "random_state": 0}


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
    draw = Diagonals(0, shifted=False)
    train, test = draw.grids(8), draw.grids(4, wrong_by=3)
    pni = on_grids(("position", "neighbourhood"), tau_position=0, tau_neighbourhood=0, steps=10).fit_grids(train)
    far = np.linalg.norm(test[..., None, :] - pni.bank_, axis=-1).min(axis=-1)
    np.testing.assert_allclose(pni.score_grids(test), 0.99 * far - np.log(0.99), rtol=1e-5)


def test_nothing_allowed_is_the_farthest_element():
    draw = Diagonals(0, shifted=False)
    train, test = draw.grids(8), draw.grids(4)
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
        draw = Diagonals(seed, shifted=False)
        train, good, bad = draw.grids(30), draw.grids(40), draw.grids(40, wrong_by=3)
        assert abs(auroc(on_grids(()).fit_grids(train), good, bad) - 0.5) < 0.2
        assert auroc(on_grids(("position",)).fit_grids(train), good, bad) > 0.99


def test_neighbours_catch_what_position_cannot():
    draw = Diagonals(0, shifted=True)
    train, good, bad = draw.grids(30), draw.grids(40), draw.grids(40, wrong_by=draw.rng.integers(1, 6, size=40))
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
    draw = Diagonals(0, shifted=True)
    train, good, bad = draw.grids(30), draw.grids(40), draw.grids(40, wrong_by=draw.rng.integers(1, 6, size=40))
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
    draw = Diagonals(0, shifted=True)
    grids = draw.grids(10).astype(np.float32)
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
    draw = Diagonals(0, shifted=True)
    train, test = draw.grids(30), draw.grids(3)
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
    """Return (n, 96, 96, 3): four pieces of photographs at the corners of a plate, shaken by a pixel, with noise."""
    from skimage import data

    rocket, coffee, cat = data.rocket(), data.coffee(), data.chelsea()
    pieces = [
        rocket[100:136, 300:336],
        coffee[120:156, 180:216],
        cat[60:96, 120:156],
        np.stack([data.page()[20:56, 20:56]] * 3, 2),
    ]
    canvas = np.full((n, 96, 96, 3), 128.0)
    for image in canvas:
        for place, piece in enumerate(order):
            top, left = np.array(divmod(place, 2)) * 48 + 6 + rng.integers(-1, 2, size=2)
            if piece is not None:
                image[top : top + 36, left : left + 36] = pieces[piece]
    return np.clip(canvas + rng.normal(scale=6, size=canvas.shape), 0, 255).astype(np.uint8)
