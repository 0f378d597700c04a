"""Which of several methods is better over several data sets, and whether chance could have said so.

In: scores (D, K), a row a data set, a column a method, higher = better; one number each, so seeds are
averaged before. Out: ranks, wins, p-values, critical differences, intervals: pure functions.

NaN means that the method gave no result there. It is never dropped in silence: it ranks last (several NaN
share the last places), loses to every number, draws with NaN, and enters a signed-rank test as a loss larger
than all others. Whoever does not want that leaves the data set out for every method.

Ranks: 1 is best, ties share the mean of their places. Friedman: chi² = 12 D / (K (K + 1)) (Σ R² − K (K + 1)²
/ 4) over the average ranks R, and the less conservative F = (D − 1) chi² / (D (K − 1) − chi²) of Iman and
Davenport, both as Demšar gives them: not corrected for ties, so ties only make them more careful. Nemenyi:
two average ranks differ if they are CD = q √(K (K + 1) / 6 D) apart or more, q the studentized range over √2;
whether they do depends on which other methods take part, which is why `paired_tests` with `holm` is there
too. The signed-rank test is exact with ties and zeros too, where SciPy falls back to the normal approximation
or tries all signs.

References
----------
Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006. García and Herrera, An
extension on "Statistical comparisons of classifiers over multiple data sets" for all pairwise comparisons,
JMLR 9, 2008. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
Statistics 6, 1979. Pratt, Remarks on zeros and ties in the Wilcoxon signed rank procedures, JASA 54, 1959.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from assay.core.random import as_generator
from assay.core.validation import Floats, InputError, Ints, as_matrix, as_vector, check_number, check_option

_EXACT = 200  #: data sets up to which a signed-rank test is exact; beyond, the normal approximation does


class Friedman(NamedTuple):
    """Do the methods differ at all?

    Attributes
    ----------
    chi2, p_chi2 : float
        Friedman's statistic, chi-square with K − 1 degrees of freedom.
    f, p_f : float
        The form of Iman and Davenport, F with K − 1 and (K − 1)(D − 1) degrees of freedom. Prefer it.
    """

    chi2: float
    p_chi2: float
    f: float
    p_f: float


def _checked(scores: Any, *, min_methods: int = 1, min_datasets: int = 1) -> Floats:
    """Return `scores` as a float64 array (D, K) that may hold NaN and nothing else that is no number."""
    try:
        matrix = np.array(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scores cannot be read as a table of numbers: {error}") from error
    as_matrix(np.where(np.isnan(matrix), 0.0, matrix), "scores", min_rows=min_datasets)
    if matrix.shape[1] < min_methods:
        raise InputError(f"scores has {matrix.shape[1]} columns, at least {min_methods} needed: one a method")
    return matrix


def _place(method: Any, n_methods: int, name: str) -> int:
    check_number(method, name, low=0, high=n_methods - 1, integer=True)
    return int(method)


def ranks(scores: Any) -> Floats:
    """Rank the methods on every data set: 1 is best, ties share the mean of their places, NaN comes last.

    Parameters
    ----------
    scores : array of shape (D, K)
        Higher = better; NaN where a method gave no result.

    Returns
    -------
    array of shape (D, K)

    Examples
    --------
    >>> from assay.metrics.comparison import ranks
    >>> ranks([[0.9, 0.8, 0.8], [0.7, float("nan"), 0.9]]).tolist()
    [[1.0, 2.5, 2.5], [2.0, 3.0, 1.0]]
    """
    matrix = _checked(scores)
    worst = np.where(np.isnan(matrix), -np.inf, matrix)
    places: Floats = stats.rankdata(-worst, method="average", axis=1)
    return places


def average_ranks(scores: Any) -> Floats:
    """Return each method's mean of `ranks` over the data sets, shape (K,).

    Examples
    --------
    >>> from assay.metrics.comparison import average_ranks
    >>> average_ranks([[0.9, 0.8, 0.8], [0.7, float("nan"), 0.9]]).tolist()
    [1.5, 2.75, 1.75]
    """
    means: Floats = ranks(scores).mean(axis=0)
    return means


def wins_draws_losses(scores: Any, tolerance: float = 0.0) -> Ints:
    """Count for every pair of methods on how many data sets the first wins, draws and loses.

    Parameters
    ----------
    scores : array of shape (D, K)
        Higher = better. NaN loses to a number and draws with NaN.
    tolerance : float
        Scores that differ by this much or less are a draw.

    Returns
    -------
    array of shape (K, K, 3)
        ``[i, j]`` holds the wins, draws and losses of `i` against `j`.

    Examples
    --------
    >>> from assay.metrics.comparison import wins_draws_losses
    >>> wins_draws_losses([[0.9, 0.8], [0.7, 0.7], [0.6, 0.1]])[0, 1].tolist()
    [2, 1, 0]
    """
    check_number(tolerance, "tolerance", low=0.0)
    matrix = _checked(scores)
    # No result differs from every result by infinity, which no tolerance reaches; from none by NaN, which is
    # a draw.
    worst = np.where(np.isnan(matrix), -np.inf, matrix)
    with np.errstate(invalid="ignore"):
        difference = worst[:, :, None] - worst[:, None, :]
    wins, losses = (difference > tolerance).sum(axis=0), (difference < -tolerance).sum(axis=0)
    return np.stack([wins, len(matrix) - wins - losses, losses], axis=-1).astype(np.int64)


def paired_tests(scores: Any, reference: int = 0, method: str = "wilcoxon") -> Floats:
    """Test every method against the reference over the data sets, two-sided.

    Parameters
    ----------
    scores : array of shape (D, K)
        Higher = better.
    reference : int
        The column to compare with.
    method : {"wilcoxon", "sign"}
        Signed-rank test, where equal scores take part as Pratt has it, exact with and without ties for up to
        200 data sets, by the normal approximation beyond; or sign test, exact, where equal scores say
        nothing.

    Returns
    -------
    array of shape (K,)
        p-values, not adjusted (see `holm`); NaN for the reference. Methods that never differ have 1.

    Examples
    --------
    >>> from assay.metrics.comparison import paired_tests
    >>> paired_tests([[0.5, 0.6], [0.5, 0.7], [0.5, 0.8], [0.5, 0.9], [0.5, 1.0], [0.5, 0.55]]).tolist()
    [nan, 0.03125]
    """
    check_option(method, "method", "wilcoxon", "sign")
    matrix = _checked(scores)
    reference = _place(reference, matrix.shape[1], "reference")
    test = _wilcoxon if method == "wilcoxon" else _sign_test
    others = [column for column in range(matrix.shape[1]) if column != reference]
    p = np.full(matrix.shape[1], np.nan)
    p[others] = [test(_differences(matrix[:, column], matrix[:, reference])) for column in others]
    return p


def _differences(first: Floats, second: Floats) -> Floats:
    """Return `first` − `second`; where only one has a result, it wins by more than anywhere else."""
    missing = np.isnan(second).astype(np.float64) - np.isnan(first)
    difference = np.nan_to_num(first - second)
    beyond = 2 * np.abs(difference).max() + 1
    return np.where(missing == 0, difference, missing * beyond)


def _wilcoxon(difference: Floats) -> float:
    """Return the two-sided p of the signed-rank test: zeros are ranked, but have no sign (Pratt)."""
    if not difference.any():
        return 1.0
    if len(difference) > _EXACT:
        return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)
    # Twice the ranks are whole numbers, tied or not. Given them, each sign is as likely as the other: their
    # positive sum is distributed as a sum of independent terms, convolved here one by one.
    doubled = np.rint(2 * stats.rankdata(np.abs(difference))).astype(np.int64)
    chance = np.zeros(doubled[difference != 0].sum() + 1)
    chance[0] = 1.0
    for term in doubled[difference != 0].tolist():
        moved = np.zeros_like(chance)
        moved[term:] = chance[:-term]
        chance = (chance + moved) / 2
    observed = doubled[difference > 0].sum()
    return float(min(1.0, 2 * min(chance[: observed + 1].sum(), chance[observed:].sum())))


def _sign_test(difference: Floats) -> float:
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p: Any) -> Floats:
    """Adjust p-values for their number, so that the chance of any false alarm among them keeps its level.

    Parameters
    ----------
    p : array of shape (m,)
        p-values; NaN is no test: it is not counted and stays NaN.

    Returns
    -------
    array of shape (m,)

    Examples
    --------
    >>> from assay.metrics.comparison import holm
    >>> holm([0.04, float("nan"), 0.01, 0.03]).tolist()
    [0.06, nan, 0.03, 0.06]
    """
    try:
        values = np.array(p, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"p cannot be read as p-values: {error}") from error
    tested = ~np.isnan(values)
    as_vector(np.where(tested, values, 0.0), "p")
    if np.any((values < 0) | (values > 1)):
        raise InputError("p holds numbers outside [0, 1]: give p-values, NaN where nothing was tested")
    order = np.flatnonzero(tested)[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def friedman(scores: Any) -> Friedman:
    """Test whether the methods differ at all, by their average ranks.

    Parameters
    ----------
    scores : array of shape (D, K)
        Higher = better, D and K at least 2.

    Returns
    -------
    Friedman
        Both statistics with their p-values; not corrected for ties.

    Examples
    --------
    >>> from assay.metrics.comparison import friedman
    >>> friedman([[3, 2, 1], [3, 1, 2], [2, 3, 1], [3, 2, 1]]).chi2
    4.5
    """
    matrix = _checked(scores, min_methods=2, min_datasets=2)
    n, k = matrix.shape
    squares = float((average_ranks(matrix) ** 2).sum())
    chi2 = 12 * n / (k * (k + 1)) * (squares - k * (k + 1) ** 2 / 4)
    chi2 = min(max(chi2, 0.0), float(n * (k - 1)))  # rounding must not leave the range
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 * n * k else np.inf  # every data set ranks the methods alike
    return Friedman(chi2, float(stats.chi2.sf(chi2, k - 1)), f, float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))))


def critical_difference(n_methods: int, n_datasets: int, alpha: float = 0.05) -> float:
    """Return by how much two average ranks must differ to be told apart (Nemenyi).

    Parameters
    ----------
    n_methods, n_datasets : int
        What was ranked, all together, and on how many data sets.
    alpha : float
        The chance of any difference where there is none.

    Examples
    --------
    >>> from assay.metrics.comparison import critical_difference
    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    check_number(n_methods, "n_methods", low=2, integer=True)
    check_number(n_datasets, "n_datasets", low=1, integer=True)
    check_number(alpha, "alpha", low=0.0, high=1.0, strict_low=True, strict_high=True)
    q = stats.studentized_range.ppf(1 - alpha, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets)))


