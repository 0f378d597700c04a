"""Maps of several branches on one scale, read off held-out normal images.

In: for each branch its raw maps, of any shape and unit. Out: the same maps as scale · (M - q_a) / (q_b - q_a), so that
over the normal pixels the `low` quantile q_a becomes 0 and the `high` quantile q_b becomes `scale`: branches can be
averaged, whatever the unit of each (Batzner et al., WACV 2024, with .9, .995 and .1).

Fit it on normal images that no branch was trained on: a branch is too sure of its training images, and maps with
anomalies in them would move the quantiles with what is to be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.core.validation import Floats


class QuantileMapNormaliser:
    """Two quantiles a branch.

    Parameters
    ----------
    quantiles : array of shape (branches, 2)
        q_a and q_b of each; an array, so that a detector can keep it as what it learned.
    scale : float, default .1
        What q_b becomes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> maps = rng.random((5, 8, 8)), 1000 * rng.random((5, 8, 8))
    >>> normaliser = QuantileMapNormaliser(QuantileMapNormaliser.quantiles_of(maps))
    >>> [float(np.quantile(branch, 0.995).round(6)) for branch in normaliser(maps)]
    [0.1, 0.1]
    """

    def __init__(self, quantiles: Floats, scale: float = 0.1) -> None:
        self.quantiles = quantiles
        self.scale = scale

    @staticmethod
    def quantiles_of(branches: Sequence[Any], low: float = 0.9, high: float = 0.995) -> Floats:
        """Return both quantiles over all pixels of all maps of each branch: (branches, 2). Any number of pixels."""
        return np.stack([np.quantile(np.asarray(maps, dtype=np.float64), (low, high)) for maps in branches])

    def __call__(self, branches: Sequence[Any]) -> list[Any]:
        """Return the normalised maps of each branch, arrays or tensors as they came."""
        # Where all normal pixels are equal there is no scale to be had: the maps keep their own.
        ends = [(float(a), float(b) if b > a else float(a) + self.scale) for a, b in self.quantiles]
        return [(maps - a) * (self.scale / (b - a)) for maps, (a, b) in zip(branches, ends)]

    def combined(self, branches: Sequence[Any]) -> Any:
        """Return the mean of the normalised maps over the branches."""
        return sum(self(branches)) / len(branches)
