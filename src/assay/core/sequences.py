"""Event sequences at the door: lists of ids or names become one flat array with offsets.

In: a list of sequences, each a list or array of event ids (integers) or event names (texts), of any length >= 1. Out:
`Sequences`. A `Vocabulary` numbers the events of a training set; what it never saw is one and the same unknown event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import InputError, Ints, told

#: Numbers that no event has: nothing, and an event that training never saw.
PAD, UNKNOWN_EVENT = 0, 1
#: The number of a vocabulary's first event.
FIRST = 2


class Sequences(Sequence[npt.NDArray[Any]]):
    """Sequences of events, each an array (length,) of integers or texts.

    Parameters
    ----------
    flat : array of shape (N,)
        The events of all sequences, one after another.
    offsets : array of int of shape (n + 1,)
        Where each begins; the last is N.
    """

    def __init__(self, flat: npt.NDArray[Any], offsets: Ints) -> None:
        self.flat = flat
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        """Return one sequence for a number, `Sequences` for a slice, numbers or booleans."""
        if isinstance(index, (int, np.integer)):
            row = range(len(self))[int(index)]
            return self.flat[self.offsets[row] : self.offsets[row + 1]]
        rows = np.arange(len(self))[index]
        return joined([self[row] for row in rows], self.flat.dtype)

    @property
    def lengths(self) -> Ints:
        """Number of events of each sequence, (n,)."""
        return np.diff(self.offsets)


def joined(parts: list[Any], dtype: Any = None) -> Sequences:
    """Return arrays of events as `Sequences`."""
    flat = np.concatenate(parts) if parts else np.empty(0, dtype=dtype or np.int64)
    return Sequences(flat, np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]))


def as_sequences(X: Any, name: str = "X", *, min_sequences: int = 1) -> Sequences:
    """Return `X` as `Sequences`.

    Raises
    ------
    InputError
        If a sequence is empty or holds anything but integers or texts (the message gives its number), if both kinds
        occur, or if there are too few.
    """
    if not isinstance(X, Sequences):
        X = _converted(X, name)
    if len(X) < min_sequences:
        raise InputError(f"{name} has {len(X)} sequences, at least {min_sequences} needed")
    empty = np.flatnonzero(X.lengths == 0)
    if len(empty):
        raise InputError(f"{name}: sequence {empty[0]} is empty ({len(empty)} such in all); leave these out")
    return X


def _converted(X: Any, name: str) -> Sequences:
    if isinstance(X, (str, bytes)) or not hasattr(X, "__iter__"):
        raise InputError(f"{name} is {told(X)}: give a list of sequences, each a list of event ids or names")
    parts, texts = [], None
    for number, sequence in enumerate(X):
        if isinstance(sequence, (str, bytes)) or not hasattr(sequence, "__len__"):
            raise InputError(f"{name}: sequence {number} is {told(sequence)}: give a list of event ids or names")
        part = np.asarray(sequence)
        if part.ndim != 1 or (len(part) and part.dtype.kind not in "iuUO"):
            raise InputError(f"{name}: sequence {number} holds {part.dtype} of shape {part.shape}: give ids or names")
        if part.dtype.kind == "O":
            if not all(isinstance(event, str) for event in part):
                raise InputError(f"{name}: sequence {number} holds {told(part[0])}: give integers or texts alone")
            part = part.astype(str)
        if len(part) and (texts is None or texts != (part.dtype.kind == "U")):
            if texts is not None:
                raise InputError(f"{name}: sequence {number} holds another kind of events than those before it")
            texts = part.dtype.kind == "U"
        parts.append(part if part.dtype.kind == "U" else part.astype(np.int64))
    if texts:
        parts = [part.astype(str) for part in parts]
    return joined(parts)


class Vocabulary:
    """The events of a training set, numbered from 2 in sorted order; 0 is nothing, 1 an event never seen.

    Parameters
    ----------
    events : array of shape (V,)
        Sorted, without repetition: integers or texts.
    """

    def __init__(self, events: npt.NDArray[Any]) -> None:
        self.events = events

    @classmethod
    def of(cls, X: Sequences) -> Vocabulary:
        """Return the vocabulary of some sequences."""
        return cls(np.unique(X.flat))

    def __len__(self) -> int:
        """Return how many numbers there are, nothing and unknown included."""
        return len(self.events) + FIRST

    def numbers(self, X: Sequences, name: str = "X") -> Sequences:
        """Return the sequences as numbers of this vocabulary."""
        if len(X.flat) and (X.flat.dtype.kind == "U") != (self.events.dtype.kind == "U"):
            kinds = {"U": "names"}
            raise InputError(
                f"{name} holds event {kinds.get(X.flat.dtype.kind, 'ids')}, but was fitted on "
                f"{kinds.get(self.events.dtype.kind, 'ids')}"
            )
        places = np.searchsorted(self.events, X.flat)
        known = self.events[np.minimum(places, len(self.events) - 1)] == X.flat
        return Sequences(np.where(known, places + FIRST, UNKNOWN_EVENT).astype(np.int64), X.offsets)


def padded(X: Sequences, length: int | None = None) -> Ints:
    """Return number sequences as one array (n, length), filled up with 0 at the end; the longest by default."""
    lengths = X.lengths
    width = int(lengths.max()) if length is None else length
    table = np.full((len(X), width), PAD, dtype=np.int64)
    table[np.arange(width) < lengths[:, None]] = X.flat
    return table
