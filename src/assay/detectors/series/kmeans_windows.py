"""K-means windows: the distance of a window to the nearest of a few typical ones.

In: a series (T, C), standardised by channel. Out: one score a step, >= 0: the mean over the windows that cover it of
the Euclidean distance to the nearest cluster centre, divided by the root of the window's size.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from assay.core.validation import Floats, check_number
from assay.detectors.series.common import WindowDetector
from assay.kernels.distances import squared_distances


class KMeansWindows(WindowDetector):
    """Distance of windows to their nearest centre.

    Parameters
    ----------
    window : int, default 20
        Steps of a window, as TSB-AD's KMeansAD.
    n_clusters : int, default 20
        Typical windows, as TSB-AD's KMeansAD.
    n_samples : int, default 20000
        Windows that the centres are learned from, drawn where there are more: ours.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centres_ : array of shape (n_clusters, window * C)
        The typical windows.

    References
    ----------
    T. Yairi, Y. Kato, K. Hori: Fault detection by mining association rules from house-keeping data. i-SAIRAS 2001.

    Examples
    --------
    >>> t = np.arange(600)
    >>> series = np.sin(t / 8)
    >>> series[400:410] = 0
    >>> scores = KMeansWindows(random_state=0).fit(series[:300]).anomaly_score(series)
    >>> bool(380 < np.argmax(scores) < 430)
    True
    """

    def __init__(
        self, window: int = 20, n_clusters: int = 20, n_samples: int = 20_000, random_state: object = None
    ) -> None:
        self.window = window
        self.n_clusters = n_clusters
        self.n_samples = n_samples
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.window, "window", low=2, integer=True)
        check_number(self.n_clusters, "n_clusters", low=1, integer=True)
        check_number(self.n_samples, "n_samples", low=2, integer=True)

    def _learn_windows(self, X: Floats, rng: np.random.Generator) -> None:
        rows = rng.choice(len(X), min(len(X), int(self.n_samples)), replace=False)
        sample = X[np.sort(rows)].reshape(len(rows), -1)
        distinct = len(np.unique(sample, axis=0))
        clusters = KMeans(min(int(self.n_clusters), distinct), n_init=1, random_state=int(rng.integers(2**31)))
        self.centres_ = clusters.fit(sample).cluster_centers_

    def _window_scores(self, X: Floats) -> Floats:
        w = X.reshape(len(X), -1)
        return np.sqrt(squared_distances(w, self.centres_).min(axis=1) / w.shape[1])
