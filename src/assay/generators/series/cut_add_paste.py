"""CutAddPaste (S7): a piece of another window, with a slope, pasted at a random place.

In: at least two normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows.

A piece of max(12, U(0, 1) · L) steps (at most L) is cut out of another window at a random place. To each of 1 to
C − 1 random channels of the piece a slope is added, ± U(0, .01) standard deviations a step, and the piece, all
channels of it, is pasted at a random place of the window. Strength: the straight line.

Departure: the published code adds the slope to the source window itself, so that the normals drift as more is drawn;
here the source stays as it is. The published slope is in the units of its standardised data.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, check_number
from assay.generators.series.common import Meta, WindowGenerator, region_of, toward


class CutAddPaste(WindowGenerator):
    """A sloped piece of another window (S7).

    Parameters
    ----------
    cut : int, default 12
        Fewest steps of a piece (paper).
    slope : float, default .01
        Largest slope in standard deviations a step (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    R. Wang, X. Mou, R. Yang, K. Gao, P. Liu, C. Liu, T. Wo, X. Liu: CutAddPaste: Time Series Anomaly Detection by
    Exploiting Abnormal Knowledge. KDD 2024.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = CutAddPaste(random_state=0).fit(X).sample(10)
    >>> int(auxiliary.touched.sum(axis=(1, 2)).min()) >= 12
    True
    """

    min_rows: ClassVar[int] = 2

    def __init__(self, cut: int = 12, slope: float = 0.01, *, random_state: Any = None) -> None:
        self.cut = cut
        self.slope = slope
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.cut, "cut", low=1, integer=True)
        check_number(self.slope, "slope", low=0.0, high=1e6)

    def _change(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        length = min(max(self.cut, int(rng.random() * len(x))), len(x))
        donor = self._other(parent, rng)
        source, start = (int(place) for place in rng.integers(len(x) - length + 1, size=2))
        channels = self._channels(int(rng.integers(1, max(2, len(self.varying_)))), rng)
        slopes = rng.choice([-1, 1], len(channels)) * rng.uniform(0.0, self.slope, len(channels))
        piece = self.parents_[donor, source : source + length].copy()
        piece[:, channels] += slopes * self.spread_[channels] * np.arange(length)[:, None]
        x[start : start + length] = toward(x[start : start + length], piece, strength)
        drawn = {"donor": donor, "source": source, "start": start, "end": start + length}
        region = region_of(x, start, start + length, self.varying_)
        return region, {**drawn, "channels": channels.tolist(), "slopes": slopes.tolist()}
