"""Seasonal series, and series whose training part is contaminated with point anomalies and stuck levels, truth known.

The anomaly models are those of RobustTSF's study, for standardised values x_t; z_t is what is observed. In the first
three every value is hit independently with probability η:

- ``"const"``: z_t = x_t + ε, ε = .5;
- ``"missing"``: z_t = ε, ε = 1e-4: a number that somebody wrote for "nothing", no NaN;
- ``"gaussian"``: z_t = x_t + N(0, σ²), σ = 2;
- ``"seq"``: after a clean value an anomaly begins with probability .3, at x_t + N(0, σ²); after an anomalous one it
  goes on with probability η, at z_{t-1} + N(0, .01²): a stuck level of mean length 1 / (1 - η). After its end comes
  at least one clean value. Here η is the probability of going on, not the share that is hit, which is .3 / (1.3 - η).

Reference: H. Cheng, Q. Wen, Y. Liu, L. Sun: RobustTSF: Towards Theory and Design of Robust Time Series Forecasting with
Anomalies. ICLR 2024, arXiv 2402.02032.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, InputError, check_number, check_option

KINDS = ("const", "missing", "gaussian", "seq")
PLACES = ("label", "front", "middle", "back")
#: ε of "const" and of "missing", σ of "gaussian" and of a level's first value, σ of a level's steps, and the
#: probability with which a level begins.
SHIFT, NOTHING, SPREAD, JITTER, BEGIN = 0.5, 1e-4, 2.0, 0.01, 0.3


class Contaminated(NamedTuple):
    """A contaminated series.

    Attributes
    ----------
    values : array, of the shape of the clean ones
        z, what is observed.
    clean : array, of the same shape
        x.
    mask : array of bool, of the same shape
        Which values were hit.
    """

    values: Floats
    clean: Floats
    mask: Bools


class SpoiltWindows(NamedTuple):
    """Forecasting samples with anomalies in one place only.

    Attributes
    ----------
    windows : array of shape (n, L)
        Input windows.
    targets : array of shape (n,)
        The values that follow them.
    mask : array of bool of shape (n, L + 1)
        Which of them were hit, the target last.
    """

    windows: Floats
    targets: Floats
    mask: Bools


def seasonal(
    n: int, periods: Sequence[int] = (24, 168), noise: float = 0.1, channels: int = 1, random_state: Any = None
) -> Floats:
    """Return a seasonal series, (n,), or (n, channels) for more than one.

    Each period contributes two harmonics of random amplitude and phase, the later ones at half the weight of the one
    before; independent noise comes on top, and each channel is brought to mean 0 and deviation 1.

    Parameters
    ----------
    n : int
        Steps.
    periods : sequence of int, default (24, 168)
        A day and a week of hours.
    noise : float, default 0.1
        Deviation of the noise, before the scaling.
    channels : int, default 1
        Channels, drawn one by one.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> seasonal(200, random_state=0).shape, seasonal(200, channels=3, random_state=0).shape
    ((200,), (200, 3))
    """
    check_number(n, "n", low=2, integer=True)
    check_number(channels, "channels", low=1, integer=True)
    check_number(noise, "noise", low=0.0, high=1e6)
    rng, t = as_generator(random_state), np.arange(n)
    columns = []
    for _ in range(channels):
        x = noise * rng.normal(size=n)
        for rank, period in enumerate(periods):
            for harmonic in (1, 2):
                amplitude, phase = rng.uniform(0.5, 1.0) / harmonic, rng.uniform(0, 2 * np.pi)
                x = x + 0.5**rank * amplitude * np.sin(2 * np.pi * harmonic * t / period + phase)
        columns.append((x - x.mean()) / x.std())
    return columns[0] if channels == 1 else np.column_stack(columns)


def contaminate(x: Any, kind: str, eta: float = 0.3, random_state: Any = None) -> Contaminated:
    """Return standardised values (T,) or (T, C) with anomalies of one kind, each channel by itself.

    Parameters
    ----------
    x : array of shape (T,) or (T, C)
        Clean values of about mean 0 and deviation 1.
    kind : {"const", "missing", "gaussian", "seq"}
        Which model.
    eta : float of [0, 1), default 0.3
        η: the probability of each value to be hit; in ``"seq"`` that of an anomaly to go on (0: single steps).
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> import numpy as np
    >>> spoilt = contaminate(np.zeros(1000), "const", 0.3, random_state=0)
    >>> sorted(set(spoilt.values.tolist())), round(float(spoilt.mask.mean()), 1)
    ([0.0, 0.5], 0.3)
    """
    check_option(kind, "kind", *KINDS)
    check_number(eta, "eta", low=0.0, high=1.0, strict_high=True)
    clean = np.array(x, dtype=np.float64)
    if clean.ndim not in (1, 2):
        raise InputError(f"x has {clean.ndim} dimensions, expected (T,) or (T, C)")
    rng = as_generator(random_state)
    if kind == "seq":
        return _stuck(clean, eta, rng)
    mask = rng.random(clean.shape) < eta
    return Contaminated(np.where(mask, _hit(clean, kind, rng), clean), clean, mask)


def inject(
    windows: Any, targets: Any, where: str, kind: str, eta: float = 0.3, random_state: Any = None
) -> SpoiltWindows:
    """Return forecasting samples with anomalies in their labels alone, or in one third of their input alone.

    Parameters
    ----------
    windows : array of shape (n, L)
        Clean input windows, L >= 3.
    targets : array of shape (n,)
        The values that follow them.
    where : {"label", "front", "middle", "back"}
        What is hit: the target, or the first, second or last third of the window (the last takes what is left over).
    kind : {"const", "missing", "gaussian"}
        Which model; a stuck level has no meaning for windows that overlap.
    eta : float of [0, 1), default 0.3
        η.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> import numpy as np
    >>> inject(np.zeros((100, 16)), np.zeros(100), "back", "const", random_state=0).mask.any(axis=0).nonzero()[0]
    array([10, 11, 12, 13, 14, 15])
    """
    check_option(where, "where", *PLACES)
    check_option(kind, "kind", *KINDS[:3])
    check_number(eta, "eta", low=0.0, high=1.0, strict_high=True)
    clean = np.column_stack([np.asarray(windows, dtype=np.float64), np.asarray(targets, dtype=np.float64)])
    length, rng = clean.shape[1] - 1, as_generator(random_state)
    check_number(length, "length of the windows", low=3)
    third = length // 3
    begin, end = {
        "front": (0, third),
        "middle": (third, 2 * third),
        "back": (2 * third, length),
        "label": (length, length + 1),
    }[where]
    mask = rng.random(clean.shape) < eta
    mask[:, :begin], mask[:, end:] = False, False
    values = np.where(mask, _hit(clean, kind, rng), clean)
    return SpoiltWindows(values[:, :-1], values[:, -1], mask)


def _hit(x: Floats, kind: str, rng: np.random.Generator) -> Floats:
    """Return what would be observed if every value were hit."""
    if kind == "const":
        return x + SHIFT
    return np.full_like(x, NOTHING) if kind == "missing" else x + SPREAD * rng.normal(size=x.shape)


def _stuck(x: Floats, eta: float, rng: np.random.Generator) -> Contaminated:
    columns = x.reshape(len(x), -1)
    chance = rng.random(columns.shape)
    begun, drift = SPREAD * rng.normal(size=columns.shape), JITTER * rng.normal(size=columns.shape)
    values, mask = columns.copy(), np.zeros(columns.shape, dtype=bool)
    for t in range(len(x)):
        before = mask[t - 1] if t else np.zeros(columns.shape[1], dtype=bool)
        mask[t] = chance[t] < np.where(before, eta, BEGIN)
        level = np.where(before, values[t - 1] + drift[t], columns[t] + begun[t])
        values[t] = np.where(mask[t], level, columns[t])
    return Contaminated(values.reshape(x.shape), x, mask.reshape(x.shape))
