"""Two sets of rows: do they come from one distribution? And where in a ranking the right candidates stand.

In: synthetic rows (n, d) and real rows (m, d): tables, or embedded items of any kind. Out: a statistic and a p-value,
which is exact for any n and m: the share of random relabellings, the observed one included, that look as different.

`energy_test`: the energy distance E = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, V-statistics, >= 0, 0 for equal distributions
alone. `classifier_test`: a classifier learns on one half which rows are synthetic, AUROC on the other half; ½ where
nothing gives them away. The first needs no training and dilutes what shows in few of many columns; the second finds
it, if there are enough rows.

A small p-value says that the sets differ; a large one says only that so few rows do not show it.

`retrieval`: how a set expander ranks what was left out of a set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from assay.core.random import as_generator, child_seeds
from assay.core.validation import Floats, InputError, as_matrix, check_methods, check_number


class TwoSampleTest(NamedTuple):
    """Whether two sets of rows differ.

    Attributes
    ----------
    statistic : float
        Energy distance (0: equal) or AUROC (½: not to be told apart).
    p_value : float
        Probability of such a statistic, or a larger one, if both came from one distribution.
    """

    statistic: float
    p_value: float


class Retrieval(NamedTuple):
    """How well the right candidates are ranked; ties count as their mean rank.

    Attributes
    ----------
    recall : dict of int to float
        Share of the right candidates among the first k.
    mean_reciprocal_rank : float
        Mean over queries of 1 / rank of the best right candidate.
    median_rank : float
        Median over all right candidates; 1 is the first place.
    """

    recall: dict[int, float]
    mean_reciprocal_rank: float
    median_rank: float


def _both(synthetic: Any, real: Any, least: int) -> tuple[Floats, Floats]:
    X = as_matrix(synthetic, "synthetic", min_rows=least)
    Y = as_matrix(real, "real", min_rows=least)
    if X.shape[1] != Y.shape[1]:
        raise InputError(f"synthetic has {X.shape[1]} columns and real {Y.shape[1]}: give the same ones")
    return X, Y


def energy_test(synthetic: Any, real: Any, permutations: int = 999, random_state: Any = None) -> TwoSampleTest:
    """Test by energy distance whether two sets of rows come from one distribution.

    Columns are divided by their standard deviation over both sets together. Memory: the square of n + m numbers, and
    `permutations` times n + m.

    Parameters
    ----------
    synthetic, real : array of shape (n, d), (m, d)
        At least 2 rows each.
    permutations : int, default 999
        Random relabellings; the least p-value is 1 / (permutations + 1).
    random_state : None, int or numpy.random.Generator
        Seed of these.

    Returns
    -------
    TwoSampleTest
        Energy distance and p-value.

    References
    ----------
    G. J. Székely, M. L. Rizzo: Energy statistics: A class of statistics based on distances. J. Statistical Planning
    and Inference 143, 2013.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> energy_test(rng.normal(size=(40, 2)), rng.normal(1, 1, size=(50, 2)), random_state=0).p_value
    0.001
    """
    X, Y = _both(synthetic, real, 2)
    check_number(permutations, "permutations", low=1, high=10**6, integer=True)
    rng, n, m = as_generator(random_state), len(X), len(Y)
    both = np.concatenate([X, Y])
    spread = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    distances = cdist(both, both)
    # E is -s'Ds for s = 1/n on one set and -1/m on the other.
    signs = np.where(np.arange(n + m) < n, 1 / n, -1 / m)
    drawn = np.concatenate([signs[None], rng.permuted(np.tile(signs, (permutations, 1)), axis=1)])
    energies = -np.einsum("pi,pi->p", drawn @ distances, drawn)
    return TwoSampleTest(max(float(energies[0]), 0.0), _share_as_large(energies))


def classifier_test(
    synthetic: Any, real: Any, classifier: Any = None, permutations: int = 999, random_state: Any = None
) -> TwoSampleTest:
    """Test whether a classifier can tell two sets of rows apart, on rows that it was not trained with.

    The labels of the held-out half are permuted, its scores stay: the p-value is exact whatever the classifier.

    Parameters
    ----------
    synthetic, real : array of shape (n, d), (m, d)
        At least 4 rows each; of each a random half is held out.
    classifier : scikit-learn classifier, optional
        With ``predict_proba``; by default a random forest of 100 trees with leaves of 3 rows or more.
    permutations : int, default 999
        Random relabellings.
    random_state : None, int or numpy.random.Generator
        Seed of the halves, of the forest and of the relabellings.

    Returns
    -------
    TwoSampleTest
        AUROC on the held-out half and p-value.

    References
    ----------
    D. Lopez-Paz, M. Oquab: Revisiting Classifier Two-Sample Tests. ICLR 2017, arXiv 1610.06545.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> together = rng.normal(size=(100, 1)) * [1, 1]  # each column is as in X
    >>> classifier_test(together, X, random_state=0).p_value < 0.01
    True
    """
    X, Y = _both(synthetic, real, 4)
    check_number(permutations, "permutations", low=1, high=10**6, integer=True)
    rng = as_generator(random_state)
    forest_seed = child_seeds(rng, 1)[0]
    if classifier is None:
        classifier = RandomForestClassifier(100, min_samples_leaf=3, random_state=forest_seed)
    check_methods(classifier, "classifier", "fit", "predict_proba")
    both, labels = np.concatenate([X, Y]), np.repeat([1, 0], [len(X), len(Y)])
    held = np.zeros(len(both), dtype=bool)
    for rows in (np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)):
        held[rng.permutation(rows)[: len(rows) // 2]] = True
    scores = clone(classifier).fit(both[~held], labels[~held]).predict_proba(both[held])[:, 1]
    truth, ranks = labels[held], rankdata(scores)
    ones = int(truth.sum())
    drawn = np.concatenate([truth[None], rng.permuted(np.tile(truth, (permutations, 1)), axis=1)])
    areas = (drawn @ ranks - ones * (ones + 1) / 2) / (ones * (len(truth) - ones))
    return TwoSampleTest(float(areas[0]), _share_as_large(areas))


def _share_as_large(statistics: Floats) -> float:
    """Return the share of the statistics, the observed one first, that are as large as it, rounding forgiven."""
    slack = 1e-9 * max(1.0, float(np.abs(statistics).max()))
    return float((statistics >= statistics[0] - slack).mean())


def retrieval(scores: Any, relevant: Any, at: tuple[int, ...] = (10, 100)) -> Retrieval:
    """Return how well the right candidates of each query are ranked.

    Parameters
    ----------
    scores : array of shape (q, c)
        Of every candidate for every query, higher = better.
    relevant : array of bool of shape (q, c)
        Which candidates are right; at least one a query.
    at : tuple of int, default (10, 100)
        The k of recall@k.

    Returns
    -------
    Retrieval
        Recall, mean reciprocal rank, median rank.

    Examples
    --------
    >>> retrieval([[0.9, 0.5, 0.1]], [[False, True, False]], at=(1, 2))
    Retrieval(recall={1: 0.0, 2: 1.0}, mean_reciprocal_rank=0.5, median_rank=2.0)
    """
    table = as_matrix(scores, "scores")
    marks = np.asarray(relevant)
    if marks.shape != table.shape or not np.isin(marks, (0, 1)).all():
        raise InputError(f"relevant has shape {marks.shape}: give True or False for each of {table.shape}")
    marks = marks.astype(bool)
    if not marks.any(axis=1).all():
        raise InputError(f"relevant marks nothing in row {int(np.argmin(marks.any(axis=1)))}; leave such queries out")
    for k in at:
        check_number(k, "at", low=1, integer=True)
    ranks = rankdata(-table, axis=1)
    recall = {int(k): float(((ranks <= k) & marks).sum() / marks.sum()) for k in at}
    best = np.where(marks, ranks, np.inf).min(axis=1)
    return Retrieval(recall, float((1 / best).mean()), float(np.median(ranks[marks])))
