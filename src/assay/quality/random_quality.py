"""Random quality: the floor every quality score must beat.

In: labelled rows (n, d), of which only the width matters; auxiliary rows (l, d). Out: one number a row in
[0, 1), uniform over rows that differ.

The number is a hash of the row's values and a key drawn from the seed, so that a row gets the same number
alone, among others and in any order, and equal rows get equal numbers. Labels are checked as everywhere, and
not used. Departure: the baseline of Perini et al. draws by position in the table. Time O(l d).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from assay.base import QualityScore
from assay.core.validation import Floats, Ints, normals_and_anomalies


class RandomQuality(QualityScore):
    """A uniform random number for each auxiliary row, fixed by its values and the seed.

    Parameters
    ----------
    random_state : None, int or numpy.random.Generator
        Seed of the key.

    Attributes
    ----------
    key_ : array of uint64 of shape (2,)
        What is hashed with each row.

    References
    ----------
    As a baseline: Perini, Rudolph, Schmedding and Qiu. TMLR 2024.

    Examples
    --------
    >>> from assay import RandomQuality
    >>> model = RandomQuality(random_state=0).fit([[0.0], [1.0]], [0, 1])
    >>> first, second = model.quality([[3.0], [4.0]])
    >>> bool(first == model.quality([[4.0], [3.0]])[1] != second)
    True
    """

    def __init__(self, random_state: object = None) -> None:
        self.random_state = random_state

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normals_and_anomalies(y, min_normals=1, min_anomalies=1)
        self.key_ = rng.integers(2**64, size=2, dtype=np.uint64)

    def _quality(self, X_aux: Floats) -> Floats:
        key = self.key_.astype("<u8").tobytes()
        rows = (X_aux + 0.0).astype("<f8")  # -0 is 0
        hashes = [int.from_bytes(blake2b(row.tobytes(), key=key, digest_size=8).digest(), "little") for row in rows]
        bits: Floats = (np.array(hashes, dtype=np.uint64) >> np.uint64(11)).astype(np.float64)
        return bits * 2.0**-53
