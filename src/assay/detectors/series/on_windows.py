"""On windows: any detector of tables, shown every window of a series as one row.

In: a series (T, C), standardised by channel. Out: one score a step, the mean over the windows that cover it of the
detector's score of the window. An isolation forest by default; Assay's other detectors of tables and PyOD's (through
`assay.as_detector`) go in as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.catalogue import find, load_class
from assay.core.clone import seeded_clone
from assay.core.validation import Floats, check_methods, check_number
from assay.detectors.series.common import WindowDetector


class OnWindows(WindowDetector):
    """A detector of rows, on windows.

    Parameters
    ----------
    detector : Detector, optional
        Of tables; an `IsolationForest` with its defaults if None.
    window : int, default 20
        Steps of a window: ours.
    n_samples : int, default 20000
        Windows that the detector is fitted on, drawn where there are more: ours.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    detector_ : Detector
        Fitted on the windows.

    Examples
    --------
    >>> t = np.arange(600)
    >>> series = np.sin(t / 8)
    >>> series[400:410] = 0
    >>> scores = OnWindows(random_state=0).fit(series[:300]).anomaly_score(series)
    >>> bool(380 < np.argmax(scores) < 430)
    True
    """

    def __init__(
        self, detector: Any = None, window: int = 20, n_samples: int = 20_000, random_state: Any = None
    ) -> None:
        self.detector = detector
        self.window = window
        self.n_samples = n_samples
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.detector is not None:
            check_methods(self.detector, "detector", "fit", "anomaly_score")
        check_number(self.window, "window", low=1, integer=True)
        check_number(self.n_samples, "n_samples", low=2, integer=True)

    def _learn_windows(self, X: Floats, rng: np.random.Generator) -> None:
        rows = np.sort(rng.choice(len(X), min(len(X), int(self.n_samples)), replace=False))
        detector = load_class(find("isolation_forest"))() if self.detector is None else self.detector
        self.detector_ = seeded_clone(detector, int(rng.integers(2**31)))
        self.detector_.fit(X[rows].reshape(len(rows), -1))

    def _window_scores(self, X: Floats) -> Floats:
        return self.detector_.anomaly_score(X.reshape(len(X), -1))
