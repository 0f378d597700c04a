"""Telemetry with known causes: temperatures that follow an orbit, and housekeeping channels that sometimes move them.

A temperature is a sine of the orbit's period plus noise. Covariates are AR(1) noise. A caused event k: covariate k
jumps for `length` steps, and the temperature rises with it. Before the three large events each cause may have had
smaller `episodes`, at which the covariate jumps as far and the temperature half as far: a cause that acts once in a
lifetime cannot be told from a coincidence, one that recurs can. Decoys follow the orbit and cause nothing; the uncaused
event moves the temperature alone. The sizes 1.5 and .6, the length of 12 steps, the places 7000, 9000 and 11000 of
12,000 steps are those of the published check; noise and the covariates' law are ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.series import Series, Times
from assay.core.validation import Floats, InputError, check_number

#: Where the large events begin, as shares of the series; the uncaused one; the stretch of the smaller episodes.
PLACES, UNCAUSED, EARLY = (7 / 12, 9 / 12, 11 / 12), 10 / 12, (0.02, 0.55)
#: How far a cause and the temperature jump; the share of the latter at an episode.
JUMP, RISE, SMALLER = 1.5, 0.6, 0.5
#: Law of the covariates, x(t) = .9 x(t - 1) + .1 ε, and deviation of the temperature's noise.
MEMORY, SHOCK, NOISE = 0.9, 0.1, 0.05


class Telemetry(NamedTuple):
    """Simulated telemetry and its truth.

    Attributes
    ----------
    values : array of shape (T, 1 + covariates + decoys)
        Temperature, covariates, decoys; NaN in gaps.
    time : array of datetime64 of shape (T,)
        Every ten minutes.
    names : list of str
        ``temperature``, ``covariate_0`` …, ``decoy_0`` ….
    events : list of (int, int, int)
        First step, last step and number of the causing covariate of each large event; -1 where nothing caused it.
    episodes : list of (int, int, int)
        The same for the smaller ones.
    labels : array of int of shape (T,)
        1 within a large event.
    stuck : (int, int) or None
        First and last step at which the temperature's sensor repeats one value.
    gaps : list of (int, int)
        First and last step of each gap.
    """

    values: Floats
    time: Times
    names: list[str]
    events: list[tuple[int, int, int]]
    episodes: list[tuple[int, int, int]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    stuck: tuple[int, int] | None
    gaps: list[tuple[int, int]]

    @property
    def series(self) -> Series:
        """All of it, as a detector takes it."""
        return Series(self.values, self.time, self.names)


def telemetry(
    n: int = 12_000,
    *,
    covariates: int = 8,
    decoys: int = 2,
    episodes: int = 4,
    uncaused: bool = True,
    length: int = 12,
    period: int = 144,
    stuck: int = 0,
    gaps: int = 0,
    random_state: Any = None,
) -> Telemetry:
    """Draw a temperature, its causes and its truth.

    Parameters
    ----------
    n : int, default 12000
        Steps, of ten minutes each.
    covariates : int, default 8
        Housekeeping channels; the first three cause one large event each.
    decoys : int, default 2
        Channels that follow the orbit and cause nothing.
    episodes : int, default 4
        Smaller episodes of each cause, before the first large event.
    uncaused : bool, default True
        Whether there is a fourth large event without a cause.
    length : int, default 12
        Steps of an event.
    period : int, default 144
        Steps of an orbit.
    stuck : int, default 0
        Steps for which the sensor repeats one value.
    gaps : int, default 0
        Gaps of 20 steps in which nothing was measured.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> drawn = telemetry(2400, episodes=1, random_state=0)
    >>> drawn.values.shape, drawn.names[:2], drawn.events[0]
    ((2400, 11), ['temperature', 'covariate_0'], (1400, 1411, 0))
    """
    check_number(n, "n", low=100 * length, integer=True)
    check_number(covariates, "covariates", low=len(PLACES), integer=True)
    for name, value in (("decoys", decoys), ("episodes", episodes), ("stuck", stuck), ("gaps", gaps)):
        check_number(value, name, low=0, integer=True)
    check_number(length, "length", low=1, integer=True)
    check_number(period, "period", low=2, integer=True)
    rng = as_generator(random_state)
    season = np.sin(2 * np.pi * np.arange(n) / period)
    temperature = season + rng.normal(scale=NOISE, size=n)
    causes = rng.normal(scale=SHOCK, size=(n, covariates))
    for t in range(1, n):
        causes[t] += MEMORY * causes[t - 1]
    followers = season[:, None] * rng.uniform(0.5, 1.5, decoys) + rng.normal(scale=0.2, size=(n, decoys))

    large = [(round(place * n), round(place * n) + length - 1, k) for k, place in enumerate(PLACES)]
    # On a raster, so that no two episodes touch.
    raster = np.arange(round(EARLY[0] * n), round(EARLY[1] * n), 5 * length)
    if 3 * episodes > len(raster):
        raise InputError(f"episodes={episodes}: at most {len(raster) // 3} find room in {n} steps")
    begins = rng.permutation(raster)[: 3 * episodes]
    small = [(int(begin), int(begin) + length - 1, i % 3) for i, begin in enumerate(begins)]
    for share, group in ((1.0, large), (SMALLER, small)):
        for first, last, k in group:
            causes[first : last + 1, k] += JUMP
            temperature[first : last + 1] += share * RISE
    if uncaused:
        first = round(UNCAUSED * n)
        large.append((first, first + length - 1, -1))
        temperature[first : first + length] += RISE
    labels = np.zeros(n, dtype=np.int64)
    for first, last, _ in large:
        labels[first : last + 1] = 1

    frozen = None
    if stuck:
        first = round(0.65 * n)
        frozen = first, min(first + stuck, n) - 1
        temperature[first : frozen[1] + 1] = temperature[first]
    values = np.column_stack([temperature, causes, followers])
    holes = []
    # Between the large events, away from all of them.
    for first in np.linspace(0.68 * n, 0.72 * n, gaps).astype(int):
        holes.append((int(first), int(first) + 19))
        values[first : first + 20] = np.nan
    time = np.datetime64("2024-02-15T00:00:00", "ns") + np.arange(n) * np.timedelta64(600, "s")
    names = ["temperature", *(f"covariate_{k}" for k in range(covariates)), *(f"decoy_{k}" for k in range(decoys))]
    return Telemetry(values, time, names, large, sorted(small), labels, frozen, holes)
