"""The five kinds of outliers of TODS (S2), the benchmark of NeurIPS 2021, put into real windows.

In: normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows; one random channel is
changed, at ``ratio`` of its steps.

z is the standardised channel, σ(t) its standard deviation over the steps t − radius … t + radius − 1, and max, min
those of the channel in all normal windows, standardised too:

    point_global      3.5 σ(t) z(t); where that lies within the range, beyond max (or min, for z < 0) by U(.1, .5)
    point_contextual  2.5 σ(t) z(t), folded back: beyond max it becomes max · min(.95, |N(0, 1)|), likewise min
    shapelet          a square wave of five sines, Σ sin(2πf(2i+1)t + …) / (2i + 1), of the window's level, amplitude,
                      main frequency f and phase
    trend             x ± .5 standard deviations a step inside the segment; the level it has reached is kept afterwards
    seasonal          time runs three times as fast

There are round(ratio · L) points, or round(ratio · L / (2 radius)) segments of 2 radius steps, at least one. Strength:
the straight line; `seasonal` speeds up by 3^strength.

Departures:

- Data are standardised first: the published laws multiply values, which depends on the unit and on where zero lies.
- "Global" reaches only the range's limit in the published code and never exceeds it: here it does.
- Points are different and segments do not overlap; where the segments do not all fit there are fewer.
- The published generator knows its sine, and `seasonal` changes its frequency for good, so that a second call speeds
  up ninefold. Here the window is resampled (reflected at its ends), and nothing is kept between calls.
- The square wave follows the window; the published one has the settings of its sine.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, check_number
from assay.generators.series.common import Meta, WindowGenerator, region_of, sped_up, toward

#: Published sizes of the point outliers, the trend's slope, the seasonal factor and the number of sines.
GLOBAL, CONTEXTUAL, SLOPE, FASTER, LEVELS = 3.5, 2.5, 0.5, 3.0, 5


class TODS(WindowGenerator):
    """Point and pattern outliers of the TODS benchmark (S2).

    Parameters
    ----------
    kind : str, optional
        ``"point_global"``, ``"point_contextual"``, ``"shapelet"``, ``"trend"`` or ``"seasonal"``; by default drawn
        uniformly.
    ratio : float in (0, 1], default .05
        Share of the steps that become outliers (paper).
    radius : int, default 5
        Half the length of a segment, and of the neighbourhood of a point (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    K.-H. Lai, D. Zha, J. Xu, Y. Zhao, G. Wang, X. Hu: Revisiting Time Series Outlier Detection: Definitions and
    Benchmarks. NeurIPS Datasets and Benchmarks 2021.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = TODS("point_global", random_state=0).fit(X).sample(4)
    >>> bool((np.abs(auxiliary.X[auxiliary.touched]) > 1).all())
    True
    """

    KINDS: ClassVar[tuple[str, ...]] = ("point_global", "point_contextual", "shapelet", "trend", "seasonal")

    def __init__(
        self, kind: str | None = None, ratio: float = 0.05, radius: int = 5, *, random_state: Any = None
    ) -> None:
        self.kind = kind
        self.ratio = ratio
        self.radius = radius
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.ratio, "ratio", low=0.0, high=1.0, strict_low=True)
        check_number(self.radius, "radius", low=1, integer=True)

    def _points(self, x: Floats, rng: np.random.Generator) -> list[int]:
        count = min(len(x), max(1, round(self.ratio * len(x))))
        return sorted(rng.choice(len(x), count, replace=False).tolist())

    def _segments(self, x: Floats, rng: np.random.Generator) -> list[list[int]]:
        """Draw segments that do not overlap."""
        length = min(2 * self.radius, len(x))
        count = min(len(x) // length, max(1, round(self.ratio * len(x) / length)))
        # Drawn in what is left when the segments are taken out.
        gaps = np.sort(rng.integers(len(x) - count * length + 1, size=count))
        return [[int(gap) + i * length, int(gap) + (i + 1) * length] for i, gap in enumerate(gaps)]

    def _point(
        self, x: Floats, strength: float, rng: np.random.Generator, factor: float, beyond: bool
    ) -> tuple[Bools, Meta]:
        channel, points = self._channel(rng), self._points(x, rng)
        center, spread = self.center_[channel], self.spread_[channel]
        z = (x[:, channel] - center) / spread
        low, high = (self.low_[channel] - center) / spread, (self.high_[channel] - center) / spread
        region = np.zeros(x.shape, dtype=bool)
        for t in points:
            value = factor * z[max(0, t - self.radius) : t + self.radius].std() * z[t]
            if beyond and low <= value <= high:
                value = high + rng.uniform(0.1, 0.5) if value >= 0 else low - rng.uniform(0.1, 0.5)
            elif not beyond and not low <= value <= high:
                value = (high if value > high else low) * min(0.95, abs(rng.standard_normal()))
            x[t, channel] = toward(x[t, channel], center + spread * value, strength)
            region[t, channel] = True
        return region, {"channel": channel, "points": points}

    def _point_global(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        return self._point(x, strength, rng, GLOBAL, True)

    def _point_contextual(
        self, x: Floats, strength: float, rng: np.random.Generator, parent: int
    ) -> tuple[Bools, Meta]:
        return self._point(x, strength, rng, CONTEXTUAL, False)

    def _shapelet(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channel, segments = self._channel(rng), self._segments(x, rng)
        wave, region = _square_wave(x[:, channel]), np.zeros(x.shape, dtype=bool)
        for start, end in segments:
            x[start:end, channel] = toward(x[start:end, channel], wave[start:end], strength)
            region[start:end, channel] = True
        return region, {"channel": channel, "segments": segments}

    def _trend(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channel, segments = self._channel(rng), self._segments(x, rng)
        slopes = [float(rng.choice([-1, 1])) * SLOPE * self.spread_[channel] for _ in segments]
        for (start, end), slope in zip(segments, slopes):
            rise = np.minimum(np.arange(len(x) - start), end - start - 1)
            x[start:, channel] += strength * slope * rise
        region = region_of(x, segments[0][0], len(x), channel)
        return region, {"channel": channel, "segments": segments, "slopes": slopes}

    def _seasonal(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channel, segments = self._channel(rng), self._segments(x, rng)
        origin, region = x[:, channel].copy(), np.zeros(x.shape, dtype=bool)
        for start, end in segments:
            x[start:end, channel] = sped_up(origin, start, end, FASTER**strength)
            region[start:end, channel] = True
        return region, {"channel": channel, "segments": segments, "factor": FASTER}


def _square_wave(x: Floats) -> Floats:
    """Return five sines of a square wave with the level, amplitude, main frequency and phase of (L,)."""
    spectrum = np.fft.rfft(x - x.mean())
    main = 1 + int(np.argmax(np.abs(spectrum[1:])))
    phase = 2 * np.pi * main * np.arange(len(x)) / len(x) + np.angle(spectrum[main]) + np.pi / 2
    odd = 2 * np.arange(LEVELS)[:, None] + 1
    return x.mean() + np.sqrt(2) * x.std() * (np.sin(odd * phase) / odd).sum(axis=0)
