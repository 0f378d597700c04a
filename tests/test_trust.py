"""Right for the right reason: overlaps against brute force, additive scores, and a detector that cheats."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

import assay.core.extras
from assay import Calibrated, FalseAlarmRate
from assay.core.extras import MissingExtra
from assay.core.validation import InputError
from assay.detectors.images.mean_image import MeanImage
from assay.explain.heat import error_map, lime, partition_shap
from assay.explain.superpixels import oracle_superpixels, superpixels
from assay.explain.trust import TrustAuditor, oracle_threshold, wilson
from assay.generators.images import CutPaste
from assay.metrics.overlap import best_overlap
from assay.report.trust import trust_report
from commands import run
from trust import SIDE, TAG, Cheat, Waves, scratched, textures


@pytest.fixture(scope="module")
def bed():
    rng = np.random.default_rng(0)
    train, held_out, good = textures(80, rng), textures(40, rng), textures(20, rng)
    bad, masks = scratched(textures(20, rng), rng, tag=False)
    images, labels = np.concatenate([good, bad]), np.repeat([0, 1], 20)
    return train, held_out, images, labels, [None] * 20 + list(masks)


@pytest.fixture(scope="module")
def audits(bed):
    train, held_out, *test = bed
    honest, cheat = Waves(train), Cheat(train)
    options = {"n_samples": 600, "heats": ("lime", "error")}
    first = TrustAuditor(honest, **options).run(*test, validation=held_out)
    options["heats"] = ("lime",)
    second = TrustAuditor(cheat, reference=honest.reconstruct_pixels, **options).run(*test, validation=held_out)
    return first, second


# -- the best overlap ----------------------------------------------------------------------------------------------


def by_brute_force(values, mask):
    """Return the largest Jaccard index over every distinct threshold."""
    found = []
    for level in np.unique(values):
        hot = values >= level
        found.append((hot & mask).sum() / (hot | mask).sum())
    return max(found)


@pytest.mark.parametrize("levels", [2, 5, 50, 10**6])
def test_the_best_overlap_is_that_of_every_threshold(levels):
    rng = np.random.default_rng(levels)
    for _ in range(50):
        shape = tuple(rng.integers(1, 12, size=2))
        mask = rng.random(shape) < rng.uniform(0.05, 0.9)
        mask.flat[rng.integers(mask.size)] = True
        values = rng.integers(0, levels, size=shape) / levels + 0.3 * mask * rng.random()
        found = best_overlap(values, mask)
        assert found.value == by_brute_force(values, mask)
        hot = values >= found.threshold
        assert (hot & mask).sum() / (hot | mask).sum() == found.value


def test_overlaps_worked_out_by_hand():
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:6, 3:8] = True
    assert best_overlap(mask * 1.0, mask).value == 1.0
    assert best_overlap(np.full((10, 10), 0.3), mask).value == 0.2, (
        "a tie is one block: not the pixels of the mask first"
    )
    assert best_overlap(1.0 - mask, mask).value == 0.2
    assert np.isnan(best_overlap(mask * 1.0, np.zeros_like(mask)).value)
    with pytest.raises(InputError, match="heat has shape"):
        best_overlap(np.zeros((3, 3)), mask)
    with pytest.raises(InputError, match="heat holds NaN"):
        best_overlap(np.full((10, 10), np.nan), mask)


# -- superpixels -----------------------------------------------------------------------------------------------------


def picture(side, seed=0):
    """Return a texture of many scales with a stain, and its clean version, (side, side, 3)."""
    rng = np.random.default_rng(seed)
    clean = sum(np.kron(rng.random((side // n, side // n, 3)), np.ones((n, n, 1))) for n in (1, 4, 16)) / 3
    spoiled = clean.copy()
    spoiled[side // 4 : side // 3, side // 4 : side // 2] = [0.9, 0.1, 0.1]
    return spoiled, clean


@pytest.mark.parametrize("side", [64, 128, 224])
def test_about_a_hundred_superpixels_and_the_same_twice(side):
    image, clean = picture(side - side % 16)
    pieces = superpixels(image, clean)
    assert 90 <= pieces.n <= 110 and not pieces.oracle
    assert np.array_equal(np.unique(pieces.labels), np.arange(pieces.n)) and 0 <= pieces.max_dist <= 100
    assert np.array_equal(superpixels(image, clean).labels, pieces.labels)


def test_cutting_the_tree_is_quickshift():
    from skimage.segmentation import quickshift

    image, clean = picture(64)
    pieces = superpixels(image, clean)
    theirs = quickshift(
        0.5 * image + 0.5 * clean, ratio=0.95, kernel_size=2, max_dist=pieces.max_dist, sigma=0.05, rng=1234
    )
    assert len(np.unique(theirs)) == pieces.n == len(np.unique(theirs * 1000 + pieces.labels))


def test_a_flat_image_has_superpixels_too():
    flat = np.full((40, 56, 3), 0.5)
    assert 90 <= superpixels(flat, flat).n <= 110


def test_the_oracle_needs_a_mask_and_says_what_it_is():
    image, clean = picture(64)
    with pytest.raises(InputError, match="mask is missing"):
        oracle_superpixels(image, clean, None)
    with pytest.raises(InputError, match="mask has shape"):
        oracle_superpixels(image, clean, np.ones((3, 3)))
    pieces = oracle_superpixels(image, clean, np.zeros((64, 64)))
    assert pieces.oracle
    assert lime(lambda batch: batch.sum(axis=(1, 2, 3)), image, clean, pieces, n_samples=150).oracle


def test_images_are_checked():
    image, clean = picture(32)
    with pytest.raises(InputError, match="image is uint8"):
        superpixels(np.zeros((8, 8, 3), dtype=np.uint8), clean)
    with pytest.raises(InputError, match="reference has shape"):
        superpixels(image, clean[:-1])
    with pytest.raises(InputError, match="image holds 0 to 2"):
        superpixels(2.0 * np.eye(4)[:, :, None] * np.ones(3), np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="n_segments"):
        superpixels(image, clean, n_segments=0)


# -- heat maps of additive scores ------------------------------------------------------------------------------------


def test_lime_and_shap_recover_an_additive_score():
    rng = np.random.default_rng(3)
    image, clean = rng.random((32, 32, 3)), rng.random((32, 32, 3))
    weights = np.kron(rng.random((8, 8, 1)) ** 3, np.ones((4, 4, 3)))
    parts = (weights * np.square(image - clean)).sum(axis=2)

    def score(batch):
        return (weights * np.square(batch - clean)).sum(axis=(1, 2, 3))

    pieces = superpixels(image, clean)
    truth = np.bincount(pieces.labels.ravel(), parts.ravel())
    found = lime(score, image, clean, pieces, n_samples=1500)
    beta = np.array([found.values[pieces.labels == s][0] for s in range(pieces.n)])
    assert spearmanr(beta, truth)[0] > 0.95
    np.testing.assert_allclose(beta, truth, rtol=0.05, atol=0.01 * truth.max())
    owen = partition_shap(score, image, clean, n_evaluations=3000)
    sums = np.bincount(pieces.labels.ravel(), owen.values.ravel())
    assert spearmanr(sums, truth)[0] > 0.95
    assert abs(owen.values.sum() - (score(image[None].astype(np.float32)) - owen.base)[0]) < 1e-4


def test_shap_is_efficient_for_a_score_that_is_not_additive(bed):
    train, _, images, *_ = bed
    detector = Waves(train)
    image = images[25] / np.float32(255)
    clean = detector.reconstruct_pixels(image[None])[0]
    score = TrustAuditor(detector)._explained(detector)
    found = partition_shap(score, image, clean, n_evaluations=400)
    whole, nothing = score(np.stack([image, clean]))
    assert found.base == pytest.approx(nothing, abs=1e-9)
    assert found.values.sum() == pytest.approx(whole - nothing, abs=1e-4)


def test_shap_sums_all_colours():
    clean = np.full((8, 8, 3), 0.5)
    image = clean.copy()
    image[2:4, 2:4, 2] = 1.0  # blue alone
    found = partition_shap(lambda batch: batch.sum(axis=(1, 2, 3)), image, clean, n_evaluations=2000)
    np.testing.assert_allclose(found.values, (image - clean).sum(axis=2), atol=1e-6)


def test_heat_maps_are_deterministic_and_leave_the_global_seed_alone():
    image, clean = picture(32)
    before = np.random.get_state()[1].copy()
    for draw in (
        lambda: lime(lambda b: b.std(axis=(1, 2, 3)), image, clean, superpixels(image, clean), n_samples=300),
        lambda: partition_shap(lambda b: b.std(axis=(1, 2, 3)), image, clean, n_evaluations=200),
    ):
        assert np.array_equal(draw().values, draw().values)
    assert np.array_equal(np.random.get_state()[1], before)


def test_batches_do_not_change_lime():
    image, clean = picture(32)
    pieces = superpixels(image, clean, n_segments=30)

    def score(batch):
        assert batch.dtype == np.float32 and batch.shape[1:] == (32, 32, 3)
        return batch.max(axis=(1, 2, 3)) + batch.std(axis=(1, 2, 3))

    maps = [lime(score, image, clean, pieces, n_samples=301, batch_size=size).values for size in (7, 200)]
    np.testing.assert_allclose(*maps, rtol=1e-5, atol=1e-7)


def test_a_score_of_any_unit_has_the_same_heat():
    image, clean = picture(32)
    pieces = superpixels(image, clean, n_segments=30)
    first, second = (
        lime(lambda b, unit=unit: unit * b.mean(axis=(1, 2, 3)), image, clean, pieces, n_samples=300).values
        for unit in (1.0, 1e-6)
    )
    np.testing.assert_allclose(1e6 * second, first, rtol=1e-4, atol=1e-9)


def test_what_says_nothing_is_no_reason():
    """Beside pieces that matter the others are ordered by noise: a low threshold would find any defect among them."""
    image, clean = picture(32)
    pieces = superpixels(image, clean)
    touched = np.isin(pieces.labels, np.unique(pieces.labels[:6, :6]))

    def score(batch):
        corner = batch[:, :6, :6].sum(axis=(1, 2, 3))
        return corner + 0.2 * corner**2 / corner.max()

    found = lime(score, image, np.zeros_like(image), pieces, n_samples=400)
    assert found.noise > 0
    assert ((found.values > 0) & ~touched).mean() > 0.2
    telling = found.telling()
    assert not (telling[~touched] > 0).any() and (telling[touched] > 0).any()
    assert np.array_equal(telling[telling > 0], found.values[telling > 0])


def test_lime_needs_more_samples_than_superpixels():
    image, clean = picture(32)
    with pytest.raises(InputError, match="n_samples"):
        lime(lambda b: b.sum(axis=(1, 2, 3)), image, clean, superpixels(image, clean), n_samples=50)
    with pytest.raises(InputError, match="numbers for"):
        lime(lambda b: np.zeros(3), image, clean, superpixels(image, clean), n_samples=150)


def test_hiding_with_the_reference_keeps_the_heat_on_the_defect(bed):
    """Black pieces are defects of their own: they take the heat away from the true one."""
    train, _, images, _, masks = bed
    detector = Waves(train)
    score = TrustAuditor(detector)._explained(detector)
    outside = {"reference": [], "black": []}
    for row in range(20, 28):
        image, mask = images[row] / np.float32(255), masks[row]
        image[:TAG, :TAG] = train[0, :TAG, :TAG] / np.float32(255)  # the scratch alone
        clean = detector.reconstruct_pixels(image[None])[0]
        pieces = superpixels(image, clean)
        for name, hidden in (("reference", clean), ("black", np.zeros_like(clean))):
            mass = np.abs(lime(score, image, hidden, pieces, n_samples=400).values)
            outside[name].append(mass[~mask].sum() / mass.sum())
    assert np.mean(outside["reference"]) < np.mean(outside["black"]) - 0.1


def test_the_reconstruction_is_that_of_each_perturbed_image(bed):
    """With the first image's reconstruction for all, another function would be explained."""
    train, _, images, *_ = bed
    calls = []

    class Recorded(Waves):
        def reconstruct_pixels(self, batch):
            calls.append(batch.copy())
            return super().reconstruct_pixels(batch)

    detector = Recorded(train)
    image = images[25] / np.float32(255)
    clean = detector.reconstruct_pixels(image[None])[0]
    score = TrustAuditor(detector)._explained(detector)
    half = np.where((np.arange(SIDE) < 16)[:, None, None], image, clean)
    expected = np.square(half - Waves(train).reconstruct_pixels(half[None])[0].astype(np.float64)).sum()
    assert score(np.stack([image, half]))[1] == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(calls[-1][1], half)


