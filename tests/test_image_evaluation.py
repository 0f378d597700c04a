"""The evaluator: what it reports is what a hand would compute, and nothing of the test is used before."""

import numpy as np
import pytest
from PIL import Image

from assay.base import Detector, Localizer, TakesImages
from assay.benchmark.images import evaluate_images
from assay.core.images import resized_mask
from assay.core.validation import InputError
from assay.datasets.images import load_images
from assay.metrics.images import aupro
from assay.metrics.ranking import roc_auc


class Brightness(TakesImages, Localizer):
    """Scores brightness; remembers what it was trained on."""

    def __init__(self, image_size=8, random_state=None):
        self.image_size = image_size
        self.random_state = random_state

    def _fit(self, X, y, rng):
        Brightness.seen = list(X.names)

    def __sklearn_is_fitted__(self):
        return True

    def _locate(self, X):
        batch = np.concatenate(list(X.batches((self.image_size, self.image_size))))
        maps = batch.mean(axis=3).astype(np.float32)
        return maps.max(axis=(1, 2)).astype(float), maps


class Whole(TakesImages, Detector):
    """The same without maps."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def _fit(self, X, y, rng):
        pass

    def __sklearn_is_fitted__(self):
        return True

    def _score(self, X):
        return np.array([image.mean() for image in X])


@pytest.fixture
def category(tmp_path):
    """Write a category of five good and three defective images of 16 x 16 pixels, and read it."""
    rng = np.random.default_rng(0)

    def put(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def good():
        return rng.integers(90, 110, size=(16, 16), dtype=np.uint8)

    root = tmp_path / "thing"
    for i in range(3):
        put(root / f"train/good/{i}.png", good())
    for i in range(2):
        put(root / f"test/good/{i}.png", good())
    for i in range(3):
        image, mask = good(), np.zeros((16, 16), dtype=np.uint8)
        mask[4 * i : 4 * i + 4, 3:9] = 255
        image[mask > 0] = 105 + 50 * i
        put(root / f"test/spot/{i}.png", image)
        put(root / f"ground_truth/spot/{i}_mask.png", mask)
    return load_images(root)


@pytest.mark.parametrize("at", ["original", "network"])
def test_the_record_is_what_a_hand_computes(category, at):
    record = evaluate_images(Brightness(image_size=8), category, at=at, seed=3)
    assert len(Brightness.seen) == 3 and all("train" in name for name in Brightness.seen)
    scores, maps = Brightness(image_size=8).locate(category.test)
    masks = list(category.masks.at())
    if at == "network":
        masks = [resized_mask(mask, (8, 8)) for mask in masks]
    assert record["image_auroc"] == roc_auc(category.labels, scores)
    assert record["aupro"] == pytest.approx(aupro(masks, maps))
    assert record["regions"] == 3 and record["regions_lost"] == 0
    assert (record["test_good"], record["test_defective"], record["train_images"]) == (2, 3, 3)
    assert record["image_size"] == 8 and record["seed"] == 3 and record["at"] == at
    assert "undefined" not in record


def test_a_vanished_region_is_reported(category):
    record = evaluate_images(Brightness(image_size=4), category, at="network")
    assert record["regions"] + record["regions_lost"] == 3


def test_without_maps_there_are_no_pixel_metrics(category):
    record = evaluate_images(Whole(), category)
    assert "aupro" not in record and 0 <= record["image_auroc"] <= 1


def test_good_images_alone_give_nan_with_a_reason(category, tmp_path):
    import shutil

    root = tmp_path / "thing"
    shutil.rmtree(root / "test" / "spot")
    shutil.rmtree(root / "ground_truth")
    record = evaluate_images(Brightness(), load_images(root))
    assert np.isnan(record["image_auroc"]) and "one kind" in record["undefined"]
    with pytest.raises(InputError, match="at="):
        evaluate_images(Brightness(), category, at="half")
