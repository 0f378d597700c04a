"""Entropic optimal transport between two clouds of rows of equal mass, in the log domain.

With cost C (n, m), uniform masses on both sides and entropy ε, the dual potentials f (n,), g (m,) solve

    f_i = -ε log mean_j exp((g_j - C_ij) / ε),    g_j = -ε log mean_i exp((f_i - C_ij) / ε);

the plan's masses are exp((f_i + g_j - C_ij) / ε) / (n m), the optimal value mean(f) + mean(g). The first
equation extends f to rows that were not there. Nothing overflows, whatever ε.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from assay.core.validation import Floats
from assay.kernels.jit import jit


class Potentials(NamedTuple):
    """What a solve found: f (n,), g (m,), the ε it reached, and whether that is the ε asked for, converged."""

    f: Floats
    g: Floats
    epsilon: float
    n_iter: int
    converged: bool

    @property
    def value(self) -> float:
        """The cost of transport, entropy included."""
        return float(self.f.mean() + self.g.mean())


@jit
def soft_minimum(cost: Floats, g: Floats, epsilon: float) -> Floats:
    """Return -epsilon · log mean_j exp((g_j - cost_ij) / epsilon) for each row i of `cost` (n, m): shape (n,)."""
    n, m = cost.shape
    out = np.empty(n)
    for i in range(n):
        best = -np.inf
        for j in range(m):
            best = max(best, g[j] - cost[i, j])
        total = 0.0
        for j in range(m):
            exponent = (g[j] - cost[i, j] - best) / epsilon
            if exponent > -40.0:  # less is below the rounding error of the sum
                total += math.exp(exponent)
        out[i] = -best - epsilon * math.log(total / m)
    return out


def sinkhorn(cost: Floats, epsilon: float, tolerance: float, max_iter: int) -> Potentials:
    """Solve for both potentials by alternating updates, ε halved from the largest cost down to `epsilon`.

    Parameters
    ----------
    cost : array of shape (n, m)
        C.
    epsilon : float
        ε > 0.
    tolerance : float
        An ε is done once no row's mass is off by more than this share of it; the columns' are exact.
    max_iter : int
        Updates in all; when they are spent, the ε reached is the answer's.
    """
    transposed = np.ascontiguousarray(cost.T)
    f, g = np.full(len(cost), np.inf), np.zeros(cost.shape[1])
    level = max(float(cost.max()), epsilon)
    for iteration in range(1, max_iter + 1):
        before, f = f, soft_minimum(cost, g, level)
        if np.abs(f - before).max() <= level * math.log1p(tolerance):
            if level == epsilon:
                return Potentials(f, g, level, iteration, True)
            level = max(level / 2, epsilon)
        g = soft_minimum(transposed, f, level)
    return Potentials(soft_minimum(cost, g, level), g, level, max_iter, False)


def self_sinkhorn(cost: Floats, epsilon: float, tolerance: float, max_iter: int) -> Potentials:
    """Solve the transport of a cloud onto itself (`cost` symmetric): f = g, by averaged updates, in few steps."""
    f = np.zeros(len(cost))
    for iteration in range(1, max_iter + 1):
        update = soft_minimum(cost, f, epsilon)
        if np.abs(update - f).max() <= epsilon * math.log1p(tolerance):
            return Potentials(update, f, epsilon, iteration, True)
        f = (f + update) / 2
    return Potentials(f, f, epsilon, max_iter, False)