def test_error_maps():
    image = np.zeros((4, 4, 3))
    image[1, 1] = [0.3, 0.4, 0.0]
    assert error_map(image, np.zeros_like(image))[1, 1] == pytest.approx(0.5)
    assert error_map(image, np.zeros_like(image), "max")[1, 1] == pytest.approx(0.4)
    with pytest.raises(InputError, match="how"):
        error_map(image, image, "sum")


# -- the audit -------------------------------------------------------------------------------------------------------


def test_a_cheat_is_found_out(bed, audits):
    """The decisive one: both detectors look perfect by their AUROC, and only one of them sees the scratch."""
    honest, cheat = audits
    assert honest.auroc >= 0.95 and cheat.auroc >= 0.95
    assert cheat.counts["wrong reason"] >= 0.9 * cheat.found.sum() and cheat.found.sum() >= 15
    assert honest.rate > 0.8 and cheat.rate < 0.1
    assert np.median(honest.overlap[20:]) > np.median(cheat.overlap[20:]) + 0.2
    assert honest.right_auroc > 0.75 and cheat.right_auroc < 0.1
    assert "Most detections do not rest on the defect" in " ".join(cheat.advice)
    assert not any("Most detections" in one for one in honest.advice)


def test_normal_images_have_no_overlap(audits):
    for audit in audits:
        for row in range(20):
            assert np.isnan(audit.overlap[row]) and np.isnan(audit.chance[row])
            assert audit.verdicts[row] == ("false alarm" if audit.detected[row] else "quiet")
        assert sum(audit.counts.values()) == 40
        assert all(np.isnan(row["max J, lime"]) == (row["label"] == 0) for row in audit.rows())


