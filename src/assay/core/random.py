"""One idea of randomness: a `random_state` becomes a generator, a generator gives seeds to its children.

Nothing in Assay reads or writes NumPy's global state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.validation import InputError, told


def as_generator(random_state: Any = None) -> np.random.Generator:
    """Return a `numpy.random.Generator` for `random_state`.

    Parameters
    ----------
    random_state : None, int, numpy.random.SeedSequence, Generator or RandomState
        ``None`` draws fresh entropy, an integer gives the same stream every time, a generator is used as it
        is; of a legacy ``RandomState`` one draw is taken as the seed.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(int(random_state.randint(2**31 - 1)))
    is_seed = isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and random_state >= 0
    if random_state is None or is_seed or isinstance(random_state, np.random.SeedSequence):
        return np.random.default_rng(random_state)
    raise InputError(
        f"random_state={told(random_state)} is not understood: give None, an integer >= 0 or a numpy.random.Generator"
    )


def child_seeds(rng: np.random.Generator, n: int) -> list[int]:
    """Draw `n` independent integer seeds: the same for the same `rng`, whatever the order of use."""
    return [int(seed) for seed in rng.integers(0, 2**31 - 1, size=n)]
