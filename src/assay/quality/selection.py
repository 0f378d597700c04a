"""From qualities to rows to keep: the rules shared by every quality score.

`keep_top` keeps the best fraction, `keep_otsu` splits the qualities in two, `weights` keeps all but
unequally. Rules that need more than the number (the prior, the spread over subsets) belong to the score that
knows it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, InputError, as_vector, check_number


def _qualities(quality: Any) -> Floats:
    values = as_vector(quality, "quality")
    if len(values) == 0:
        raise InputError("quality is empty: give one finite number a row, of at least one")
    return values


def keep_top(quality: Any, fraction: float = 1 / 3, random_state: Any = 0) -> Bools:
    """Keep the best `fraction` of the rows (at least one).

    Ties are broken at random, by `random_state`: the order in which rows are stored must not decide.

    Examples
    --------
    >>> from assay.quality.selection import keep_top
    >>> keep_top([0.1, 0.9, 0.3], fraction=1 / 3).tolist()
    [False, True, False]
    """
    check_number(fraction, "fraction", low=0.0, high=1.0, strict_low=True)
    values = _qualities(quality)
    shuffled = as_generator(random_state).permutation(len(values))
    best = shuffled[np.argsort(-values[shuffled], kind="stable")]
    keep = np.zeros(len(values), dtype=bool)
    keep[best[: max(1, math.floor(fraction * len(values) + 1e-9))]] = True
    return keep


def otsu_threshold(quality: Any) -> float:
    """Return the one of 100 thresholds between minimum and maximum with the least variance within the two sides.

    A value equal to the threshold belongs to the upper side when the variance is measured.
    """
    values = np.sort(_qualities(quality))
    thresholds = np.linspace(values[0], values[-1], 100)
    below = np.searchsorted(values, thresholds, side="left")
    n = len(values)
    sums, squares = np.concatenate([[0.0], np.cumsum(values)]), np.concatenate([[0.0], np.cumsum(values**2)])
    usable = (below > 0) & (below < n)
    if not usable.any():
        return float(values[-1])
    low, high = below[usable], n - below[usable]
    within = squares[n] - sums[low] ** 2 / low - (sums[n] - sums[low]) ** 2 / high
    return float(thresholds[usable][np.argmin(within)])


def keep_otsu(quality: Any) -> Bools:
    """Keep what lies above Otsu's threshold; all of it when every quality is the same.

    Examples
    --------
    >>> from assay.quality.selection import keep_otsu
    >>> keep_otsu([0.1, 0.12, 0.5, 0.6]).tolist()
    [False, False, True, True]
    """
    values = _qualities(quality)
    if np.ptp(values) == 0:
        return np.ones(len(values), dtype=bool)
    return np.asarray(values > otsu_threshold(values))


def weights(quality: Any) -> Floats:
    """Return sample weights in [0, 1]: each quality over the largest one, negative qualities counting as 0."""
    values = np.maximum(_qualities(quality), 0.0)
    return values / values.max() if values.max() > 0 else values
