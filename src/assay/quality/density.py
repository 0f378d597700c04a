"""Rarity density: how much evidence the normal rows give at a point, by k-nearest-neighbour balls.

In: normal rows (n, d), real anomalies (m, d) to choose k, points (l, d); all standardised by the caller. Out:
a pseudo-count N(x) >= 0 per point: about 1 for a typical normal row, 0 where the domain has no mass.

Normal i owns the open ball of radius r_i(k), the distance to its k-th other normal. The rarity of x is the
radius of the smallest ball that holds it (Han et al.); its inverse v(x), 0 outside every ball, is normalised
over the normals themselves:

    density(x) = v(x) / (v(x) + Σ_i v(x_i)),    pseudo_count(x) = n · density(x).

Every point is normalised on its own, never against the other points. k must be large enough that the known
real anomalies are not outside every ball: with k_a the least k that captures anomaly a, p_a = (k_a - k_min) /
(n - 1 - k_min), and

    k* = k_min + floor((n - 1 - k_min) · Beta⁻¹(level; 1 + Σ p_a, 1 + m - Σ p_a)).

Few anomalies make that Beta wide, hence k* large: that is intended. Defaults k_min = 5, level = .95 (Perini
et al.). A radius of 0 (more than k identical rows) counts as the smallest positive one, so that duplicates do
not lose their ball; the reference code gives such rows no density. Time O(n² (d + log n) + l n d), memory
O(block · n).

Beside the published density stands a smooth one, which EAP takes with ``density="smooth"``:

    N(x) = 2 ** -(d(x) / s)²,

d(x) the distance to the `SMOOTH_NEIGHBORS`-th nearest normal and s the 90 % quantile of d over the known real
anomalies: evidence fades where real anomalies end, instead of stopping at the rim of the last ball. It is
ours, not published; `docs/guide/trial.md` has the figures.

The functions work for M random subsets of the normals at once, the estimator for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from assay.base import QualityScore
from assay.core.validation import Floats, Ints, check_number, normals_and_anomalies
from assay.kernels.balls import Members, ball_radii, capture_counts, kth_distances, smallest_balls
from assay.kernels.distances import squared_distances

Order = npt.NDArray[np.int32]
#: Bytes the sorted distances may take before they are computed twice instead of kept.
CACHE_BYTES = 512 * 2**20
#: Neighbour and quantile of the smooth evidence.
SMOOTH_NEIGHBORS, SMOOTH_LEVEL = 5, 0.9
#: Radius that stands for zero where all rows of a subset are identical.
TINY = 1e-12


@dataclass(frozen=True)
class Balls:
    """The fitted balls of M subsets of one set of normal rows.

    Attributes
    ----------
    reference : array of shape (n, d)
        The normal rows.
    radii : array of shape (n, M)
        Squared radius of each row's ball in each subset; 0 where the subset does not hold the row.
    k : array of int of shape (M,)
        The neighbour that sets the radii.
    size : array of int of shape (M,)
        Rows in each subset.
    mass : array of shape (M,)
        Σ_i v(x_i) over the subset's rows.
    """

    reference: Floats
    radii: Floats
    k: Ints
    size: Ints
    mass: Floats

    def pseudo_count(self, X: Floats) -> Floats:
        """Return N(x) for each row of `X` (l, d) and subset: (l, M)."""
        v = 1.0 / np.sqrt(smallest_balls(X, self.reference, self.radii))
        counts: Floats = self.size * v / (v + self.mass)
        return counts


@dataclass(frozen=True)
class SmoothEvidence:
    """The smooth evidence of M subsets of one set of normal rows.

    Attributes
    ----------
    reference : array of shape (n, d)
        The normal rows.
    members : array of uint8 of shape (n, M)
        Which subset holds which of them.
    reach : array of shape (M,)
        The distance s at which a row has half an observation.
    """

    reference: Floats
    members: Members
    reach: Floats

    def pseudo_count(self, X: Floats) -> Floats:
        """Return N(x) for each row of `X` (l, d) and subset: (l, M)."""
        return np.asarray(np.exp2(-np.square(smooth_distances(X, self.reference, self.members) / self.reach)))


def smooth_distances(X: Floats, reference: Floats, members: Members) -> Floats:
    """Return d(x), the distance of each row to its `SMOOTH_NEIGHBORS`-th nearest normal of each subset: (l, M)."""
    out = np.empty((len(X), members.shape[1]))
    step = max(1, CACHE_BYTES // (24 * len(reference)))
    for first in range(0, len(X), step):
        d2 = squared_distances(X[first : first + step], reference)
        order = np.argsort(d2, axis=1).astype(np.int32)
        ordered = np.take_along_axis(d2, order, axis=1)
        kth_distances(ordered, order, members, SMOOTH_NEIGHBORS, out[first : first + step])
    return np.asarray(np.sqrt(out))


def fit_smooth(normals: Floats, anomalies: Floats, members: Members) -> SmoothEvidence:
    """Measure the reach of the smooth evidence in every subset; parameters as for `fit_balls`."""
    reach = np.quantile(smooth_distances(anomalies, normals, members), SMOOTH_LEVEL, axis=0)
    return SmoothEvidence(reference=normals, members=members, reach=np.maximum(reach, TINY))


def k_star(captures: npt.NDArray[Any], n_normals: int, k_min: int = 5, level: float = 0.95) -> int:
    """Return k* from the least k that captures each real anomaly.

    Parameters
    ----------
    captures : array of shape (m,)
        k_a of each anomaly; values beyond n_normals - 1 count as that.
    n_normals : int
        Rows of the reference.
    k_min : int
        Smallest k allowed.
    level : float
        Quantile of the Beta posterior of the share p_a.
    """
    if n_normals <= k_min + 1:
        return n_normals - 1
    span = n_normals - 1 - k_min
    shares = (np.clip(captures, k_min, n_normals - 1) - k_min) / span
    total, m = float(shares.sum()), len(shares)
    quantile = float(beta.ppf(level, 1.0 + total, 1.0 + m - total))
    return int(np.clip(int(quantile * span + k_min), k_min, n_normals - 1))


def fit_balls(
    normals: Floats,
    anomalies: Floats,
    members: Members,
    *,
    k: int | None = None,
    k_min: int = 5,
    level: float = 0.95,
) -> Balls:
    """Choose k in every subset and measure its balls.

    Parameters
    ----------
    normals : array of shape (n, d)
        The normal rows.
    anomalies : array of shape (m, d)
        All known real anomalies; they choose k and are no part of the reference.
    members : array of uint8 of shape (n, M)
        Which subset holds which normal row; at least two rows each.
    k : int, optional
        Use this k in every subset instead of k*.
    k_min, level : int, float
        See `k_star`.
    """
    n, M = members.shape
    size = members.sum(axis=0, dtype=np.int64)
    step = max(1, min(n, CACHE_BYTES // (12 * n * 4)))
    blocks = [np.arange(first, min(first + step, n)) for first in range(0, n, step)]
    kept: dict[int, tuple[Floats, Order]] = {}

    def ordered(block: int) -> tuple[Floats, Order]:
        if block in kept:
            return kept[block]
        d2 = squared_distances(normals[blocks[block]], normals)
        order = np.argsort(d2, axis=1).astype(np.int32)
        result = np.take_along_axis(d2, order, axis=1), order
        if n * n * 12 <= CACHE_BYTES:
            kept[block] = result
        return result

    if k is None:
        captures = np.full((len(anomalies), M), n, dtype=np.int32)
        for number, rows in enumerate(blocks):
            to_anomalies = squared_distances(normals[rows], anomalies)
            capture_counts(*ordered(number), rows, members, to_anomalies, captures)
        chosen = np.array([k_star(captures[:, b], int(size[b]), k_min, level) for b in range(M)])
    else:
        chosen = np.minimum(k, size - 1)
    radii = np.zeros((n, M))
    for number, rows in enumerate(blocks):
        ball_radii(*ordered(number), rows, members, chosen.astype(np.int32), radii)
    positive = np.where(radii > 0, radii, np.inf).min(axis=0)
    floor = np.where(np.isfinite(positive), positive, TINY**2)
    radii = np.where((radii == 0) & (members == 1), floor, radii)
    mass = np.zeros(M)
    for rows in blocks:
        inverse = 1.0 / np.sqrt(smallest_balls(normals[rows], normals, radii))
        mass += (inverse * members[rows]).sum(axis=0)
    return Balls(reference=normals, radii=radii, k=chosen.astype(np.int64), size=size, mass=mass)


class RarityDensity(QualityScore):
    """Density of the normals by k-nearest-neighbour balls, k chosen from the real anomalies.

    As a quality score it is an ablation of EAP: it ranks rows that look normal highest.

    Parameters
    ----------
    k : int, optional
        Neighbour that sets the radii; chosen from the real anomalies by default.
    min_neighbors : int, default 5
        Smallest k allowed (Perini et al.).
    level : float in (0, 1), default .95
        Quantile of the Beta posterior that chooses k (Perini et al.).

    Attributes
    ----------
    k_ : int
        The k in use.
    balls_ : Balls
        The fitted balls, one subset holding every normal row.

    References
    ----------
    Han, Choi, Choi, Kim and Lee: Rarity Score. ICLR 2023. Perini, Rudolph, Schmedding and Qiu:
    Uncertainty-aware Evaluation of Auxiliary Anomalies with the Expected Anomaly Posterior. TMLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import RarityDensity
    >>> X = np.array([[0.0], [1.0], [3.0], [7.0], [1.5]])
    >>> density = RarityDensity(k=1).fit(X, [0, 0, 0, 0, 1])
    >>> density.rarity([[0.5], [2.0], [8.0], [20.0]]).tolist()
    [1.0, 2.0, 4.0, 0.0]
    """

    def __init__(self, k: int | None = None, min_neighbors: int = 5, level: float = 0.95) -> None:
        self.k = k
        self.min_neighbors = min_neighbors
        self.level = level

    def _check_parameters(self) -> None:
        if self.k is not None:
            check_number(self.k, "k", low=1, integer=True)
        check_number(self.min_neighbors, "min_neighbors", low=1, integer=True)
        check_number(self.level, "level", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        needed = 1 if self.k is None else 0
        normals, anomalies = normals_and_anomalies(y, min_normals=2, min_anomalies=needed)
        members = np.ones((len(normals), 1), dtype=np.uint8)
        self.balls_ = fit_balls(X[normals], X[anomalies], members, k=self.k, k_min=self.min_neighbors, level=self.level)
        self.k_ = int(self.balls_.k[0])

    def rarity(self, X: object) -> Floats:
        """Return the radius of the smallest ball that holds each row, 0 where none does: shape (l,)."""
        radii = smallest_balls(self._fitted_table(X), self.balls_.reference, self.balls_.radii)[:, 0]
        return np.where(np.isfinite(radii), np.sqrt(radii), 0.0)

    def pseudo_count(self, X: object) -> Floats:
        """Return N(x): about 1 for a typical normal row, 0 outside every ball: shape (l,)."""
        return self._quality(self._fitted_table(X))

    def _fitted_table(self, X: object) -> Floats:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return self._check_table(X, reset=False)

    def _quality(self, X_aux: Floats) -> Floats:
        return self.balls_.pseudo_count(X_aux)[:, 0]
