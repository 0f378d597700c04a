"""A bank of patch features, and the nearest of them to any others: exact, blocked, without the matrix of distances.

|q - b|² / 2 = |q|² / 2 - (q·b - |b|² / 2), so the nearest b has the largest q·b - |b|² / 2: one product of matrices in
single precision, a block of the bank at a time, of which only the largest k values a query are kept. What was
found is measured again by its differences, so that the cancellation of the formula moves no distance (it may
still exchange two elements whose distances agree to about 1e-6 of the vectors' length).

Time 2 q N d flops; memory N·d·4 bytes for the bank and `QUERIES` x `ELEMENTS` x 4 (16 MiB) beside the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.random_projection import GaussianRandomProjection

from assay.core.progress import progress
from assay.core.validation import InputError, Ints
from assay.kernels.coreset import Singles, greedy_coreset, keep_largest

#: Queries and elements of the bank whose products are held together.
QUERIES, ELEMENTS = 2048, 2048
#: Dimensions of the random projection that the coreset is chosen in (Roth et al.).
PROJECTED = 128


def nearest_in_bank(queries: npt.NDArray[Any], bank: npt.NDArray[Any], k: int = 1) -> tuple[Singles, Ints]:
    """Return Euclidean distances and indices, (q, k), of the `k` rows of `bank` nearest to each query, in order."""
    queries, bank = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, bank))
    if k > len(bank):
        raise InputError(f"k={k}: the bank holds {len(bank)} elements")
    # Lengths are taken about the bank's mean: far from the origin they would drown the differences.
    mean = bank.mean(axis=0)
    centred = bank - mean
    halves = 0.5 * np.einsum("ij,ij->i", centred, centred)
    distances = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    columns = centred.T
    for start in range(0, len(queries), QUERIES):
        rows = slice(start, min(start + QUERIES, len(queries)))
        best = np.full((rows.stop - start, k), -np.inf, dtype=np.float32)
        index = np.zeros((rows.stop - start, k), dtype=np.int64)
        around = queries[rows] - mean
        for first in range(0, len(bank), ELEMENTS):
            block = slice(first, first + ELEMENTS)
            products = around @ columns[:, block]
            products -= halves[block]
            keep_largest(products, first, best, index)
        for place in range(k):
            differences = queries[rows] - bank[index[:, place]]
            distances[rows, place] = np.sqrt(np.einsum("ij,ij->i", differences, differences))
        indices[rows] = index
    if k > 1:  # measured again, two that nearly tie may stand in the wrong order
        order = np.argsort(distances, axis=1, kind="stable")
        distances, indices = np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1)
    return distances, indices


def choose_bank(features: Singles, share: float, rng: np.random.Generator) -> tuple[Ints, float]:
    """Return which rows a greedy k-centre coreset keeps, in the order of their choice, and the radius it covers.

    Parameters
    ----------
    features : array of float32 of shape (n, d)
        Patch features.
    share : float in (0, 1]
        Share of the rows to keep, at least one row.
    rng : numpy.random.Generator
        Draws the projection to 128 dimensions, within which rows are compared, and the first row.
    """
    n = len(features)
    if features.shape[1] > PROJECTED:
        projection = GaussianRandomProjection(PROJECTED, random_state=int(rng.integers(2**31)))
        features = np.ascontiguousarray(projection.fit_transform(features), dtype=np.float32)
    start = int(rng.integers(n))
    return greedy_coreset(np.ascontiguousarray(features), max(1, round(share * n)), start)


def sampled(batches: Any, total_images: int, most: int, rng: np.random.Generator) -> Singles:
    """Return the rows of all batches of features (b, h, w, D), at most `most`: as many at random from each image.

    No more than these are ever held beside one batch.
    """
    rows, share = [], -(-most // total_images)
    for features in progress(batches, "collecting features"):
        for image in features.flatten(1, 2).numpy():
            rows.append(image if len(image) <= share else image[np.sort(rng.permutation(len(image))[:share])])
    together = np.concatenate(rows)
    return together[np.sort(rng.permutation(len(together))[:most])] if len(together) > most else together
