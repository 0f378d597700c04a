"""Events in which a narrow resonance hides in a smooth background: the toys of resonant anomaly detection, truth known.

Background: m falls exponentially over a range, x ~ N(slope · (m - 3.5), I), so that its mean moves with m where a slope
is given. Signal: m ~ N(3.5, .05²) within the range, x ~ N(1.5, .3² I) in every column. With ``correlated`` one more
column follows m itself, for both: what an unwary classifier takes for a signal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Floats, InputError, Ints, check_number

#: Mass of the resonance, its width, and the scale on which the background falls.
MASS, WIDTH, FALL = 3.5, 0.05, 0.6
#: Mean and deviation of the signal's features.
SHIFT, SPREAD = 1.5, 0.3


class Events(NamedTuple):
    """Events of both kinds, in random order.

    Attributes
    ----------
    X : array of shape (n, 1 + d), or (n, 2 + d) with a correlated column
        m first, then the features.
    y : array of int of shape (n,)
        1 for signal, 0 for background.
    """

    X: Floats
    y: Ints


def resonance(
    n_background: int = 20_000,
    n_signal: int = 200,
    d: int = 4,
    slope: float = 0.0,
    correlated: bool = False,
    mass_range: tuple[float, float] = (2.5, 4.5),
    random_state: Any = None,
) -> Events:
    """Return background with a narrow signal in it.

    Parameters
    ----------
    n_background, n_signal : int, default 20 000 and 200
        Events in the whole range of m.
    d : int, default 4
        Features.
    slope : float, default 0
        By how much the background's mean moves, in every feature, a unit of m.
    correlated : bool, default False
        Add a feature m + N(0, .2²).
    mass_range : pair of float, default (2.5, 4.5)
        Range of m; it holds the resonance at 3.5, unless there is no signal.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> events = resonance(1000, 20, random_state=0)
    >>> events.X.shape, int(events.y.sum())
    ((1020, 5), 20)
    """
    check_number(n_background, "n_background", low=0, integer=True)
    check_number(n_signal, "n_signal", low=0, integer=True)
    check_number(d, "d", low=1, integer=True)
    check_number(slope, "slope", low=-1e6, high=1e6)
    low, high = mass_range
    if not low < high or (n_signal and not low < MASS < high):
        raise InputError(f"mass_range={mass_range}: give two rising numbers, around {MASS} where there is a signal")
    rng = as_generator(random_state)
    # The inverse of the exponential law's distribution function, cut to the range.
    m_background = low - FALL * np.log1p(-rng.random(n_background) * -np.expm1((low - high) / FALL))
    m_signal = np.clip(rng.normal(MASS, WIDTH, n_signal), low, high)
    background = rng.normal(size=(n_background, d)) + slope * (m_background - MASS)[:, None]
    m = np.concatenate([m_background, m_signal])
    columns = [m[:, None], np.vstack([background, rng.normal(SHIFT, SPREAD, size=(n_signal, d))])]
    if correlated:
        columns.append(m[:, None] + rng.normal(0.0, 0.2, size=(len(m), 1)))
    order = rng.permutation(len(m))
    return Events(np.hstack(columns)[order], np.repeat([0, 1], [n_background, n_signal])[order].astype(np.int64))
