"""Pixel metrics: hand-computed values, a naive twin that tries every threshold, and what public code gets wrong."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from assay.core.images import resized_map
from assay.core.validation import InputError
from assay.kernels.regions import label_regions
from assay.metrics.images import (
    PixelHistogram,
    aupro,
    count_pixels,
    count_regions,
    oracle_f1_max,
    pixel_auroc,
    pixel_average_precision,
    pixel_f1,
    presorted_bad,
    presorted_good,
    spro,
    why_undefined,
)

EIGHT = np.ones((3, 3))


def limited_area(fpr, overlap, limit):
    """Trapezoids under the curve up to the limit, the last one cut there by interpolation."""
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], overlap, overlap[1:]):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def naive_spro(regions, maps, limit):
    """`regions`: for each image a list of (mask, pixels that suffice). Every distinct score is a threshold."""
    none = [np.zeros(maps[0].shape, bool)]
    unions = [np.any([mask for mask, _ in image] or none, axis=0) for image in regions]
    n_normal = sum((~union).sum() for union in unions)
    fpr, overlap = [0.0], [0.0]
    for t in sorted({s for m in maps for s in m.ravel()}, reverse=True):
        fpr.append(sum(((m >= t) & ~union).sum() for m, union in zip(maps, unions)) / n_normal)
        found = [min((m >= t)[mask].sum() / enough, 1) for image, m in zip(regions, maps) for mask, enough in image]
        overlap.append(np.mean(found))
    return limited_area(fpr, overlap, limit)


def naive_aupro(masks, maps, limit):
    regions = []
    for mask, m in zip(masks, maps):
        labels, n = ndimage.label(np.zeros(m.shape) if mask is None else mask, EIGHT)
        regions.append([(labels == i + 1, (labels == i + 1).sum()) for i in range(n)])
    return naive_spro(regions, maps, limit)


def scene(seed, ties=False, n=3, shape=(13, 11), dtype=np.float64):
    """Small random masks, one image good, and maps that know a little."""
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < rng.choice([0.05, 0.3]) for _ in range(n)]
    masks[1] = None
    maps = [rng.normal(size=shape) + (0 if mask is None else mask) for mask in masks]
    maps = [np.round(2 * m) / 2 if ties else m for m in maps]
    return masks, [m.astype(dtype) for m in maps]


def pooled(masks, maps):
    y = np.concatenate([np.zeros(m.size, bool) if mask is None else mask.ravel() for mask, m in zip(masks, maps)])
    return y, np.concatenate([m.ravel() for m in maps])


@pytest.mark.parametrize("seed", range(12))
def test_against_the_naive_twin_and_scikit_learn(seed):
    masks, maps = scene(seed, ties=seed % 2 == 1, dtype=(np.float64, np.float32, np.float16)[seed % 3])
    y, scores = pooled(masks, maps)
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
    assert pixel_average_precision(masks, maps) == pytest.approx(average_precision_score(y, scores), abs=1e-12)
    for limit in (0.01, 0.05, 0.3, 1.0):
        assert aupro(masks, maps, limit) == pytest.approx(naive_aupro(masks, maps, limit), abs=1e-12)
    best = max(2 * (y & (scores >= t)).sum() / (y.sum() + (scores >= t).sum()) for t in np.unique(scores))
    assert oracle_f1_max(masks, maps) == pytest.approx(best, abs=1e-12)
    assert pixel_f1(masks, maps, 0.75) == pytest.approx(f1_score(y, scores >= 0.75), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_saturated_overlap_against_the_naive_twin(seed):
    rng = np.random.default_rng(seed)
    _, maps = scene(seed, ties=seed % 2 == 1)
    masks = [rng.random((k, 13, 11)) < 0.15 for k in (2, 0, 3)]
    enough = [[int(rng.integers(1, mask.sum() + 1)) for mask in image] for image in masks]
    for limit in (0.05, 0.3):
        expected = naive_spro([list(zip(*pair)) for pair in zip(masks, enough)], maps, limit)
        assert spro(masks, maps, enough, limit) == pytest.approx(expected, abs=1e-12)
    too_many = [[10**6] * len(image) for image in masks]
    assert spro(masks, maps, too_many) == spro(masks, maps)


def test_saturated_overlap_of_connected_regions_is_the_plain_one():
    masks, maps = scene(3)
    one_by_one = []
    for mask in masks:
        labels, n = ndimage.label(np.zeros((13, 11)) if mask is None else mask, EIGHT)
        one_by_one.append([labels == i + 1 for i in range(n)])
    assert spro(one_by_one, maps, limit=0.3) == pytest.approx(aupro(masks, maps), abs=1e-12)


def square(size=30, side=10):
    mask = np.zeros((size, size), dtype=bool)
    mask[:side, :side] = True
    return mask


def test_known_answers():
    mask = square()
    assert aupro([mask], [mask.astype(float)]) == 1.0
    assert aupro([mask], [np.ones((30, 30))]) == pytest.approx(0.15, abs=1e-12)
    assert pixel_auroc([mask], [np.ones((30, 30))]) == 0.5
    assert pixel_average_precision([mask], [np.ones((30, 30))]) == pytest.approx(100 / 900)
    assert aupro([mask], [-mask.astype(float)]) == 0.0
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 60, 60))
    assert aupro(noise[::-1] > 1.2, noise) == pytest.approx(0.15, abs=0.02)
    # Normal pixels .2 of which score above the defect: PRO jumps to 1 at FPR .2.
    values = np.zeros((1, 11))
    values[0, 0], values[0, 1:3] = 1.0, 2.0
    assert aupro([np.arange(11)[None] == 0], [values]) == pytest.approx(1 / 3)


def test_regions_count_alike_whatever_their_size():
    mask = square()
    mask[20, 20] = True
    found = np.where(square(), 1.0, 0.0)
    assert aupro([mask], [found]) == pytest.approx(0.575, abs=1e-12)
    assert aupro([mask], [np.where(mask & ~square(), 1.0, 0.0)]) == pytest.approx(0.575, abs=1e-12)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(6, dtype=bool)
    assert count_regions([mask, mask[::-1], None]) == 2
    half = np.zeros((6, 6))
    half[0, 0] = half[1, 1] = half[2, 2] = 1.0
    assert aupro([mask], [half]) == pytest.approx(0.5 + 0.5 * 0.15)


def test_labels_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = rng.random(rng.integers(1, 20, 2)) < rng.choice([0.2, 0.45, 0.7])
        labels, n = label_regions(mask)
        expected, m = ndimage.label(mask, EIGHT)
        assert n == m
        assert len(np.unique(labels.astype(np.int64) * (m + 1) + expected)) == len(np.unique(expected))


@pytest.mark.parametrize("transform", [np.exp, np.cbrt, lambda s: 1e6 * s + 3, lambda s: 1 / (1 + np.exp(-s))])
def test_increasing_transforms_change_nothing(transform):
    masks, maps = scene(7)
    before, after = count_pixels(masks, maps), count_pixels(masks, [transform(m) for m in maps])
    for name in ("hits", "shares", "above", "upto"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


# What public code gets wrong.


def test_scores_are_not_squashed():
    # Above 17 a float32 sigmoid is 1 everywhere; a mixture of squashed and raw batches has another order.
    mask = square()
    maps = [np.where(mask, 40.0, 20.0).astype(np.float32), np.full((30, 30), 0.5, np.float32)]
    assert pixel_auroc([mask, None], maps) == 1.0
    assert aupro([mask, None], maps) == 1.0
    squashed = [1 / (1 + np.exp(-m)) for m in maps]
    assert pixel_auroc([mask, None], squashed) < 1.0


def test_float64_is_not_rounded_to_float32():
    mask = square()
    assert pixel_auroc([mask], [np.where(mask, 1 + 1e-12, 1.0)]) == 1.0


def test_the_metric_at_a_threshold_does_not_look_at_the_labels_for_it():
    masks, maps = scene(5)
    assert pixel_f1(masks, maps, 2.0) < oracle_f1_max(masks, maps)


def test_rescaling_each_image_is_another_number():
    mask = square()
    rng = np.random.default_rng(1)
    noise = rng.random((2, 30, 30))
    maps = [noise[0] + 3 * mask, noise[1]]
    each = [(m - m.min()) / (m.max() - m.min()) for m in maps]
    assert pixel_auroc([mask, None], maps) == 1.0
    assert pixel_auroc([mask, None], each) < 0.99


def test_regions_are_pooled_not_averaged_over_images():
    two = np.zeros((20, 20), dtype=bool)
    two[2:4, 2:4] = two[10:12, 10:12] = True
    one = np.zeros((20, 20), dtype=bool)
    one[5:9, 5:9] = True
    masks, maps = [two, one], [two * 1.0, np.zeros((20, 20))]
    # Two of three regions found, not the mean of (all, none).
    assert aupro(masks, maps) == pytest.approx(2 / 3 + 0.15 / 3, abs=1e-12)


def test_good_images_count_among_the_normal_pixels():
    mask = square()
    noisy = np.zeros((30, 30))
    noisy[:, :3] = 2.0
    assert aupro([mask], [mask * 1.0]) == 1.0
    # 90 of 1700 normal pixels score higher than the defect.
    assert aupro([mask, None], [mask * 1.0, noisy]) == pytest.approx(1 - 90 / 1700 / 0.3)


def test_regions_are_neither_boxes_nor_filled():
    ring = np.zeros((20, 20), dtype=bool)
    ring[4:14, 4:14] = True
    ring[6:12, 6:12] = False
    dot = np.zeros((20, 20), dtype=bool)
    dot[8:10, 8:10] = True  # inside the ring's box and its hole
    both = ring | dot
    assert count_regions([both]) == 2
    assert aupro([both], [both * 1.0]) == 1.0
    # The ring is found with its hole called normal: no false positive, one of two regions.
    assert aupro([both], [ring * 1.0]) == pytest.approx(0.575, abs=1e-12)


def test_labels_of_two_images_do_not_collide():
    mask = square()
    found, missed = mask * 1.0, np.zeros((30, 30))
    assert aupro([mask, mask], [found, missed]) == pytest.approx(0.575, abs=1e-12)


def test_nothing_is_dilated():
    mask = square()
    beside = np.zeros((30, 30))
    beside[:10, 10:12] = 1.0
    assert aupro([mask], [beside]) < 0.15


def test_more_than_two_to_the_24_pixels():
    shape = (4097, 4100)
    mask = np.zeros(shape, dtype=bool)
    mask[:64, :64] = True
    values = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float64).reshape(shape)
    counts = count_pixels([mask], [values])
    assert counts.n_normal == shape[0] * shape[1] - 4096
    # 64 rows of 64 pixels each, found as the last of all: below the limit nothing is.
    assert counts.aupro() == 0.0
    normal_below = sum(64 * r * (shape[1] - 64) for r in range(64))
    assert counts.auroc() == pytest.approx(normal_below / 4096 / counts.n_normal, rel=1e-9)


def test_one_class_alone_is_undefined_and_says_why():
    for masks, missing in (([None, np.zeros((5, 5))], "defective"), ([np.ones((5, 5))] * 2, "normal")):
        maps = np.random.default_rng(0).random((2, 5, 5))
        for metric in (pixel_auroc, pixel_average_precision, aupro, oracle_f1_max):
            assert np.isnan(metric(masks, maps))
        assert np.isnan(pixel_f1(masks, maps, 0.5))
        assert f"no mask holds a {missing} pixel" in why_undefined(masks)
        histogram = PixelHistogram(0, 1)
        for mask, values in zip(masks, maps):
            histogram.update(mask, values)
        for metric in (histogram.auroc, histogram.average_precision, histogram.aupro, histogram.error_bound):
            assert np.isnan(metric())
    assert np.isnan(spro([None, []], np.zeros((2, 5, 5))))
    assert why_undefined([None, square()]) is None


# Histograms.


@pytest.mark.parametrize("seed", range(4))
def test_the_histogram_agrees_with_the_exact_metrics(seed):
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.normal(size=(12, 64, 64)), (0, 4, 4)) > 0.12
    masks[:3] = False
    maps = rng.gamma(2.0, size=masks.shape) + masks * rng.random()
    exact = count_pixels(masks, maps)
    histogram = PixelHistogram.over(maps)
    for mask, values in zip(masks, maps):
        histogram.update(mask, values)
    assert histogram.auroc() == pytest.approx(exact.auroc(), abs=1e-3)
    assert histogram.average_precision() == pytest.approx(exact.average_precision(), abs=1e-3)
    assert histogram.aupro() == pytest.approx(exact.aupro(), abs=1e-3)
    assert histogram.oracle_f1_max() == pytest.approx(exact.oracle_f1_max(), abs=1e-3)
    # Rounded by hand it is exact.
    width = (maps.max() - maps.min()) / 2**16
    rounded = np.minimum(np.floor((maps - maps.min()) / width), 2**16 - 1)
    assert histogram.aupro() == pytest.approx(aupro(masks, rounded), abs=1e-6)


@pytest.mark.parametrize("bins", [2, 5, 20, 200])
def test_the_histogram_knows_how_wrong_it_can_be(bins):
    for seed in range(5):
        masks, maps = scene(seed)
        histogram = PixelHistogram(-1.0, 2.0, bins)  # some scores lie beyond both
        for mask, values in zip(masks, maps):
            histogram.update(mask, values)
        for limit in (0.1, 0.3):
            bound = histogram.error_bound(limit)
            assert abs(histogram.auroc() - pixel_auroc(masks, maps)) <= bound + 1e-12
            assert abs(histogram.aupro(limit) - aupro(masks, maps, limit)) <= bound + 1e-12


def test_bounds_that_miss_the_scores_are_seen_in_the_bound():
    mask = square()
    values = np.random.default_rng(0).random((30, 30)) + mask
    histogram = PixelHistogram(10.0, 11.0).update(mask, values)
    assert histogram.auroc() == 0.5
    assert histogram.error_bound() >= 0.5


def test_the_histogram_of_equal_scores():
    histogram = PixelHistogram.over([np.full((30, 30), 7.0)]).update(square(), np.full((30, 30), 7.0))
    assert histogram.aupro() == pytest.approx(0.15)
    assert histogram.auroc() == 0.5


# At the door.


def test_sizes_may_differ_and_the_masks_decide():
    masks, _ = scene(0, n=3, shape=(24, 36))
    masks[1] = np.zeros((24, 36), dtype=bool)
    small = np.random.default_rng(0).random((3, 12, 18))
    large = [resized_map(m, (24, 36)) for m in small]
    assert aupro(masks, small) == aupro(masks, large)
    masks[1] = None
    with pytest.raises(InputError, match=r"masks\[1\] is None where masks\[2\]|masks\[1\] is None where masks\[0\]"):
        aupro(masks, small)
    histogram = PixelHistogram(0, 1).update(masks[0], small[0])
    with pytest.raises(InputError, match="None"):
        histogram.update(None, small[1])


@pytest.mark.parametrize("metric", [aupro, pixel_auroc, pixel_average_precision, oracle_f1_max])
def test_what_cannot_be_used_is_refused_by_name(metric):
    mask, values = square(), np.zeros((30, 30))
    for bad in (np.nan, np.inf):
        broken = values.copy()
        broken[3, 4] = bad
        with pytest.raises(InputError, match=r"maps\[1\] holds"):
            metric([mask, None], [values, broken])
    with pytest.raises(InputError, match=r"maps\[0\] .* shape \(30, 30, 1\)"):
        metric([mask], [values[:, :, None]])
    with pytest.raises(InputError, match=r"masks\[0\] .* shape \(900,\)"):
        metric([mask.ravel()], [values])
    with pytest.raises(InputError, match="masks has length 2 and maps 1"):
        metric([mask, mask], [values])
    with pytest.raises(InputError, match=r"masks\[0\] holds NaN"):
        metric([np.where(mask, np.nan, 0)], [values])
    with pytest.raises(InputError, match="maps is a generator"):
        metric([mask], (m for m in [values]))
    with pytest.raises(InputError, match=r"maps\[0\] is <U"):
        metric([mask], [values.astype(str)])


def test_refusals_of_single_functions():
    mask, values = square(), np.zeros((30, 30))
    for limit in (0, 1.5, "x"):
        with pytest.raises(InputError, match="limit="):
            aupro([mask], [values], limit)
    with pytest.raises(InputError, match=r"saturations\[0\] must hold 1"):
        spro([[mask]], [values], [[1, 2]])
    with pytest.raises(InputError, match=r"saturations\[0\]\[0\]=0"):
        spro([[mask]], [values], [[0]])
    with pytest.raises(InputError, match="saturations has length 2"):
        spro([[mask]], [values], [[1], [1]])
    with pytest.raises(InputError, match="different sizes"):
        spro([[mask, mask[1:]]], [values])
    with pytest.raises(InputError, match="k masks an image"):
        spro([mask], [values])
    with pytest.raises(InputError, match="high="):
        PixelHistogram(1.0, 1.0)
    with pytest.raises(InputError, match="maps is empty"):
        PixelHistogram.over([])


def test_inputs_stay_as_they_are_and_may_be_read_only():
    masks = np.stack([square(), ~square()])
    maps = np.random.default_rng(0).random((2, 30, 30)).astype(np.float16)
    copies = masks.copy(), maps.copy()
    masks.flags.writeable = maps.flags.writeable = False
    value = aupro(masks, maps)
    assert value == aupro(masks.astype(np.uint8) * 255, maps.astype(np.float64))
    assert value == aupro(list(masks), [np.asfortranarray(m) for m in maps])
    spro(masks[:, None], maps)
    PixelHistogram.over(maps).update(masks[0], maps[0])
    np.testing.assert_array_equal(masks, copies[0])
    np.testing.assert_array_equal(maps, copies[1])


def test_scores_of_any_scale_and_spread():
    masks, maps = scene(9)
    for spread in (lambda s: np.sign(s) * 10.0 ** (40 * np.abs(s)), lambda s: s * 1e-300):
        spread_maps = [spread(m) for m in maps]
        assert aupro(masks, spread_maps) == pytest.approx(aupro(masks, maps), abs=1e-12)


def test_maps_may_come_from_a_lazy_sequence():
    class Lazy:
        read = 0

        def __len__(self):
            return 6

        def __getitem__(self, i):
            if i >= 6:
                raise IndexError(i)
            Lazy.read += 1
            return np.random.default_rng(i).random((30, 30))

    masks = [square() if i % 2 else None for i in range(6)]
    assert aupro(masks, Lazy()) == aupro(masks, [Lazy()[i] for i in range(6)])
    assert Lazy.read == 18  # twice, and once for the list


def test_presorted_shares():
    y, scores = np.repeat([0, 1], [10, 20]), np.r_[np.arange(10.0), np.arange(20.0) + 4.5]
    # One of 20 bad (4.5) may be missed: good ones below 5.5 need no second look.
    assert presorted_good(y, scores, 0.05) == pytest.approx(0.6)
    assert presorted_good(y, scores, 0.0) == pytest.approx(0.5)
    # One of 10 good (9) may be rejected: bad ones above 8 are found.
    assert presorted_bad(y, scores, 0.1) == pytest.approx((scores[10:] > 8).mean())
    assert np.isnan(presorted_good([0, 0], [1.0, 2.0]))
    with pytest.raises(InputError, match="missed"):
        presorted_good(y, scores, 1.0)
