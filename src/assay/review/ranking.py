"""What a person should look at next: scores of a detector, corrected by the few items that were judged (Astronomaly).

In: features of n items, an array (n, d), in memory or memory-mapped; optionally a detector's scores (n,), higher =
more anomalous. A person gives items u from 0 (boring) to 5 (interesting); -1 is no judgement, 0 is one. Out: an order.

Rare and interesting are not the same: a detector finds both lenses and artefacts. Its scores s are first spread
linearly over [0, 5]. After u was given to some items, one of three rules ranks all of them.

    neighbours    û(x): a random forest from features to u, cut to [.1, 5];  f = .1 + .85 û / 5
                  d(x): distance to the nearest judged item;  d0 = d / (mean of d over all items)
                  s' = s tanh(exp(α d0) - 1 + artanh f)
                  On a judged item s' = s f; far from all of them s' → s: nothing is known there.
    regression    û alone: best once something interesting was judged, blind where nothing was
    protege       a Gaussian process from features to u, no detector; ranked by expected improvement
                  EI = (μ - u_max - ξ) Φ(z) + σ φ(z),  z = (μ - u_max - ξ) / σ:  likely good, or not known

Published: α = 1, 200 trees, ξ = .5, and for the detector an isolation forest of 200 trees.

At four million items a pass of the forest takes longer than a person waits. `head` therefore gives the first k of
``neighbours`` exactly from few predictions: f is at most .95, so s tanh(exp(α d0) - 1 + artanh .95) bounds s', and
whoever's bound is below the k-th best s' found so far needs no prediction. Distances are one matrix product a block and
are kept: a new label costs one pass against the new item alone.

Departures: the forest of the detector samples without replacement (Astronomaly: with). Distances to the nearest judged
item come from blocks of matrix products, not from one tree query an item. With no judgement at all the order is the
detector's; ``protege`` then takes items spread along the first two principal components.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import Floats, InputError, Ints, check_number, check_option, told

METHODS = ("neighbours", "regression", "protege")
#: Least and most of f, the factor on a judged item: .1 + .85 û / 5 for û in [.1, 5].
LEAST, MOST = 0.1, 5.0
HIGHEST_FACTOR = 0.95
#: Items in one block of a pass: with 64 features, 16 MiB of them. Items whose distances are found together: with a
#: hundred judged ones these fit into a core's cache.
BLOCK, ROWS = 65536, 2048


def to_0_5(scores: Any) -> Floats:
    """Return scores spread linearly over [0, 5], 5 = the most anomalous; 0 where all are the same."""
    scores = np.asarray(scores, dtype=np.float64)
    low, high = scores.min(), scores.max()
    return 5.0 * (scores - low) / (high - low) if high > low else np.zeros(len(scores))


def neighbour_scores(scores: Any, predicted: Any, distances: Any, alpha: float = 1.0) -> Floats:
    """Return s tanh(exp(α d0) - 1 + artanh f), the scores corrected by what is known nearby.

    Parameters
    ----------
    scores : array of shape (n,)
        Scores s in [0, 5].
    predicted : array of shape (n,)
        What a person would say of each, û; cut to [.1, 5].
    distances : array of shape (n,)
        Distance to the nearest judged item over the mean of that over *all* items, d0.
    alpha : float, default 1
        How fast a judgement is forgotten with distance.
    """
    factor = 0.1 + 0.85 * np.clip(predicted, LEAST, MOST) / 5.0
    # exp overflows for a lone item far away, where tanh is 1 long before.
    reach = np.exp(np.minimum(alpha * np.asarray(distances, dtype=np.float64), 50.0))
    corrected: Floats = np.asarray(scores) * np.tanh(reach - 1.0 + np.arctanh(factor))
    return corrected


def expected_improvement(mean: Any, spread: Any, best: float, tradeoff: float = 0.5) -> Floats:
    """Return EI = (μ - best - ξ) Φ(z) + σ φ(z): how much better than `best` + ξ an item is expected to be.

    Parameters
    ----------
    mean, spread : array of shape (n,)
        Prediction and its standard deviation, >= 0.
    best : float
        Highest judgement so far.
    tradeoff : float, default .5
        ξ: more of it explores more.
    """
    gain = np.asarray(mean, dtype=np.float64) - best - tradeoff
    spread = np.asarray(spread, dtype=np.float64)
    z = np.divide(gain, spread, out=np.where(gain > 0, np.inf, -np.inf), where=spread > 0)
    return np.where(spread > 0, gain * norm.cdf(z) + spread * norm.pdf(z), np.maximum(gain, 0.0))


def nearest_distances(
    features: Any, judged: Any, known: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Return the distance of every item to the nearest of some judged ones, (n,), in blocks of matrix products.

    Parameters
    ----------
    features : array of shape (n, d)
        All items; may be memory-mapped.
    judged : array of shape (m, d)
        The judged ones.
    known : array of float32 of shape (n,), optional
        Distances to others, kept where they are smaller; not changed.
    """
    best = np.full(len(features), np.inf, dtype=np.float32) if known is None else known.copy()
    if len(judged) == 0:
        return best
    # Far from the origin the squares cancel: everything is measured from the judged items' centre.
    centre = np.asarray(judged, dtype=np.float64).mean(axis=0)
    targets = (np.asarray(judged, dtype=np.float64) - centre).astype(np.float32)
    # |x - t|² = |x|² + (x, 1) · (-2 t, |t|²): what differs between the judged is one product.
    product = np.column_stack([-2.0 * targets, np.einsum("ij,ij->i", targets, targets)])
    middle, width = centre.astype(features.dtype), features.shape[1]
    room = np.ones((ROWS, width + 1), dtype=np.float32)
    starts = range(0, len(features), ROWS)
    # Products as small as these wait for threads longer than they take.
    with threadpool_limits(1):
        for start in progress(starts, "distances to judged items", len(starts)):
            rows = features[start : start + ROWS]
            block = room[: len(rows)]
            np.subtract(rows, middle, out=block[:, :width])
            nearest = (product @ block.T).min(axis=0) + np.einsum("ij,ij->i", block[:, :width], block[:, :width])
            piece = best[start : start + ROWS]
            np.minimum(piece, np.sqrt(np.maximum(nearest, 0.0)), out=piece)
    return best


