"""A pool of auxiliary anomalies whose quality is known: the ground truth for testing a quality score.

In: a labelled table, (n, d) numbers with labels 0 normal and 1 anomaly. Out: a `Pool`: a training set with
few known anomalies, a pool of auxiliary rows in three kinds, and a balanced test set. The kinds are

- 0, *realistic*: real anomalies that were held out,
- 1, *indistinguishable*: normal rows that were held out, called anomalies,
- 2, *unrealistic*: rows of other data sets, brought to the same width by `match_width`.

With A the anomalies, N the normals (both shuffled) and shares (.02, .48, .5) for training, pool and test:

    test      t = clip(round(.5 |A|), 50, 250) anomalies and t normals
    training  m = clip(round(.02 |A|), 5, 50) anomalies, taken in the order of their k-means
              cluster (10 clusters), so that they come from one or two clusters only; and up to `max_normals`
              normals
    pool      g = min(round(.48 |A|), 250, |A| − t − m) rows of each kind

Mean and standard deviation of the training set (a deviation below .001 counts as 1) standardise all three
parts.

Source: Perini, Rudolph, Schmedding and Qiu, TMLR 2024, and the tabular loader of its authors' repository.
Departures: the data set itself is never among its foreign sets; the pool and the other parts are shuffled, so
that the order of storage does not tell the kind; with fewer than 50 + m + g anomalies the test set shrinks
first, and `Pool.notes` says so. Clusters are found on the raw columns, and foreign rows are not standardised
on their own: both as published. Equal rows in the data may end up in two parts: `Pool.notes` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import FeatureAgglomeration, KMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from assay.core.random import as_generator, child_seeds
from assay.core.validation import (
    Floats,
    InputError,
    Ints,
    as_labels,
    as_matrix,
    check_number,
    normals_and_anomalies,
)

REALISTIC, INDISTINGUISHABLE, UNREALISTIC = 0, 1, 2
#: Rows taken of one foreign set, and how many of them may be its anomalies.
ROWS_A_SET, ANOMALIES_A_SET = 250, 125

ForeignSet = tuple[str, Floats, Ints]


@dataclass(frozen=True)
class Pool:
    """Training set, pool of auxiliary rows of known kind, and test set; all standardised by the training set.

    Attributes
    ----------
    X_train : array of shape (n, d)
        Normals and the few known anomalies, shuffled.
    y_train : array of int of shape (n,)
        0 normal, 1 anomaly.
    X_aux : array of shape (3 g, d)
        The pool, shuffled.
    kind : array of int of shape (3 g,)
        0 realistic, 1 indistinguishable, 2 unrealistic.
    X_test : array of shape (2 t, d)
        As many normals as anomalies, shuffled.
    y_test : array of int of shape (2 t,)
        0 normal, 1 anomaly.
    names : tuple of str
        The foreign sets that gave the unrealistic rows.
    notes : tuple of str
        What was done otherwise than the published counts say, in sentences.
    """

    X_train: Floats
    y_train: Ints
    X_aux: Floats
    kind: Ints
    X_test: Floats
    y_test: Ints
    names: tuple[str, ...]
    notes: tuple[str, ...]


def match_width(X: Any, d: int, random_state: Any = None) -> Floats:
    """Return the rows of `X` (n, p) with `d` columns.

    Equal width: as it is. More rows and columns than `d`: the first `d` principal components. At least
    ``d / 3`` columns: the columns, then principal components, then agglomerated features. Fewer: principal
    components, agglomerated features, then a Gaussian random projection (which also fills what is missing for
    want of rows). Cut to `d`.

    Parameters
    ----------
    X : array of shape (n, p)
        Finite numbers, two rows or more.
    d : int
        Columns wanted.
    random_state : None, int or numpy.random.Generator
        Seed of the random projection.

    Returns
    -------
    array of shape (n, d)
        A new array.

    Examples
    --------
    >>> import numpy as np
    >>> match_width(np.eye(9, 2), 5, random_state=0).shape
    (9, 5)
    """
    X = as_matrix(X, min_rows=2)
    check_number(d, "d", low=1, integer=True)
    rng = as_generator(random_state)
    rows, columns = X.shape
    if columns == d:
        return X.copy()
    if rows > d and columns > d:
        return PCA(d, svd_solver="full").fit_transform(X)
    pieces = [X] if 3 * columns >= d else []
    pieces.append(PCA(min(rows, columns), svd_solver="full").fit_transform(X))
    missing = d - sum(piece.shape[1] for piece in pieces)
    if missing > 0 and columns > 1:
        pieces.append(FeatureAgglomeration(n_clusters=min(columns, missing)).fit_transform(X))
        missing -= pieces[-1].shape[1]
    if missing > 0:
        pieces.append(X @ rng.normal(0.0, missing**-0.5, (columns, missing)))
    return np.ascontiguousarray(np.hstack(pieces)[:, :d])


def bundled_sets() -> dict[str, tuple[Floats, Ints]]:
    """Return five small tables that scikit-learn carries; the rarest class, if any, is the anomaly."""
    from sklearn import datasets

    sets = {}
    for name in ("breast_cancer", "diabetes", "digits", "iris", "wine"):
        X, target = getattr(datasets, f"load_{name}")(return_X_y=True)
        y = np.zeros(len(X), dtype=np.int64)
        if name != "diabetes":
            y[target == np.argmin(np.bincount(target))] = 1
        sets[name] = (np.asarray(X, dtype=np.float64), y)
    return sets


def foreign_sets(X: Floats, foreign: Any = None) -> list[ForeignSet]:
    """Return the foreign sets as (name, rows, labels), without the one that `X` itself was taken from.

    Parameters
    ----------
    X : array of shape (n, d)
        The target.
    foreign : list or mapping, optional
        Arrays (n, p), or pairs ``(array, labels)``; a mapping gives them names. Default: `bundled_sets`.

    Raises
    ------
    InputError
        If no set is left.
    """
    if foreign is None:
        foreign = bundled_sets()
    if not isinstance(foreign, (Mapping, list, tuple)):
        raise InputError("foreign: give a list (or a mapping of names) of arrays, one a foreign data set")
    if not isinstance(foreign, Mapping):
        foreign = {f"foreign[{i}]": rows for i, rows in enumerate(foreign)}
    sets = []
    for name, rows in foreign.items():
        rows, labels = rows if isinstance(rows, tuple) and len(rows) == 2 else (rows, None)
        rows = as_matrix(rows, str(name), min_rows=2)
        labels = as_labels(np.zeros(len(rows)) if labels is None else labels, len(rows), f"labels of {name}")
        if not _taken_from(X, rows):
            sets.append((str(name), rows, labels))
    if not sets:
        raise InputError("foreign: no set is left (the fitted data itself does not count); give other data sets")
    return sets


def foreign_rows(sets: list[ForeignSet], d: int, rng: np.random.Generator) -> tuple[Floats, Ints, Ints]:
    """Return up to 250 rows of each set (up to 125 anomalies) at width `d`, with set number and label."""
    parts, sources, labels = [], [], []
    for source, (_, rows, y) in enumerate(sets):
        anomalies = rng.permutation(np.flatnonzero(y == 1))[:ANOMALIES_A_SET]
        normals = rng.permutation(np.flatnonzero(y != 1))[: ROWS_A_SET - len(anomalies)]
        chosen = np.concatenate([anomalies, normals])
        parts.append(match_width(rows[chosen], d, rng))
        sources.append(np.full(len(chosen), source))
        labels.append((y[chosen] == 1).astype(np.int64))
    return np.vstack(parts), np.concatenate(sources), np.concatenate(labels)


def stratified(strata: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Return `n` row numbers, or all, in which each stratum has its share (largest remainders)."""
    n = min(n, len(strata))
    _, inverse, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    quota = n * sizes / len(strata)
    take = np.floor(quota).astype(np.int64)
    take[np.argsort(take - quota, kind="stable")[: n - take.sum()]] += 1
    return np.concatenate([rng.permutation(np.flatnonzero(inverse == s))[: take[s]] for s in range(len(sizes))])


