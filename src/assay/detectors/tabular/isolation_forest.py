"""Isolation forest: anomalies are separated from the rest by few random cuts.

In: a table (n, d) of finite numbers; no scaling needed. Out: one score a row in (0, 1); about .5 where
nothing stands out.

Each tree takes a small sample and cuts it at random until every row is alone or the depth limit is reached.
The mean path length E[h(x)] over the trees, set against c(ψ), the mean path of an unsuccessful search among ψ
rows, gives

    s(x) = 2 ** (-E[h(x)] / c(ψ)).

Defaults are the paper's: 100 trees, samples of ψ = 256 rows, depth limit ceil(log2 ψ). The law of a split is
that of scikit-learn's `IsolationForest`, so that scores agree in distribution; trees are grown and walked in
Numba. Time O(trees · ψ log ψ) to fit, O(n · trees · log ψ) to score; memory O(trees · ψ).
"""

from __future__ import annotations

import math

import numpy as np

from assay.base import Detector
from assay.core.validation import Floats, InputError, Ints, check_number
from assay.kernels.isolation import average_path, grow_trees, mean_paths


class IsolationForest(Detector):
    """Score rows by how few random cuts isolate them.

    Parameters
    ----------
    n_trees : int, default 100
        Number of trees (Liu et al., section 4).
    sample_size : int, default 256
        Rows each tree sees, at most all of them (Liu et al., section 4).
    random_state : None, int or numpy.random.Generator
        Seed of the samples and the cuts.

    Attributes
    ----------
    feature_, threshold_, left_, path_, root_, levels_ : arrays
        The trees, node after node: see `assay.kernels.isolation.grow_trees`.
    sample_size_ : int
        Rows each tree saw.

    References
    ----------
    Liu, Ting and Zhou: Isolation Forest. ICDM 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import IsolationForest
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> forest = IsolationForest(random_state=0).fit(X)
    >>> bool(forest.anomaly_score([[6.0, 6.0]])[0] > forest.anomaly_score([[0.0, 0.0]])[0])
    True
    """

    def __init__(self, n_trees=100, sample_size=256, random_state=None):
        self.n_trees = n_trees
        self.sample_size = sample_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.n_trees, "n_trees", low=1, integer=True)
        check_number(self.sample_size, "sample_size", low=2, integer=True)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.sample_size_ = min(int(self.sample_size), len(X))
        depth = math.ceil(math.log2(max(self.sample_size_, 2)))
        seed = int(rng.integers(2**62))
        trees = grow_trees(X, int(self.n_trees), self.sample_size_, depth, seed)
        self.feature_, self.threshold_, self.left_, self.path_, self.root_, self.levels_ = trees

    def _check_fitted(self) -> None:
        """Refuse trees whose walk would leave their arrays or not end, as only a crafted saved folder can hold."""
        if not hasattr(self, "left_"):
            return
        nodes, here = len(self.left_), np.arange(len(self.left_))
        leaf = self.left_ == here
        arrays = (self.feature_, self.threshold_, self.path_)
        sound = (
            all(array.shape == (nodes,) for array in arrays)
            and self.root_.shape == self.levels_.shape
            and bool(((self.feature_ >= 0) & (self.feature_ < self.n_features_in_)).all())
            and bool((leaf | ((self.left_ > here) & (self.left_ < nodes - 1))).all())
            and bool(np.isinf(self.threshold_[leaf]).all())
            and bool(((self.root_ >= 0) & (self.root_ < nodes)).all())
            and bool(((self.levels_ >= 0) & (self.levels_ < 64)).all())
        )
        if not sound:
            raise InputError("the saved isolation forest holds trees that do not hang together")

    def _score(self, X: Floats) -> Floats:
        trees = (self.feature_, self.threshold_, self.left_, self.path_, self.root_, self.levels_)
        return np.exp2(-mean_paths(X, *trees) / average_path(float(self.sample_size_)))
