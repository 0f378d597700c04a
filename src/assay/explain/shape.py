"""The shape of data: its dimension, and how many pieces, loops and hollows it has.

In: a few hundred or thousand rows. Out: numbers, and births and deaths of persistent homology. A class is long if it is
born within `BORN` spacings of the points and dies at `LONG` times its birth or later. What is long was settled on the
shapes of `assay.datasets.simulators.manifolds` before any network was audited. Degrees above 2 are not looked at.
"""

from __future__ import annotations

import numpy as np

from assay.core.extras import require
from assay.core.validation import Floats, Ints
from assay.kernels.neighbours import nearest

#: A class is long if born within so many spacings of the landmarks …
BORN = 3.0
#: … and dying at so many times its birth, by degree; chance reaches about 2 and 1.25.
LONG = {1: 2.5, 2: 1.4}


def landmarks(X: Floats, count: int) -> Ints:
    """Return rows spread over the data: each the farthest from those before it."""
    chosen, distance = [0], np.linalg.norm(X - X[0], axis=1)
    while len(chosen) < count and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(X - X[chosen[-1]], axis=1))
    return np.array(chosen)


def persistence(X: Floats) -> list[Floats]:
    """Return births and deaths of the classes of degree 0, 1 and 2 of a few points, by Vietoris and Rips.

    Scales end at 8 spacings of the points, where whatever was going to be long is long; what lives on dies there.
    """
    ripser = require("ripser", "topology", "the persistence of data").ripser
    merges = ripser(X, maxdim=0)["dgms"][0][:-1, 1] if len(X) > 1 else np.zeros(0)
    if not merges.any():
        return [np.zeros((1, 2)), np.empty((0, 2)), np.empty((0, 2))]
    limit = 8 * float(np.quantile(merges, 0.9))
    bars = ripser(X, maxdim=2, thresh=limit)["dgms"]
    return [np.minimum(np.asarray(part, dtype=np.float64), limit) for part in bars]


def long_classes(bars: list[Floats]) -> tuple[int, ...]:
    """Return how many classes of each degree live long: the pieces, loops and hollows of the data."""
    deaths = np.sort(bars[0][:, 1])
    spacing = float(np.quantile(deaths, 0.9)) if len(deaths) else 0.0
    counts = [int((deaths > BORN * spacing).sum()) if spacing else 1]
    for degree, ratio in LONG.items():
        birth, death = bars[degree].T
        counts.append(int(((birth <= BORN * spacing) & (death >= ratio * birth)).sum()))
    return tuple(counts)


def twonn_dimension(X: Floats) -> float:
    """Return the dimension of the data from the ratio of the distances to the second and the first neighbour.

    Facco et al., Scientific Reports 7 (2017): -ln(1 - F(μ)) = d ln μ, fitted through 0, the largest tenth left out.
    """
    rows = np.unique(X, axis=0)
    if len(rows) < 10:
        return 0.0
    first, second = nearest(rows, rows, 2, skip_self=True)[0].T
    mu = np.sort(np.log(second / first))[: int(0.9 * len(rows))]
    level = -np.log1p(-np.arange(1, len(mu) + 1) / len(rows))
    return float(mu @ level / max(mu @ mu, 1e-300))


def local_dimension(X: Floats, k: int = 20, share: float = 0.95) -> float:
    """Return the median number of principal components that hold `share` of the variance among k neighbours."""
    k = min(k, len(X) - 1)
    rows = X[landmarks(X, 200)]
    near = X[nearest(rows, X, k)[1]]
    values = np.linalg.svd(near - near.mean(axis=1, keepdims=True), compute_uv=False) ** 2
    total = values.sum(axis=1, keepdims=True)
    return float(np.median((np.cumsum(values, axis=1) < share * total).sum(axis=1) + 1))