def benchmark_mix(
    X: Any,
    y: Any,
    foreign: Any = None,
    *,
    proportions: tuple[float, float, float] = (0.02, 0.48, 0.5),
    max_normals: int = 1000,
    random_state: Any = None,
) -> Pool:
    """Build training set, pool and test set out of one labelled table.

    Parameters
    ----------
    X : array or dataframe of shape (n, d)
        Finite numbers, not standardised.
    y : array of shape (n,)
        0 normal, 1 anomaly; none unknown.
    foreign : list or mapping, optional
        Other data sets: arrays, or pairs ``(array, labels)``; five of them are drawn. Default: those that
        scikit-learn carries. A set that `X` was taken from is left out if its rows are found in it, as they
        are or standardised; when `X` was changed in another way, name the sets yourself.
    proportions : tuple of three floats, default (.02, .48, .5)
        Shares of the anomalies for training, pool and test (the published notebook).
    max_normals : int, default 1000
        Most normals in the training set (published).
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    Pool
        Three standardised parts without a row in common.

    Raises
    ------
    InputError
        With fewer than 7 anomalies, or too few normals for test, pool and training.

    References
    ----------
    L. Perini, M. Rudolph, S. Schmedding, C. Qiu: Uncertainty-aware Evaluation of Auxiliary
    Anomalies with the Expected Anomaly Posterior. TMLR 2024, arXiv 2405.13699.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, benign = load_breast_cancer(return_X_y=True)
    >>> pool = benchmark_mix(X, 1 - benign, random_state=0)
    >>> pool.X_aux.shape, np.bincount(pool.kind), int(pool.y_train.sum())
    ((303, 30), array([101, 101, 101]), 5)
    """
    X = as_matrix(X, min_rows=2)
    labels = as_labels(y, len(X))
    if len(proportions) != 3:
        raise InputError(f"proportions={proportions!r}: give three shares (training, pool, test)")
    for share, name in zip(proportions, ("training", "pool", "test")):
        check_number(share, f"proportions ({name})", low=0.0, high=1.0)
    check_number(max_normals, "max_normals", low=2, integer=True)
    rng = as_generator(random_state)
    N, A = (rng.permutation(rows) for rows in normals_and_anomalies(labels, min_normals=4, min_anomalies=7))
    notes = []

    m = int(np.clip(round(proportions[0] * len(A)), 5, 50))
    g = max(1, min(round(proportions[1] * len(A)), 250))
    t = int(np.clip(round(proportions[2] * len(A)), 50, 250))
    if len(A) < 50 + m + g:
        t, wanted = max(1, len(A) - m - g), t
        notes.append(f"only {len(A)} anomalies: {t} instead of {wanted} of them (and as many normals) in the test set")
    g = min(g, len(A) - t - m)
    if g < 1:
        raise InputError(
            f"proportions={proportions!r} leave none of the {len(A)} anomalies for the pool; lower a share"
        )
    if len(N) < t + g + 2:
        raise InputError(
            f"y holds {len(N)} normal rows, at least {t + g + 2} needed ({t} test, {g} pool, 2 training); "
            "add normal rows or leave out anomalies"
        )
    repeated = len(X) - len(np.unique(X, axis=0))
    if repeated:
        notes.append(f"{repeated} rows of X repeat another row: equal rows may be in two parts")

    test = np.concatenate([N[:t], A[:t]])
    N, A = N[t:], A[t:]
    seed = child_seeds(rng, 1)[0]
    clusters = min(10, len(np.unique(X[A], axis=0)))
    with threadpool_limits(1):
        cluster = KMeans(clusters, n_init=10, random_state=seed).fit_predict(X[A])
    A = A[np.argsort(cluster, kind="stable")]
    train_anomalies, A = A[:m], rng.permutation(A[m:])
    realistic, indistinguishable, N = A[:g], N[:g], N[g:]
    train = rng.permutation(np.concatenate([N[:max_normals], train_anomalies]))

    sets = foreign_sets(X, foreign)
    if len(sets) < 5:
        notes.append(f"{len(sets)} foreign sets instead of 5")
    sets = [sets[i] for i in rng.permutation(len(sets))[:5]]
    rows, source, label = foreign_rows(sets, X.shape[1], rng)
    chosen = stratified(2 * source + label, g, rng)
    if len(chosen) < g:
        notes.append(f"only {len(chosen)} foreign rows: fewer unrealistic rows than the {g} of the other kinds")

    mean, sd = X[train].mean(axis=0), X[train].std(axis=0)
    sd = np.where(sd < 1e-3, 1.0, sd)
    X_aux = np.vstack([X[realistic], X[indistinguishable], rows[chosen]])
    kind = np.repeat([REALISTIC, INDISTINGUISHABLE, UNREALISTIC], [g, g, len(chosen)])
    order, test = rng.permutation(len(kind)), rng.permutation(test)
    return Pool(
        X_train=(X[train] - mean) / sd,
        y_train=labels[train],
        X_aux=(X_aux[order] - mean) / sd,
        kind=kind[order],
        X_test=(X[test] - mean) / sd,
        y_test=labels[test],
        names=tuple(sets[i][0] for i in np.unique(source[chosen])),
        notes=tuple(notes),
    )


def _taken_from(X: Floats, F: Floats) -> bool:
    """Tell whether at least half of the rows of `X` are rows of `F`, as they are or both standardised."""
    if X.shape[1] != F.shape[1]:
        return False

    def rounded(Z: Floats) -> set[bytes]:
        with np.errstate(over="ignore"):
            return {row.tobytes() for row in Z.astype(np.float32) + np.float32(0)}

    def standardised(Z: Floats) -> Floats:
        return np.round((Z - Z.mean(axis=0)) / np.where(Z.std(axis=0) > 0, Z.std(axis=0), 1.0), 4)

    pairs = ((rounded(X), rounded(F)), (rounded(standardised(X)), rounded(standardised(F))))
    return any(2 * len(ours & theirs) >= len(ours) for ours, theirs in pairs)