def test_a_defect_elsewhere_is_missed_by_the_cheat(bed):
    """With its tag in place a scratched image is quiet for the cheat, and the verdict is another one than wrong."""
    train, held_out, *_ = bed
    rng = np.random.default_rng(5)
    bad, masks = scratched(textures(8, rng), rng, tag=True)
    auditor = TrustAuditor(Cheat(train), reference=Waves(train).reconstruct_pixels, n_samples=150)
    audit = auditor.run(bad, np.ones(8), masks, threshold=1.0)
    assert audit.counts["missed"] == 8 and np.isnan(audit.rate) and "None of 8" in audit.verdict
    assert np.all(audit.credit == 0) and len(audit.ranking()) == 0


def test_the_threshold_is_that_of_held_out_normal_images(bed, audits):
    train, held_out, images, labels, _ = bed
    scores = Waves(train).anomaly_score(held_out)
    assert audits[0].threshold == np.quantile(scores, 0.95, method="higher")
    np.testing.assert_array_equal(audits[0].detected, Waves(train).anomaly_score(images) > audits[0].threshold)


def test_a_calibrated_detector_brings_its_threshold(bed):
    train, _, images, labels, masks = bed
    model = Calibrated(MeanImage(image_size=SIDE), FalseAlarmRate(0.2), cv=2, random_state=0).fit(train)
    auditor = TrustAuditor(model, reference="blur", n_samples=60, n_segments=20)
    audit = auditor.run(images[18:22], labels[18:22], masks[18:22])
    assert audit.threshold == model.calibrator_.threshold_
    np.testing.assert_array_equal(audit.scores, model.detector_.anomaly_score(images[18:22]))


