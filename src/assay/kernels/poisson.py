"""Poisson blending on a rectangle, solved exactly by sine transforms.

The pixels within the border of an image are replaced by the ones whose differences come closest, in the least
squares, to given ones: for each pixel p and its four neighbours q

    4 f(p) - Σ f(q) = Σ v(p, q)

with f known on the border. The sine functions diagonalise the left side, so two fast transforms solve it to
rounding, in about 1 ms for 100 x 100 pixels and three channels; there is nothing to iterate.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dstn

from assay.core.validation import Floats


def differences(image: Floats) -> tuple[Floats, Floats]:
    """Return the differences of an image (h, w, c) to the next row (h-1, w, c) and the next column (h, w-1, c)."""
    return np.diff(image, axis=0), np.diff(image, axis=1)


def stronger(one: Floats, other: Floats) -> Floats:
    """Return `one` where it is larger in size, `other` elsewhere."""
    return np.where(np.abs(one) > np.abs(other), one, other)


def poisson_fill(image: Floats, down: Floats, right: Floats) -> Floats:
    """Return `image` with the pixels within its border replaced by the solution.

    Parameters
    ----------
    image : array of shape (h, w, c)
        Only its border, one pixel wide, is used.
    down, right : arrays of shape (h-1, w, c) and (h, w-1, c)
        The differences to come close to, as `differences` gives them.

    Examples
    --------
    >>> ramp = np.arange(5.0)[:, None, None] + np.zeros((5, 4, 1))
    >>> flat = differences(np.zeros((5, 4, 1)))
    >>> bool(np.allclose(poisson_fill(ramp, *flat), ramp))  # the smoothest surface between straight borders
    True
    """
    filled = np.array(image, dtype=np.float64)
    known = filled.copy()
    known[1:-1, 1:-1] = 0.0
    wanted = down[:-1, 1:-1] - down[1:, 1:-1] + right[1:-1, :-1] - right[1:-1, 1:]
    wanted = wanted + known[:-2, 1:-1] + known[2:, 1:-1] + known[1:-1, :-2] + known[1:-1, 2:]
    rows, columns = wanted.shape[:2]
    if rows == 0 or columns == 0:
        return filled
    of_rows = 2.0 - 2.0 * np.cos(np.pi * np.arange(1, rows + 1) / (rows + 1))
    of_columns = 2.0 - 2.0 * np.cos(np.pi * np.arange(1, columns + 1) / (columns + 1))
    waves = dstn(wanted, type=1, axes=(0, 1), norm="ortho")
    waves /= (of_rows[:, None] + of_columns)[:, :, None]
    filled[1:-1, 1:-1] = dstn(waves, type=1, axes=(0, 1), norm="ortho")
    return filled
