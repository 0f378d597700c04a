"""Which columns make a row's score what it is: Shapley values of any detector's anomaly score.

In: a fitted detector of tables (anything with `anomaly_score`), rows (n, d), and background rows that stand for what is
usual. Out: one number a column, φ (n, d), in the units of the score, and the base value; for every row

    anomaly_score(x) = base + Σ_j φ_j,     base = mean score of the background,

exactly. φ_j is the mean, over the orders in which columns could be told, of how much telling column j moves the score,
columns not told yet being those of a background row. With few columns (up to `EXACT`) every set of columns is asked,
beyond that pairs of an order and its reverse are drawn. Both come from the library SHAP.

The default background is the median row of what is given: "what if this column were ordinary" costs one scored row a
question; more rows cost as many times that and say more where columns depend on each other. A value for a column that
is told alone may be one that never occurs beside the others: a detector is then asked where no data lie (Kumar et al.,
ICML 2020), so read the largest φ, not the small ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.extras import require
from assay.core.validation import Floats, InputError, as_matrix, check_number

#: Up to as many columns all 2^d sets are asked.
EXACT = 10


class Attribution(NamedTuple):
    """What makes the scores.

    Attributes
    ----------
    values : array of shape (n, d)
        φ: how much each column adds to each row's score.
    base : float
        Mean score of the background.
    scores : array of shape (n,)
        The scores; ``base + values.sum(axis=1)``.
    """

    values: Floats
    base: float
    scores: Floats


def attribute(
    detector: Any, X: Any, background: Any = None, *, n_orders: int = 10, random_state: int = 0
) -> Attribution:
    """Return the Shapley values of a detector's scores.

    Parameters
    ----------
    detector : fitted detector
        Anything with ``anomaly_score(X)`` for tables.
    X : array of shape (n, d)
        Rows to explain.
    background : array of shape (m, d), optional
        Usual rows; by default one, the median of `X` (give training rows where `X` is few).
    n_orders : int, default 10
        Pairs of orders that are drawn where there are more than `EXACT` columns.
    random_state : int, default 0
        Seed of the orders.

    Raises
    ------
    InputError
        If the rows are no finite numbers or have another width than the background.
    MissingExtra
        If SHAP is not installed (extra ``explain``).

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ECOD
    >>> from assay.explain.attribution import attribute
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> told = attribute(ECOD().fit(X), [[0.0, 5.0, 0.0]], X)
    >>> int(np.argmax(told.values[0])), bool(np.isclose(told.scores[0], told.base + told.values[0].sum()))
    (1, True)
    """
    rows = as_matrix(X, "X")
    usual = np.median(rows, axis=0, keepdims=True) if background is None else as_matrix(background, "background")
    if usual.shape[1] != rows.shape[1]:
        raise InputError(f"background has {usual.shape[1]} columns, X {rows.shape[1]}: give the same")
    check_number(n_orders, "n_orders", low=1, integer=True)
    check_number(random_state, "random_state", low=0, integer=True)
    shap: Any = require("shap", "explain", "Shapley values of scores")
    width = rows.shape[1]
    masker = shap.maskers.Independent(usual, max_samples=len(usual))
    if width <= EXACT:
        told = shap.explainers.Exact(detector.anomaly_score, masker)(rows, max_evals=2**width, silent=True)
    else:
        explainer = shap.explainers.Permutation(detector.anomaly_score, masker, seed=random_state)
        told = explainer(rows, max_evals=n_orders * (2 * width + 1), silent=True)
    base = float(np.mean(detector.anomaly_score(usual)))
    return Attribution(np.asarray(told.values, dtype=np.float64), base, detector.anomaly_score(rows))
