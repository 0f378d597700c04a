"""AnomalyBERT's degradations of a window (S3).

In: normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows; an interval of some
channels is degraded.

Everything happens on the scale where each channel's normals lie in [0, 1]. An interval of length U(.015, .15) · L (at
least one step) at a random place; each channel takes part with probability .3, at least one does. One of

    soft             x' = (1 − w) x + w r, w = .7 with linear ramps over a tenth of the interval at both ends; r is an
                     interval of a random channel of a random window for each channel, turned over in time and in
                     value (1 − r) with probability 1/2 each                                            p = .50
    uniform          a constant U(0, 1) for each channel                                                p = .15
    peak             one step goes to the far side: 1 − .1 U(0, 1) where x < .5, .1 U(0, 1) elsewhere   p = .15
    length_adjust    a piece of all channels takes 2, 3 or 4 times as long, or as short                 p = 0

Strength: the straight line; for `soft` it multiplies w.

Departures: the published law leaves a fifth of the windows as they are: these are no anomalies, so p is divided by
the sum above. `length_adjust` is made on request only. A shortened piece takes its steps from what follows it, and
what comes after the interval stays, where the code moves the beginning and fills up from before the window, which is
not known here; it is lengthened or shortened by a coin, not by its length. The code also marks the steps around a
peak as anomalous: the mask says what changed. Categorical channels are treated like the others.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, Ints, check_option
from assay.generators.series.common import Meta, WindowGenerator, check_share, region_of, toward

#: Share of the channels that take part; weight of a soft replacement (published).
SHARE, WEIGHT = 0.3, 0.7


class AnomalyBERT(WindowGenerator):
    """Degraded intervals, mostly replaced softly by another one (S3).

    Parameters
    ----------
    kind : {None, "soft", "uniform", "peak", "length_adjust"}, default None
        By default drawn by the published probabilities, 5/8, 3/16, 3/16 and 0.
    length : (float, float), default (.015, .15)
        Share of the window that an interval covers, drawn uniformly (paper).
    flip : {"all", "time", "value", "none"}, default "all"
        In which way what replaces an interval may be turned over (published code).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    Y. Jeong, E. Yang, J. H. Ryu, I. Park, M. Kang: AnomalyBERT: Self-Supervised Transformer for Time Series Anomaly
    Detection using Data Degradation Scheme. ICLR 2023 workshop, arXiv 2305.04468.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = AnomalyBERT("uniform", random_state=0).fit(X).sample(3)
    >>> all(np.ptp(window[touched]) == 0 for window, touched in zip(auxiliary.X, auxiliary.touched))
    True
    """

    KINDS: ClassVar[tuple[str, ...]] = ("soft", "uniform", "peak", "length_adjust")
    WEIGHTS: ClassVar[tuple[float, ...]] = (0.625, 0.1875, 0.1875, 0.0)

    def __init__(
        self,
        kind: str | None = None,
        length: Any = (0.015, 0.15),
        flip: str = "all",
        *,
        random_state: Any = None,
    ) -> None:
        self.kind = kind
        self.length = length
        self.flip = flip
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_share(self.length, "length")
        check_option(self.flip, "flip", "all", "time", "value", "none")

    def _place(self, x: Floats, rng: np.random.Generator) -> tuple[int, int, Ints]:
        """Draw where an interval begins and ends, and the channels that take part."""
        length = max(1, int(rng.uniform(*self.length) * len(x)))
        start = int(rng.integers(len(x) - length + 1))
        u = rng.random(len(self.varying_))
        return start, start + length, self.varying_[u <= max(SHARE, u.min())]

    def _unit(self, values: Any, channel: Any) -> Any:
        return (values - self.low_[channel]) / (self.high_[channel] - self.low_[channel])

    def _back(self, values: Any, channel: Any) -> Any:
        return self.low_[channel] + values * (self.high_[channel] - self.low_[channel])

    def _soft(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, channels = self._place(x, rng)
        length = end - start
        weight = soft_weights(length)
        donors = []
        for channel in channels:
            row, other = int(rng.integers(len(self.parents_))), self._channel(rng)
            begin = int(rng.integers(len(x) - length + 1))
            backward, upside_down = (bool(coin) for coin in rng.random(2) < 0.5)
            piece = self._unit(self.parents_[row, begin : begin + length, other], other)
            if backward and self.flip in ("all", "time"):
                piece = piece[::-1]
            if upside_down and self.flip in ("all", "value"):
                piece = 1 - piece
            own = x[start:end, channel]
            x[start:end, channel] = own + strength * weight * (self._back(piece, channel) - own)
            donors.append([row, other, begin])
        return region_of(x, start, end, channels), {**_where(start, end, channels), "donors": donors}

    def _uniform(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, channels = self._place(x, rng)
        levels = rng.random(len(channels))
        target = np.broadcast_to(self._back(levels, channels), (end - start, len(channels)))
        x[start:end, channels] = toward(x[start:end, channels], target, strength)
        return region_of(x, start, end, channels), {**_where(start, end, channels), "levels": levels.tolist()}

    def _peak(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, channels = self._place(x, rng)
        at = int(rng.integers(start, end))
        far = (self._unit(x[at, channels], channels) < 0.5).astype(np.float64)
        peak = far + 0.1 * (1 - 2 * far) * rng.random(len(channels))
        x[at, channels] = toward(x[at, channels], self._back(peak, channels), strength)
        return region_of(x, at, at + 1, channels), _where(at, at + 1, channels)

    def _length_adjust(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        start, end, _ = self._place(x, rng)
        factor, longer = int(rng.integers(2, 5)), bool(rng.random() < 0.5)
        steps = np.arange(len(x))
        if longer:
            # Whole steps only; what follows comes later, and its end leaves the window.
            end = min(start + max(1, (end - start) // factor) * factor, len(x))
            steps[start:end] = start + (steps[start:end] - start) // factor
            steps[end:] = np.arange(steps[end - 1] + 1, steps[end - 1] + 1 + len(x) - end)
            until = len(x)
        else:
            until = end = start + max(1, min(end - start, (len(x) - start) // factor))
            steps[start:end] = start + (steps[start:end] - start) * factor
        x[:] = toward(x, x[steps], strength)
        region = region_of(x, start, until, self.varying_)
        return region, {**_where(start, end, self.varying_), "factor": factor, "longer": longer}


def soft_weights(length: int) -> Floats:
    """Return the weights of a soft replacement: .7, with linear ramps from and to 0 over a tenth of the length."""
    ramp = np.linspace(0.0, WEIGHT, length // 10)
    return np.concatenate([ramp, np.full(length - 2 * len(ramp), WEIGHT), ramp[::-1]])


def _where(start: int, end: int, channels: Ints) -> Meta:
    return {"start": start, "end": end, "channels": channels.tolist()}
