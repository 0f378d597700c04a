"""COUTA's native anomalies (S5): the end of a window goes wrong.

In: normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows; 1 to C random channels
(uniformly many, all different) are changed at the window's end. In standardised values z:

    collective    from a random cut in the last half on, all are 0, or all are 1
    contextual    the last step is the mean of the last ten, + .5 or − .5
    point         the last step is 2 or −2

Kind and sign are drawn uniformly: six alike, as published. Strength: the straight line.

Departures: the published code draws channels with repetition, so fewer change than it counts; and it sets these
values in whatever units the data are, standardised ones by its recipe. Standardised here are the channels of the
normal windows.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, Ints
from assay.generators.series.common import Meta, WindowGenerator, region_of, toward


class COUTA(WindowGenerator):
    """Collective, contextual and point anomalies at the end of a window (S5).

    Parameters
    ----------
    kind : {None, "collective", "contextual", "point"}, default None
        By default drawn uniformly (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    H. Xu, Y. Wang, S. Jian, Q. Liao, Y. Wang, G. Pang: Calibrated One-class Classification for Unsupervised Time
    Series Anomaly Detection. IEEE TKDE 2024, arXiv 2207.12201.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = COUTA("point", random_state=0).fit(X).sample(10)
    >>> bool(auxiliary.mask[:, -1].all()), bool(auxiliary.mask[:, :-1].any())
    (True, False)
    """

    KINDS: ClassVar[tuple[str, ...]] = ("collective", "contextual", "point")

    def __init__(self, kind: str | None = None, *, random_state: Any = None) -> None:
        self.kind = kind
        self.random_state = random_state

    def _end(self, x: Floats, start: int, channels: Ints, value: Any, strength: float) -> tuple[Bools, Meta]:
        """Move the steps from `start` on to a value."""
        target = np.broadcast_to(value, (len(x) - start, len(channels)))
        x[start:, channels] = toward(x[start:, channels], target, strength)
        return region_of(x, start, len(x), channels), {"start": start, "channels": channels.tolist()}

    def _some_channels(self, rng: np.random.Generator) -> Ints:
        return self._channels(int(rng.integers(1, len(self.varying_) + 1)), rng)

    def _collective(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channels, z = self._some_channels(rng), int(rng.integers(2))
        start = len(x) - int(rng.integers(1, max(2, len(x) // 2)))
        region, drawn = self._end(x, start, channels, self._value(z, channels), strength)
        return region, {**drawn, "value": z}

    def _contextual(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channels, offset = self._some_channels(rng), 0.5 * float(rng.choice([-1, 1]))
        value = x[-10:, channels].mean(axis=0) + offset * self.spread_[channels]
        region, drawn = self._end(x, len(x) - 1, channels, value, strength)
        return region, {**drawn, "offset": offset}

    def _point(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channels, z = self._some_channels(rng), 2 * int(rng.choice([-1, 1]))
        region, drawn = self._end(x, len(x) - 1, channels, self._value(z, channels), strength)
        return region, {**drawn, "value": z}

    def _value(self, z: float, channels: Ints) -> Floats:
        return self.center_[channels] + z * self.spread_[channels]
