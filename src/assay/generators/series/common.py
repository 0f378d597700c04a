"""Auxiliary anomalies for windows of series: what the published families share, and plain noise, the floor.

In: normal windows (n, L, C), L >= 4 steps, finite numbers of any scale; one channel may come as (n, L). Out:
`Auxiliary` windows of the same shape and units, never clipped; the mask (n, L, C) of changed values, the places that
were meant to change (`touched`), the parents and every drawn parameter as plain numbers.

Strength 0 is the parent, strength 1 the published law. Each kind says whether strength has a meaning of its own (a
period raised to a power, a longer shift); else a window moves on the straight line
``parent + strength * (target - parent)``. Every window is drawn from a seed of its own, which its parameters hold:
parent and seed reproduce it.

Laws that are published for standardised data work in units of the channel's standard deviation over all normal
windows, from its mean; those published for data in [0, 1] in units of its range. So no law depends on the unit a
channel is measured in. A channel that is constant in the normals stays constant and is never chosen.

`StepNoise` adds N(0, (strength · σ)²) standard deviations to every step of every channel: what a family must beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from assay.base import Generator, TakesWindows
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option, told

Meta = dict[str, Any]
#: Fewer steps leave no room for an anomaly with something around it.
SHORTEST = 4


class WindowGenerator(TakesWindows, Generator):
    """Changes normal windows; a family names its `KINDS` and writes one method a kind, called `_<kind>`.

    Such a method gets the window (L, C), a copy to change in place, the strength, the window's random generator and
    the number of its parent. It returns the changed places (L, C) and what was drawn.

    Attributes
    ----------
    parents_ : array of shape (n, L, C)
        The normal windows.
    center_, spread_ : array of shape (C,)
        Mean and standard deviation of each channel over all steps; a constant channel has spread 0.
    low_, high_ : array of shape (C,)
        Least and largest value of each channel.
    varying_ : array of int
        The channels that are not constant.
    scale_ : array of shape (C,)
        The spread; 1 where it is 0.
    window_shape_ : tuple
        L and C.
    n_features_in_ : int
        L · C.
    """

    KINDS: ClassVar[tuple[str, ...]] = ()
    #: How likely each kind is where none is asked for; None: all alike.
    WEIGHTS: ClassVar[tuple[float, ...] | None] = None
    min_rows: ClassVar[int] = 1
    kind: Any

    def _check_parameters(self) -> None:
        check_option(self.kind, "kind", None, *self.KINDS)

    def _keep_parents(self, X: Floats) -> None:
        if X.shape[1] < SHORTEST:
            raise InputError(f"X_normal has windows of {X.shape[1]} steps, at least {SHORTEST} needed")
        self.parents_ = X.copy()
        steps = self.parents_.reshape(-1, X.shape[2])
        self.low_, self.high_ = steps.min(axis=0), steps.max(axis=0)
        varies = (self.high_ > self.low_) & (steps.std(axis=0) > 0)
        if not varies.any():
            raise InputError("X_normal: every channel is constant, so there is nothing to vary; give windows that vary")
        self.center_ = np.where(varies, steps.mean(axis=0), steps[0])
        self.spread_ = np.where(varies, steps.std(axis=0), 0.0)
        self.varying_ = np.flatnonzero(varies)
        self.scale_ = np.where(varies, self.spread_, 1.0)

    def _changed(self, X: Any, parents: Ints) -> Bools:
        return np.abs(X - self._origin(parents)) > self.tolerance * self.scale_

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Floats, Ints, list[Meta]]:
        X = np.empty((n, *self.parents_.shape[1:]))
        parents = np.empty(n, dtype=np.int64)
        meta = []
        for row, seed in enumerate(progress(child_seeds(rng, n), type(self).__name__, n)):
            own = np.random.default_rng(seed)
            parents[row] = own.integers(len(self.parents_))
            X[row] = self.parents_[parents[row]]
            region, drawn = self._change(X[row], strength, own, int(parents[row]))
            meta.append({"seed": seed, **drawn, "region": region})
        return X, parents, meta

    def _change(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        """Change a window in place; return the places that were meant to change, and what was drawn."""
        kind = self.kind or str(rng.choice(self.KINDS, p=self.WEIGHTS))
        change: Callable[..., tuple[Bools, Meta]] = getattr(self, f"_{kind}")
        region, drawn = change(x, strength, rng, parent)
        return region, {"kind": kind, **drawn}

    def _channel(self, rng: np.random.Generator) -> int:
        """Draw a channel that is not constant."""
        return int(self.varying_[rng.integers(len(self.varying_))])

    def _channels(self, count: int, rng: np.random.Generator) -> Ints:
        """Draw `count` different channels that are not constant, as many as there are at most."""
        return np.sort(rng.permutation(self.varying_)[:count])

    def _other(self, parent: int, rng: np.random.Generator) -> int:
        """Draw another normal window."""
        return int(parent + 1 + rng.integers(len(self.parents_) - 1)) % len(self.parents_)


def toward(origin: Any, target: Any, strength: float) -> Any:
    """Return the place on the straight line from `origin` (strength 0) to `target` (1)."""
    # At strength 1 the target itself: adding a difference back would move the last bit of its values.
    return target if strength == 1 else origin + strength * (target - origin)


def region_of(x: Floats, start: int, end: int, channels: Any) -> Bools:
    """Return a mask (L, C) of the steps `start` … `end` - 1 of some channels."""
    region = np.zeros(x.shape, dtype=bool)
    region[start:end, channels] = True
    return region


def sped_up(x: Floats, start: int, end: int, factor: float) -> Floats:
    """Return the steps `start` … `end` - 1 of (L,) with time running `factor` times as fast.

    Time is right at the edge that leaves more of the window beyond the other one, is reflected at the window's ends,
    and values between steps are interpolated: a factor of 1 gives the steps themselves.
    """
    steps = np.arange(start, end)
    anchor = start if len(x) - end >= start else end - 1
    return at_times(x, anchor + factor * (steps - anchor))


def at_times(x: Floats, times: Floats) -> Floats:
    """Return the values of (L,) at times between its steps, reflected at its ends."""
    last = len(x) - 1
    around = np.mod(times, 2 * last)
    return np.interp(np.minimum(around, 2 * last - around), np.arange(len(x)), x)


def check_share(value: Any, name: str) -> None:
    """Raise unless `value` is a pair 0 < a <= b <= 1 of shares of a window."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(f"{name}={told(value)}: give two shares of the window (from, to)")
    check_number(value[0], name, low=0.0, high=1.0, strict_low=True)
    check_number(value[1], name, low=value[0], high=1.0)


class StepNoise(WindowGenerator):
    """Gaussian noise on every step of every channel: what the others must beat.

    Parameters
    ----------
    sigma : float, default 0.5
        Standard deviation of the noise in those of the channel (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(20, 50, 2))
    >>> auxiliary = StepNoise(random_state=0).fit(X).sample(30)
    >>> bool(0.45 < (auxiliary.X - X[auxiliary.parents]).std() < 0.55)
    True
    """

    def __init__(self, sigma: float = 0.5, *, random_state: Any = None) -> None:
        self.sigma = sigma
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.sigma, "sigma", low=0.0, high=1e6, strict_low=True)

    def _change(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        x += strength * self.sigma * self.spread_ * rng.standard_normal(x.shape)
        return region_of(x, 0, len(x), self.varying_), {}
