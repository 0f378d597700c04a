"""Right for the right reason: does a detector of images find defects by the defects?

In: a fitted detector, images with labels and the masks of the defects, and normal images that no other part has seen.
Out: a `TrustAudit`: for every image a verdict, and one number that belongs beside the AUROC: the share of the found
defects that were found for the right reason.

An image is found if its score exceeds a threshold that normal images set. For each defective one a heat map of the
score (`assay.explain.heat`) is compared with the mask γ: the best overlap over all thresholds of the heat β,

    max J = max over t of |γ ∩ {β ≥ t}| / |γ ∪ {β ≥ t}|,

exact, by one sort, equal pixels together. Verdicts, with the least overlap j0:

| | found | not found |
|---|---|---|
| defective, max J ≥ j0 | right reason | missed |
| defective, max J < j0 | wrong reason | missed |
| normal | false alarm | quiet |

The overlap of a normal image is NaN: there is nothing to overlap. j0 is .25 by default and the whole curve is kept, for
the paper gives none. A heat map that is the same everywhere has max J = |γ| / n, its `chance`: a mask larger than j0
of the image makes every reason right, and the audit says so.

What is explained. A detector that reconstructs (`reconstruct_pixels`) is asked for f(x) = Σ (x - x̂(x))², x̂ being that
of each perturbed image; any other for its `anomaly_score` of the batch in 8 bits, and then a `reference` must be named:
a function, ``"normal"`` (the nearest of given normal images by its pixels: for products that always lie the same way)
or ``"blur"`` (σ a sixth of the shorter side: small defects vanish, large ones do not).

Departures. The authors choose the threshold on the test scores; that is `oracle_threshold` here, and the audit takes a
quantile of normal images that you hold out. Heat maps are enlarged to the masks' size, so that no thin mask vanishes.
And attributions that say nothing count as none: of 100 superpixels those without any influence are ordered by noise,
and where one of them *is* the defect, a low threshold hits it by luck (in 2 of the 5 images of the example below).

References
----------
Rashid, Amparore, Ferrari and Verda: Can I trust my anomaly detection system? A case study based on explainable AI.
xAI 2024, arXiv 2407.19951.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from assay.base import uncalibrated
from assay.core.images import SMALLEST, Images, as_images, resized, resized_map, resized_mask
from assay.core.progress import progress
from assay.core.validation import (
    Bools,
    Floats,
    InputError,
    Ints,
    as_labels,
    as_vector,
    check_number,
    normals_and_anomalies,
    refuse_non_finite,
    told,
)
from assay.explain.heat import BATCH, SAMPLES, SEED, Score, asked, error_map, lime, partition_shap
from assay.explain.superpixels import SEGMENTS, oracle_superpixels, superpixels
from assay.metrics.overlap import best_overlap
from assay.metrics.ranking import roc_auc

#: Heat maps that an audit can draw.
HEATS = ("lime", "shap", "error", "oracle lime")
#: What an audit says of an image.
RIGHT, WRONG, MISSED, FALSE, QUIET = "right reason", "wrong reason", "missed", "false alarm", "quiet"
VERDICTS = (RIGHT, WRONG, MISSED, FALSE, QUIET)
#: Least overlap j0 of a right reason; where the curve is drawn.
LEAST, LEVELS = 0.25, np.linspace(0.0, 1.0, 101)


def oracle_threshold(labels: Any, scores: Any) -> float:
    """Return the threshold that maximises √(TPR · TNR) on the very scores it is used for (the authors' choice).

    It looks at the test labels: an upper bound on what a threshold of held-out normal images can do.

    Examples
    --------
    >>> from assay.explain.trust import oracle_threshold
    >>> oracle_threshold([0, 0, 0, 1, 1], [0.1, 0.2, 0.5, 0.4, 0.9])
    0.2
    """
    scores = as_vector(scores, "scores")
    labels = as_labels(labels, len(scores), "labels")
    normals, anomalies = normals_and_anomalies(labels, min_normals=1, min_anomalies=1, name="labels")
    levels = np.unique(scores)
    above, below = (np.searchsorted(np.sort(scores[rows]), levels, side="right") for rows in (anomalies, normals))
    return float(levels[np.argmax((len(anomalies) - above) * below)])


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval of a share, by default that of 95 %; NaN for none of none."""
    if n == 0:
        return float("nan"), float("nan")
    share, more = hits / n, z * z / n
    middle, half = (share + more / 2) / (1 + more), z / (1 + more) * np.sqrt(share * (1 - share) / n + more / 4 / n)
    # Where all or none hit, an end is the share itself but for rounding.
    return (float(middle - half) if hits else 0.0), (float(middle + half) if hits < n else 1.0)


@dataclass
class TrustAudit:
    """What an audit found, an entry an image.

    Attributes
    ----------
    images : Images
        As given.
    masks : list of (array of bool or None)
        True on the defect.
    labels : array of shape (n,)
        0 normal, 1 defective.
    scores : array of shape (n,)
        The detector's.
    threshold : float
        Above which an image is found.
    least : float
        j0, the least overlap of a right reason.
    heats : tuple of str
        Heat maps drawn; the first one judges.
    maps : dict of str to list of (array of shape (h, w) or None)
        The heat maps; None for normal images.
    overlaps, aucs : dict of str to array of shape (n,)
        max J, and AUROC of the pixels, by heat map; NaN for normal images.
    chance : array of shape (n,)
        max J of a heat map that is the same everywhere; NaN for normal images.
    """

    images: Images
    masks: list[Any]
    labels: Ints
    scores: Floats
    threshold: float
    least: float
    heats: tuple[str, ...]
    maps: dict[str, list[Any]]
    overlaps: dict[str, Floats]
    aucs: dict[str, Floats]
    chance: Floats

    @property
    def oracle(self) -> bool:
        """Whether the judging heat map has seen the masks: then no deployed system does as well."""
        return self.heats[0].startswith("oracle")

    @property
    def overlap(self) -> Floats:
        """max J of the judging heat map."""
        return self.overlaps[self.heats[0]]

    @property
    def detected(self) -> Bools:
        """Which images exceed the threshold."""
        return self.scores > self.threshold

    @property
    def found(self) -> Bools:
        """Which images are defective and detected."""
        return self.detected & (self.labels == 1)

    @property
    def verdicts(self) -> list[str]:
        """One of `VERDICTS` an image."""
        right = self.overlap >= self.least
        of_defects = np.where(self.detected, np.where(right, RIGHT, WRONG), MISSED)
        return [str(one) for one in np.where(self.labels == 1, of_defects, np.where(self.detected, FALSE, QUIET))]

    @property
    def counts(self) -> dict[str, int]:
        """How many images have each verdict."""
        said = self.verdicts
        return {one: said.count(one) for one in VERDICTS}

    @property
    def rate(self) -> float:
        """Share of the found defects that were found for the right reason; NaN where none was found."""
        return self.rate_at(self.least)[0]

    def rate_at(self, least: float, heat: str | None = None) -> tuple[float, float, float]:
        """Return that share for another least overlap (and another heat map), and its 95 % interval (Wilson's)."""
        overlap = self.overlap if heat is None else self.overlaps[heat]
        hits, n = int((overlap[self.found] >= least).sum()), int(self.found.sum())
        return (hits / n if n else float("nan"), *wilson(hits, n))

    def curve(self, heat: str | None = None) -> Floats:
        """Return the share and its interval for each of `LEVELS`: an array (101, 3)."""
        return np.array([self.rate_at(float(level), heat) for level in LEVELS])

    @property
    def auroc(self) -> float:
        """Chance that a defective image scores above a normal one: what is usually reported."""
        return roc_auc(self.labels, self.scores)

    @property
    def right_auroc(self) -> float:
        """Chance that a defective image scores above a normal one *and* for the right reason; at most `auroc`."""
        normal, defective = self.scores[self.labels == 0], self.labels == 1
        if not len(normal) or not defective.any():
            return float("nan")
        wins = [(normal < score).mean() + (normal == score).mean() / 2 for score in self.scores[defective]]
        return float(np.mean(np.array(wins) * (self.overlap[defective] >= self.least)))

    @property
    def credit(self) -> Floats:
        """How far an image exceeds the threshold times its overlap; 0 where missed, NaN where normal."""
        return np.maximum(self.scores - self.threshold, 0.0) * self.overlap

    def ranking(self) -> Ints:
        """Return the found defects, those first that exceed the threshold most by their defect (`credit`)."""
        rows = np.flatnonzero(self.found)
        return rows[np.argsort(-self.credit[rows], kind="stable")]

    @property
    def verdict(self) -> str:
        """One sentence."""
        counts, found = self.counts, int(self.found.sum())
        if not found:
            return f"None of {int((self.labels == 1).sum())} defects was found."
        share, low, high = self.rate_at(self.least)
        return (
            f"{found} of {int((self.labels == 1).sum())} defects were found, {counts[RIGHT]} of these for the right "
            f"reason: {100 * share:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
        )

    @property
    def advice(self) -> list[str]:
        """What to make of it."""
        said, defective, found = [], self.labels == 1, self.found
        if found.any() and self.rate < 0.5:
            said.append(
                f"Most detections do not rest on the defect, although the AUROC is {self.auroc:.3f}: look for what the "
                "detector sees instead (borders, tags, light) in the pictures, and take that out of the training data."
            )
        large = int((self.chance[defective] >= self.least).sum())
        if large:
            said.append(
                f"{large} of {int(defective.sum())} masks cover at least {self.least:g} of the image: there every "
                "reason is right, whatever the heat map shows; raise the least overlap."
            )
        plain = self.overlaps.get("error")
        if plain is not None and self.heats[0] != "error" and found.any():
            beside = plain[found].mean() - self.overlap[found].mean()
            if beside > 0.05:
                said.append(
                    f"The detector's own map overlaps better than the explanation (by {beside:.2f} on average): a low "
                    "share may be the explanation's fault, not the detector's."
                )
        if self.oracle:
            said.append("Oracle: the superpixels have seen the masks; no deployed system explains that well.")
        return said

    def rows(self) -> list[dict[str, Any]]:
        """Return a row an image: name, label, score, verdict, overlaps, pixel AUROCs."""
        said, detected = self.verdicts, self.detected
        return [
            {
                "image": self.images.names[row],
                "label": int(self.labels[row]),
                "score": float(self.scores[row]),
                "detected": bool(detected[row]),
                "verdict": said[row],
                **{f"max J, {heat}": float(self.overlaps[heat][row]) for heat in self.heats},
                **{f"pixel AUROC, {heat}": float(self.aucs[heat][row]) for heat in self.heats},
                "chance": float(self.chance[row]),
            }
            for row in range(len(self.labels))
        ]


class TrustAuditor:
    """Audits one detector of images.

    Parameters
    ----------
    detector : object, optional
        Fitted, with `anomaly_score`; a calibrated one is audited for its detector.
    score : callable, optional
        Batch (b, h, w, 3) of float32 in [0, 1] -> (b,): what is explained, instead of the detector's; without a
        detector it is also the score that finds.
    reference : callable, "normal" or "blur", optional
        Batch -> batch without defects; by default the detector's `reconstruct_pixels`.
    normals : images, optional
        For ``"normal"``: those that the nearest is taken from.
    heats : tuple of str, default ("lime",)
        Of ``"lime"``, ``"shap"``, ``"error"`` (the detector's own map, or how far the image is from its reference) and
        ``"oracle lime"``; the first one judges.
    least : float in (0, 1], default .25
        Least overlap of a right reason.
    floor : float in [0, 1), default .05
        Heat below this share of the hottest (or below 3 standard errors) is no reason and counts as 0 (ours).
    quantile : float in (0, 1), default .95
        Of the scores of held-out normal images: the threshold.
    n_samples : int, default 5000
        Perturbed images for one heat map (paper).
    n_segments : int, default 100
        Superpixels (paper).
    batch_size : int, default 200
        Images that are scored together (paper).
    image_size : int or (int, int), optional
        Size at which images are explained; by default the detector's own, or the first image's.
    random_state : int, default 1234
        Seed of LIME and SHAP, the same for every image.

    Examples
    --------
    A detector that looks at one corner, on images whose defect lies elsewhere:

    >>> import numpy as np
    >>> from assay.explain.trust import TrustAuditor
    >>> rng = np.random.default_rng(0)
    >>> good = rng.integers(100, 120, size=(20, 32, 32, 3), dtype=np.uint8)
    >>> bad, mask = good[:5].copy(), np.zeros((5, 32, 32), dtype=bool)
    >>> mask[:, 20:28, 20:28] = True
    >>> bad[mask], bad[:, :6, :6] = 200, 255
    >>> auditor = TrustAuditor(
    ...     score=lambda batch: batch[:, :6, :6].mean(axis=(1, 2, 3)),
    ...     reference=lambda batch: np.full_like(batch, 110 / 255),
    ...     n_samples=200,
    ... )
    >>> audit = auditor.run(bad, [1] * 5, mask, validation=good)
    >>> audit.counts["wrong reason"], audit.rate
    (5, 0.0)

    Defects that a generator made have masks of their own:

    >>> from assay import CutPaste, MeanImage
    >>> defects = CutPaste(image_size=32, random_state=0).fit(good).sample(3)
    >>> auditor = TrustAuditor(
    ...     MeanImage(image_size=32).fit(good), reference="normal", normals=good, n_samples=200
    ... )
    >>> auditor.run(defects.X, [1] * 3, defects.mask, validation=good).labels.tolist()
    [1, 1, 1]
    """

    def __init__(
        self,
        detector: Any = None,
        *,
        score: Callable[[Any], Any] | None = None,
        reference: Any = None,
        normals: Any = None,
        heats: tuple[str, ...] = ("lime",),
        least: float = LEAST,
        floor: float = 0.05,
        quantile: float = 0.95,
        n_samples: int = SAMPLES,
        n_segments: int = SEGMENTS,
        batch_size: int = BATCH,
        image_size: Any = None,
        random_state: int = SEED,
    ) -> None:
        self.detector = detector
        self.score = score
        self.reference = reference
        self.normals = normals
        self.heats = heats
        self.least = least
        self.floor = floor
        self.quantile = quantile
        self.n_samples = n_samples
        self.n_segments = n_segments
        self.batch_size = batch_size
        self.image_size = image_size
        self.random_state = random_state

    def run(
        self, images: Any, labels: Any, masks: Any, *, validation: Any = None, threshold: float | None = None
    ) -> TrustAudit:
        """Audit.

        Parameters
        ----------
        images : images
            Of any kind (`assay.core.images`).
        labels : array of shape (n,)
            0 normal, 1 defective.
        masks : sequence of (array of bool (H, W) or None)
            True on the defect; None or all False for normal images.
        validation : images, optional
            Normal images that the detector has not seen: their scores set the threshold.
        threshold : float, optional
            Instead of `validation`: one that was chosen elsewhere, not on these images. A calibrated detector brings
            its own.

        Returns
        -------
        TrustAudit
            What was found.

        Raises
        ------
        InputError
            If there is no reference, no threshold, or if labels and masks disagree.
        """
        self._check_parameters()
        images = as_images(images, "images")
        labels = as_labels(labels, len(images), "labels")
        if (labels < 0).any():
            raise InputError("labels holds unknown ones (-1): leave these images out")
        masks = _checked_masks(masks, labels)
        detector = self._deployed()
        size = self._size(detector, images)
        limit = self._threshold(detector, size, validation, threshold)
        scores = self._scores(detector, images, size)
        explained, reference = self._explained(detector), self._reference(detector, size)
        n = len(images)
        maps: dict[str, list[Any]] = {heat: [None] * n for heat in self.heats}
        overlaps, aucs = ({heat: np.full(n, np.nan) for heat in self.heats} for _ in range(2))
        chance = np.full(n, np.nan)
        for row in progress(np.flatnonzero(labels == 1), "explaining", int((labels == 1).sum())):
            image, mask = _in_floats(resized(images[int(row)], size)), masks[row]
            clean = _as_batch(reference(image[None]), image[None], "reference(batch)")[0]
            chance[row] = mask.mean()
            for heat in self.heats:
                drawn = self._heat(heat, detector, explained, image, clean, mask).astype(np.float32)
                maps[heat][row] = drawn
                large = resized_map(drawn, mask.shape)
                overlaps[heat][row] = best_overlap(large, mask).value
                aucs[heat][row] = roc_auc(mask.ravel(), large.ravel())
        return TrustAudit(
            images, masks, labels, scores, limit, float(self.least), tuple(self.heats), maps, overlaps, aucs,
            chance,
        )  # fmt: skip

    def _check_parameters(self) -> None:
        check_number(self.least, "least", low=0.0, high=1.0, strict_low=True)
        check_number(self.floor, "floor", low=0.0, high=1.0, strict_high=True)
        check_number(self.quantile, "quantile", low=0.0, high=1.0, strict_low=True, strict_high=True)
        for name in ("n_samples", "n_segments", "batch_size"):
            check_number(getattr(self, name), name, low=2, integer=True)
        check_number(self.random_state, "random_state", low=0, high=2**32 - 1, integer=True)
        if not isinstance(self.heats, (tuple, list)) or not self.heats or set(self.heats) - set(HEATS):
            raise InputError(f"heats={told(self.heats)}: give a tuple of {', '.join(map(repr, HEATS))}")

    def _deployed(self) -> Any:
        """Return the detector, without what calibrates it, or None where there is only a score."""
        detector = uncalibrated(self.detector)
        if detector is None and self.score is None:
            raise InputError("detector is missing: give a fitted one, or score and reference")
        if detector is not None and not hasattr(detector, "anomaly_score"):
            raise InputError(f"detector={told(detector)} has no anomaly_score: give a fitted detector of images")
        return detector

    def _size(self, detector: Any, images: Images) -> tuple[int, int]:
        """Return the height and width at which images are explained."""
        size = getattr(detector, "image_size", None) if self.image_size is None else self.image_size
        if size is None:
            height, width = images[0].shape[:2]
            return height, width
        sides = size if isinstance(size, (tuple, list)) else (size, size)
        if len(sides) != 2:
            raise InputError(f"image_size={told(size)}: give a number of pixels, or (height, width)")
        for side in sides:
            check_number(side, "image_size", low=SMALLEST, integer=True)
        return int(sides[0]), int(sides[1])

    def _threshold(self, detector: Any, size: tuple[int, int], validation: Any, threshold: float | None) -> float:
        """Return the score above which an image is found."""
        if validation is not None and threshold is not None:
            raise InputError("validation and threshold are both given: give one of them")
        if threshold is not None:
            check_number(threshold, "threshold")
            return float(threshold)
        if validation is not None:
            held_out = self._scores(detector, as_images(validation, "validation"), size)
            return float(np.quantile(held_out, self.quantile, method="higher"))
        if hasattr(self.detector, "calibrator_"):
            return float(self.detector.calibrator_.threshold_)
        raise InputError("validation is missing: give normal images that set the threshold, or a threshold")

    def _scores(self, detector: Any, images: Images, size: tuple[int, int]) -> Floats:
        """Return what finds: the detector's scores, or those of the score given."""
        if detector is not None:
            return as_vector(detector.anomaly_score(images), "scores")
        batches = images.batches(size, int(self.batch_size))
        return np.concatenate([asked(self.score, _in_floats(batch)) for batch in batches])

    def _explained(self, detector: Any) -> Score:
        """Return the score that is explained."""
        if self.score is not None:
            return self.score
        if hasattr(detector, "reconstruct_pixels"):
            return lambda batch: np.square(
                np.subtract(batch, detector.reconstruct_pixels(batch), dtype=np.float64)
            ).sum(axis=(1, 2, 3))
        return lambda batch: detector.anomaly_score(_in_8_bits(batch))

    def _reference(self, detector: Any, size: tuple[int, int]) -> Callable[[Any], Any]:
        """Return what gives a batch without defects."""
        given = self.reference
        if given is None and hasattr(detector, "reconstruct_pixels"):
            return detector.reconstruct_pixels
        if callable(given):
            return given
        if given == "blur":
            sigma = min(size) / 6
            return lambda batch: gaussian_filter(batch, (0, sigma, sigma, 0))
        if given == "normal":
            if self.normals is None:
                raise InputError("normals is missing: reference='normal' takes the nearest of them")
            stored = np.concatenate([_in_floats(b) for b in as_images(self.normals, "normals").batches(size)])
            return lambda batch: np.stack([_nearest(image, stored) for image in batch])
        what = "is missing" if given is None else f"={told(given)} is none"
        raise InputError(
            f"reference {what}: {type(detector).__name__} has no reconstruct_pixels, so name what replaces hidden "
            "pixels: a function of a batch, 'normal' (with normals=...) or 'blur'"
        )

    def _heat(self, kind: str, detector: Any, score: Score, image: Any, clean: Any, mask: Bools) -> Floats:
        """Return one heat map of an image."""
        options = {"batch_size": int(self.batch_size), "random_state": int(self.random_state)}
        if kind == "shap":
            return partition_shap(score, image, clean, n_evaluations=max(int(self.n_samples), 10), **options).telling(
                self.floor
            )
        if kind == "error":
            if hasattr(detector, "anomaly_map"):
                return np.asarray(detector.anomaly_map(_in_8_bits(image[None]))[0], dtype=np.float64)
            return error_map(image, clean)
        wanted = int(self.n_segments)
        if kind == "oracle lime":
            pieces = oracle_superpixels(image, clean, resized_mask(mask, image.shape[:2]), n_segments=wanted)
        else:
            pieces = superpixels(image, clean, n_segments=wanted)
        return lime(score, image, clean, pieces, n_samples=int(self.n_samples), **options).telling(self.floor)


def _checked_masks(masks: Any, labels: Ints) -> list[Any]:
    """Return a mask for each defective image and None for the others."""
    if not hasattr(masks, "__len__") or len(masks) != len(labels):
        raise InputError(f"masks: give one for each of {len(labels)} images, None for normal ones")
    checked = []
    for row, label in enumerate(labels):
        mask = masks[row]
        mask = None if mask is None else np.asarray(mask) != 0
        if mask is not None and (mask.ndim != 2 or not mask.size):
            raise InputError(f"masks[{row}] has shape {mask.shape}: give (H, W)")
        marked = mask is not None and bool(mask.any())
        if label == 1 and not marked:
            raise InputError(f"masks[{row}] is empty although the image is defective: mark the defect or leave it out")
        if label == 0 and marked:
            raise InputError(f"masks[{row}] is not empty although labels[{row}] is 0: correct one of them")
        checked.append(mask if marked else None)
    return checked


def _as_batch(found: Any, batch: Any, name: str) -> Any:
    """Return a reference's answer within [0, 1], or say what is wrong with it."""
    found = np.asarray(found, dtype=np.float32)
    if found.shape != batch.shape:
        raise InputError(f"{name} has shape {found.shape}, the batch {batch.shape}: give the same")
    refuse_non_finite(found.reshape(len(found), -1), name)
    return np.clip(found, 0.0, 1.0)


def _nearest(image: Any, stored: Any) -> Any:
    return stored[np.square(stored - image).sum(axis=(1, 2, 3)).argmin()]


def _in_floats(pixels: Any) -> Any:
    return pixels.astype(np.float32) / np.float32(255)


def _in_8_bits(batch: Any) -> Any:
    return np.rint(np.asarray(batch) * 255).astype(np.uint8)
