"""Certificates: two opposite points of a sphere that an encoder maps to one code, found with certainty.

In: a continuous encoder E of at most n numbers, and a sphere of dimension n in its input space (or any surface with a
map from opposite directions). Out: a direction u with E(x(u)) = E(x(-u)), and the reconstruction error that follows.

Borsuk and Ulam: such a u exists whatever E is. A decoder returns one y for both points, so that the larger of |x - y|
and |x' - y| is at least half of |x - x'|: the radius. If the codes agree only to rounding and the decoder returns y
and y', the larger error is still at least (|x - x'| - |y - y'|) / 2.

The search is the theorem's own proof made finite: g(u) = E(x(u)) - E(x(-u)) is odd, and what is odd cannot miss 0.

- One number: g has opposite signs at u and -u; the half circle between them is halved for ever: bisection.
- Two: along the equator g turns around 0 an odd number of times. The hemisphere is cut into triangles, and these into
  halves; the turns along their borders add up, so that one half has an odd number again. Borders are sampled until g
  turns by less than a radian from one sample to the next, however sharp E is.
- More: on a triangulation of the sphere that equals its antipode, an odd function that is linear in every simplex has a
  zero. The simplex that holds one is halved at its longest edge, with all simplices at that edge, and again one holds a
  zero. Sharp encoders can send this search round the sphere for longer than is worth it: then it is `undecided`.

Nothing rests on a grid. An encoder that jumps (a quantiser, an argmax, a look-up) escapes: the search closes in on a
point where the codes of opposite points still differ. Then the state is ``"jump"`` and nothing is guaranteed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from assay.core.validation import Floats, InputError, as_vector, check_number

Map = Callable[[Floats], Floats]
#: Simplices smaller than this, in radians, are as small as rounding allows.
FINEST = 4e-15
#: A share of the largest difference of codes that rounding cannot explain: at the finest simplex it is a jump.
JUMP = 1e-3
#: Halvings after which a search for three numbers or more gives up.
MOST_STEPS, MOST_ASKED = 4000, 50_000
#: Share of the differences that is added, linear and odd, so that no two corners lie on one line with 0 by chance.
TILT = 1e-14


class Certificate(NamedTuple):
    """A pair of opposite points with the same code, and what follows.

    Attributes
    ----------
    x, opposite : array of shape (N,)
        The points.
    error : float
        What the larger of both reconstruction errors is at least: for the decoder that was given, or, without one, for
        every decoder that returns the same point for both codes. 0 unless found.
    gap : float
        Distance of the two codes.
    state : {"found", "jump", "undecided"}
        ``"jump"``: the encoder is not continuous, as far as double precision can tell, and the theorem does not apply.
    measured : float
        The larger of both errors of the decoder that was given; NaN without one.
    direction : array of shape (k + 1,)
        u.
    steps : int
        How often something was halved.
    """

    x: Floats
    opposite: Floats
    error: float
    gap: float
    state: str
    measured: float
    direction: Floats
    steps: int


def sphere_certificate(
    encoder: Map, center: Any, radius: float, *, decoder: Map | None = None, basis: Any = None, tolerance: float = 1e-13
) -> Certificate:
    """Return two opposite points of a sphere with the same code.

    Parameters
    ----------
    encoder : callable
        Rows (n, N) -> codes (n, k), continuous, in double precision if the pair is to be exact.
    center : array of shape (N,)
        Of the sphere.
    radius : float
        Of the sphere.
    decoder : callable, optional
        Codes (n, k) -> rows (n, N), for the guaranteed and the measured error of this very autoencoder.
    basis : array of shape (m, N), optional
        Orthonormal directions that the sphere of dimension m - 1 lies in; all N by default. Where m - 1 > k, a great
        sphere of dimension k in the first k + 1 of them is used.
    tolerance : float, default 1e-13
        Codes this close, relative to the largest difference met, count as equal.

    Returns
    -------
    Certificate
        The pair, and the error that no decoder can avoid.

    Raises
    ------
    InputError
        If the codes have at least as many numbers as the sphere's surroundings: no theorem applies.

    Examples
    --------
    >>> found = sphere_certificate(lambda X: X[:, :1] + X[:, 1:] ** 3, [0.0, 0.0], 1.0)
    >>> found.gap < 1e-12, found.error
    (True, 1.0)
    """
    center = as_vector(center, "center")
    check_number(radius, "radius", low=0.0, strict_low=True)
    frame = np.eye(len(center)) if basis is None else np.asarray(basis, dtype=np.float64)
    if frame.ndim != 2 or frame.shape[1] != len(center) or not np.allclose(frame @ frame.T, np.eye(len(frame))):
        raise InputError(f"basis has shape {frame.shape}: give orthonormal rows of {len(center)} numbers")
    return antipodal_certificate(
        encoder, lambda u: center + radius * (u @ frame), len(frame), decoder=decoder, tolerance=tolerance
    )


def antipodal_certificate(
    encoder: Map, surface: Map, m: int, *, decoder: Map | None = None, tolerance: float = 1e-13
) -> Certificate:
    """Return two points of any surface, from opposite directions, with the same code.

    Parameters
    ----------
    encoder : callable
        Rows (n, N) -> codes (n, k), continuous.
    surface : callable
        Unit directions (n, m) -> points of the surface (n, N), continuous: what makes a sphere of the surface.
    m : int
        Numbers of a direction, more than k.
    decoder : callable, optional
        Codes (n, k) -> rows (n, N).
    tolerance : float, default 1e-13
        Codes this close, relative to the largest difference met, count as equal.

    Returns
    -------
    Certificate
        The pair, and the error that no decoder can avoid.

    Raises
    ------
    InputError
        If k >= m.
    """
    check_number(tolerance, "tolerance", low=0.0, high=1.0)
    k = _codes(encoder, surface(np.eye(m)[:1])).shape[1]
    if k >= m:
        raise InputError(f"encoder returns {k} numbers for a sphere of {m - 1} dimensions: give one that returns fewer")

    def points(u: Floats) -> Floats:
        full = np.zeros(m)
        full[: k + 1] = u
        return surface(np.stack([full, -full]))

    def odd(u: Floats) -> Floats:
        codes = _codes(encoder, points(u))
        return codes[0] - codes[1]

    search = (_Turns if k == 2 else _Mesh)(odd, k, tolerance)
    search.run()
    u = search.best
    pair = points(u)
    codes = _codes(encoder, pair)
    gap = float(np.linalg.norm(codes[0] - codes[1]))
    close = gap <= JUMP * search.largest
    state = "undecided" if not (search.done() or search.exhausted) else "found" if close else "jump"
    apart = float(np.linalg.norm(pair[0] - pair[1]))
    error, measured = apart / 2, float("nan")
    if decoder is not None:
        back = np.asarray(decoder(codes), dtype=np.float64)
        error = max(0.0, (apart - float(np.linalg.norm(back[0] - back[1]))) / 2)
        measured = float(np.linalg.norm(pair - back, axis=1).max())
    return Certificate(pair[0], pair[1], error if state == "found" else 0.0, gap, state, measured, u, search.steps)


def _codes(encoder: Map, X: Floats) -> Floats:
    codes = np.asarray(encoder(X), dtype=np.float64)
    codes = codes[:, None] if codes.ndim == 1 else codes
    if codes.ndim != 2 or len(codes) != len(X) or not np.isfinite(codes).all():
        raise InputError(f"encoder returned codes of shape {codes.shape} for {len(X)} rows, or not finite ones")
    return codes


Simplex = tuple[int, ...]
Arc = tuple[Floats, Floats]  # directions along a border, and g there


class _Search:
    """What every search keeps: the place of the least |g| so far, and the largest |g|."""

    def __init__(self, odd: Map, k: int, tolerance: float) -> None:
        self.odd, self.k, self.tolerance = odd, k, tolerance
        self.best, self.least, self.largest, self.steps = np.zeros(k + 1), np.inf, 0.0, 0
        self.asked = 0
        self.exhausted = False

    def note(self, u: Floats, g: Floats) -> None:
        size = float(np.linalg.norm(g))
        self.largest = max(self.largest, size)
        if size < self.least:
            self.best, self.least = u, size

    def done(self) -> bool:
        return self.least <= self.tolerance * self.largest

    def look(self, u: Floats) -> None:
        """Look at the zero of a linear g: near a root of a smooth g it is Newton's step."""
        norm = float(np.linalg.norm(u))
        if norm > 0:
            self.note(u / norm, self.odd(u / norm))


