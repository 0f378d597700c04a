"""Drift: the scores of a stream no longer come from what the detector was calibrated on.

A threshold keeps its promise while normal scores stay what they were. The scores that calibrated it are cut into
blocks of `window` steps; a block's distance is the Kolmogorov-Smirnov distance between its scores and all of these
scores. Of a stream, block after block is measured in the same way, and one that is further off than every block of the
calibration is reported. Neighbouring scores hang together, so that a table of the test would be wrong: the blocks
themselves say how far blocks stray. With B blocks of an undrifted past the next one is reported with probability
1 / (B + 1) at most, if blocks are exchangeable (conformal).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.validation import Floats, InputError, check_number


class Notice(NamedTuple):
    """A block of a stream whose scores have drifted.

    Attributes
    ----------
    start, end : int
        First step of the block, and the one behind its last.
    distance : float
        Kolmogorov-Smirnov distance to the calibration's scores.
    bound : float
        The largest distance of the calibration's own blocks.
    """

    start: int
    end: int
    distance: float
    bound: float


class Drift:
    """Watches a stream of scores.

    Parameters
    ----------
    scores : array of shape (n,)
        The scores that calibrated the threshold, in their order; NaN are left out.
    window : int, default 500
        Steps of a block. At least 10 blocks are needed: with B of them one undrifted block in B + 1 is reported.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> watch = Drift(rng.normal(size=5000), window=250)
    >>> len(watch.update(rng.normal(size=250))), len(watch.update(rng.normal(1.0, size=250)))
    (0, 1)
    """

    def __init__(self, scores: Any, window: int = 500) -> None:
        check_number(window, "window", low=20, integer=True)
        reference = np.asarray(scores, dtype=np.float64)
        if reference.ndim != 1:
            raise InputError(f"scores has shape {reference.shape}, expected (n,): one score a step")
        reference = reference[~np.isnan(reference)]
        count = len(reference) // int(window)
        if count < 10:
            raise InputError(
                f"window: {len(reference)} scores are {count} blocks of {window}, at least 10 needed; shorten it"
            )
        self.window = int(window)
        self._reference = np.sort(reference)
        blocks = reference[: count * self.window].reshape(count, self.window)
        self.bound = max(self._distance(block) for block in blocks)
        self._block: Floats = np.empty(0)
        self._step = 0

    def update(self, scores: Any) -> list[Notice]:
        """Take the next scores of the stream, and return a notice for each block that has drifted."""
        notices = []
        self._block = np.concatenate([self._block, np.asarray(scores, dtype=np.float64)])
        while len(self._block) >= self.window:
            block, self._block = self._block[: self.window], self._block[self.window :]
            measured = block[~np.isnan(block)]
            # A block that is mostly missing says nothing.
            distance = self._distance(measured) if 2 * len(measured) >= self.window else 0.0
            if distance > self.bound:
                notices.append(Notice(self._step, self._step + self.window, distance, self.bound))
            self._step += self.window
        return notices

    def _distance(self, block: Floats) -> float:
        """Return the largest difference between the two distribution functions."""
        block, apart = np.sort(block), 0.0
        # Between two scores of the block its function is level and the other one rises: the extremes lie at its steps.
        for side in ("left", "right"):
            own = np.searchsorted(block, block, side) / len(block)
            other = np.searchsorted(self._reference, block, side) / len(self._reference)
            apart = max(apart, float(np.abs(own - other).max()))
        return apart
