"""Naive twins: the published procedures written as plainly as possible, slow and obviously right; for tests only."""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import beta


def rarity(reference, X, k):
    """Radius of the smallest open k-NN ball of the reference that holds each row of X; 0 where none does."""
    radii = np.sort(cdist(reference, reference), axis=1)[:, k]
    distances = cdist(X, reference)
    out = np.zeros(len(X))
    for i in range(len(X)):
        inside = radii[distances[i] < radii]
        if len(inside):
            out[i] = inside.min()
    return out


def smallest_k(reference, anomalies, k_min=5):
    """k* by trying every k in turn."""
    n = len(reference)
    if n <= k_min + 1:
        return n - 1
    found = np.zeros(len(anomalies), dtype=int)
    for k in range(k_min, n):
        found[(rarity(reference, anomalies, k) > 0) & (found == 0)] = k
        if (found > 0).all():
            break
    found[found == 0] = n - 1
    share = (found - k_min) / (n - 1 - k_min)
    k = int(beta.ppf(0.95, 1 + share.sum(), 1 + len(share) - share.sum()) * (n - 1 - k_min) + k_min)
    return max(min(n - 1, k), k_min)


def pseudo_count(reference, X, k):
    """n times the density share of each row, one at a time."""

    def inverse(rows):
        r = rarity(reference, rows, k)
        return np.divide(1.0, r, out=np.zeros(len(r)), where=r > 0)

    v = inverse(X)
    return len(reference) * v / (v + inverse(reference).sum())


def eap(X, y, X_aux, members, models):
    """EAP of the published procedure, given the random subsets and the fitted detectors."""
    gamma = y.mean()
    total = np.zeros(len(X_aux))
    for b, model in enumerate(models):
        chosen = members[:, b] == 1
        normals = X[chosen & (y == 0)]
        k = smallest_k(normals, X[y == 1])
        n_density = pseudo_count(normals, X_aux, k)
        q = model.probability(X_aux)
        total += (gamma + n_density * q) / (1.0 + n_density)
    return total / len(models)


def smooth_count(reference, anomalies, X, k=5, level=0.9):
    """Smooth evidence: half an observation at the distance within which most known anomalies lie."""
    reach = np.quantile(np.sort(cdist(anomalies, reference), axis=1)[:, :k][:, -1], level)
    return 2.0 ** -((np.sort(cdist(X, reference), axis=1)[:, :k][:, -1] / reach) ** 2)
