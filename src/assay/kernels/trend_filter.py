"""The robust trend of a series: piecewise straight, fitted in absolute error, so that outliers do not bend it.

    s = argmin  w Σ_t |s_t - z_t| + λ Σ_t |s_{t-1} - 2 s_t + s_{t+1}|

is a linear programme. With D the second difference, its dual is max uᵀDz over |u| <= λ, |Dᵀu| <= w. An interior-point
method solves one banded system a step, in O(T), and takes some 15 to 30 steps, whatever T. Its iterates are feasible
on both sides, so the difference of the two objectives bounds the error of what is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg.lapack import dgbtrf, dgbtrs

from assay.core.validation import Floats

#: At most so many interior-point steps; 15 to 30 are taken.
STEPS = 200
#: Share of the way to the boundary that a step goes.
DAMPING = 0.99


def second_difference(s: Floats) -> Floats:
    """Return s_{t-1} - 2 s_t + s_{t+1}, (T - 2,)."""
    return s[:-2] - 2.0 * s[1:-1] + s[2:]


def trend_objective(s: Floats, z: Floats, penalty: float, weight: float = 1.0) -> float:
    """Return w Σ|s - z| + λ Σ|D²s|."""
    return float(weight * np.abs(s - z).sum() + penalty * np.abs(second_difference(s)).sum())


def trend_filter(z: Floats, penalty: float = 3.0, weight: float = 1.0, tolerance: float = 1e-8) -> Floats:
    """Return the L1 trend of a series under an L1 fit, (T,).

    Parameters
    ----------
    z : array of shape (T,)
        The series, finite; one of fewer than three steps is its own trend.
    penalty : float > 0, default 3
        λ on unit spacing; RobustTSF's code writes .3 on steps of .1 with a scale-free difference, which is 3.
    weight : float > 0, default 1
        w of the fit.
    tolerance : float, default 1e-8
        The objective is at most this share above the least (and at most this share of w times the median distance to
        the median, a step); a little more where rounding ends the search before.

    Returns
    -------
    array of shape (T,)
        The trend; where several are optimal, one from their middle.
    """
    centre = float(np.median(z))
    # The median distance, so that the tolerance is that of the bulk, however far some steps are away.
    scale = float(np.median(np.abs(z - centre)))
    scale = scale if scale > 0.0 else float(np.abs(z - centre).mean())
    if len(z) < 3 or scale == 0.0:
        return z.copy()
    z = (z - centre) / scale
    curvature = second_difference(z)
    u = np.zeros(len(curvature))
    # Prices of u <= λ, -u <= λ, Dᵀu <= w, -Dᵀu <= w; the trend that they stand for is z - (p - q), at first 0.
    a, b = np.ones(len(u)), np.ones(len(u))
    p, q = np.maximum(z, 0.0) + 1.0, np.maximum(-z, 0.0) + 1.0
    # What is left to the bounds is moved along, not recomputed: near the optimum a difference would be all rounding.
    bounds = [np.full(len(y), limit) for y, limit in zip((a, b, p, q), (penalty, penalty, weight, weight))]
    best, least = np.zeros(len(z)), np.inf
    for _ in range(STEPS):
        trend = z - (p - q)
        objective = trend_objective(trend, z, penalty, weight)
        if objective < least:
            best, least = trend, objective
        if least - float(u @ curvature) <= tolerance * min(least, weight * len(z)):
            break
        step = _newton(curvature, bounds, (a, b, p, q))
        if step is None:
            break
        du, shifts, (da, db, dp, dq), length, price = step
        u = u + length * du
        bounds = [bound + length * shift for bound, shift in zip(bounds, shifts)]
        a, b, p, q = a + price * da, b + price * db, p + price * dp, q + price * dq
    return centre + scale * best


def _newton(curvature: Floats, bounds: Sequence[Floats], prices: Sequence[Floats]) -> Any:
    """Return a predictor-corrector step (Mehrotra 1992) and its two lengths; None where rounding forbids one."""
    sa, sb, sp, sq = bounds
    a, b, p, q = prices
    looseness = 1.0 / (p / sp + q / sq)
    factors = _factorised(a / sa + b / sb, looseness)
    residual = curvature - (a - b) - second_difference(p - q)

    def solved(ra: Floats, rb: Floats, rp: Floats, rq: Floats) -> Any:
        """Return the step on which every bound times its price moves by what is given."""
        given = rp / sp - rq / sq
        du, change = _solved(factors, residual - (ra / sa - rb / sb), -looseness * given)
        dv = looseness * (change - given)
        changes = (ra + a * du) / sa, (rb - b * du) / sb, (rp + p * dv) / sp, (rq - q * dv) / sq
        return du, (-du, du, -dv, dv), changes

    gap = sum(float(s @ y) for s, y in zip(bounds, prices))
    du, shifts, changes = solved(*(-s * y for s, y in zip(bounds, prices)))
    length, price = _longest(bounds, shifts), _longest(prices, changes)
    left = sum(float((s + length * ds) @ (y + price * dy)) for s, ds, y, dy in zip(bounds, shifts, prices, changes))
    mean = gap / (2 * (len(sa) + len(sp))) * (left / gap) ** 3
    du, shifts, changes = solved(*(mean - s * y - ds * dy for s, ds, y, dy in zip(bounds, shifts, prices, changes)))
    if not np.isfinite(du).all():
        return None
    return du, shifts, changes, DAMPING * _longest(bounds, shifts), DAMPING * _longest(prices, changes)


def _factorised(e: Floats, looseness: Floats) -> tuple[Any, Any]:
    """Return the factors of [[diag(e), D], [Dᵀ, -diag(looseness)]], its rows and columns interleaved.

    Eliminating the second half would leave five diagonals in place of seven, and half of the digits.
    """
    m = len(e)
    # LAPACK's layout: entry (i, j) stands at [6 + i - j, j]; unknown 2 i is of the second half, 2 i + 1 of the first.
    bands = np.zeros((10, 2 * m + 3))
    bands[6, 0::2] = -looseness
    bands[6, 1:-2:2] = e
    bands[6, -2] = 1.0
    for offset, value in ((-1, 1.0), (1, -2.0), (3, 1.0)):
        rows = 2 * np.arange(m) + 1
        bands[6 - offset, rows + offset] = value
        bands[6 + offset, rows] = value
    factors, pivots, _ = dgbtrf(bands, 3, 3, overwrite_ab=True)
    return factors, pivots


def _solved(factors: tuple[Any, Any], first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the two halves of the solution for two halves of a right side."""
    right = np.zeros(2 * len(second) - 1)
    right[0::2] = second
    right[1:-2:2] = first
    solution = dgbtrs(factors[0], 3, 3, right, factors[1], overwrite_b=True)[0]
    return solution[1:-2:2], solution[0::2]


def _longest(values: Sequence[Floats], changes: Sequence[Floats]) -> float:
    """Return the largest step up to 1 after which nothing is below zero."""
    rate = max(float((-change / value).max()) for value, change in zip(values, changes))
    return 1.0 if rate <= 1.0 else 1.0 / rate