class _Turns(_Search):
    """Two numbers: halves of triangles around whose border g turns an odd number of times."""

    def run(self) -> None:
        x, y, z = np.eye(3)
        equator = [self._arc(x, y), self._arc(y, -x)]
        equator += [(-u, -g) for u, g in equator]
        up = [self._arc(foot, z) for foot in (x, y, -x, -y)]
        triangles = [(equator[i], up[(i + 1) % 4], _reversed(up[i])) for i in range(4)]
        triangle = next((sides for sides in triangles if _turns(sides) % 2), triangles[0])
        while not self.done() and self.asked < MOST_ASKED:
            self.look(self._linear_zero(triangle))
            lengths = [float(np.linalg.norm(u[0] - u[-1])) for u, _ in triangle]
            if max(lengths) < FINEST:
                self.exhausted = True
                return
            first = int(np.argmax(lengths))
            triangle = self._half([self._refined(*triangle[(first + i) % 3]) for i in range(3)])
            self.steps += 1

    def _half(self, sides: list[Arc]) -> tuple[Arc, ...]:
        (u, g), second, third = sides
        middle = int(np.argmin(np.linalg.norm(u - (u[0] + u[-1]) / 2, axis=1)))
        across = self._arc(u[middle], second[0][-1])
        left = ((u[: middle + 1], g[: middle + 1]), across, third)
        right = ((u[middle:], g[middle:]), second, _reversed(across))
        return left if _turns(left) % 2 else right

    def _arc(self, a: Floats, b: Floats) -> Arc:
        return self._refined(np.stack([a, b]), np.stack([self._g(a), self._g(b)]))

    def _g(self, u: Floats) -> Floats:
        self.asked += 1
        g = self.odd(u)
        self.note(u, g)
        return g

    def _refined(self, u: Floats, g: Floats) -> Arc:
        """Halve the pieces of an arc until there are eight and g turns by less than a radian in each."""
        while True:
            wide = np.abs(_angles(g)) > 1.0 if len(u) > 8 else np.ones(len(u) - 1, dtype=bool)
            wide &= np.linalg.norm(np.diff(u, axis=0), axis=1) > FINEST / 4
            # A g that turns at every scale, such as noise, is never followed: the search ends undecided.
            if not wide.any() or self.asked >= MOST_ASKED:
                return u, g
            places = np.flatnonzero(wide)
            middles = u[places] + u[places + 1]
            middles /= np.linalg.norm(middles, axis=1, keepdims=True)
            u = np.insert(u, places + 1, middles, axis=0)
            g = np.insert(g, places + 1, np.stack([self._g(middle) for middle in middles]), axis=0)

    def _linear_zero(self, triangle: tuple[Arc, ...]) -> Floats:
        corners = np.stack([u[0] for u, _ in triangle])
        weights = _weights(np.stack([g[0] for _, g in triangle], axis=1))
        return np.nan_to_num(weights, nan=1 / 3) @ corners