class ActiveRanker:
    """Rank items by a detector and by what a person said of a few.

    Parameters
    ----------
    method : {"neighbours", "regression", "protege"}, default "neighbours"
        The rule; see the module.
    alpha : float, default 1
        How fast a judgement is forgotten with distance (published).
    n_trees : int, default 200
        Trees of the forest that learns from judgements (published).
    tradeoff : float, default .5
        ξ of the expected improvement (published).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    features_ : array of shape (n, d)
        The items, as given: not copied.
    scores_ : array of shape (n,)
        The detector's scores in [0, 5].
    labels_ : dict of int to float
        What was said, item -> u; the mean where several people judged.
    distances_ : array of float32 of shape (n,)
        Distance of every item to the nearest judged one; inf before the first.
    predicted_ : object or None
        What learned from the judgements at the last `retrain`.

    References
    ----------
    Lochner and Bassett: Astronomaly: personalised active anomaly detection in astronomical data. Astronomy and
    Computing 2021, arXiv 2010.11202. Etsebeth et al.: Astronomaly at scale. MNRAS 2024, arXiv 2309.08660. Lochner and
    Rudnick: Astronomaly Protege. arXiv 2411.04188.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.review.ranking import ActiveRanker
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> ranker = ActiveRanker(random_state=0).fit(X)
    >>> first = ranker.rank()[:5]
    >>> for item in first:
    ...     ranker.label(item, 0)
    >>> again = ranker.retrain().rank()[:5]
    >>> len(set(first) & set(again))
    0
    """

    def __init__(
        self,
        method: str = "neighbours",
        *,
        alpha: float = 1.0,
        n_trees: int = 200,
        tradeoff: float = 0.5,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.alpha = alpha
        self.n_trees = n_trees
        self.tradeoff = tradeoff
        self.random_state = random_state

    def fit(self, features: Any, scores: Any = None) -> ActiveRanker:
        """Take the items and a detector's scores; without these an isolation forest of 200 trees gives them.

        Raises
        ------
        InputError
            If a parameter makes no sense, features are no floating-point numbers of the right shape (their values are
            not looked at), or scores are not finite.
        """
        check_option(self.method, "method", *METHODS)
        check_number(self.alpha, "alpha", low=0.0)
        check_number(self.n_trees, "n_trees", low=1, integer=True)
        check_number(self.tradeoff, "tradeoff", low=0.0)
        if getattr(features, "ndim", 0) != 2 or features.dtype.kind != "f" or 0 in features.shape:
            raise InputError(f"features is {told(features)}: give an array (n, d) of floating-point numbers")
        self._seed = child_seeds(as_generator(self.random_state), 1)[0]
        if scores is None:
            scores = forest_scores(features, random_state=self._seed)
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != (len(features),) or not np.isfinite(scores).all():
            raise InputError(
                f"scores has shape {scores.shape}: give one finite number for each of {len(features)} items"
            )
        self.features_ = features
        self.scores_ = to_0_5(scores)
        self.labels_: dict[int, float] = {}
        self.distances_ = np.full(len(features), np.inf, dtype=np.float32)
        self.predicted_: Any = None
        self._measured: set[int] = set()
        self._trained: dict[int, float] = {}
        return self

    def label(self, item: int, value: float) -> None:
        """Keep what a person said of an item, from 0 (boring) to 5 (interesting); -1 takes it back.

        Raises
        ------
        InputError
            If there is no such item, or the value is none of these.
        """
        check_number(item, "item", low=0, high=len(self.features_) - 1, integer=True)
        check_number(value, "value", low=-1.0, high=5.0)
        if -1 < value < 0:
            raise InputError(f"value={value} is not understood: give 0 to 5, or -1 for no judgement")
        if value == -1:
            self.labels_.pop(int(item), None)
        else:
            self.labels_[int(item)] = float(value)

    def keep_distances(self, other: ActiveRanker) -> None:
        """Take over the distances of another ranker of the same items, so that only new judgements cost a pass."""
        if other.features_ is not self.features_:
            raise InputError("other ranks other items")
        self.distances_, self._measured = other.distances_, set(other._measured)

    def retrain(self) -> ActiveRanker:
        """Learn from all judgements so far."""
        items = np.array(sorted(self.labels_), dtype=np.int64)
        self._trained = dict(self.labels_)
        if len(items) == 0:
            self.predicted_ = None
            self.distances_ = np.full(len(self.features_), np.inf, dtype=np.float32)
            self._measured = set()
            return self
        judged = np.asarray(self.features_[items], dtype=np.float64)
        values = np.array([self.labels_[item] for item in items])
        if self.method == "protege":
            self.predicted_ = _gaussian_process(judged, values, self._seed)
        else:
            from sklearn.ensemble import RandomForestRegressor

            self.predicted_ = RandomForestRegressor(self.n_trees, random_state=self._seed).fit(judged, values)
        if self.method == "neighbours":
            self._measure(items)
        return self

    def _measure(self, items: Ints) -> None:
        """Update the distances: only against new items, unless a judgement was taken back."""
        now = {int(item) for item in items}
        if not self._measured <= now:
            self.distances_, self._measured = np.full(len(self.features_), np.inf, dtype=np.float32), set()
        new = sorted(now - self._measured)
        self.distances_ = nearest_distances(self.features_, np.asarray(self.features_[new]), self.distances_)
        # The squares of a product leave a rest of rounding where there is no distance.
        self.distances_[new] = 0.0
        self._measured = now

    def predict(self, rows: Any = None) -> Floats:
        """Return what a person would say, û (n,) in [.1, 5], of all items or of some; needs a judgement."""
        if self.predicted_ is None:
            raise InputError("nothing was learned: label items and call retrain first")
        return np.clip(self._over(self.predicted_.predict, rows), LEAST, MOST)

    def _over(self, function: Any, rows: Any = None) -> Floats:
        """Return function(block of features) of all items or of some, block by block."""
        count = len(self.features_) if rows is None else len(rows)
        pieces = [
            function(
                np.asarray(self.features_[slice(start, start + BLOCK) if rows is None else rows[start : start + BLOCK]])
            )
            for start in progress(range(0, count, BLOCK), "learned scores", -(-count // BLOCK))
        ]
        return np.concatenate(pieces) if pieces else np.empty(0)

    def _relative(self, rows: Any) -> Floats:
        mean = float(self.distances_.mean(dtype=np.float64))
        return self.distances_[rows] / (mean if mean > 0 else 1.0)

    def trained_scores(self, rows: Any = None) -> Floats:
        """Return the rule's score of every item (n,), or of those that `rows` numbers; higher = look first."""
        chosen = slice(None) if rows is None else rows
        if self.predicted_ is None:
            return self._cold_scores()[chosen]
        if self.method == "neighbours":
            return neighbour_scores(self.scores_[chosen], self.predict(rows), self._relative(chosen), self.alpha)
        if self.method == "regression":
            return self.predict(rows)
        best = max(self._trained.values())
        return self._over(
            lambda block: expected_improvement(*self.predicted_.predict(block, return_std=True), best, self.tradeoff),
            rows,
        )

    def _cold_scores(self) -> Floats:
        if self.method != "protege":
            return self.scores_
        # Nothing is known: items from all over, by turns from the ends of the first two directions towards the middle.
        sample = as_generator(self._seed).permutation(len(self.features_))[:10_000]
        centre = np.asarray(self.features_[sample], dtype=np.float64)
        mean = centre.mean(axis=0)
        directions = np.linalg.svd(centre - mean, full_matrices=False)[2][:2]
        along = np.abs(self._over(lambda block: (block - mean) @ directions.T))
        places = np.empty_like(along)
        for column in range(along.shape[1]):
            places[np.argsort(-along[:, column], kind="stable"), column] = np.arange(len(along))
        return -places.min(axis=1)

    def rank(self, unlabelled_first: bool = True) -> Ints:
        """Return all items, the one to look at first in front; ties by number.

        Parameters
        ----------
        unlabelled_first : bool, default True
            Whether those that were judged go behind all others.
        """
        order = np.argsort(-self.trained_scores(), kind="stable")
        if not unlabelled_first:
            return order
        judged = np.isin(order, self._judged())
        return np.concatenate([order[~judged], order[judged]])

    def _judged(self) -> Ints:
        return np.fromiter(self.labels_, dtype=np.int64, count=len(self.labels_))

    def head(self, k: int = 1000, left_out: Any = None) -> Ints:
        """Return the first `k` items of the order, exactly, from as few predictions as that takes.

        Parameters
        ----------
        k : int, default 1000
            How many; fewer where there are no more.
        left_out : array of int, optional
            Items that are not wanted; by default those that were judged.
        """
        check_number(k, "k", low=1, integer=True)
        left_out = self._judged() if left_out is None else np.asarray(left_out, dtype=np.int64)
        if self.predicted_ is None or self.method != "neighbours":
            order = self.rank(unlabelled_first=False)
            return order[~np.isin(order, left_out)][:k]
        bound = neighbour_scores(self.scores_, np.full(1, MOST), self._relative(slice(None)), self.alpha)
        bound[left_out] = -np.inf
        k = min(k, len(bound) - len(left_out))
        if k <= 0:
            return np.empty(0, dtype=np.int64)
        rows = np.argpartition(-bound, min(2 * k, len(bound) - 1))[: 2 * k]
        rows = rows[np.isfinite(bound[rows])]
        exact = self.trained_scores(rows)
        kth = np.partition(exact, len(exact) - k)[len(exact) - k]
        rest = np.setdiff1d(np.flatnonzero(bound >= kth), rows)
        rows = np.concatenate([rows, rest])
        exact = np.concatenate([exact, self.trained_scores(rest)])
        return rows[np.lexsort((rows, -exact))][:k]


def forest_scores(features: Any, sample: int = 200_000, n_trees: int = 200, random_state: Any = None) -> Floats:
    """Return an isolation forest's scores of all items, fitted on a sample and scored in blocks.

    Parameters
    ----------
    features : array of shape (n, d)
        All items; may be memory-mapped.
    sample : int, default 200 000
        Items that the trees draw from; a tree sees 256 of them.
    n_trees : int, default 200
        Trees (published).
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    from assay.detectors.tabular.isolation_forest import IsolationForest

    rng = as_generator(random_state)
    rows = np.sort(rng.permutation(len(features))[:sample])
    forest = IsolationForest(n_trees=n_trees, random_state=rng).fit(np.asarray(features[rows], dtype=np.float64))
    return np.concatenate(
        [
            forest.anomaly_score(np.asarray(features[start : start + BLOCK], dtype=np.float64))
            for start in progress(range(0, len(features), BLOCK), "isolation forest", -(-len(features) // BLOCK))
        ]
    )


def _gaussian_process(judged: Floats, values: Floats, seed: int) -> Any:
    """Return a Gaussian process with a Matérn kernel and noise, fitted to judgements."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    scale = float(np.sqrt(judged.shape[1])) * max(float(judged.std()), 1e-6)
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(scale, (1e-2 * scale, 1e2 * scale), nu=2.5) + WhiteKernel(
        0.1, (1e-5, 1e1)
    )
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        # With few judgements, or all alike, a length ends at its limit; the prediction is what it can be.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(judged, values)
