"""Networks as plain arrays: how a system keeps what it learned, and how randomness stays its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Arrays = dict[str, npt.NDArray[Any]]


def arrays_of(module: nn.Module) -> Arrays:
    """Return a network's weights and running statistics as copies, name -> array; what `save` can write."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def with_arrays(module: nn.Module, arrays: Arrays) -> nn.Module:
    """Return the network holding these arrays (not copied), frozen and in evaluation mode.

    Build it under ``torch.device("meta")``, so that no weight is drawn only to be thrown away.
    """
    state = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.requires_grad_(False).eval()


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch from `rng` within this context; the global state is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        yield
