"""How well maps of scores find the defective pixels: exact, from one pass, and as a histogram for streams.

In: n masks, each bool (H, W), True where the image is defective, or None for a good image; n maps, each
(H, W) of float16, float32 or float64, higher = more anomalous, in any unit (nothing is squashed into [0, 1],
nothing is rescaled per image). Masks and maps are sequences, read when needed: arrays, lists, or files behind
a sequence. Out: a number in [0, 1], or NaN where a class is missing; `why_undefined` says which.

A map whose size differs from its mask's is resized to the mask bilinearly (`assay.core.images.resized_map`),
so the size of evaluation is the masks'. To evaluate at another size pass masks of that size (nearest pixel,
`assay.core.images.resized_mask`) and compare `count_regions` of both: small defects vanish.

All pixels of all images are pooled; images are never averaged. With P defective pixels, N normal ones, and a
pixel called defective where its score s ≥ t:

    TPR(t) = #{defective, s ≥ t} / P,    FPR(t) = #{normal, s ≥ t} / N,
    PRO(t) = mean over regions of the share of the region with s ≥ t.

- AUROC: the chance that a defective pixel scores above a normal one, ties counting one half.
- average precision (AP): step-wise, Σ (change of recall) · precision, as
  `sklearn.metrics.average_precision_score`; the trapezoid under the precision-recall curve, which others call
  AUPR, is another number.
- AUPRO: area under PRO(FPR) for FPR ≤ limit (0.3), divided by the limit; trapezoids, the last one cut at the
  limit. Regions are 8-connected (sides and corners), of each image on its own, by their very pixels: no
  bounding boxes, no filled holes.
- sPRO (MVTec LOCO): every mask of an image is one region and counts as found once `saturation` of its pixels
  are. Limit 0.05.
- F1: at a threshold chosen beforehand, or the best over all thresholds; that one is read off the test labels,
  hence `oracle_f1_max`.

The area is additive, so neither a curve nor a sort of all pixels is needed. A defective pixel of score s that
is the share w of PRO raises the curve by w between a = FPR(just above s) and b = FPR(s), linearly where
normal pixels tie with it. With u = clip((limit - a) / (b - a), 0, 1) (1 or 0 where a = b) it contributes

    w · (u² (b - a) / 2 + max(limit - b, 0)) / limit.

AUROC is the same sum with w = 1 / P and limit 1. Saturation means that only the `saturation` highest pixels
of a region carry weight. So the defective pixels (few) are sorted and the normal ones (many) are counted
between them, exactly, in the maps' own precision: `assay.kernels.regions.count_normals`. Time O(N + P log P);
memory about 110 bytes a defective pixel beside one image at a time: the maps may be a lazy sequence larger
than memory, which is then read twice.

`PixelHistogram` reads once, in constant memory, and gives the exact metrics of the scores rounded to bins.

The usual recipe sorts every pixel; here the sum above replaces it, with the same result. Published variants that
give other numbers are not offered: predictions dilated before the overlap, a few hundred equal steps of the
threshold, the last FPR below the limit rescaled to 1, averages over images, filled or boxed regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.images import resized_map
from assay.core.validation import Floats, InputError, Ints, as_labels, as_vector, check_number, refuse_non_finite
from assay.kernels.regions import add_to_histogram, count_normals, label_regions, strips_of

#: Limits on the false-positive rate: AUPRO (MVTec AD) and sPRO (MVTec LOCO).
PRO_LIMIT, SPRO_LIMIT = 0.3, 0.05
#: Bins of a `PixelHistogram`.
BINS = 2**16
_SIZE_UNKNOWN = "pass zeros of the good image's size, for its pixels count with that"


@dataclass(frozen=True)
class PixelCounts:
    """Where the normal pixels lie among the defective ones: all that pixel metrics need.

    Attributes
    ----------
    levels : array of shape (g,)
        Distinct scores of defective pixels, descending.
    hits : array of int64 of shape (g,)
        Defective pixels of each score.
    shares : array of shape (g,)
        What they are of PRO: Σ 1 / (pixels of the region · regions); sums to 1.
    above, upto : arrays of int64 of shape (g,)
        Normal pixels that score higher, and at least as high.
    n_normal : int
        Normal pixels in all.
    """

    levels: Floats
    hits: Ints
    shares: Floats
    above: Ints
    upto: Ints
    n_normal: int

    def auroc(self) -> float:
        """Return the chance that a defective pixel scores above a normal one, ties counting one half."""
        return self._area(self.hits / max(self.hits.sum(), 1), 1.0)

    def average_precision(self) -> float:
        """Return the step-wise average precision."""
        if self._undefined():
            return float("nan")
        found = np.cumsum(self.hits)
        return float(self.hits @ (found / (found + self.upto)) / found[-1])

    def aupro(self, limit: float = PRO_LIMIT) -> float:
        """Return the area under the per-region overlap up to the false-positive rate `limit`, divided by it."""
        check_number(limit, "limit", low=0.0, high=1.0, strict_low=True)
        return self._area(self.shares, limit)

    def oracle_f1_max(self) -> float:
        """Return the best F1 over all thresholds, which looks at the labels."""
        if self._undefined():
            return float("nan")
        found = np.cumsum(self.hits)
        return float((2 * found / (found + self.upto + found[-1])).max())

    def _undefined(self) -> bool:
        return len(self.levels) == 0 or self.n_normal == 0

    def _area(self, weights: Floats, limit: float) -> float:
        if self._undefined():
            return float("nan")
        a, b = self.above / self.n_normal, self.upto / self.n_normal
        width = b - a
        covered = np.clip(np.divide(limit - a, width, out=(a < limit).astype(np.float64), where=width > 0), 0.0, 1.0)
        gained = (covered**2 * width / 2 + np.maximum(limit - b, 0.0)) / limit
        # The weights sum to 1 but for rounding: counting what is lost makes a perfect map exactly 1.
        return float(np.clip(1.0 - weights @ (1.0 - gained), 0.0, 1.0))


def count_pixels(masks: Any, maps: Any) -> PixelCounts:
    """Count once; every pixel metric can then be read off the result.

    Parameters
    ----------
    masks : sequence of n arrays of shape (H, W), or None
        True (not 0) where the image is defective; None for a good image.
    maps : sequence of n arrays of shape (H, W)
        Scores, higher = more anomalous; resized bilinearly where the mask has another size.

    Raises
    ------
    InputError
        If lengths or shapes do not fit, a map holds NaN or infinity, or a mask is None where other masks
        differ from their maps in size (which size the good image counts with would be a guess: pass zeros).

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.images import count_pixels
    >>> mask = np.zeros((20, 20), dtype=bool)
    >>> mask[:5, :5] = True
    >>> counts = count_pixels([mask, None], [mask * 17.5, np.zeros((20, 20))])
    >>> counts.auroc(), counts.average_precision(), counts.aupro()
    (1.0, 1.0, 1.0)
    """
    scores, sizes, n_regions = [], [], 0
    for mask, values in _pairs(masks, maps):
        if mask.any():
            labels, n = label_regions(mask)
            inside = labels[mask]
            scores.append(values[mask])
            sizes.append(np.bincount(inside)[inside])
            n_regions += n
    weights = [1.0 / size / n_regions for size in sizes]
    return _counted(scores, weights, _pairs(masks, maps))


def pixel_auroc(masks: Any, maps: Any) -> float:
    """Return the AUROC over all pixels of all images, ties counting one half; parameters as for `count_pixels`."""
    return count_pixels(masks, maps).auroc()


def pixel_average_precision(masks: Any, maps: Any) -> float:
    """Return the step-wise average precision over all pixels of all images; parameters as for `count_pixels`."""
    return count_pixels(masks, maps).average_precision()


def aupro(masks: Any, maps: Any, limit: float = PRO_LIMIT) -> float:
    """Return the area under the per-region overlap curve up to the false-positive rate `limit`, divided by it.

    Parameters
    ----------
    masks, maps : sequences
        As for `count_pixels`.
    limit : float in (0, 1], default .3
        Largest false-positive rate (Bergmann et al.); 0.05 and 0.01 are in use too: report it.

    References
    ----------
    Bergmann, Batzner, Fauser, Sattlegger and Steger: The MVTec Anomaly Detection Dataset. IJCV 129, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.images import aupro
    >>> mask = np.zeros((30, 30), dtype=bool)
    >>> mask[:10, :10] = mask[20, 20] = True
    >>> only_the_large_one = np.where(np.arange(30) < 10, 1.0, 0.0) * mask
    >>> round(aupro([mask], [only_the_large_one]), 3), round(aupro([mask], [np.ones((30, 30))]), 3)
    (0.575, 0.15)
    """
    check_number(limit, "limit", low=0.0, high=1.0, strict_low=True)
    return count_pixels(masks, maps).aupro(limit)


def spro(masks: Any, maps: Any, saturations: Any = None, limit: float = SPRO_LIMIT) -> float:
    """Return the area under the saturated per-region overlap curve up to `limit`, divided by it.

    A missing object has no place of its own: whoever marks enough of where it could be has found it. Every
    mask of an image is one region, connected or not; masks may overlap. Normal pixels are those outside all
    of them.

    Parameters
    ----------
    masks : sequence of n sequences of arrays of shape (H, W), or None
        The masks of each image, an array (k, H, W) or a list; None or an empty list for a good one.
    maps : sequence of n arrays of shape (H, W)
        Scores, higher = more anomalous; resized bilinearly where the masks have another size.
    saturations : sequence of n sequences of int, optional
        For every mask the number of pixels that suffice; all of them by default.
    limit : float in (0, 1], default .05
        Largest false-positive rate (Bergmann et al.).

    References
    ----------
    Bergmann, Batzner, Fauser, Sattlegger and Steger: Beyond Dents and Scratches: Logical Constraints in
    Unsupervised Anomaly Detection and Localization. IJCV 130, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.images import spro
    >>> mask = np.zeros((1, 20, 20), dtype=bool)
    >>> mask[0, :4, :5] = True
    >>> half = np.zeros((20, 20))
    >>> half[:2, :5] = 1
    >>> spro([mask], [half], [[10]]), round(spro([mask], [half]), 4)
    (1.0, 0.5125)
    """
    check_number(limit, "limit", low=0.0, high=1.0, strict_low=True)
    _check_lengths(masks, maps)
    if saturations is not None and len(saturations) != len(maps):
        raise InputError(f"saturations has length {len(saturations)} and maps {len(maps)}: one list an image")
    union = _Unions(masks)
    scores, weights, n_regions = [], [], 0
    for i, (_, values) in enumerate(_pairs(union, maps)):
        regions = [_as_mask(region, f"masks[{i}][{k}]") for k, region in enumerate(_regions(masks[i]))]
        enough = [int(region.sum()) for region in regions]
        if saturations is not None and regions:
            enough = _as_saturations(saturations[i], enough, f"saturations[{i}]")
        for region, pixels in zip(regions, enough):
            inside = values[region]
            if len(inside):
                scores.append(np.partition(inside, len(inside) - pixels)[len(inside) - pixels :])
                weights.append(np.full(pixels, 1.0 / pixels))
                n_regions += 1
    return _counted(scores, [weight / n_regions for weight in weights], _pairs(union, maps)).aupro(limit)


def oracle_f1_max(masks: Any, maps: Any) -> float:
    """Return the best F1 over all thresholds, over all pixels; it looks at the test labels, hence its name.

    Parameters as for `count_pixels`. For images as wholes pass labels and scores as (n, 1, 1).
    """
    return count_pixels(masks, maps).oracle_f1_max()


def pixel_f1(masks: Any, maps: Any, threshold: float) -> float:
    """Return F1 over all pixels where those with score >= `threshold` are called defective.

    Parameters
    ----------
    masks, maps : sequences
        As for `count_pixels`.
    threshold : float
        Chosen beforehand, on normal images.
    """
    found = called = defective = normal = 0
    for mask, values in _pairs(masks, maps):
        flagged = values >= threshold
        found += int((flagged & mask).sum())
        called += int(flagged.sum())
        defective += int(mask.sum())
        normal += int(mask.size - mask.sum())
    return 2 * found / (called + defective) if defective and normal else float("nan")


def presorted_good(y: Any, scores: Any, missed: float = 0.05) -> float:
    """Return the share of good images that need no second look if at most the share `missed` of the bad may slip by.

    Parameters
    ----------
    y : array of shape (n,)
        1 bad, 0 good.
    scores : array of shape (n,)
        Image scores.
    missed : float in [0, 1), default .05
        Bad images that may be passed as good.

    Examples
    --------
    >>> from assay.metrics.images import presorted_bad, presorted_good
    >>> y, scores = [0, 0, 0, 0, 1, 1, 1, 1], [1, 2, 3, 6, 4, 5, 7, 8]
    >>> presorted_good(y, scores, 0.0), presorted_bad(y, scores, 0.0)
    (0.75, 0.5)
    """
    check_number(missed, "missed", low=0.0, high=1.0, strict_high=True)
    scores = as_vector(scores, "scores")
    y = as_labels(y, len(scores))
    bad, good = np.sort(scores[y == 1]), scores[y == 0]
    if not len(bad) or not len(good):
        return float("nan")
    return float((good < bad[int(missed * len(bad) + 1e-9)]).mean())


def presorted_bad(y: Any, scores: Any, false_alarms: float = 0.05) -> float:
    """Return the share of bad images that are found if at most the share `false_alarms` of the good may be rejected.

    Parameters
    ----------
    y, scores : arrays of shape (n,)
        As for `presorted_good`.
    false_alarms : float in [0, 1), default .05
        Good images that may be called bad.
    """
    check_number(false_alarms, "false_alarms", low=0.0, high=1.0, strict_high=True)
    scores = as_vector(scores, "scores")
    return presorted_good(1 - as_labels(y, len(scores)), -scores, false_alarms)


def why_undefined(masks: Any) -> str | None:
    """Return why pixel metrics on these masks are NaN, or None where they are defined."""
    has = {True: False, False: False}
    for i in range(len(masks)):
        mask = None if masks[i] is None else _as_mask(masks[i], f"masks[{i}]")
        has[True] |= mask is not None and bool(mask.any())
        has[False] |= mask is None or not mask.all()
        if has[True] and has[False]:
            return None
    missing = "normal" if has[True] else "defective"
    return f"no mask holds a {missing} pixel, so there is nothing to tell apart"


def count_regions(masks: Any) -> int:
    """Return the number of 8-connected regions in all masks (None: none): what resized masks may have lost."""
    return sum(0 if m is None else label_regions(_as_mask(m, f"masks[{i}]"))[1] for i, m in enumerate(masks))


class PixelHistogram:
    """Pixel metrics of a stream of images in constant memory: the exact ones of scores rounded to equal bins.

    Scores beyond the bounds share one bin at each end. `error_bound` tells how far off the result can be at
    worst; where that is too much, narrow the bounds to where the scores are or take more bins.

    Parameters
    ----------
    low, high : float
        Bounds of the scores; `PixelHistogram.over` finds them in a first pass.
    n_bins : int, default 65536
        Equal bins between the bounds; 24 bytes each.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.images import PixelHistogram
    >>> rng = np.random.default_rng(0)
    >>> histogram = PixelHistogram(0.0, 2.0)
    >>> for i in range(10):
    ...     mask = np.zeros((40, 40), dtype=bool)
    ...     mask[5:9, 5:9] = i % 2
    ...     _ = histogram.update(mask, rng.random((40, 40)) + mask)
    >>> histogram.aupro(), histogram.error_bound() < 1e-3
    (1.0, True)
    """

    def __init__(self, low: float, high: float, n_bins: int = BINS) -> None:
        check_number(low, "low", low=-1e150, high=1e150)
        check_number(high, "high", low=low, high=1e150, strict_low=True)
        check_number(n_bins, "n_bins", low=1, integer=True)
        self.low, self.high = float(low), float(high)
        self._normals = np.zeros(n_bins + 2, dtype=np.int64)
        self._hits = np.zeros(n_bins + 2, dtype=np.int64)
        self._shares = np.zeros(n_bins + 2)
        self._n_regions = 0
        self._good_without_size = self._resized = False

    @classmethod
    def over(cls, maps: Any, n_bins: int = BINS) -> PixelHistogram:
        """Return an empty histogram whose bounds are the least and the largest score of `maps`, any iterable."""
        low, high = np.inf, -np.inf
        for i, values in enumerate(maps):
            values = _as_map(values, f"maps[{i}]")
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        if not low <= high:
            raise InputError("maps is empty: there are no bounds to find")
        return cls(low, high if high > low else np.nextafter(low, np.inf), n_bins)

    def update(self, mask: Any, values: Any) -> PixelHistogram:
        """Add an image.

        Parameters
        ----------
        mask : array of shape (H, W), or None
            As for `count_pixels`; None: good, at the map's own size.
        values : array of shape (H, W)
            Its map, resized bilinearly where the mask has another size.
        """
        self._good_without_size |= mask is None
        mask, values, other_size = _as_pair(mask, values, "mask", "values")
        self._resized |= other_size
        if self._good_without_size and self._resized:
            raise InputError(f"a mask is None where others differ from their maps in size: {_SIZE_UNKNOWN}")
        labels, n = label_regions(mask)
        weights = 1.0 / np.maximum(np.bincount(labels.ravel(), minlength=n + 1), 1)
        add_to_histogram(values, labels, weights, self.low, self.high, self._normals, self._hits, self._shares)
        self._n_regions += n
        return self

    def counts(self) -> PixelCounts:
        """Return what was counted, a bin's lower edge standing for its scores."""
        edges = np.concatenate([[-np.inf], np.linspace(self.low, self.high, len(self._normals) - 1)])
        normals = np.cumsum(self._normals[::-1])
        used = self._hits[::-1] > 0
        return PixelCounts(
            levels=edges[::-1][used],
            hits=self._hits[::-1][used],
            shares=self._shares[::-1][used] / max(self._n_regions, 1),
            above=(normals - self._normals[::-1])[used],
            upto=normals[used],
            n_normal=int(normals[-1]),
        )

    def auroc(self) -> float:
        """Return the AUROC over all pixels."""
        return self.counts().auroc()

    def average_precision(self) -> float:
        """Return the step-wise average precision over all pixels."""
        return self.counts().average_precision()

    def aupro(self, limit: float = PRO_LIMIT) -> float:
        """Return the area under the per-region overlap up to `limit`, divided by it."""
        return self.counts().aupro(limit)

    def oracle_f1_max(self) -> float:
        """Return the best F1 over the bins' edges, which looks at the labels."""
        return self.counts().oracle_f1_max()

    def error_bound(self, limit: float = PRO_LIMIT) -> float:
        """Return a number that neither `auroc` nor `aupro(limit)` is further from the exact one than.

        A pixel and the normal pixels of its bin could lie in any order: half the bin is the most it can move.
        """
        counts = self.counts()
        if counts._undefined():
            return float("nan")
        a, b = counts.above / counts.n_normal, counts.upto / counts.n_normal
        for_auroc = counts.hits @ (b - a) / counts.hits.sum() / 2
        best, worst = np.maximum(limit - a, 0.0), np.maximum(limit - b, 0.0)
        middle = counts.aupro(limit)
        for_aupro = max(counts.shares @ best / limit - middle, middle - counts.shares @ worst / limit)
        return float(max(for_auroc, for_aupro))


