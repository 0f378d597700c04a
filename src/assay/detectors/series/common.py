"""What detectors of series share: what is missing, how far a score reaches, and how windows become steps.

A system sees filled values: where nothing was measured stands the channel's last measurement, its training median
before any. Training learns only from windows without a missing step, a known anomaly or a gap in time. A step at which
no channel was measured has the score NaN: none was earned, and NaN crosses no threshold.

Every score depends on a bounded neighbourhood, `reach` = (steps before, steps after), and on nothing else of the
series that is scored: so a stream can be scored with bounded memory, to the same scores (`assay.detectors.series.
stream`). Nothing is standardised by what is being scored.
"""

from __future__ import annotations

import numpy as np

from assay.base import Detector, TakesSeries
from assay.core.series import Series
from assay.core.validation import Floats, InputError, Ints

#: Windows that are described at a time: memory grows with it, the scores do not depend on it.
CHUNK = 4096


class SeriesDetector(TakesSeries, Detector):
    """Gives each time step a score; a system writes `_learn`, `_steps` and `reach`.

    Attributes
    ----------
    fill_ : array of shape (C,)
        Training median of each channel: what stands before a channel's first measurement.
    """

    @property
    def reach(self) -> tuple[int, int]:
        """How many steps before and after a step its score depends on, at most; (0, 0) is the step alone.

        The first `before` and the last `after` steps of a series are scored with what there is.
        """
        raise NotImplementedError

    def _fit(self, X: Series, y: Ints | None, rng: np.random.Generator) -> None:
        self.fill_ = np.nanmedian(X.values, axis=0)
        self._learn(X.filled(self.fill_), X, rng)

    def _score(self, X: Series) -> Floats:
        scores = np.asarray(self._steps(X.filled(self.fill_)), dtype=np.float64).copy()
        scores[~X.observed] = np.nan
        return scores

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        """Learn from the filled values (T, C); `X` tells what was missing (`X.whole`), the times and the names."""
        raise NotImplementedError

    def _steps(self, values: Floats) -> Floats:
        """Return one score a step, (T,), of filled values (T, C)."""
        raise NotImplementedError


class WindowDetector(SeriesDetector):
    """Gives each window of `window` steps a score; a step's is the mean over the windows that cover it.

    A system has the parameter `window` and writes `_learn_windows` and `_window_scores`. Channels are standardised by
    their training mean and deviation.

    Attributes
    ----------
    mean_, scale_ : array of shape (C,)
        Of the training steps that were measured; scale 1 where a channel is constant.
    """

    window: int

    @property
    def reach(self) -> tuple[int, int]:
        """Window - 1 steps on either side."""
        return self.window - 1, self.window - 1

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        self.mean_, self.scale_ = moments(X.values)
        starts = self._starts(X)
        self._learn_windows(windows((values - self.mean_) / self.scale_, self.window)[starts], rng)

    def _starts(self, X: Series) -> Ints:
        """Return where the windows to learn from begin."""
        starts = X.whole(self.window)
        if len(starts) < 2:
            raise InputError(
                f"X: {len(starts)} windows of {self.window} steps are without a missing step, at least 2 needed; "
                "give a longer series or a shorter window"
            )
        return starts

    def _steps(self, values: Floats) -> Floats:
        views = windows((values - self.mean_) / self.scale_, self.window)
        parts = [self._window_scores(views[i : i + CHUNK]) for i in range(0, len(views), CHUNK)]
        return covering_mean(np.concatenate(parts), self.window)

    def _learn_windows(self, X: Floats, rng: np.random.Generator) -> None:
        """Learn from standardised windows (n, L, C)."""
        raise NotImplementedError

    def _window_scores(self, X: Floats) -> Floats:
        """Return one score a window, (n,), each from its window alone."""
        raise NotImplementedError


def moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each channel (T, C), missing values left out; 1 where it is constant."""
    scale = np.nanstd(values, axis=0)
    return np.nanmean(values, axis=0), np.where(np.nanmax(values, axis=0) > np.nanmin(values, axis=0), scale, 1.0)


def windows(values: Floats, length: int) -> Floats:
    """Return all windows (n, length, C) of a series (T, C): a view, nothing is copied.

    Raises
    ------
    InputError
        If the series is shorter than a window.
    """
    if len(values) < length:
        raise InputError(f"X has {len(values)} time steps, fewer than a window of {length}")
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)


def covering_mean(scores: Floats, length: int) -> Floats:
    """Return for each of T steps the mean score of the windows that cover it; `scores` (T - length + 1,)."""
    n = len(scores)
    steps = np.arange(n + length - 1)
    # Summed about their mean, so that the running total stays small.
    centre = scores.mean()
    total = np.concatenate([[0.0], np.cumsum(scores - centre)])
    first, last = np.maximum(steps - length + 1, 0), np.minimum(steps, n - 1)
    return centre + (total[last + 1] - total[first]) / (last + 1 - first)
