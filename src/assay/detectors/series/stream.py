"""A live series, scored as it comes: bounded memory, and the scores that the whole series would have got.

A score reaches `before` steps back and `after` steps ahead (`SeriesDetector.reach`); so a step can be scored for good
once `after` more have come, and what lies further back than `before` can be forgotten. `Stream.push` takes any number
of new steps and returns the scores that have become final; `Stream.end` returns the rest. Memory: before + after steps
and what is pushed at once, cut in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from assay.core.series import Series, as_series
from assay.core.validation import Bools, Floats, InputError, check_number
from assay.detectors.series.common import SeriesDetector

#: Steps that are scored at a time at most, beside those that the score reaches: bounds the memory of a large push.
PIECE = 16_384


class Stream:
    """Scores a series piece by piece.

    Parameters
    ----------
    detector : SeriesDetector
        Fitted.
    every : int, default 1
        New steps to wait for before scoring: each time the reach is scored anew, so waiting for more saves work.

    Examples
    --------
    >>> from assay import SubPCA
    >>> series = np.sin(np.arange(1000) / 8)
    >>> detector = SubPCA(window=50).fit(series)
    >>> stream = Stream(detector)
    >>> parts = [stream.push(series[i : i + 100]) for i in range(0, 1000, 100)] + [stream.end()]
    >>> bool(np.allclose(np.concatenate(parts), detector.anomaly_score(series)))
    True
    """

    def __init__(self, detector: SeriesDetector, every: int = 1) -> None:
        if not isinstance(detector, SeriesDetector):
            raise InputError(f"detector is a {type(detector).__name__}: give a fitted detector of series")
        check_is_fitted(detector)
        check_number(every, "every", low=1, integer=True)
        self.detector, self.every = detector, int(every)
        self.before, self.after = detector.reach
        self._begin()

    def _begin(self) -> None:
        width = self.detector.n_features_in_
        self._last: Floats = self.detector.fill_.copy()
        self._values: Floats = np.empty((0, width))
        self._observed: Bools = np.empty(0, dtype=bool)
        #: Steps of the buffer whose scores have been given out.
        self._done = 0
        self._time: Any = None

    def push(self, X: Any) -> Floats:
        """Take new steps (n, C), or (n,) of one channel, and return the scores that have become final: (m,).

        Raises
        ------
        InputError
            If the steps cannot be used, or if their times are not later than those before; nothing is taken then.
        """
        series = as_series(X, min_steps=0)
        self.detector._compare(series.values.shape[1], series.names, "X")
        if series.time is not None and len(series):
            if self._time is not None and series.time[0] <= self._time:
                raise InputError(f"X begins at {series.time[0]}, not after {self._time}: a clock has gone backwards")
            self._time = series.time[-1]
        parts = [self._take(series[i : i + PIECE]) for i in range(0, len(series), PIECE)]
        return np.concatenate(parts) if parts else np.empty(0)

    def end(self) -> Floats:
        """Return the scores of the last steps, and begin anew."""
        rest = len(self._values) - self._done
        scores = self._scores()[self._done :] if rest else np.empty(0)
        self._begin()
        return scores

    def _take(self, series: Series) -> Floats:
        filled = series.filled(self._last)
        self._last = filled[-1].copy()
        self._values = np.concatenate([self._values, filled])
        self._observed = np.concatenate([self._observed, series.observed])
        final = len(self._values) - self.after
        # The first steps of a series may reach further ahead: they are given out once the whole reach is there.
        if len(self._values) <= self.before + self.after or final - self._done < self.every:
            return np.empty(0)
        scores = self._scores()[self._done : final]
        keep = max(0, final - self.before)
        self._values, self._observed = self._values[keep:].copy(), self._observed[keep:].copy()
        self._done = final - keep
        return scores

    def _scores(self) -> Floats:
        # What is missing was filled with what the whole stream has seen last, not with what the buffer holds.
        return self.detector._scored(self._values, self._observed)


def follow(lines: Iterable[str], stream: Stream) -> Iterator[tuple[int, float]]:
    """Yield (number of the step, score) for a stream of text lines, one step a line: numbers parted by commas.

    An empty field or ``nan`` is a missing measurement. Any iterable of lines will do: an open file, a pipe, a message
    queue's consumer.

    Raises
    ------
    InputError
        With the line's number, if a line holds anything else.
    """
    given = 0
    for number, line in enumerate(lines):
        for score in stream.push(parsed(line, number + 1, stream.detector.n_features_in_)):
            yield given, float(score)
            given += 1
    for score in stream.end():
        yield given, float(score)
        given += 1


def parsed(line: str, number: int, width: int) -> Floats:
    """Return a line of numbers parted by commas as one step (1, width); `number` is the line's, for messages."""
    try:
        values = [float(field) if field.strip() else np.nan for field in line.split(",")]
    except ValueError:
        raise InputError(f"line {number} is {json.dumps(line[:80])}: give numbers parted by commas") from None
    if len(values) != width:
        raise InputError(f"line {number} holds {len(values)} numbers, the detector was fitted on {width} channels")
    return np.array([values])
