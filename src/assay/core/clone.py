"""A fresh, unfitted, reproducibly seeded copy of any estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone


def seeded_clone(estimator: Any, seed: int) -> Any:
    """Clone `estimator` and give every `random_state` inside it a seed that follows from `seed`."""
    copy = clone(estimator)
    rng = np.random.default_rng(seed)
    names = sorted(name for name in copy.get_params(deep=True) if name.split("__")[-1] == "random_state")
    if names:
        copy.set_params(**{name: int(rng.integers(0, 2**31 - 1)) for name in names})
    return copy
