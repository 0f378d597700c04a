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
from assay.core.progress import progress
from assay.core.series import Series
from assay.core.validation import Bools, Floats, InputError, Ints

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
        return self._scored(X.filled(self.fill_), X.observed)

    def _scored(self, values: Floats, observed: Bools) -> Floats:
        """Return the scores of filled values, NaN where nothing was observed (T,)."""
        scores = np.asarray(self._steps(values), dtype=np.float64).copy()
        scores[~observed] = np.nan
        return scores

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        """Learn from the filled values (T, C); `X` tells what was missing (`X.whole`), the times and the names."""
        raise NotImplementedError

    def _steps(self, values: Floats) -> Floats:
        """Return one score a step, (T,), of filled values (T, C)."""
        raise NotImplementedError


class WindowDetector(SeriesDetector):
    """Gives each window of `window` steps a score; a step's is the mean over the windows that cover it.

    Windows with a missing step count only where no whole one covers the step: a gap is no anomaly of what is beside it.

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

    def _scored(self, values: Floats, observed: Bools) -> Floats:
        views = windows((values - self.mean_) / self.scale_, self.window)
        starts = range(0, len(views), CHUNK)
        parts = [self._window_scores(views[i : i + CHUNK]) for i in progress(starts, "scoring", total=len(starts))]
        scores = covering_mean(np.concatenate(parts), self.window, observed)
        scores[~observed] = np.nan
        return scores

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


def covering_mean(scores: Floats, length: int, observed: Bools | None = None) -> Floats:
    """Return for each of T steps the mean score of the windows that cover it; `scores` (T - length + 1,).

    Of the windows those whose steps were all `observed` (T,), unless none of these covers the step.
    """
    n = len(scores)
    # Summed about their mean, so that the running total stays small.
    centre = scores.mean()
    means = centre + _means(scores - centre, np.ones(n), length)[0]
    if observed is not None and not observed.all():
        missing = np.concatenate([[0], np.cumsum(~observed)])
        whole = (missing[length:] == missing[:n]).astype(np.float64)
        chosen, some = _means((scores - centre) * whole, whole, length)
        means = np.where(some, centre + chosen, means)
    return means


def _means(values: Floats, weights: Floats, length: int) -> tuple[Floats, Bools]:
    """Return sum of values / sum of weights over the windows that cover each step, and where there are any."""
    steps = np.arange(len(values) + length - 1)
    first, last = np.maximum(steps - length + 1, 0), np.minimum(steps, len(values) - 1)
    sums = (np.concatenate([[0.0], np.cumsum(part)]) for part in (values, weights))
    total, count = (part[last + 1] - part[first] for part in sums)
    return total / np.maximum(count, 1.0), count > 0
