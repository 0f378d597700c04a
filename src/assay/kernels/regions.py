"""Regions of masks, and where the scores of normal pixels lie among those of defective ones.

`label_regions` is one raster scan with a union-find over provisional labels: a new one is only needed where
all four neighbours already seen are background, hence at most one per aligned block of 2 x 2 pixels.

`count_normals` is what makes exact pixel metrics cheap. Defective pixels are few, normal ones many, and every
metric only asks how many normal pixels lie above each defective pixel's score. So the few are sorted, and
each of the many is placed among them by a table that knows for every equal strip of the range which levels it
holds: about one comparison a pixel, nothing is copied, the many are never sorted. Where all levels fall into
one strip a binary search within it remains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Bools, Floats, Ints
from assay.kernels.jit import jit

Labels = npt.NDArray[np.int32]


@jit
def _root(parent: Labels, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@jit
def _join(parent: Labels, one: int, other: int) -> int:
    one, other = _root(parent, one), _root(parent, other)
    low = min(one, other)
    parent[one] = low
    parent[other] = low
    return low


@jit
def label_regions(mask: Bools) -> tuple[Labels, int]:
    """Return the regions of a mask, pixels that touch at a side or a corner being one, and their number.

    Parameters
    ----------
    mask : array of bool of shape (H, W)
        True inside.

    Returns
    -------
    labels : array of int32 of shape (H, W)
        0 outside, 1 … n inside, numbered by the first pixel in reading order.
    n : int
        Number of regions.
    """
    height, width = mask.shape
    labels = np.zeros((height, width), dtype=np.int32)
    parent = np.empty(((height + 1) // 2) * ((width + 1) // 2) + 1, dtype=np.int32)
    last = 0
    for r in range(height):
        for c in range(width):
            if not mask[r, c]:
                continue
            if r > 0 and mask[r - 1, c]:
                labels[r, c] = labels[r - 1, c]
                continue
            label = 0
            if r > 0 and c + 1 < width and mask[r - 1, c + 1]:
                label = labels[r - 1, c + 1]
            beside = 0
            if c > 0 and mask[r, c - 1]:
                beside = labels[r, c - 1]
            elif r > 0 and c > 0 and mask[r - 1, c - 1]:
                beside = labels[r - 1, c - 1]
            if label and beside:
                label = _join(parent, label, beside)
            elif beside:
                label = beside
            elif not label:
                last += 1
                parent[last] = last
                label = last
            labels[r, c] = label
    number = np.zeros(last + 1, dtype=np.int32)
    n = 0
    for label in range(1, last + 1):
        if parent[label] == label:
            n += 1
            number[label] = n
    for label in range(1, last + 1):
        number[label] = number[_root(parent, label)]
    if n:
        for r in range(height):
            for c in range(width):
                labels[r, c] = number[labels[r, c]]
    return labels, n


@jit
def strips_of(levels: Floats) -> tuple[Floats, Ints, float, int]:
    """Return what `count_normals` looks scores up in.

    Parameters
    ----------
    levels : array of shape (g,)
        Distinct scores, ascending; g >= 1.

    Returns
    -------
    padded : array of shape (g + reach,)
        The levels, then infinity.
    table : array of int64 of shape (g,)
        For each of g equal strips of the range the first level that lies in it or beyond.
    scale : float
        Strips per unit of score.
    reach : int
        Power of two above the number of levels in the fullest strip.
    """
    g = len(levels)
    span = levels[-1] - levels[0]
    scale = min(g / span, 1e300) if span > 0 else 0.0
    table = np.empty(g, dtype=np.int64)
    level, fullest = 0, 0
    for strip in range(g):
        table[strip] = level
        while level < g and int(min((levels[level] - levels[0]) * scale, g - 1.0)) == strip:
            level += 1
        fullest = max(fullest, level - table[strip])
    reach = 1
    while reach <= fullest:
        reach *= 2
    padded = np.full(g + reach, np.inf)
    padded[:g] = levels
    return padded, table, scale, reach


@jit
def count_normals(
    scores: npt.NDArray[Any], mask: Bools, padded: Floats, table: Ints, scale: float, reach: int, counts: Ints
) -> None:
    """Add the normal pixels of one image to `counts`, by where their scores lie among g levels.

    A row at a time and without branches, so that the processor works on many pixels at once: three times as
    fast as one pixel after the other.

    Parameters
    ----------
    scores : array of shape (H, W)
        The map.
    mask : array of bool of shape (H, W)
        Defective pixels, which are passed over.
    padded, table, scale, reach : array of shape (g + reach,), array of int64 of shape (g,), float, int
        From `strips_of`.
    counts : array of int64 of shape (2 g + 1,)
        Updated in place: entry 2 i + 1 counts scores equal to level i, entry 2 i those between levels i - 1
        and i.
    """
    width = scores.shape[1]
    last_strip = len(table) - 1.0
    row = np.empty(width, dtype=np.float64)
    place = np.empty(width, dtype=np.uint64)  # an unsigned index needs no test for counting from the end
    one, two = np.uint64(1), np.uint64(2)
    for r in range(scores.shape[0]):
        n = 0
        for c in range(width):
            x = np.float64(scores[r, c])
            row[n] = x
            place[n] = table[np.uint64(max(0.0, min((x - padded[0]) * scale, last_strip)))]
            n += not mask[r, c]
        # Rounding is monotone: a level of a lower strip is lower, one of a higher strip is higher.
        half = np.uint64(reach)
        while half > one:
            half //= two
            for j in range(n):
                place[j] += half * np.uint64(padded[place[j] + half - one] < row[j])
        for j in range(n):
            counts[two * place[j] + np.uint64(padded[place[j]] == row[j])] += 1


@jit
def add_to_histogram(
    scores: npt.NDArray[Any],
    labels: Labels,
    weights: Floats,
    low: float,
    high: float,
    normals: Ints,
    hits: Ints,
    shares: Floats,
) -> None:
    """Add one image to histograms of n equal bins over [low, high], with one more for what lies below and above.

    Parameters
    ----------
    scores : array of shape (H, W)
        The map.
    labels : array of int32 of shape (H, W)
        Its regions, 0 outside.
    weights : array of shape (regions + 1,)
        What a pixel of each region adds to `shares`.
    low, high : float
        Bounds, low < high.
    normals, hits : arrays of int64 of shape (n + 2,)
        Pixels outside and inside regions; updated in place.
    shares : array of shape (n + 2,)
        Sum of the weights; updated in place.
    """
    n = len(normals) - 2
    scale = min(n / (high - low), 1e300)
    for r in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            x = np.float64(scores[r, c])
            if x < low:
                place = 0
            elif x > high:
                place = n + 1
            else:
                place = 1 + int(min((x - low) * scale, n - 1.0))
            label = labels[r, c]
            if label:
                hits[place] += 1
                shares[place] += weights[label]
            else:
                normals[place] += 1
