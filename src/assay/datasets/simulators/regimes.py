"""A sine whose stretches are by turns clean and noisy, with misshapen stretches in the clean ones.

In noisy stretches the same sine goes on under heavy noise: regular, but nobody can predict it. So a large error alone
is no anomaly: it must also lie where a model has reason to be certain. The anomalies lie in clean stretches only and
stay within the range of the sine, so that no single value gives them away. Each is one of

- ``"flat"``: the value of the step before it is held;
- ``"fast"``: the sine runs at twice its frequency;
- ``"shrunk"``: the amplitude falls to .3;
- ``"flipped"``: the sine is turned upside down.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, Ints, check_number

KINDS = ("flat", "fast", "shrunk", "flipped")


class Regimes(NamedTuple):
    """Two series of clean and noisy stretches.

    Attributes
    ----------
    train : array of shape (n_train,)
        Without anomalies.
    train_noisy : array of bool of shape (n_train,)
        Which of its steps lie in a noisy stretch.
    test : array of shape (n_test,)
        Another series of the same kind, with anomalies.
    test_noisy : array of bool of shape (n_test,)
        Which of its steps lie in a noisy stretch.
    y : array of int of shape (n_test,)
        1 for the steps of anomalies, all of them in clean stretches.
    spans : array of int of shape (m, 2)
        Each anomaly: first step, and the one after its last.
    kinds : array of str of shape (m,)
        ``"flat"``, ``"fast"``, ``"shrunk"`` or ``"flipped"``, by turns.
    """

    train: Floats
    train_noisy: Bools
    test: Floats
    test_noisy: Bools
    y: Ints
    spans: Ints
    kinds: npt.NDArray[np.str_]


def regimes(
    n_train: int = 20_000,
    n_test: int = 10_000,
    period: int = 40,
    segment: int = 500,
    noise: float = 0.5,
    random_state: Any = None,
) -> Regimes:
    """Return a series to train on and one to test on, one anomaly in each clean stretch of the latter.

    Parameters
    ----------
    n_train, n_test : int
        Steps of the two series; the last stretch may be cut short.
    period : int, default 40
        Steps of the sine's period; an anomaly lasts as long.
    segment : int, default 500
        Steps of a stretch, at least three periods.
    noise : float, default 0.5
        Standard deviation of the noise in noisy stretches; that of the sine is .71. In clean ones it is .02.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> from assay.datasets.simulators.regimes import regimes
    >>> data = regimes(1000, 2000, random_state=0)
    >>> data.test_noisy[[0, 500, 1000, 1500]].tolist(), data.kinds.tolist()
    ([False, True, False, True], ['flat', 'fast'])
    """
    check_number(period, "period", low=4, integer=True)
    check_number(segment, "segment", low=3 * period, integer=True)
    check_number(noise, "noise", low=0.0)
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        check_number(n, name, low=segment, integer=True)
    rng = as_generator(random_state)
    train, train_noisy = _series(n_train, period, segment, noise, rng)[1:]
    phase, test, test_noisy = _series(n_test, period, segment, noise, rng)
    y, spans, kinds = np.zeros(n_test, dtype=np.int64), [], []
    for first in range(0, n_test - segment + 1, 2 * segment):
        start = first + period + int(rng.integers(segment - 3 * period + 1))
        rows, kind = slice(start, start + period), KINDS[len(kinds) % len(KINDS)]
        test[rows] = _misshapen(kind, phase[start - 1 : start + period]) + 0.02 * rng.normal(size=period)
        y[rows] = 1
        spans.append((start, start + period))
        kinds.append(kind)
    return Regimes(train, train_noisy, test, test_noisy, y, np.array(spans, dtype=np.int64), np.array(kinds))


def _series(n: int, period: int, segment: int, noise: float, rng: np.random.Generator) -> tuple[Floats, Floats, Bools]:
    """Return phase, values and which steps are noisy; the first stretch is clean."""
    phase = 2 * np.pi * (np.arange(n) / period + rng.uniform())
    noisy = np.arange(n) // segment % 2 == 1
    return phase, np.sin(phase) + np.where(noisy, noise, 0.02) * rng.normal(size=n), noisy


def _misshapen(kind: str, phase: Floats) -> Floats:
    """Return the values of an anomaly, given the phases of its steps and of the one before."""
    if kind == "flat":
        return np.full(len(phase) - 1, np.sin(phase[0]))
    if kind == "fast":
        return np.sin(2 * phase[1:] - phase[0])
    return (0.3 if kind == "shrunk" else -1.0) * np.sin(phase[1:])