class _Unions:
    """The masks of each image put together, one image at a time."""

    def __init__(self, masks: Any) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, i: int) -> Any:
        regions = [_as_mask(region, f"masks[{i}][{k}]") for k, region in enumerate(_regions(self.masks[i]))]
        if len({region.shape for region in regions}) > 1:
            raise InputError(f"masks[{i}] holds masks of different sizes: all of an image must be (H, W)")
        return np.logical_or.reduce(regions) if regions else None


def _regions(masks: Any) -> Any:
    if masks is None:
        return []
    if getattr(masks, "ndim", 3) != 3:
        raise InputError(f"masks holds an array of shape {masks.shape}, expected (k, H, W): k masks an image")
    return masks


def _as_saturations(given: Any, areas: list[int], name: str) -> list[int]:
    if given is None or len(given) != len(areas):
        raise InputError(f"{name} must hold {len(areas)} numbers: one a mask")
    for k, pixels in enumerate(given):
        check_number(pixels, f"{name}[{k}]", low=1, integer=True)
    return [min(int(pixels), area) for pixels, area in zip(given, areas)]


def _counted(scores: list[Any], weights: list[Floats], pairs: Iterator[tuple[Any, Any]]) -> PixelCounts:
    """Return the counts from the scores of defective pixels, their weights, and all images once more."""
    levels, place = np.unique(np.concatenate([*scores, np.empty(0)]).astype(np.float64), return_inverse=True)
    if not len(levels):
        n_normal = sum(mask.size for mask, _ in pairs)
        empty = np.zeros(0, dtype=np.int64)
        return PixelCounts(levels, empty, np.zeros(0), empty, empty, n_normal)
    table = strips_of(levels)
    counts = np.zeros(2 * len(levels) + 1, dtype=np.int64)
    for mask, values in pairs:
        count_normals(values, mask, *table, counts)
    at_least = np.cumsum(counts[::-1])[::-1]
    return PixelCounts(
        levels=levels[::-1],
        hits=np.bincount(place)[::-1],
        shares=np.bincount(place, np.concatenate(weights))[::-1],
        above=at_least[2::2][::-1],
        upto=at_least[1::2][::-1],
        n_normal=int(at_least[0]),
    )


