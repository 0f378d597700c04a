"""Embedders by definition, the probe for fingerprints, heat maps, and the ranking by lift."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from assay import CutPaste, ImageEmbedder, PatchEmbedder, PixelNoise, suggest
from assay.base import Auxiliary
from assay.core.images import Images
from assay.core.validation import InputError
from assay.nn.backbones import build
from assay.nn.unusual import most_unusual
from assay.quality.eap import ExpectedAnomalyPosterior
from assay.report.pictures import OUTLINE, heated, outlined, thumbnail
from assay.training.probe import image_probe
from test_image_contracts import spoiled, stripes


@pytest.fixture(scope="module")
def images():
    return stripes(40, np.random.default_rng(0))


def test_pooling_is_mean_and_maximum(images):
    embedders = {pool: ImageEmbedder(image_size=64, pool=pool).fit(images) for pool in ("mean", "max", "both")}
    rows = {pool: embedder.transform(images[:3]) for pool, embedder in embedders.items()}
    network = build("efficientnet_lite0", embedders["mean"].backbone_)
    with torch.inference_mode():
        maps = network(network.scaled(images[:3]), ("stage3", "stage5", "stage7"))
    mean = torch.cat([level.mean(dim=(2, 3)) for level in maps.values()], dim=1).numpy()
    np.testing.assert_allclose(rows["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows["both"], np.hstack([rows["mean"], rows["max"]]), rtol=1e-6)
    assert (rows["max"] >= rows["mean"] - 1e-6).all()


def test_the_most_unusual_patch_by_a_plain_search():
    rng = np.random.default_rng(0)
    bank, owner = rng.normal(size=(200, 6)).astype(np.float32), np.arange(200) // 20
    features = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    patches, nearest, distances = most_unusual(torch.from_numpy(features), bank, owner)
    for image, patch, near, distance in zip(features.reshape(3, 20, 6), patches, nearest, distances):
        away = cdist(image, bank)
        worst = away.min(axis=1).argmax()
        assert (patch == image[worst]).all() and (near == bank[away[worst].argmin()]).all()
        assert distance == pytest.approx(away[worst].min(), rel=1e-5)


def test_an_image_of_the_bank_is_not_compared_with_itself():
    rng = np.random.default_rng(1)
    bank, owner = rng.normal(size=(60, 5)).astype(np.float32) + 3, np.repeat([0, 1, 2], 20)
    own = bank[owner == 1]
    _, nearest, distances = most_unusual(torch.from_numpy(own.reshape(1, 4, 5, 5)), bank, owner)
    others = cdist(own, bank[owner != 1]).min(axis=1)
    assert distances[0] == pytest.approx(others.max(), rel=1e-5)
    assert not (nearest[0] == own).all(axis=1).any()


def test_a_patch_row_holds_the_patch_its_difference_and_the_distance(images):
    rng = np.random.default_rng(2)
    embedder = PatchEmbedder(image_size=64, n_patches=900, random_state=0).fit(images[:30])
    assert len(embedder.bank_) == 900 and len(np.unique(embedder.owner_)) == 30
    fresh, bad = embedder.transform(images[30:]), embedder.transform(spoiled(images[30:], rng)[0])
    np.testing.assert_allclose(np.linalg.norm(fresh[:, 152:304], axis=1), fresh[:, 304], rtol=1e-5)
    assert bad[:, 304].min() > fresh[:, 304].max()
    with pytest.raises(InputError, match="X holds 1 image"):
        PatchEmbedder().fit(images[:1])


def test_the_probe_finds_a_tint_outside_the_mask_and_nothing_where_there_is_nothing(images):
    generator = CutPaste(image_size=64, random_state=0).fit(images)
    drawn = generator.sample(40)
    embedder = ImageEmbedder(image_size=64).fit(images)
    honest = image_probe(drawn, generator.parents_, embedder)
    tinted = np.clip(drawn.X.astype(int) + np.array([0, 12, 0]), 0, 255).astype(np.uint8)
    betrayed = Auxiliary(tinted, drawn.mask, drawn.touched, drawn.parents, drawn.meta)
    auroc, p_value = image_probe(betrayed, generator.parents_, embedder)
    assert honest[1] > 0.01 and auroc > 0.9 and p_value < 1e-6
    everywhere = PixelNoise(image_size=64, random_state=0).fit(images)
    assert np.isnan(image_probe(everywhere.sample(40), everywhere.parents_, embedder)).all()


def test_generators_of_images_are_ranked_by_lift(images):
    rng = np.random.default_rng(3)
    items = Images([*images, *spoiled(stripes(8, rng), rng)[0]])
    found = suggest(
        items,
        np.repeat([0, 1], [40, 8]),
        generators=[CutPaste(image_size=64), PixelNoise(image_size=64)],
        strengths=[0.5, 1.0],
        n=5,
        judge=ExpectedAnomalyPosterior(n_subsets=5),
        embedder=PatchEmbedder(image_size=64),
        rank="lift",
        random_state=0,
    )
    assert [one.score for one in found] == sorted((one.lift for one in found), reverse=True)
    assert all(one.rows.shape == (5, 305) and one.auxiliary.X.shape == (5, 64, 64, 3) for one in found)
    with pytest.raises(InputError, match="anomalies among tables"):
        suggest(items, np.repeat([0, 1], [40, 8]), generators=["smote"], embedder=ImageEmbedder())


def test_heat_is_nothing_at_the_bottom_and_outlined_above_the_threshold():
    grey = np.full((40, 60, 3), 100, dtype=np.uint8)
    scores = np.zeros((40, 60), dtype=np.float32)
    scores[10:30, 20:40] = 2.0
    hot = heated(grey, scores, 0.0, 2.0, threshold=1.0)
    assert (hot[0, 0] == 100).all() and (hot[10, 20] == OUTLINE).all()
    assert (hot[20, 30] != 100).all() and (grey == 100).all()
    assert (heated(grey, scores, 0.0, 2.0)[10, 20] == hot[20, 30]).all()
    # The border of the image is no border of the mask.
    whole = outlined(grey, np.ones((40, 60), dtype=bool))
    assert (whole == grey).all()
    assert thumbnail(np.zeros((480, 960, 3), dtype=np.uint8)).shape == (120, 240, 3)