def test_the_oracles_threshold_maximises_what_it_says():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=60)
    scores = np.round(rng.normal(size=60) + labels, 1)

    def value(t):
        return np.sqrt((scores[labels == 1] > t).mean() * (scores[labels == 0] <= t).mean())

    assert value(oracle_threshold(labels, scores)) == pytest.approx(max(value(t) for t in scores))


def test_rates_curves_and_rankings(audits):
    audit = audits[0]
    curve = audit.curve()
    assert curve.shape == (101, 3) and curve[0, 0] == 1.0 and np.all(np.diff(curve[:, 0]) <= 0)
    assert np.all((curve[:, 1] <= curve[:, 0]) & (curve[:, 0] <= curve[:, 2]))
    assert audit.rate == curve[25, 0] == (audit.overlap[audit.found] >= 0.25).mean()
    order = audit.ranking()
    np.testing.assert_allclose(audit.credit[order], (audit.scores[order] - audit.threshold) * audit.overlap[order])
    assert np.all(np.diff(audit.credit[order]) <= 0) and set(order) == set(np.flatnonzero(audit.found))
    assert audit.right_auroc <= audit.auroc
    # Wilson (1927), worked out by hand for 8 of 10.
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0.0 and wilson(5, 5)[1] == 1.0 and np.isnan(wilson(0, 0)).all()


