"""Superpixels of an image and of what it should look like: the pieces that an explanation hides one by one.

In: an image and its reference x̂ (its reconstruction, for one), both (h, w, 3) in [0, 1]. Out: `Superpixels`: one
number of a piece a pixel.

A defect shows in the image and not in the reference, and what is the same in both should not fall apart along edges
that only one of them has; so the pieces are those of a blend, found by quickshift: every pixel hangs on its nearest
neighbour of higher density, and links longer than `max_dist` are cut. Kernel size 2, ratio .95 and σ .05 are the
authors'.

    S1 = ½ x + ½ x̂                         `superpixels`
    S2 = .33 x + .33 x̂ + .34 mask          `oracle_superpixels`: it has seen where the defect is

S2 is the best that any pieces could do, never what a deployed system does: its result says ``oracle``.

Departures. The authors search `max_dist` by 40 bisections in [0, 100], a quickshift each. The links do not depend on
it: one quickshift gives their lengths, and cutting the longest of them gives the number of pieces asked for. And a
link reaches three kernel sizes at most, so that large images (224 pixels a side) fall into 200 pieces whatever
`max_dist` is: the kernel then grows by half until the number can be met.

References
----------
Rashid, Amparore, Ferrari and Verda: Can I trust my anomaly detection system? A case study based on explainable AI.
xAI 2024, arXiv 2407.19951.
Vedaldi and Soatto: Quick Shift and Kernel Methods for Mode Seeking. ECCV 2008.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.extras import require
from assay.core.validation import Floats, InputError, Ints, check_number, refuse_non_finite

#: Pieces wanted, size of the kernel, weight of colour against place, smoothing, seed of ties (authors' code).
SEGMENTS, KERNEL, RATIO, SIGMA, SEED = 100, 2.0, 0.95, 0.05, 1234
#: `max_dist` is looked for up to here.
LONGEST = 100.0


class Superpixels(NamedTuple):
    """The pieces of an image.

    Attributes
    ----------
    labels : array of int64 of shape (h, w)
        Number of each pixel's piece, 0 … n - 1.
    n : int
        Number of pieces.
    max_dist : float
        Length beyond which links were cut.
    oracle : bool
        Whether the true mask was used.
    """

    labels: Ints
    n: int
    max_dist: float
    oracle: bool


def superpixels(image: Any, reference: Any, *, n_segments: int = SEGMENTS) -> Superpixels:
    """Return about `n_segments` pieces of the blend of an image and its reference.

    Parameters
    ----------
    image, reference : array of shape (h, w, 3)
        In [0, 1].
    n_segments : int, default 100
        Pieces wanted; it is met but where many links have one length.

    Returns
    -------
    Superpixels
        The same for the same images.

    Raises
    ------
    InputError
        If the images are no such arrays or have fewer pixels than pieces.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.explain.superpixels import superpixels
    >>> image = np.random.default_rng(0).random((48, 48, 3))
    >>> superpixels(image, np.full_like(image, 0.5)).n
    100
    """
    image, reference = as_pair(image, reference)
    return _pieces(0.5 * image + 0.5 * reference, n_segments, oracle=False)


def oracle_superpixels(image: Any, reference: Any, mask: Any, *, n_segments: int = SEGMENTS) -> Superpixels:
    """Return the pieces of image, reference and true mask: an upper bound, never deployable.

    Parameters
    ----------
    image, reference : array of shape (h, w, 3)
        In [0, 1].
    mask : array of bool of shape (h, w)
        Where the defect is.
    n_segments : int, default 100
        Pieces wanted.

    Returns
    -------
    Superpixels
        Its `oracle` is True.
    """
    image, reference = as_pair(image, reference)
    if mask is None:
        raise InputError("mask is missing: the oracle's pieces need the true mask; take `superpixels` without one")
    mask = np.asarray(mask) != 0
    if mask.shape != image.shape[:2]:
        raise InputError(f"mask has shape {mask.shape}, the image {image.shape[:2]}: give one of the image's size")
    return _pieces(0.33 * image + 0.33 * reference + 0.34 * mask[:, :, None], n_segments, oracle=True)


def as_pair(image: Any, reference: Any) -> tuple[Floats, Floats]:
    """Return an image and its reference as float64 (h, w, 3), or refuse them."""
    pair = [np.asarray(one) for one in (image, reference)]
    for name, one in zip(("image", "reference"), pair):
        if one.ndim != 3 or one.shape[2] != 3 or one.dtype.kind != "f":
            raise InputError(f"{name} is {one.dtype} of shape {one.shape}: give floats (h, w, 3) in [0, 1]")
        refuse_non_finite(one.reshape(len(one), -1), name)
        if one.min() < 0 or one.max() > 1:
            raise InputError(f"{name} holds {one.min():g} to {one.max():g}: give pixels in [0, 1]")
    if pair[0].shape != pair[1].shape:
        raise InputError(f"reference has shape {pair[1].shape}, the image {pair[0].shape}: give the same")
    return pair[0].astype(np.float64), pair[1].astype(np.float64)


def _pieces(blend: Floats, n_segments: int, *, oracle: bool) -> Superpixels:
    check_number(n_segments, "n_segments", low=1, high=blend.shape[0] * blend.shape[1], integer=True)
    segmentation: Any = require("skimage.segmentation", "explain", "Superpixels")
    kernel = KERNEL
    while True:
        _, parents, lengths = (
            np.asarray(part)
            for part in segmentation.quickshift(
                blend, ratio=RATIO, kernel_size=kernel, max_dist=LONGEST, sigma=SIGMA, rng=SEED, return_tree=True
            )
        )
        if (lengths > LONGEST).sum() <= n_segments or kernel > max(blend.shape):
            break
        kernel *= 1.5
    ordered, numbers = np.unique(lengths, return_counts=True)
    longer = lengths.size - np.cumsum(numbers)  # pieces, if links longer than this are cut
    best = int(np.abs(longer - n_segments).argmin())
    max_dist = min(float(ordered[best]), LONGEST)
    above = np.where(lengths > max_dist, np.arange(lengths.size).reshape(lengths.shape), parents).ravel()
    while not np.array_equal(above, above[above]):
        above = above[above]
    roots, labels = np.unique(above, return_inverse=True)
    return Superpixels(labels.reshape(lengths.shape).astype(np.int64), len(roots), max_dist, oracle)
