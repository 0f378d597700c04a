"""The artefact probe: is there anything but the anomaly by which a classifier could tell synthetic rows from real ones?

A detector trained on synthetic anomalies may learn "synthetic" instead of "anomalous". Three signs of that,
each on its own:

- *outside the mask*: where the generator says it changed nothing, synthetic rows must look like real ones.
  The changed entries of the synthetic rows are replaced by those of random real rows, the same masks are laid
  over real rows likewise, and a random forest tries to tell the two apart by cross-validation, a parent and
  its children always in the same fold. Its AUROC must be ½ up to chance; the p-value is one-sided, by the
  normal limit of the rank statistic.
- *off the grid*: a column whose real values are few (or whole numbers) and whose synthetic values are others
  gives them away.
- *copies*: synthetic rows that repeat a real row bit for bit teach the detector that real rows are anomalies.

Rows without a mask, as in a file of unknown origin, can be checked for the last two only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from assay.base import Auxiliary, Embedder
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints, as_matrix, told
from assay.metrics.ranking import roc_auc

#: Rows of either kind that the classifier sees at most.
MOST_ROWS = 2000


@dataclass(frozen=True)
class ProbeResult:
    """What the artefact probe found.

    Attributes
    ----------
    auroc : float
        How well a classifier tells synthetic from real outside the mask; NaN where no entry is outside.
    p_value : float
        Chance of an AUROC at least this high if nothing gives the rows away; NaN likewise.
    off_grid : dict of str to float
        Per column whose real values lie on a grid, the share of changed synthetic entries off it (only
        columns above 0).
    copies : float
        Share of synthetic rows identical to a real row.
    verdict : str
        One sentence.
    passed : bool
        Whether no sign was found.
    """

    auroc: float
    p_value: float
    off_grid: dict[str, float]
    copies: float
    verdict: str
    passed: bool


def artefact_probe(X_normal: Any, X_aux: Any, *, feature_names: Any = None, random_state: Any = 0) -> ProbeResult:
    """Look for signs by which synthetic rows give themselves away.

    Parameters
    ----------
    X_normal : array or dataframe of shape (n, d)
        Real normal rows: those the generator was fitted on, in the same order.
    X_aux : Auxiliary, array or dataframe of shape (l, d)
        Synthetic rows; an `Auxiliary` brings its mask and parents.
    feature_names : sequence of str, optional
        Names of the columns for the verdict.
    random_state : None, int or numpy.random.Generator
        Seed of the classifier and the replacements.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import artefact_probe
    >>> whole = np.random.default_rng(0).integers(0, 5, size=(200, 2)).astype(float)
    >>> artefact_probe(whole, whole[:50] + 0.37).passed
    False
    """
    X_normal = as_matrix(X_normal, "X_normal", min_rows=2)
    origin = X_aux if isinstance(X_aux, Auxiliary) else None
    X_aux = as_matrix(X_aux if origin is None else origin.X, "X_aux")
    if X_aux.shape[1] != X_normal.shape[1]:
        raise InputError(f"X_aux has {X_aux.shape[1]} columns, X_normal has {X_normal.shape[1]}")
    names = [f"x{f}" for f in range(X_normal.shape[1])] if feature_names is None else _names(feature_names)
    if len(names) != X_normal.shape[1]:
        raise InputError(f"feature_names holds {len(names)} names, X_normal has {X_normal.shape[1]} columns")
    changed = np.ones(X_aux.shape, dtype=bool) if origin is None else origin.touched
    off_grid = _off_grid(X_normal, X_aux, changed, names)
    real_rows = {row.tobytes() for row in X_normal + 0.0}
    copies = float(np.mean([row.tobytes() in real_rows for row in X_aux + 0.0]))
    auroc = p_value = math.nan
    if origin is not None and not changed.all() and min(len(X_normal), len(X_aux)) >= 20:
        auroc, p_value = _outside_the_mask(X_normal, origin, as_generator(random_state))
    found = []
    if p_value < 0.01:
        found.append(f"outside what was changed they can be told from real rows (AUROC {auroc:.2f}, p = {p_value:.1g})")
    if off_grid:
        worst = max(off_grid, key=lambda name: off_grid[name])
        found.append(f"{len(off_grid)} columns leave the grid of the real values ({worst}: {off_grid[worst]:.0%})")
    if copies > 0.01:
        found.append(f"{copies:.0%} repeat a real row exactly")
    if found:
        verdict = "A detector may learn 'synthetic' instead of 'anomalous': " + "; ".join(found) + "."
    elif math.isnan(auroc):
        verdict = (
            "No copies, no values off the grid; every column was changed or the mask is unknown, so nothing else can "
            "be checked."
        )
    else:
        verdict = f"No sign that they give themselves away (AUROC {auroc:.2f} outside what was changed)."
    return ProbeResult(auroc, p_value, off_grid, copies, verdict, not found)


def _names(feature_names: Any) -> list[str]:
    if isinstance(feature_names, str) or not hasattr(feature_names, "__iter__"):
        raise InputError(f"feature_names={told(feature_names)}: give one name a column")
    return [str(name) for name in feature_names]


def _off_grid(X_normal: Floats, X_aux: Floats, changed: Bools, names: list[str]) -> dict[str, float]:
    shares = {}
    for f, name in enumerate(names):
        values = np.unique(X_normal[:, f])
        whole = bool((values == np.round(values)).all())
        coarse = len(values) <= max(2, 0.1 * len(X_normal))
        new = X_aux[changed[:, f], f]
        if len(new) == 0 or not (whole or coarse):
            continue
        on_grid = (new == np.round(new)) if whole else np.isin(new, values)
        if not on_grid.all():
            shares[name] = float((~on_grid).mean())
    return shares


def image_probe(
    auxiliary: Auxiliary, parents: Any, embedder: Embedder, *, random_state: Any = 0
) -> tuple[float, float]:
    """Tell synthetic images from real ones by what the generator did not change.

    What was changed is painted grey, in real images (each with the mask of a synthetic one) as in synthetic ones; a
    forest on their embedding tries to tell the two apart, a parent and its children always in the same fold.

    Parameters
    ----------
    auxiliary : Auxiliary
        Synthetic images of one generator.
    parents : array of shape (n, H, W, 3)
        The real images they were made from, at the same size: ``generator.parents_``.
    embedder : Embedder
        Fitted.
    random_state : None, int or numpy.random.Generator
        Seed of the forest and of which real image gets which mask.

    Returns
    -------
    tuple of float
        AUROC, which must be 1/2 up to chance, and the chance of one at least as high if nothing gives them away; NaN
        where a generator changes whole images, or there are fewer than 20.
    """
    rng = as_generator(random_state)
    n = min(len(parents), len(auxiliary), MOST_ROWS)
    synthetic, real = rng.permutation(len(auxiliary))[:n], rng.permutation(len(parents))[:n]
    masks = auxiliary.touched[synthetic]
    if masks.all() or n < 20:
        return math.nan, math.nan
    rows = [
        embedder.transform(np.where(masks[..., None], np.uint8(128), images))
        for images in (parents[real], auxiliary.X[synthetic])
    ]
    return _told_apart(np.vstack(rows), np.concatenate([real, auxiliary.parents[synthetic]]), rng)


def _outside_the_mask(X_normal: Floats, auxiliary: Auxiliary, rng: np.random.Generator) -> tuple[float, float]:
    """Return AUROC and one-sided p-value of a classifier that sees only what was not changed."""
    n = min(len(X_normal), len(auxiliary), MOST_ROWS)
    real, synthetic = rng.permutation(len(X_normal))[:n], rng.permutation(len(auxiliary))[:n]
    masks = auxiliary.touched[synthetic]
    blank = [X_normal[rng.integers(len(X_normal), size=n)] for _ in range(2)]
    X = np.vstack([np.where(masks, blank[0], X_normal[real]), np.where(masks, blank[1], auxiliary.X[synthetic])])
    # A row without a parent among the normals is a family of its own.
    parents = auxiliary.parents[synthetic]
    family = np.concatenate([real, np.where(parents >= 0, parents, len(X_normal) + np.arange(n))])
    return _told_apart(X, family, rng)


def _told_apart(X: Floats, family: Ints, rng: np.random.Generator) -> tuple[float, float]:
    """Return AUROC and one-sided p-value of telling the second half of the rows from the first, by cross-validation."""
    n = len(X) // 2
    is_synthetic = np.repeat([0, 1], n)
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=child_seeds(rng, 1)[0])
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=child_seeds(rng, 1)[0])
    score = np.empty(2 * n)
    parts = folds.split(X, is_synthetic, family)
    for train, held in progress(parts, "looking for artefacts", total=folds.get_n_splits()):
        forest.fit(X[train], is_synthetic[train])
        score[held] = forest.predict_proba(X[held]) @ (forest.classes_ == 1)  # one class alone may have trained it
    auroc = roc_auc(is_synthetic, score)
    return auroc, float(norm.sf((auroc - 0.5) / math.sqrt((2 * n + 1) / (12.0 * n * n))))