def test_the_other_images_do_not_matter(bed, audits):
    train, _, images, labels, masks = bed
    alone = TrustAuditor(Waves(train), n_samples=600, heats=("lime", "error")).run(
        images[[31, 22]], labels[[31, 22]], [masks[31], masks[22]], threshold=audits[0].threshold
    )
    np.testing.assert_array_equal(alone.overlap, audits[0].overlap[[31, 22]])


def test_oracle_superpixels_explain_at_least_as_well_and_are_flagged(bed):
    train, held_out, images, labels, masks = bed
    audit = TrustAuditor(Waves(train), n_samples=400, heats=("oracle lime", "lime")).run(
        images[20:], labels[20:], masks[20:], validation=held_out
    )
    assert np.mean(audit.overlaps["oracle lime"]) >= np.mean(audit.overlaps["lime"])
    assert audit.oracle and any(one.startswith("Oracle") for one in audit.advice)


def test_any_detector_of_images_and_made_defects(bed):
    train = bed[0][:20]
    detector = MeanImage(image_size=SIDE).fit(train)
    made = CutPaste(image_size=SIDE, random_state=0).fit(train).sample(4)
    for reference in ("normal", "blur", lambda batch: np.full_like(batch, 0.5)):
        auditor = TrustAuditor(
            detector, reference=reference, normals=train, n_samples=60, n_segments=20, heats=("lime", "shap", "error")
        )
        audit = auditor.run(made.X, np.ones(4), made.mask, validation=bed[1])
        assert all(np.isfinite(audit.overlaps[kind]).all() for kind in ("lime", "shap", "error"))
        np.testing.assert_allclose(audit.maps["error"][0], detector.anomaly_map(made.X)[0])
    # Masks of another size than the images that are explained.
    large = np.repeat(np.repeat(made.X, 2, axis=1), 2, axis=2), np.repeat(np.repeat(made.mask, 2, axis=1), 2, axis=2)
    audit = auditor.run(large[0], np.ones(4), large[1], threshold=0.0)
    assert audit.maps["lime"][0].shape == (SIDE, SIDE) and np.isfinite(audit.overlap).all()


def test_a_mask_that_covers_the_image_is_said_to_prove_nothing(bed):
    train, held_out, images, *_ = bed
    audit = TrustAuditor(Waves(train), n_samples=150).run(
        images[20:23], np.ones(3), np.ones((3, SIDE, SIDE)), validation=held_out
    )
    assert np.all(audit.chance == 1.0) and any("3 of 3 masks" in one for one in audit.advice)


def test_what_cannot_be_used_is_refused(bed):
    train, held_out, images, labels, masks = bed
    detector = Cheat(train)
    bad = images[20:22], [1, 1], masks[20:22]
    with pytest.raises(InputError, match=r"reference is missing: Cheat has no reconstruct_pixels.*'blur'"):
        TrustAuditor(detector).run(*bad, threshold=1.0)
    with pytest.raises(InputError, match="normals is missing"):
        TrustAuditor(detector, reference="normal").run(*bad, threshold=1.0)
    with pytest.raises(InputError, match="detector is missing"):
        TrustAuditor().run(*bad, threshold=1.0)
    with pytest.raises(InputError, match="no anomaly_score"):
        TrustAuditor(3).run(*bad, threshold=1.0)
    with pytest.raises(InputError, match="validation is missing: give normal images"):
        TrustAuditor(detector, reference="blur").run(*bad)
    with pytest.raises(InputError, match="both given"):
        TrustAuditor(detector, reference="blur").run(*bad, threshold=1.0, validation=held_out)
    with pytest.raises(InputError, match=r"masks\[0\] is empty"):
        TrustAuditor(detector, reference="blur").run(bad[0], bad[1], [None, masks[21]], threshold=1.0)
    with pytest.raises(InputError, match=r"masks\[1\] is not empty"):
        TrustAuditor(detector, reference="blur").run(bad[0], [1, 0], bad[2], threshold=1.0)
    with pytest.raises(InputError, match="masks: give one"):
        TrustAuditor(detector, reference="blur").run(bad[0], bad[1], None, threshold=1.0)
    with pytest.raises(InputError, match="unknown"):
        TrustAuditor(detector, reference="blur").run(bad[0], [1, -1], bad[2], threshold=1.0)
    with pytest.raises(InputError, match=r"reference\(batch\) has shape"):
        TrustAuditor(detector, reference=lambda batch: batch[0]).run(*bad, threshold=1.0)
    strange = {"least": 0, "floor": 1, "quantile": 2, "n_samples": 1.5, "n_segments": "x", "batch_size": 0,
               "image_size": (3,), "random_state": -1, "heats": ("smoke",), "reference": 3}  # fmt: skip
    for name, value in strange.items():
        with pytest.raises(InputError, match=name):
            TrustAuditor(detector, **({"reference": "blur"} | {name: value})).run(*bad, threshold=1.0)


