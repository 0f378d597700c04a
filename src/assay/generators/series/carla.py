"""CARLA's five ways to make a window anomalous (S4).

In: normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows; a random segment of length
U(.1, .9) · L at a random place is changed, in a random number of random channels. In standardised values z:

    seasonal     the segment is tiled k times, and every k-th step of that is kept; k one of 2, 3, 4
    trend        ± N(1, .5) added as a level, from the segment's beginning to the window's end
    point_global      8 z at 2 or 3 steps in a row
    point_contextual  3 z at 4 or 5 steps in a row
    shapelet     the segment's first value, + U(0, .1) at each step

Strength: the straight line.

Departures from the published code: of C channels U{C/10, …, C/2 − 1} are changed there, which is none or an error for
few channels: here max(1, C // 10) to max(1, C // 2 − 1), all different. Scaling changes nothing where z = 0: what did
not change is no anomaly, and is drawn again. Data are standardised first. The published kind "trend" is a change of
level, not a slope; its name is kept.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, Ints
from assay.generators.series.common import Meta, WindowGenerator, region_of, toward


class CARLA(WindowGenerator):
    """Seasonal, trend, global, contextual and shapelet anomalies (S4).

    Parameters
    ----------
    kind : str, optional
        ``"seasonal"``, ``"trend"``, ``"point_global"``, ``"point_contextual"`` or ``"shapelet"``; by default drawn
        uniformly (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    Z. Z. Darban, G. I. Webb, S. Pan, C. C. Aggarwal, M. Salehi: CARLA: Self-supervised Contrastive Representation
    Learning for Time Series Anomaly Detection. Pattern Recognition 157, 2025, arXiv 2308.09296.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = CARLA("point_global", random_state=0).fit(X).sample(100)
    >>> sorted(set(auxiliary.touched.sum(axis=(1, 2)).tolist()))
    [2, 3]
    """

    KINDS: ClassVar[tuple[str, ...]] = ("seasonal", "trend", "point_global", "point_contextual", "shapelet")

    def __init__(self, kind: str | None = None, *, random_state: Any = None) -> None:
        self.kind = kind
        self.random_state = random_state

    def _some_channels(self, x: Floats, rng: np.random.Generator) -> Ints:
        most = max(1, x.shape[1] // 2 - 1)
        return self._channels(int(rng.integers(min(most, max(1, x.shape[1] // 10)), most + 1)), rng)

    def _place(self, x: Floats, rng: np.random.Generator) -> tuple[int, int, Ints]:
        """Draw a segment and the channels that are changed."""
        length = max(2, int(rng.uniform(0.1, 0.9) * len(x)))
        start = int(rng.integers(len(x) - length + 1))
        return start, start + length, self._some_channels(x, rng)

    def _seasonal(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, channels = self._place(x, rng)
        k = int(rng.integers(2, 5))
        tiled = x[start + k * np.arange(end - start) % (end - start)][:, channels]
        x[start:end, channels] = toward(x[start:end, channels], tiled, strength)
        return region_of(x, start, end, channels), {**_where(start, end, channels), "k": k}

    def _trend(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, _, channels = self._place(x, rng)
        levels = rng.choice([-1, 1], len(channels)) * rng.normal(1.0, 0.5, len(channels))
        x[start:, channels] += strength * levels * self.spread_[channels]
        return region_of(x, start, len(x), channels), {**_where(start, len(x), channels), "levels": levels.tolist()}

    def _scaled(
        self, x: Floats, strength: float, rng: np.random.Generator, shortest: int, factor: float
    ) -> tuple[Bools, Meta]:
        length = min(shortest + int(rng.integers(2)), len(x))
        start, channels = int(rng.integers(len(x) - length + 1)), self._some_channels(x, rng)
        z = x[start : start + length, channels] - self.center_[channels]
        x[start : start + length, channels] += strength * (factor - 1) * z
        return region_of(x, start, start + length, channels), _where(start, start + length, channels)

    def _point_global(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        return self._scaled(x, strength, rng, 2, 8.0)

    def _point_contextual(
        self, x: Floats, strength: float, rng: np.random.Generator, parent: int
    ) -> tuple[Bools, Meta]:
        return self._scaled(x, strength, rng, 4, 3.0)

    def _shapelet(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, channels = self._place(x, rng)
        rough = 0.1 * self.spread_[channels] * rng.random((end - start, len(channels)))
        x[start:end, channels] = toward(x[start:end, channels], x[start, channels] + rough, strength)
        return region_of(x, start, end, channels), _where(start, end, channels)


def _where(start: int, end: int, channels: Ints) -> Meta:
    return {"start": start, "end": end, "channels": channels.tolist()}
