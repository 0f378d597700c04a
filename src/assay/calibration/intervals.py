"""Intervals: from the scores of a whole series to its anomalous stretches, each with a severity.

In: scores (T,), one a time step, from any detector of series, higher = more anomalous; NaN = no score. Out: a list of
intervals [start, end) with a severity each, or 0 / 1 a step. A step without a score is never anomalous.

A window of `window` of the series slides over the scores by `step` of itself; in each, with mean and std of its scores,

    threshold   fixed: mean + k std.  Dynamic: mean + z std, z minimising (Nelder-Mead from 0, 1, ..., 9)
                -(Δmean / mean + Δstd / std) / (steps above + sequences above ²),
                Δmean and Δstd: how much mean and std fall if what lies above is left out;
    padding     every step within `padding` of one above the threshold is marked; runs of marked steps are sequences;
    pruning     sort the sequences' maxima downwards, the largest unmarked score behind them; keep the sequences up to
                the last whose drop to the next is at least `min_drop` of itself: what hardly stands out goes;
    severity    (maximum - threshold) / (mean + std).

Sequences of different windows that overlap or touch are one interval; its severity is their mean, weighted by length.

Defaults are those of HypAD's public code for one channel, which are Orion's but for the fixed threshold; for many
channels it takes ``window=0.2, padding=200``. Padding makes a hit likely by any metric that counts overlaps: read such
figures beside threshold-free ones.

This is no `Calibrator`: there is nothing to fit and no single threshold, a step's decision depends on the scores around
it, and no false-alarm rate is promised. Look at a whole series afterwards with it; for a stream take a calibrator.

Departures: thresholds, drops and severities are ratios, made for errors >= 0, so scores of which some are negative are
counted from the lowest one; a window whose scores are all equal up to rounding holds no anomaly, where rounding alone
decides in the public code; a step's weight in a mean severity is 1 a step, where sequences of one step weigh 0 there.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator

from assay.core.validation import Bools, Floats, InputError, Ints, as_matrix, check_number, check_option

#: Where the search for z begins.
STARTS = range(10)
#: The cost of a threshold above which nothing lies: more than any other, and finite, for differences are taken of it.
_WORST = 1e300


class Intervals(NamedTuple):
    """Anomalous stretches of a series, in order.

    Attributes
    ----------
    start, end : array of int of shape (m,)
        First step, and the step after the last.
    severity : array of shape (m,)
        How far the highest score lies above the threshold, in units of the mean and deviation of the scores around.
    """

    start: Ints
    end: Ints
    severity: Floats


class IntervalThresholder(BaseEstimator):
    """Find the anomalous intervals of a series of scores.

    Parameters
    ----------
    method : {"fixed", "dynamic"}, default "fixed"
        How a window's threshold is found (HypAD: fixed; Orion: dynamic).
    k : float, default 4
        Standard deviations above the mean, where fixed (public code).
    window : float in (0, 1], default 0.33
        Share of the series that has one threshold (public code; many channels: 0.2).
    step : float in (0, 1], default 0.1
        Share of the window that it moves by (public code).
    padding : int, default 50
        Steps marked on either side of one above the threshold (public code; many channels: 200).
    min_drop : float in [0, 1), default 0.1
        Relative drop that ends the list of sequences worth keeping (public code); 0 keeps all.

    References
    ----------
    A. Flaborea, B. Prenkaj, B. Munjal, M. A. Sterpa, D. Aragona, L. Podo, F. Galasso: Are we certain it's anomalous?
    CVPR Workshops 2023, arXiv 2211.09224. K. Hundman, V. Constantinou, C. Laporte, I. Colwell, T. Soderstrom:
    Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic Thresholding. KDD 2018, arXiv 1802.04431.

    Examples
    --------
    >>> scores = np.ones(300)
    >>> scores[100:103] = 9.0
    >>> found = IntervalThresholder(padding=2).intervals(scores)
    >>> found.start.tolist(), found.end.tolist()
    ([98], [105])
    """

    def __init__(
        self,
        method: str = "fixed",
        k: float = 4.0,
        window: float = 0.33,
        step: float = 0.1,
        padding: int = 50,
        min_drop: float = 0.1,
    ) -> None:
        self.method = method
        self.k = k
        self.window = window
        self.step = step
        self.padding = padding
        self.min_drop = min_drop

    def intervals(self, scores: Any) -> Intervals:
        """Return the anomalous intervals of the scores (T,), NaN where there is none.

        Raises
        ------
        InputError
            If a parameter or a score cannot be used.
        """
        self._check_parameters()
        errors = _checked(scores)
        if np.isnan(errors).all():
            return Intervals(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
        errors = errors - min(0.0, float(np.nanmin(errors)))
        width = math.ceil(len(errors) * self.window)
        stride = math.ceil(width * self.step)
        found, start = [], 0
        while True:
            found += [(start + a, start + b, severity) for a, b, severity in self._of(errors[start : start + width])]
            if start + width >= len(errors):
                return _merged(found)
            start += stride

    def predict(self, scores: Any) -> Ints:
        """Return 1 for the steps (T,) inside an interval, else 0; 0 where the score is NaN."""
        flags = np.zeros(len(_checked(scores)), dtype=np.int64)
        for start, end, _ in zip(*self.intervals(scores)):
            flags[start:end] = 1
        return flags

    def _check_parameters(self) -> None:
        check_option(self.method, "method", "fixed", "dynamic")
        check_number(self.k, "k", low=0.0)
        check_number(self.window, "window", low=0.0, high=1.0, strict_low=True)
        check_number(self.step, "step", low=0.0, high=1.0, strict_low=True)
        check_number(self.padding, "padding", low=0, integer=True)
        check_number(self.min_drop, "min_drop", low=0.0, high=1.0, strict_high=True)

    def _of(self, errors: Floats) -> list[tuple[int, int, float]]:
        """Return the sequences of one window worth keeping: [start, end) and severity."""
        known = ~np.isnan(errors)
        observed = errors[known]
        if len(observed) == 0 or np.ptp(observed) <= 1e-12 * observed.max():
            return []
        mean, std = float(observed.mean()), float(observed.std())
        z = self.k if self.method == "fixed" else dynamic_z(observed)
        threshold = mean + z * std
        marked = padded(errors > threshold, int(self.padding)) & known
        sequences = runs(marked)
        highest = [float(errors[start:end].max()) for start, end in sequences]
        unmarked = float(errors[known & ~marked].max(initial=0.0))
        kept = pruned(highest, unmarked, self.min_drop)
        return [(*sequences[i], (highest[i] - threshold) / (mean + std)) for i in kept]


def dynamic_z(errors: Floats) -> float:
    """Return how many deviations above the mean the threshold of errors (n,) belongs: the cheapest found."""
    mean, std = float(errors.mean()), float(errors.std())

    def cost(z: Any) -> float:
        above = errors > mean + float(z[0]) * std
        count = int(above.sum())
        if count == 0:
            return _WORST
        below = errors[~above]
        gain = (mean - below.mean()) / mean + (std - below.std()) / std if len(below) else 0.0
        return -gain / (count + len(runs(above)) ** 2)

    found = [minimize(cost, float(z), method="Nelder-Mead") for z in STARTS]
    return float(min(found, key=lambda one: one.fun).x[0])


def padded(above: Bools, padding: int) -> Bools:
    """Return which steps (n,) lie within `padding` of a marked one."""
    places = np.flatnonzero(above)
    change = np.zeros(len(above) + 1, dtype=np.int64)
    np.add.at(change, np.maximum(places - padding, 0), 1)
    np.add.at(change, np.minimum(places + padding + 1, len(above)), -1)
    marked: Bools = np.cumsum(change)[:-1] > 0
    return marked


def runs(marked: Bools) -> list[tuple[int, int]]:
    """Return the runs of marked steps, [start, end)."""
    edges = np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()))


def pruned(highest: list[float], unmarked: float, min_drop: float) -> list[int]:
    """Return which sequences stand out, given their maxima and the largest score outside of all."""
    order = sorted(range(len(highest)), key=lambda i: -highest[i])
    falling = [*(highest[i] for i in order), unmarked]
    drops = [(one - following) / one for one, following in pairwise(falling)]
    last = max((i for i, drop in enumerate(drops) if drop >= min_drop), default=-1)
    return order[: last + 1]


def _merged(found: list[tuple[int, int, float]]) -> Intervals:
    groups: list[list[Any]] = []
    for start, end, severity in sorted(found):
        length = end - start
        if groups and start <= groups[-1][1]:
            group = groups[-1]
            group[1], group[2], group[3] = max(group[1], end), group[2] + length * severity, group[3] + length
        else:
            groups.append([start, end, length * severity, length])
    return Intervals(
        np.array([group[0] for group in groups], dtype=np.int64),
        np.array([group[1] for group in groups], dtype=np.int64),
        np.array([group[2] / group[3] for group in groups], dtype=np.float64),
    )


def _checked(scores: Any) -> Floats:
    try:
        errors = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores cannot be read as numbers: {error}") from error
    if errors.ndim != 1 or len(errors) == 0:
        raise InputError(f"scores has shape {errors.shape}, expected (T,), T > 0: one score a time step")
    as_matrix(np.where(np.isnan(errors), 0.0, errors)[:, None], "scores")
    return errors