def test_missing_libraries_are_named(monkeypatch):
    image, clean = picture(32)

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(assay.core.extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match="explain"):
        superpixels(image, clean)
    with pytest.raises(MissingExtra, match="explain"):
        partition_shap(lambda b: b.sum(axis=(1, 2, 3)), image, clean)


def test_the_page_says_it_in_words(audits, tmp_path):
    honest, cheat = audits
    page = trust_report(cheat, tmp_path / "page.html", title="<b>Tag</b>").read_text()
    assert cheat.verdict in page and "<script" not in page and "&lt;b&gt;Tag" in page
    assert page.count('<svg class="chart"') == 2
    assert "Found for the wrong reason" in page and "Found for the right reason" not in page
    assert not re.search(r'src="(?!data:)', page) and "n/a" in page
    other = trust_report(honest, tmp_path / "page.html").read_text()
    assert "Found for the right reason" in other


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    """A category in the layout of MVTec AD: plain metal, and scratches with their masks; a model of it."""
    folder = tmp_path_factory.mktemp("audit") / "metal"
    rng = np.random.default_rng(0)
    for part, count in (("train/good", 20), ("test/good", 6), ("test/scratch", 4)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            image = np.repeat(rng.normal(120, 3, (32, 32, 1)), 3, axis=2)
            if part.endswith("scratch"):
                image[14:18, 6:26] = 220
            Image.fromarray(image.round().astype(np.uint8)).save(folder / part / f"{number:03d}.png")
    (folder / "ground_truth" / "scratch").mkdir(parents=True)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[14:18, 6:26] = 255
    for number in range(4):
        Image.fromarray(mask).save(folder / "ground_truth" / "scratch" / f"{number:03d}_mask.png")
    words = ("--param", "image_size=32", "--rate", "0.1", "--out", folder.parent / "model", "-q")
    done = run("fit", "mean_image", "--train", folder, *words)
    assert done.code == 0, done.err
    return folder


def test_the_command_audits_a_folder(category, tmp_path):
    out = tmp_path / "audit.html"
    words = ("--out", out, "--samples", 300, "--heat", "lime", "--heat", "error", "--defects", 3)
    done = run("audit", "images", category.parent / "model", category, *words, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["auroc"] == told["right_auroc"] == told["rate"] == 1.0
    assert told["right_reason"] == 3 and told["wrong_reason"] == told["missed"] == 0
    assert "Found for the right reason" in out.read_text()
    done = run("audit", "images", category.parent / "model", category, *words)
    assert done.code == 2 and "--overwrite" in done.err
    done = run("audit", "images", category.parent / "model", category, *words, "--overwrite")
    assert done.code == 0 and told["verdict"] in done.out


def test_the_command_names_what_is_wrong(category, tmp_path):
    bare = tmp_path / "bare"
    (bare / "good").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((32, 32, 3), 100 + number, dtype=np.uint8)).save(bare / "good" / f"{number}.png")
    for words, named in (
        ((bare, "--out", tmp_path / "a.html"), "mask"),
        ((category, "--out", tmp_path / "a.txt"), ".html"),
        ((category, "--out", tmp_path / "a.html", "--heat", "magic"), "heats"),
        ((category, "--out", tmp_path / "a.html", "--reference", "magic"), "reference"),
    ):
        done = run("audit", "images", category.parent / "model", *words)
        assert done.code == 2 and named in done.err and len(done.err.splitlines()) == 1
        assert not (tmp_path / "a.html").exists()
