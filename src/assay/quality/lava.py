"""LAVA: how much an auxiliary row, called an anomaly, adds to the transport between the data and themselves.

In: labelled rows (n, d), standardised by the caller; auxiliary rows (l, d), each judged alone. Out: one value a
row, in squared units of the features, higher = better: minus the calibrated gradient.

Moving row x with label c onto row x' with label c' costs the way and the difference between the classes,

    C = |x - x'|² / 2 + W(c, c'),

W being the transport cost from the rows of one class to those of the other (Just et al.). j joins the training
rows as an anomaly; the training rows are where all is moved to. With f the dual potential of transport with
entropy ε = blur², f_j is the price of j's mass, and the value is

    -(f_j (1 + 1/n) - Σ f / n)                           (Σ over the n + 1 rows).

``exact=False``, the default, is the derivative at no mass, which is what the gradient means: the training rows
are moved onto themselves once, f = g, and one soft minimum extends f to j,

    f_j = -ε log mean_e exp((g_e - C(j, e)) / ε) + Δ_j,

with Δ_j the first-order growth of W(anomaly, normal) when j joins the anomalies, got in the same way from the
potentials between the classes; it lifts the price of all anomalies. ``exact=True`` solves transport with j, and
both W with j, for each auxiliary row, to convergence: O(n²) an update, thousands of updates a row.

How the two agree (`tests/test_rivals_without_models.py`): where ε is of the size of the squared distances
between neighbours, rank correlation > .99 (2 columns, ε = 2). At the default blur it is .4-.7, for a reason:
with ε far below these distances, j's mass, once solved to convergence, is shared among all rows by chains of
short moves, and the value is minus the mean length of the shortest chain from j. The published estimator stops
its solver after some ten updates, long before; a solver on its schedule ranks as the default does
(.97-.999). So the default is the derivative.

Defaults: blur = √.1, no debiasing (Perini et al.). Departures: their code halves W once more than C asks for;
W counts in full here. `sinkhorn` stops once each mass is right to .1/n of itself, so that a newcomer's mass is
seen; where `max_iter` stops it first, fit answers at the blur reached (`blur_`), an exact solve is refused. The
default needs O(n²) an update at fit, some dozens of them, O(l n d) for l rows, memory O(n²).
"""

from __future__ import annotations

import numpy as np

from assay.base import QualityScore
from assay.core.validation import ANOMALY, Floats, InputError, Ints, check_number, normals_and_anomalies
from assay.kernels.distances import squared_distances
from assay.kernels.transport import Potentials, self_sinkhorn, sinkhorn, soft_minimum

#: Bytes that the costs of one block of auxiliary rows take.
BLOCK_BYTES = 16 * 2**20
#: Masses are right to this share of one row in n.
TOLERANCE = 0.1


def _cost(rows: Floats, others: Floats) -> Floats:
    cost: Floats = squared_distances(rows, others) / 2
    return cost


class Lava(QualityScore):
    """Minus the calibrated gradient of class-wise optimal transport at each auxiliary row.

    Parameters
    ----------
    blur : float, default √.1
        Length below which transport does not look, in the unit of the features; ε = blur² (Perini et al.).
    exact : bool, default False
        Solve transport anew with each auxiliary row instead of taking the derivative: another ranking where
        the blur is small, and slow.
    max_iter : int, default 10 000
        Updates a solve may take.

    Attributes
    ----------
    X_, y_ : arrays of shape (n, d) and (n,)
        The labelled rows.
    class_costs_ : array of shape (2, 2)
        W: the transport cost between the rows of two classes.
    potential_ : array of shape (n,)
        f = g of the training rows moved onto themselves.
    class_potential_ : array of shape (n_normals,)
        The normals' potential when the anomalies are moved onto them.
    anomaly_price_ : float
        Mean potential of the anomalies there.
    blur_ : float
        The largest blur that a solve ended at: `blur` unless `max_iter` was too small.
    n_iter_ : int
        Updates of the longest solve.

    References
    ----------
    Just, Kang, Wang, Zeng, Ko, Jin and Jia: LAVA: Data Valuation without Pre-Specified Learning Algorithms.
    ICLR 2023. Adapted to auxiliary anomalies by Perini, Rudolph, Schmedding and Qiu. TMLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import Lava
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> X[95:] += 3
    >>> y = np.repeat([0, 1], [95, 5])
    >>> among_anomalies, nowhere = Lava().fit(X, y).quality([[3.0, 3.0], [-9.0, 9.0]])
    >>> bool(among_anomalies > nowhere)
    True
    """

    def __init__(self, blur: float = 0.1**0.5, exact: bool = False, max_iter: int = 10_000) -> None:
        self.blur = blur
        self.exact = exact
        self.max_iter = max_iter

    def _check_parameters(self) -> None:
        check_number(self.blur, "blur", low=1e-100, high=1e100)
        check_number(self.max_iter, "max_iter", low=2, integer=True)

    def _solve(self, cost: Floats, *, symmetric: bool = False) -> Potentials:
        solver = self_sinkhorn if symmetric else sinkhorn
        return solver(cost, float(self.blur) ** 2, TOLERANCE / len(self.X_), int(self.max_iter))

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normal, anomalous = (X[rows] for rows in normals_and_anomalies(y, min_normals=1, min_anomalies=1))
        self.X_, self.y_ = X, y
        between = self._solve(_cost(anomalous, normal))
        within = [self._solve(_cost(rows, rows), symmetric=True) for rows in (normal, anomalous)]
        self.class_costs_ = np.array([[within[0].value, between.value], [between.value, within[1].value]])
        onto_itself = self._solve(_cost(X, X) + self.class_costs_[y][:, y], symmetric=True)
        self.potential_ = onto_itself.g
        self.class_potential_, self.anomaly_price_ = between.g, float(between.f.mean())
        solved = [between, *within, onto_itself]
        self.blur_ = float(np.sqrt(max(potentials.epsilon for potentials in solved)))
        self.n_iter_ = max(potentials.n_iter for potentials in solved)

    def _quality(self, X_aux: Floats) -> Floats:
        if self.exact:
            return np.array([self._solved_with(row) for row in X_aux])
        step = max(1, BLOCK_BYTES // (8 * len(self.X_)))
        return np.concatenate([self._derivative(X_aux[i : i + step]) for i in range(0, len(X_aux), step)])

    def _derivative(self, rows: Floats) -> Floats:
        epsilon, n, normal = self.blur_**2, len(self.y_), self.y_ != ANOMALY
        m = n - int(normal.sum())
        cost = _cost(rows, self.X_)
        growth = soft_minimum(cost[:, normal], self.class_potential_, epsilon) - self.anomaly_price_
        price = soft_minimum(cost + self.class_costs_[ANOMALY, self.y_], self.potential_, epsilon)
        return -(price - self.potential_.mean() + growth / (m + 1) * (1 - m / n))

    def _solved_with(self, row: Floats) -> float:
        X, y, n = np.vstack([self.X_, row]), np.append(self.y_, ANOMALY), len(self.y_)
        costs = self.class_costs_.copy()
        solved = [self._solve(_cost(X[y == ANOMALY], self.X_[self.y_ == label])) for label in (0, 1)]
        costs[ANOMALY] = [potentials.value for potentials in solved]
        solved.append(self._solve(_cost(X, self.X_) + costs[y][:, self.y_]))
        if not all(potentials.converged for potentials in solved):
            raise InputError(
                f"max_iter={self.max_iter}: transport with a row of X_aux has not converged; raise max_iter or blur"
            )
        f = solved[-1].f
        return float(-(f[-1] * (1 + 1 / n) - f.sum() / n))
