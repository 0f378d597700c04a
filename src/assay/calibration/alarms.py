"""Alarms: from a stream of scores to calls for a person, without flicker.

A score above the threshold for `patience` steps in a row raises the alarm; it ends when the scores have stayed at or
below the lower level `release` for `hold` steps (hysteresis: a score that trembles about the threshold is one alarm,
not twenty). Causal and of constant memory: the decisions for a stream are those for the whole series. A missing score
(NaN) decides nothing: the state stays, and no count goes on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, InputError, Ints, check_number
from assay.kernels.jit import jit


class Alarms:
    """Decides on scores as they come.

    Parameters
    ----------
    threshold : float
        Level that raises the alarm, for example a calibrator's ``threshold_``.
    release : float, optional
        Level, at most the threshold, at or below which it ends; the threshold by default.
    patience : int >= 1, default 1
        Scores above the threshold in a row before the alarm.
    hold : int >= 1, default 1
        Scores at or below `release` in a row before it ends.

    Examples
    --------
    >>> Alarms(2.0, release=1.0, patience=2).decide([0, 3, 0, 3, 3, 1.5, 3, 0.5, 0]).tolist()
    [0, 0, 0, 0, 1, 1, 1, 0, 0]
    """

    def __init__(self, threshold: float, release: float | None = None, patience: int = 1, hold: int = 1) -> None:
        check_number(threshold, "threshold")
        if release is not None:
            check_number(release, "release")
            if release > threshold:
                raise InputError(f"release={release:g} lies above threshold={threshold:g}: give a lower level")
        check_number(patience, "patience", low=1, integer=True)
        check_number(hold, "hold", low=1, integer=True)
        self.threshold, self.release = float(threshold), float(threshold if release is None else release)
        self.patience, self.hold = int(patience), int(hold)
        self.begin()

    def begin(self) -> None:
        """Forget the stream so far: no alarm is on."""
        self._state = np.zeros(3, dtype=np.int64)

    def update(self, scores: Any) -> Ints:
        """Return 1 while the alarm is on, else 0, for the next scores of the stream: (n,)."""
        array = np.asarray(scores, dtype=np.float64)
        if array.ndim != 1:
            raise InputError(f"scores has shape {array.shape}, expected (n,): one score a step")
        decisions = np.empty(len(array), dtype=np.int64)
        _walk(array, decisions, self._state, self.threshold, self.release, self.patience, self.hold)
        return decisions

    def decide(self, scores: Any) -> Ints:
        """Return the decisions for a whole series, from the beginning: (n,)."""
        self.begin()
        return self.update(scores)


@jit
def _walk(
    scores: Floats,
    decisions: Ints,
    state: npt.NDArray[np.int64],
    threshold: float,
    release: float,
    patience: int,
    hold: int,
) -> None:
    """Go through the scores; state: whether the alarm is on, scores above in a row, scores released in a row."""
    on, above, below = state
    for i in range(len(scores)):
        score = scores[i]
        if not np.isnan(score):
            above = above + 1 if score > threshold else 0
            below = below + 1 if score <= release else 0
            if on == 0 and above >= patience:
                on = 1
            elif on == 1 and below >= hold:
                on = 0
        decisions[i] = on
    state[0], state[1], state[2] = on, above, below