def _pairs(masks: Any, maps: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each image's mask and map, at the mask's size; refuse good images whose size is anyone's guess."""
    _check_lengths(masks, maps)
    without, resized = None, None
    for i in range(len(maps)):
        mask, values, other_size = _as_pair(masks[i], maps[i], f"masks[{i}]", f"maps[{i}]")
        without = i if masks[i] is None else without
        resized = i if other_size else resized
        if without is not None and resized is not None:
            raise InputError(
                f"masks[{without}] is None where masks[{resized}] and its map differ in size: {_SIZE_UNKNOWN}"
            )
        yield mask, values


def _check_lengths(masks: Any, maps: Any) -> None:
    for name, value in (("masks", masks), ("maps", maps)):
        if not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
            raise InputError(f"{name} is a {type(value).__name__}: give a list, an array or another sequence")
    if len(masks) != len(maps):
        raise InputError(f"masks has length {len(masks)} and maps {len(maps)}: one of each an image")


def _as_pair(mask: Any, values: Any, mask_name: str, name: str) -> tuple[Any, Any, bool]:
    """Return mask and map at the mask's size, and whether they differed in size."""
    values = _as_map(values, name)
    if mask is None:
        return np.zeros(values.shape, dtype=bool), values, False
    mask = _as_mask(mask, mask_name)
    if mask.shape == values.shape:
        return mask, values, False
    return mask, resized_map(values, mask.shape), True


def _as_mask(mask: Any, name: str) -> Any:
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}, expected bool (H, W) or None (a good image)")
    refuse_non_finite(array, name)
    return np.ascontiguousarray(array != 0)


def _as_map(values: Any, name: str) -> Any:
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}, expected numbers (H, W)")
    wide = np.result_type(array.dtype, np.float32) == np.float32
    array = np.ascontiguousarray(array, dtype=np.float32 if wide else np.float64)
    refuse_non_finite(array, name)
    return array
