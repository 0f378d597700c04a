"""The one way to compile: cached on disk where that is possible, releasing the GIL, no fast-math."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` when it is first called.

    Results are the same bits everywhere a kernel is called from: no fast-math, no hidden threads.
    """
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache folder can be written: compile afresh in every
        # process.
        compiled = numba.njit(cache=False, nogil=True)(function)
    return compiled
