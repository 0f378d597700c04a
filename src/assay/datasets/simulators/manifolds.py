"""Point clouds whose topology is known: what fits into how many latent numbers, and what cannot.

Every function returns a `Manifold`: the points, where each lies on the surface, and the truth about it. Sampling is
uniform by length or area unless it says otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, check_number


class Manifold(NamedTuple):
    """Points on a surface whose topology is known.

    Attributes
    ----------
    X : array of shape (n, N)
        The points, noise included.
    place : array of shape (n, m)
        Where each lies on the surface: angles, heights, numbers of a piece.
    dimension : int
        Of the surface.
    betti : tuple of int
        b0, b1, b2: its pieces, loops and hollows.
    embeds_in : int
        Least number of Euclidean latent numbers that hold it without a tear or a crossing.
    """

    X: Floats
    place: Floats
    dimension: int
    betti: tuple[int, int, int]
    embeds_in: int


def segment(n: int = 2000, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return a straight segment of length 2 in the plane: no obstruction, a control; `place` in [-1, 1]."""
    rng = _begin(n, noise, random_state)
    place = rng.uniform(-1, 1, n)
    return _made(place[:, None] * [0.8, 0.6], place, noise, rng, 1, (1, 0, 0), 1)


def circle(n: int = 2000, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return the circle of radius 1 in the plane; `place` is the angle in [0, 2π).

    Examples
    --------
    >>> ring = circle(5, random_state=0)
    >>> ring.X.shape, ring.betti, ring.embeds_in
    ((5, 2), (1, 1, 0), 2)
    """
    rng = _begin(n, noise, random_state)
    angle = rng.uniform(0, 2 * np.pi, n)
    return _made(np.stack([np.cos(angle), np.sin(angle)], axis=1), angle, noise, rng, 1, (1, 1, 0), 2)


def sphere(n: int = 2000, dimension: int = 2, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return the unit sphere of `dimension` >= 1 in one dimension more; `place` repeats the point."""
    check_number(dimension, "dimension", low=1, high=1000, integer=True)
    rng = _begin(n, noise, random_state)
    X = rng.normal(size=(n, dimension + 1))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    betti = (1, int(dimension == 1), int(dimension == 2))
    return _made(X, X.copy(), noise, rng, dimension, betti, dimension + 1)


def figure_eight(n: int = 2000, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return two circles of radius 1 that touch at the origin, no manifold there; `place`: circle, angle."""
    rng = _begin(n, noise, random_state)
    which, angle = rng.integers(2, size=n), rng.uniform(0, 2 * np.pi, n)
    X = np.stack([np.cos(angle) + 2 * which - 1, np.sin(angle)], axis=1)
    return _made(X, np.stack([which, angle], axis=1), noise, rng, 1, (1, 2, 0), 2)


def double_cone(n: int = 2000, uniform: bool = True, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return {x² + y² = z², |z| <= 1}, pinched at the origin; `place`: height, angle.

    Parameters
    ----------
    n : int
        Points.
    uniform : bool, default True
        By area; otherwise by height, which crowds the points at the pinch.
    noise : float, default 0
        Standard deviation in every direction.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    rng = _begin(n, noise, random_state)
    size, sign, angle = rng.uniform(size=n), rng.choice([-1.0, 1.0], n), rng.uniform(0, 2 * np.pi, n)
    z = sign * (np.sqrt(size) if uniform else size)
    X = np.stack([np.abs(z) * np.cos(angle), np.abs(z) * np.sin(angle), z], axis=1)
    return _made(X, np.stack([z, angle], axis=1), noise, rng, 2, (1, 0, 0), 3)


def swiss_roll(n: int = 2000, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return a rolled-up sheet of a turn and a half, 1 high: no obstruction, a control; `place`: turn, height."""
    rng = _begin(n, noise, random_state)
    turns = np.linspace(1.5 * np.pi, 4.5 * np.pi, 4000)
    # Of the spiral r = t the length grows by √(1 + t²) dt.
    length = np.concatenate([[0.0], np.cumsum(np.hypot(1.0, (turns[1:] + turns[:-1]) / 2))])
    t = np.interp(rng.uniform(0, length[-1], n), length, turns)
    height = rng.uniform(size=n)
    X = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / (4.5 * np.pi)
    return _made(np.c_[X, height], np.stack([t, height], axis=1), noise, rng, 2, (1, 0, 0), 2)


def torus(n: int = 2000, tube: float = 0.4, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return a ring of radius 1 of a tube of radius `tube` < 1 in space; `place`: angle along, angle around."""
    check_number(tube, "tube", low=0.0, high=1.0, strict_low=True, strict_high=True)
    rng = _begin(n, noise, random_state)
    along, around = rng.uniform(0, 2 * np.pi, n), _weighted(n, lambda a: (1 + tube * np.cos(a)) / (1 + tube), rng)
    ring = 1 + tube * np.cos(around)
    X = np.stack([ring * np.cos(along), ring * np.sin(along), tube * np.sin(around)], axis=1)
    return _made(X, np.stack([along, around], axis=1), noise, rng, 2, (1, 2, 1), 3)


def moebius(n: int = 2000, width: float = 0.6, noise: float = 0.0, random_state: Any = None) -> Manifold:
    """Return a band of `width` < 2 with half a twist around a circle of radius 1; `place`: angle, side."""
    check_number(width, "width", low=0.0, high=2.0, strict_low=True, strict_high=True)
    rng = _begin(n, noise, random_state)
    side, angle = np.empty(n), np.empty(n)
    waiting = np.arange(n)
    most = np.hypot(1 + width / 2, width / 4)
    while len(waiting):  # by area: |∂angle × ∂side| = √((1 + s cos(a/2))² + s²/4)
        angle[waiting], side[waiting] = rng.uniform(0, 2 * np.pi, len(waiting)), rng.uniform(-1, 1, len(waiting))
        side[waiting] *= width / 2
        area = np.hypot(1 + side[waiting] * np.cos(angle[waiting] / 2), side[waiting] / 2)
        waiting = waiting[rng.uniform(size=len(waiting)) > area / most]
    ring = 1 + side * np.cos(angle / 2)
    X = np.stack([ring * np.cos(angle), ring * np.sin(angle), side * np.sin(angle / 2)], axis=1)
    return _made(X, np.stack([angle, side], axis=1), noise, rng, 2, (1, 1, 0), 3)


def two_circles(
    n: int = 2000, linked: bool = True, gap: float = 0.5, noise: float = 0.0, random_state: Any = None
) -> Manifold:
    """Return two circles of radius 1 in space, linked or side by side; `place`: circle, angle.

    What differs between the two is how they lie in space, which no persistence of the points alone can tell.

    Parameters
    ----------
    n : int
        Points.
    linked : bool, default True
        Whether each goes through the other; otherwise they lie in one plane, `gap` apart.
    gap : float, default 0.5
        Least distance of two unlinked ones.
    noise : float, default 0
        Standard deviation in every direction.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    check_number(gap, "gap", low=0.0)
    rng = _begin(n, noise, random_state)
    which, angle = rng.integers(2, size=n), rng.uniform(0, 2 * np.pi, n)
    x, y, zero = np.cos(angle), np.sin(angle), np.zeros(n)
    first = np.stack([x, y, zero], axis=1)
    second = np.stack([x + 1, zero, y], axis=1) if linked else np.stack([x + 2 + gap, y, zero], axis=1)
    X = np.where(which[:, None] == 0, first, second)
    return _made(X, np.stack([which, angle], axis=1), noise, rng, 1, (2, 2, 0), 2)


def arc(angle: Floats, center: float, width: float) -> Bools:
    """Return which angles lie within `width` / 2 of `center`, all in radians, round the circle."""
    return np.abs((np.asarray(angle) - center + np.pi) % (2 * np.pi) - np.pi) <= width / 2


def _begin(n: int, noise: float, random_state: Any) -> np.random.Generator:
    check_number(n, "n", low=1, integer=True)
    check_number(noise, "noise", low=0.0)
    return as_generator(random_state)


def _made(
    X: Floats,
    place: Floats,
    noise: float,
    rng: np.random.Generator,
    dimension: int,
    betti: tuple[int, int, int],
    embeds_in: int,
) -> Manifold:
    X = X + noise * rng.normal(size=X.shape) if noise else X
    place = place[:, None] if place.ndim == 1 else place.astype(np.float64)
    return Manifold(X, place, dimension, betti, embeds_in)


def _weighted(n: int, density: Any, rng: np.random.Generator) -> Floats:
    """Return angles drawn by a density of at most 1."""
    angle = rng.uniform(0, 2 * np.pi, n)
    waiting = np.flatnonzero(rng.uniform(size=n) > density(angle))
    while len(waiting):
        angle[waiting] = rng.uniform(0, 2 * np.pi, len(waiting))
        waiting = waiting[rng.uniform(size=len(waiting)) > density(angle[waiting])]
    return angle