def cliques(ranks: Any, difference: float) -> list[tuple[int, ...]]:
    """Return the largest groups of methods whose average ranks all lie less than `difference` apart.

    Parameters
    ----------
    ranks : array of shape (K,)
        Average ranks.
    difference : float
        The critical difference.

    Returns
    -------
    list of tuple of int
        Places in `ranks`, best first, of two methods or more; no group lies within another. Best group first.

    Examples
    --------
    >>> from assay.metrics.comparison import cliques
    >>> cliques([2.0, 1.0, 3.5, 2.4], 1.25)
    [(1, 0), (0, 3), (3, 2)]
    """
    values = as_vector(ranks, "ranks")
    check_number(difference, "difference", low=0.0)
    order = np.argsort(values, kind="stable")
    ends = np.searchsorted(values[order], values[order] + difference, side="left")
    groups, reached = [], 0
    for start, end in enumerate(ends.tolist()):
        if end > reached and end - start > 1:
            groups.append(tuple(order[start:end].tolist()))
        reached = max(reached, end)
    return groups


def bootstrap_interval(
    scores: Any, level: float = 0.95, n_resamples: int = 10_000, random_state: Any = 0
) -> tuple[Floats, Floats]:
    """Return between which means each method would lie, had other data sets of this kind been chosen.

    Parameters
    ----------
    scores : array of shape (D, K)
        A method with a NaN has no interval.
    level : float
        The share of resampled means within the interval (percentiles).
    n_resamples : int
        How often D data sets are drawn with replacement, the same for all methods.
    random_state : int, Generator or None
        Seed of the draws.

    Returns
    -------
    low, high : arrays of shape (K,)

    Examples
    --------
    >>> from assay.metrics.comparison import bootstrap_interval
    >>> low, high = bootstrap_interval([[0.9, 0.5], [0.7, 0.5], [0.8, 0.5]])
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.7, 0.5], [0.9, 0.5])
    """
    check_number(level, "level", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(n_resamples, "n_resamples", low=1, integer=True)
    matrix = _checked(scores)
    n = len(matrix)
    drawn = as_generator(random_state).multinomial(n, np.full(n, 1 / n), size=n_resamples)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn @ matrix / n, [tail, 1 - tail], axis=0)
    return low, high
