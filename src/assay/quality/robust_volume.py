"""Robust volume: how much an auxiliary row widens the volume that the training rows span.

In: labelled rows (n, d), standardised by the caller; auxiliary rows (l, d), each judged alone. Out: one gain a
row, a number without unit, usually > 0; it knows no labels and prefers what is far and in new directions.

Space is cut into cubes of side ω. With X~ the means of the C occupied cubes (one row a cube), c_i rows in cube
i and a = 1 / (10 C), the robust volume of a set of rows (Xu et al.) is

    RV = sqrt(det(X~ᵀ X~ + λ I)) · Π_i (1 - a^(c_i + 1)) / (1 - a),

and the value of j is its Shapley value when it joins the n training rows: the mean of RV(S + j) - RV(S) over
prefixes S of random permutations, one a permutation, their sizes spread evenly over 0..n.

j moves one cube's mean, or founds a cube, so a prefix is factorised once for all auxiliary rows: in whitened
coordinates (covariance X~ᵀ X~ + λ I = identity), det grows by 1 + |z|² for a new cube, and by
(1 + |z'|²)(1 - |z°|²) + (z°·z')² where the mean moves from z° to z' (matrix determinant lemma). Volumes have no
floating-point range (10^±thousands in 1000 columns), so a gain is RV(S) · (growth - 1) with RV(S) measured in
units of the largest prefix's volume: the published value times one positive constant, the same for all rows.
Volumes grow like |S|^(d/2): in many columns the longest prefixes decide alone.

Defaults ω = .05, 100 permutations (Perini et al.). Departures: cubes start at the smallest training value of
each column, so they do not shift with j (as in the paper; the code shifts them). Prefixes of all sizes count,
as Shapley's definition has it; the code starts at 50 rows. λ, here 1e-6 of the mean
square of the data, keeps d > n defined; there the value is essentially the distance to the span of the
training rows. With d > n all is computed in the span, plus one coordinate for what lies outside it: exact.
Time O(P (r³ + (n + l) r²)) for P permutations and r = min(n, d), memory O(P n + (n + l) d + r²).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from assay.base import QualityScore
from assay.core.validation import Bools, Floats, Ints, check_number, normals_and_anomalies

#: λ in units of the data's mean square.
RIDGE = 1e-6
#: Whitened coordinates that count as infinitely far: their squares stay finite.
FAR = 1e140


def log_robustness(counts: Ints, n_cubes: int) -> float:
    """Return log Π_i (1 - a^(c_i + 1)) / (1 - a) for cubes of `counts` rows, a = 1 / (10 n_cubes)."""
    a = 0.1 / max(n_cubes, 1)
    return float(np.log1p(-(a ** (counts + 1.0))).sum() - len(counts) * np.log1p(-a))


class RobustVolume(QualityScore):
    """Robust volume Shapley value of each auxiliary row among the training rows.

    Parameters
    ----------
    omega : float, default .05
        Side of the cubes, > 0, in the unit of the features (Perini et al.).
    n_permutations : int, default 100
        Random permutations, of one prefix each (Perini et al.).
    random_state : None, int or numpy.random.Generator
        Seed of the permutations.

    Attributes
    ----------
    basis_ : array of shape (r, d)
        Orthonormal rows that span the training rows; the identity where d <= n.
    rows_ : array of shape (n, r + 1)
        The training rows in that basis, those of a cube side by side; the last column, 0, is what lies outside.
    cube_of_ : array of int of shape (n,)
        Each of these rows' cube.
    cubes_ : array of shape (C, d)
        The cubes' positions, in sides from the origin.
    origin_ : array of shape (d,)
        Where the cubes start.
    prefixes_ : array of bool of shape (P, n)
        Which rows each prefix holds.
    ridge_ : float
        λ.

    References
    ----------
    Xu, Wu, Foo and Low: Validation Free and Replication Robust Volume-based Data Valuation. NeurIPS 2021.
    Adapted to auxiliary anomalies by Perini, Rudolph, Schmedding and Qiu. TMLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import RobustVolume
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> y = np.repeat([0, 1], [95, 5])
    >>> far, near = RobustVolume(random_state=0).fit(X, y).quality([[9.0, 9.0], [0.1, 0.1]])
    >>> bool(far > near)
    True
    """

    def __init__(self, omega: float = 0.05, n_permutations: int = 100, random_state: object = None) -> None:
        self.omega = omega
        self.n_permutations = n_permutations
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.omega, "omega", low=1e-100, high=1e100)
        check_number(self.n_permutations, "n_permutations", low=1, integer=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normals_and_anomalies(y, min_normals=1, min_anomalies=1)
        n, d = X.shape
        self.origin_ = X.min(axis=0)
        self.cubes_, cube_of = np.unique(self._cubes(X), axis=0, return_inverse=True)
        side_by_side = np.argsort(cube_of, kind="stable")
        self.cube_of_ = cube_of[side_by_side]
        self.basis_ = np.eye(d) if d <= n else np.linalg.svd(X, full_matrices=False)[2]
        self.rows_ = np.column_stack([X[side_by_side] @ self.basis_.T, np.zeros(n)])
        self.ridge_ = max(RIDGE * float(np.mean(X**2)), 1e-300)
        P = int(self.n_permutations)
        sizes = ((np.arange(P) + rng.uniform(size=P)) / P * (n + 1)).astype(np.int64)
        self.prefixes_ = np.zeros((P, n), dtype=bool)
        for prefix, size in zip(self.prefixes_, sizes):
            prefix[rng.permutation(n)[:size]] = True

    def _cubes(self, X: Floats) -> Floats:
        cubes: Floats = np.floor((X - self.origin_) / self.omega) + 0.0  # -0 is 0
        return cubes

    def _quality(self, X_aux: Floats) -> Floats:
        number = {cube.tobytes(): i for i, cube in enumerate(self.cubes_)}
        cube_of = np.array([number.get(cube.tobytes(), -1) for cube in self._cubes(X_aux)])
        inside = X_aux @ self.basis_.T
        outside = np.linalg.norm(X_aux - inside @ self.basis_, axis=1)
        rows = np.column_stack([inside, outside])
        total, largest = np.zeros(len(rows)), -np.inf
        for prefix in self.prefixes_:
            log_volume, log_growth = self._growth(prefix, rows, cube_of)
            unit = max(largest, log_volume)
            total = total * np.exp(largest - unit) + np.exp(log_volume - unit) * np.expm1(log_growth)
            largest = unit
        return total / len(self.prefixes_)

    def _growth(self, prefix: Bools, rows: Floats, cube_of: Ints) -> tuple[float, Floats]:
        """Return log RV(S) up to a constant, and log RV(S + j) / RV(S) for each of `rows` (l, r + 1)."""
        counts = np.bincount(self.cube_of_[prefix], minlength=len(self.cubes_))
        occupied = counts > 0
        n_cubes = int(occupied.sum())
        means = np.zeros((n_cubes, rows.shape[1]))
        if n_cubes:
            starts = np.flatnonzero(np.diff(self.cube_of_[prefix], prepend=-1))
            means = np.add.reduceat(self.rows_[prefix], starts, axis=0) / counts[occupied, None]
        gram = means.T @ means + self.ridge_ * np.eye(rows.shape[1])
        factor = np.linalg.cholesky(gram)
        whiten = solve_triangular(factor, np.eye(len(factor)), lower=True).T
        robustness = log_robustness(counts[occupied], n_cubes)
        log_volume = float(np.log(np.diag(factor)).sum()) + robustness

        z = np.clip(rows @ whiten, -FAR, FAR)
        founded = log_robustness(np.append(counts[occupied], 1), n_cubes + 1) - robustness
        log_growth = 0.5 * np.log1p((z * z).sum(axis=1)) + founded
        joins = np.flatnonzero((cube_of >= 0) & (counts[cube_of] > 0))
        if len(joins):
            c = counts[cube_of[joins]].astype(np.float64)
            before = means[(np.cumsum(occupied) - 1)[cube_of[joins]]] @ whiten
            after = (c[:, None] * before + z[joins]) / (c[:, None] + 1)
            stay, move = 1 - (before * before).sum(axis=1), 1 + (after * after).sum(axis=1)
            a = 0.1 / n_cubes
            log_growth[joins] = 0.5 * np.log(move * stay + (before * after).sum(axis=1) ** 2)
            log_growth[joins] += np.log1p(-(a ** (c + 2))) - np.log1p(-(a ** (c + 1)))
        return log_volume, log_growth
