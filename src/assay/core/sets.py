"""Sets at the door: lists of arrays of members become one flat array with offsets.

In: a list of sets, each an array (N, d) of N >= 1 members with d numbers, or one array (n, N, d) of sets of equal size.
Out: `Sets`. The order of a set's members means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Bools, Floats, InputError, Ints, refuse_non_finite, told


class Sets(Sequence[Floats]):
    """Sets of rows, each an array (N, d).

    Parameters
    ----------
    flat : array of shape (M, d)
        The members of all sets, one set after another.
    offsets : array of int of shape (n + 1,)
        Where each begins; the last is M.
    """

    def __init__(self, flat: Floats, offsets: Ints) -> None:
        self.flat = flat
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return one set for a number, `Sets` for a slice, numbers or booleans."""
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[int(index)]
            return self.flat[self.offsets[row] : self.offsets[row + 1]]
        rows = np.arange(len(self))[index]
        return joined_sets([self[row] for row in rows], self.flat.shape[1])

    @property
    def sizes(self) -> Ints:
        """Number of members of each set, (n,)."""
        return np.diff(self.offsets)


def joined_sets(parts: list[Floats], width: int) -> Sets:
    """Return arrays of members as `Sets`."""
    flat = np.concatenate(parts) if parts else np.empty((0, width))
    return Sets(flat, np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]))


def member_moments(X: Sets) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of all members' columns, (d,) each; 1 where a column is constant."""
    centre, spread = X.flat.mean(axis=0), X.flat.std(axis=0)
    return centre, np.where(spread > 1e-12 * np.abs(centre), spread, 1.0)


def as_sets(X: Any, name: str = "X", *, min_sets: int = 1) -> Sets:
    """Return `X` as `Sets` of float64.

    Raises
    ------
    InputError
        If a set is empty, is no array (N, d) of finite numbers, or has another width than the first (the message gives
        its number), or if there are too few.
    """
    if not isinstance(X, Sets):
        X = _converted(X, name)
    if len(X) < min_sets:
        raise InputError(f"{name} has {len(X)} sets, at least {min_sets} needed")
    empty = np.flatnonzero(X.sizes == 0)
    if len(empty):
        raise InputError(f"{name}: set {empty[0]} is empty ({len(empty)} such in all); leave these out")
    refuse_non_finite(X.flat, f"{name}, all members one after another,")
    return X


def _converted(X: Any, name: str) -> Sets:
    if isinstance(X, (str, bytes)) or not hasattr(X, "__iter__"):
        raise InputError(f"{name} is {told(X)}: give a list of sets, each an array (N, d) of numbers")
    parts: list[npt.NDArray[Any]] = []
    for number, one in enumerate(X):
        try:
            part = np.asarray(one)
            part = part if part.dtype.kind in "US" else part.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: set {number} is not an array (N, d) of numbers: {error}") from error
        if part.size == 0 and parts:
            part = np.empty((0, parts[0].shape[1]))
        if part.ndim != 2 or part.dtype.kind != "f" or part.shape[1] == 0:
            raise InputError(f"{name}: set {number} is {part.dtype} of shape {part.shape}: give numbers (N, d)")
        if parts and part.shape[1] != parts[0].shape[1]:
            raise InputError(
                f"{name}: members of set {number} have {part.shape[1]} numbers, those before it {parts[0].shape[1]}"
            )
        parts.append(part)
    return joined_sets(parts, parts[0].shape[1] if parts else 1)


def padded_sets(X: Sets, size: int | None = None) -> tuple[Floats, Bools]:
    """Return the members (n, size, d), zeros behind a set's end, and which are real, (n, size); `size`: the largest."""
    sizes = X.sizes
    width = int(sizes.max()) if size is None else size
    mask: Bools = np.arange(width) < sizes[:, None]
    table = np.zeros((len(X), width, X.flat.shape[1]))
    table[mask] = X.flat
    return table, mask