def _reversed(arc: Arc) -> Arc:
    return arc[0][::-1], arc[1][::-1]


def _angles(g: Floats) -> Floats:
    """Return by how much g turns from each sample to the next, in (-π, π]."""
    steps = np.diff(np.arctan2(g[:, 1], g[:, 0]))
    return (steps + np.pi) % (2 * np.pi) - np.pi


def _turns(sides: Iterable[Arc]) -> int:
    return round(sum(float(_angles(g).sum()) for _, g in sides) / (2 * np.pi))


def _weights(values: Floats) -> Floats:
    """Return the barycentric coordinates of the zero of a linear g (k, k + 1); NaN where it has none or many."""
    size = np.abs(values).max()
    try:
        system = np.vstack([values / (size or 1.0), np.ones(values.shape[1])])
        return np.linalg.solve(system, np.eye(values.shape[1])[-1])
    except np.linalg.LinAlgError:
        return np.full(values.shape[1], np.nan)


class _Mesh(_Search):
    """Any k: a triangulation of the sphere, one of each two opposite simplices kept, refined where g has a zero.

    Corner i > 0 is `corners[i - 1]`, corner -i its antipode, where g has the other sign to the bit. A simplex is a
    tuple of corners by size, the first of them positive.
    """

    def __init__(self, odd: Map, k: int, tolerance: float) -> None:
        super().__init__(odd, k, tolerance)
        self.corners: list[Floats] = []
        self.values: list[Floats] = []
        self.at_edge: dict[tuple[int, int], set[Simplex]] = {}
        self.holding: dict[Simplex, Floats] = {}  # simplices with a zero -> its barycentric coordinates
        # Irrational-looking and fixed: the same search for the same encoder.
        self.tilt = TILT * np.random.default_rng(0).normal(size=(k + 1, k))

    def run(self) -> None:
        for axis in np.eye(self.k + 1):
            self._corner(axis)
        numbers = range(2, self.k + 2)
        for signs in product((1, -1), repeat=self.k):
            self._add((1, *(sign * number for sign, number in zip(signs, numbers))))
        while not self.done() and self.steps < MOST_STEPS:
            simplex = next(reversed(self.holding), None) or self._nearly()
            weights = self.holding.get(simplex, np.full(len(simplex), 1.0 / len(simplex)))
            self.look(weights @ np.stack([self._place(corner) for corner in simplex]))
            edge = max(combinations(simplex, 2), key=lambda edge: self._length(*edge))
            if self._length(*edge) < FINEST:
                self.exhausted = True
                return
            self._halve(*edge)

    def _corner(self, u: Floats) -> int:
        g = self.odd(u)
        self.note(u, g)
        self.corners.append(u)
        self.values.append(g)
        return len(self.corners)

    def _place(self, corner: int) -> Floats:
        return self.corners[corner - 1] if corner > 0 else -self.corners[-corner - 1]

    def _value(self, corner: int) -> Floats:
        g = self.values[abs(corner) - 1] + self.largest * (self.corners[abs(corner) - 1] @ self.tilt)
        return g if corner > 0 else -g

    def _length(self, a: int, b: int) -> float:
        return float(np.linalg.norm(self._place(a) - self._place(b)))

    def _add(self, simplex: Simplex) -> None:
        simplex = _upright(simplex)
        for edge in combinations(simplex, 2):
            self.at_edge.setdefault(_edge(*edge), set()).add(simplex)
        weights = self._zero(simplex)
        if weights.min() >= 0:
            self.holding[simplex] = weights

    def _remove(self, simplex: Simplex) -> None:
        for edge in combinations(simplex, 2):
            self.at_edge[_edge(*edge)].discard(simplex)
        self.holding.pop(simplex, None)

    def _zero(self, simplex: Simplex) -> Floats:
        return _weights(np.stack([self._value(corner) for corner in simplex], axis=1))

    def _nearly(self) -> Simplex:
        """Return the simplex that misses a zero by least: only rounding can leave none that holds one."""
        everything: Iterable[Simplex] = sorted(set().union(*self.at_edge.values()))
        return max(everything, key=lambda simplex: np.nan_to_num(self._zero(simplex).min(), nan=-np.inf))

    def _halve(self, a: int, b: int) -> None:
        """Put a corner in the middle of an edge, and halve all simplices at it."""
        self.steps += 1
        a, b = _edge(a, b)
        middle = self._place(a) + self._place(b)
        new = self._corner(middle / np.linalg.norm(middle))
        for simplex in sorted(self.at_edge.pop((a, b))):
            sign = 1 if a in simplex else -1
            self.at_edge[(a, b)] = {simplex}
            self._remove(simplex)
            for old in (a, b):
                self._add(tuple(new * sign if corner == old * sign else corner for corner in simplex))
        self.at_edge.pop((a, b), None)


def _upright(simplex: Simplex) -> Simplex:
    """Return the simplex or its antipode, corners by size, the first positive."""
    ordered = tuple(sorted(simplex, key=abs))
    return ordered if ordered[0] > 0 else tuple(-corner for corner in ordered)


def _edge(a: int, b: int) -> tuple[int, int]:
    a, b = sorted((a, b), key=abs)
    return (a, b) if a > 0 else (-a, -b)
