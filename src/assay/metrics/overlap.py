"""How well a heat map agrees with a mask: the Jaccard index at the best of all thresholds.

    max J = max over t of |γ ∩ {β ≥ t}| / |γ ∪ {β ≥ t}|,   mask γ, heat β,

exact, by one sort, equal pixels together. A heat map that is the same everywhere has |γ| / n.

References
----------
Rashid, Amparore, Ferrari and Verda: Can I trust my anomaly detection system? A case study based on explainable AI.
xAI 2024, arXiv 2407.19951.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.validation import InputError, refuse_non_finite


class Overlap(NamedTuple):
    """The best agreement of a heat map with a mask.

    Attributes
    ----------
    value : float
        max J, in [0, 1]; NaN for an empty mask.
    threshold : float
        Heat from which on a pixel counts, at the best.
    """

    value: float
    threshold: float


def best_overlap(heat: Any, mask: Any) -> Overlap:
    """Return the largest Jaccard index of a mask and of what is at least as hot as a threshold.

    Parameters
    ----------
    heat : array of shape (h, w)
        Finite, higher = more.
    mask : array of bool of shape (h, w)
        True on the defect.

    Raises
    ------
    InputError
        If the shapes differ or the heat is not finite.

    Examples
    --------
    >>> from assay.metrics.overlap import best_overlap
    >>> best_overlap([[3.0, 2.0], [2.0, 0.0]], [[1, 1], [0, 0]])
    Overlap(value=0.6666666666666666, threshold=2.0)
    """
    heat, mask = np.asarray(heat, dtype=np.float64), np.asarray(mask) != 0
    if heat.shape != mask.shape or heat.ndim != 2:
        raise InputError(f"heat has shape {heat.shape}, mask {mask.shape}: give both (h, w)")
    refuse_non_finite(heat, "heat")
    if not mask.any():
        return Overlap(float("nan"), float("nan"))
    order = np.argsort(-heat, axis=None, kind="stable")
    ordered, hits = heat.ravel()[order], np.cumsum(mask.ravel()[order])
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    jaccard = hits[ends] / (ends + 1 + hits[-1] - hits[ends])
    best = int(jaccard.argmax())
    return Overlap(float(jaccard[best]), float(ordered[ends[best]]))
