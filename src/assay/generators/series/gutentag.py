"""GutenTAG's ten kinds of anomalies (S1), put into real windows.

In: normal windows (n, L, C), see `assay.generators.series.common`. Out: `Auxiliary` windows; one section of one random
channel is changed.

x is the channel, m its mean over the window, a the half of its range there, u ~ U(0, 1), s the strength; the section
lies in the first, middle or last third and has length U(.1, .4) · L:

    extremum          one step, x ± s (u + .5) (max − min); half of them local: x ± s u (max − min of the ten steps
                      on either side)
    amplitude         m + (x − m) b(t), b a bell from 1 up or down to factor^s with Gaussian flanks of 20 % each
    frequency         time runs factor^s times as fast
    mean              x + s · offset
    pattern           m + h arctan(k s z) / arctan(k s), z = (x − m) / h, h = max |x − m|, k = 10: it becomes square
    pattern_shift     the section moves by s · shift steps, within transitions of up to 10 steps at both ends
    platform          a constant value of the channel's range, on the straight line
    variance          x + s N(0, (v a)²)
    trend             x ± s · rise along the section; the level it has reached persists to the window's end
    mode_correlation  2 m − x, the channel turned over, on the straight line (strength 1/2 is flat)

GutenTAG leaves the sizes to the user. Factors .5, 2, 3 (amplitude, frequency; three of six or seven) and v ~ U(0, .5)
are from its own example of a random configuration. Ours are shift ± U(.5, 1) of the transition, offset ± U(.5, 1.5)
and rise ± U(1, 3) standard deviations of the channel, and the platform's value: uniform in the channel's range.

Departures, all because the base oscillation of a real window is not known:

- Frequency resamples the window (reflected at its ends) where GutenTAG computes the oscillation anew; the noise gets
  faster or smoother with it. A real window is no sine, so `pattern` squeezes its values as GutenTAG does a sine's;
  the patterns of its other oscillations (reversed ECG, duty of a square wave, width of a sawtooth) are not repeated.
- `variance` adds noise where GutenTAG replaces it: it can only grow. "Trend off" under a platform needs no doing.
- The extremum's range is the window's. "At least twice the noise" is left out: the noise is not known apart.
- A window gets one anomaly, so that sections cannot overlap; GutenTAG looks for free room in up to 50 tries.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.stats import norm

from assay.core.validation import Bools, Floats, check_number, check_option
from assay.generators.series.common import (
    Meta,
    WindowGenerator,
    at_times,
    check_share,
    region_of,
    sped_up,
    toward,
)

SECTIONS = ("beginning", "middle", "end")
FACTORS = (0.5, 2.0, 3.0)
#: k of the arctan pattern, and steps of context of a local extremum and of a transition (GutenTAG's defaults).
SQUARENESS, CONTEXT = 10.0, 10


class GutenTAG(WindowGenerator):
    """Ten kinds of anomalies on one section of one channel (S1).

    Parameters
    ----------
    kind : str, optional
        ``"extremum"``, ``"amplitude"``, ``"frequency"``, ``"mean"``, ``"pattern"``, ``"pattern_shift"``,
        ``"platform"``, ``"variance"``, ``"trend"`` or ``"mode_correlation"``; by default drawn uniformly.
    length : (float, float), default (.1, .4)
        Share of the window that the section covers, drawn uniformly (ours; GutenTAG takes it from the user).
    section : {None, "beginning", "middle", "end"}, default None
        Third of the window in which the section begins as far as it fits; None draws one (GutenTAG).
    creep : float in [0, 1], default 0
        Share of the section in which the anomaly creeps in linearly (GutenTAG's default).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    P. Wenig, S. Schmidl, T. Papenbrock: TimeEval: A Benchmarking Toolkit for Time Series Anomaly Detection
    Algorithms. PVLDB 15(12), 2022.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = GutenTAG("extremum", random_state=0).fit(X).sample(5)
    >>> auxiliary.mask.sum(axis=(1, 2))
    array([1, 1, 1, 1, 1])
    """

    KINDS: ClassVar[tuple[str, ...]] = (
        "extremum",
        "amplitude",
        "frequency",
        "mean",
        "pattern",
        "pattern_shift",
        "platform",
        "variance",
        "trend",
        "mode_correlation",
    )

    def __init__(
        self,
        kind: str | None = None,
        length: Any = (0.1, 0.4),
        section: str | None = None,
        creep: float = 0.0,
        *,
        random_state: Any = None,
    ) -> None:
        self.kind = kind
        self.length = length
        self.section = section
        self.creep = creep
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_share(self.length, "length")
        check_option(self.section, "section", None, *SECTIONS)
        check_number(self.creep, "creep", low=0.0, high=1.0)

    def _change(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        channel = self._channel(rng)
        kind = self.kind or str(rng.choice(self.KINDS))
        section = self.section or str(rng.choice(SECTIONS))
        length = 1 if kind == "extremum" else max(2, round(rng.uniform(*self.length) * len(x)))
        first, last = (round(third * len(x) / 3) for third in (SECTIONS.index(section), SECTIONS.index(section) + 1))
        # As far as it fits: a section that would run out of the window begins earlier.
        start = min(int(rng.integers(first, max(last, first + 1))), len(x) - length)
        end = start + length
        origin = x[:, channel].copy()
        changed, drawn = getattr(self, f"_{kind}")(origin, start, end, strength, rng, channel)
        if self.creep > 0 and length > 1:
            weight = np.minimum(1.0, np.arange(1, len(changed) + 1) / (1 + self.creep * length))
            changed = origin[start : start + len(changed)] * (1 - weight) + changed * weight
        x[start : start + len(changed), channel] = changed
        region = region_of(x, start, start + len(changed), channel)
        return region, {"kind": kind, "channel": channel, "section": section, "start": start, "end": end, **drawn}

    # Each returns the new values from `start` on, and what it drew.

    def _extremum(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        local, sign, u = bool(rng.random() < 0.5), 1 if rng.random() < 0.5 else -1, rng.random()
        if local:
            size = u * np.ptp(x[max(0, start - CONTEXT) : end + CONTEXT])
        else:
            size = (u + 0.5) * np.ptp(x)
        return x[start:end] + strength * sign * size, {"local": local, "sign": sign, "u": u}

    def _amplitude(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        factor = float(rng.choice(FACTORS))
        bell = 1 + (factor**strength - 1) * _bell(end - start)
        return x.mean() + (x[start:end] - x.mean()) * bell, {"factor": factor}

    def _frequency(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        factor = float(rng.choice(FACTORS))
        return sped_up(x, start, end, factor**strength), {"factor": factor}

    def _mean(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        offset = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.5) * self.spread_[channel])
        return x[start:end] + strength * offset, {"offset": offset}

    def _pattern(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        half, k = float(np.abs(x - x.mean()).max()), SQUARENESS * strength
        if half == 0 or k == 0:
            return x[start:end], {"k": k}
        return x.mean() + half * np.arctan(k * (x[start:end] - x.mean()) / half) / np.arctan(k), {"k": k}

    def _pattern_shift(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        transition = max(1, min(CONTEXT, (end - start) // 3))
        shift = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.0) * transition)
        # 1 inside, falling to 0 just outside of the section.
        to_edge = np.minimum(np.arange(1, end - start + 1), np.arange(end - start, 0, -1))
        ramp = np.minimum(1.0, to_edge / (transition + 1))
        moved = at_times(x, np.arange(start, end) - strength * shift * ramp)
        return moved, {"shift": shift, "transition": transition}

    def _platform(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        value = float(rng.uniform(self.low_[channel], self.high_[channel]))
        return toward(x[start:end], np.full(end - start, value), strength), {"value": value}

    def _variance(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        variance = rng.uniform(0.0, 0.5)
        noise = variance * np.ptp(x) / 2 * rng.standard_normal(end - start)
        return x[start:end] + strength * noise, {"variance": variance}

    def _trend(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        rise = float(rng.choice([-1, 1]) * rng.uniform(1.0, 3.0) * self.spread_[channel])
        climb = np.minimum(1.0, np.arange(1, len(x) - start + 1) / (end - start))
        return x[start:] + strength * rise * climb, {"rise": rise}

    def _mode_correlation(
        self, x: Floats, start: int, end: int, strength: float, rng: np.random.Generator, channel: int
    ) -> tuple[Floats, Meta]:
        return toward(x[start:end], 2 * x.mean() - x[start:end], strength), {}


def _bell(length: int) -> Floats:
    """Return a plateau of height 1 with Gaussian flanks of a fifth of `length` each, which begin near 0."""
    flank = length // 5
    rise = norm.pdf(np.linspace(-3, 0, flank + 1)[:-1], scale=1.05)
    rise = (rise - norm.pdf(3, scale=1.05)) / (norm.pdf(0, scale=1.05) - norm.pdf(3, scale=1.05))
    return np.concatenate([rise, np.ones(length - 2 * flank), rise[::-1]])
