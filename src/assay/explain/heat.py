"""Heat maps of an image's anomaly score: which pixels make it what it is.

In: a score f, a function of a batch (b, h, w, 3), float32 in [0, 1], that gives (b,) numbers; an image and its
reference x̂, what it would look like without a defect. Out: a `Heat`: one number a pixel, in units of the score.

What is hidden is replaced by the reference: hiding a defect repairs it, while hiding it in black would be a defect of
its own. f is asked anew for every perturbed image: where it reconstructs, it reconstructs the perturbed one.

LIME (`lime`). With superpixels s = 1 … k, keep each with chance ½, replace the others by x̂, ask f, and fit

    β = argmin Σ_i w_i (f(x_i) - β_0 - β·z_i)² + |β|²,   w = √exp(-d² / .25²),   d = 1 - cos(z, 1) = 1 - √(kept / k)

β_s is painted over the pixels of s. The first of the samples is the whole image. Residuals give β's standard error.

Partition SHAP (`partition_shap`, by the library SHAP). The image is halved again and again; the gain of a half is the
mean of what it adds to nothing and to the other half (Owen's values), and where most is gained there is halved
next. Σ φ = f(x) - f(x̂), exactly.

Departures: our own LIME (the package is no longer maintained); its features are not selected. SHAP's
attributions are summed over the colours, where the authors take the first.

References
----------
Rashid, Amparore, Ferrari and Verda: Can I trust my anomaly detection system? A case study based on explainable AI.
xAI 2024, arXiv 2407.19951.
Ribeiro, Singh and Guestrin: "Why Should I Trust You?" Explaining the Predictions of Any Classifier. KDD 2016.
Lundberg and Lee: A Unified Approach to Interpreting Model Predictions. NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import Ridge

from assay.core.extras import require
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, as_vector, check_number, check_option
from assay.explain.superpixels import Superpixels, as_pair

Score = Callable[[Any], Any]
#: Questions to the score and how many at a time, width of LIME's kernel, seed (authors' code).
SAMPLES, BATCH, WIDTH, SEED = 5000, 200, 0.25, 1234


class Heat(NamedTuple):
    """What each pixel adds to the score.

    Attributes
    ----------
    values : array of float64 of shape (h, w)
        Higher = it makes the image more anomalous.
    base : float
        Score of an image without any of it: LIME's constant, or that of the reference.
    noise : float
        Standard error of a value; 0 where nothing was drawn by chance.
    oracle : bool
        Whether the true mask was used.
    """

    values: Floats
    base: float
    noise: float = 0.0
    oracle: bool = False

    def telling(self, share: float = 0.05) -> Floats:
        """Return the heat without what says nothing: 0 where below `share` of the hottest or below 3 standard errors.

        A heat map orders all pixels, those that do not matter by noise, and by chance some order of theirs fits a mask.
        """
        least = max(share * float(self.values.max()), 3 * self.noise, np.finfo(np.float64).tiny)
        return np.where(self.values >= least, self.values, 0.0)


def lime(
    score: Score,
    image: Any,
    reference: Any,
    pieces: Superpixels,
    *,
    n_samples: int = SAMPLES,
    batch_size: int = BATCH,
    random_state: int = SEED,
) -> Heat:
    """Return what each superpixel adds to the score.

    Parameters
    ----------
    score : callable
        Batch (b, h, w, 3) of float32 in [0, 1] -> (b,).
    image, reference : array of shape (h, w, 3)
        In [0, 1].
    pieces : Superpixels
        Of `assay.explain.superpixels`.
    n_samples : int, default 5000
        Perturbed images, the image itself included; more than superpixels.
    batch_size : int, default 200
        Images that are scored together.
    random_state : int, default 1234
        Seed of what is kept.

    Returns
    -------
    Heat
        The same for all pixels of a superpixel.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.explain.heat import lime
    >>> from assay.explain.superpixels import superpixels
    >>> clean = np.full((32, 32, 3), 0.5)
    >>> image = clean.copy()
    >>> image[8:12, 8:20] = 1.0
    >>> pieces = superpixels(image, clean, n_segments=20)
    >>> heat = lime(lambda batch: (batch - 0.5).sum(axis=(1, 2, 3)), image, clean, pieces, n_samples=200)
    >>> bool(heat.values[8:12, 8:20].min() > heat.values[20:].max())
    True
    """
    image, reference = as_pair(image, reference)
    check_number(n_samples, "n_samples", low=pieces.n + 2, integer=True)
    check_number(batch_size, "batch_size", low=1, integer=True)
    check_number(random_state, "random_state", low=0, integer=True)
    if pieces.labels.shape != image.shape[:2]:
        raise InputError(f"pieces are of shape {pieces.labels.shape}, the image {image.shape[:2]}: give its own")
    keep = np.random.default_rng(random_state).random((n_samples, pieces.n)) < 0.5
    keep[0] = True
    x, hidden = image.astype(np.float32), reference.astype(np.float32)
    found = np.empty(n_samples)
    for start in progress(range(0, n_samples, batch_size), "LIME", -(-n_samples // batch_size)):
        rows = slice(start, min(start + batch_size, n_samples))
        found[rows] = asked(score, np.where(keep[rows][:, pieces.labels][..., None], x, hidden))
    away = 1.0 - np.sqrt(keep.mean(axis=1))
    weight, z = np.exp(-0.5 * (away / WIDTH) ** 2), keep.astype(np.float64)
    surrogate = Ridge(alpha=1.0).fit(z, found, sample_weight=weight)
    left = found - surrogate.predict(z)
    # Keeping varies by ¼; the fit has used up as many samples as there are superpixels.
    variance = 4 * np.square(weight * left).sum() / weight.sum() ** 2 / (1 - (pieces.n + 1) / n_samples)
    return Heat(surrogate.coef_[pieces.labels], float(surrogate.intercept_), float(np.sqrt(variance)), pieces.oracle)


def partition_shap(
    score: Score,
    image: Any,
    reference: Any,
    *,
    n_evaluations: int = SAMPLES,
    batch_size: int = BATCH,
    random_state: int = SEED,
) -> Heat:
    """Return the Owen values of the pixels, all colours summed.

    Parameters
    ----------
    score : callable
        Batch (b, h, w, 3) of float32 in [0, 1] -> (b,).
    image, reference : array of shape (h, w, 3)
        In [0, 1].
    n_evaluations : int, default 5000
        Perturbed images; pixels that are not told apart share evenly.
    batch_size : int, default 200
        Images that are scored together.
    random_state : int, default 1234
        Seed of what is halved first where halves gain the same.

    Returns
    -------
    Heat
        Its values sum to the score of the image less that of the reference, its `base`.

    Raises
    ------
    MissingExtra
        If SHAP is not installed (extra ``explain``).
    """
    image, reference = as_pair(image, reference)
    check_number(n_evaluations, "n_evaluations", low=10, integer=True)
    check_number(batch_size, "batch_size", low=2, integer=True)
    check_number(random_state, "random_state", low=0, high=2**32 - 1, integer=True)
    shap: Any = require("shap", "explain", "Shapley values of scores")
    masker = shap.maskers.Image(reference.astype(np.float32))
    explainer = shap.explainers.Partition(lambda batch: asked(score, batch), masker)
    with _own_ties(random_state):
        told = explainer(image.astype(np.float32)[None], max_evals=n_evaluations, batch_size=batch_size, silent=True)
    values = np.asarray(told.values, dtype=np.float64)[0].sum(axis=2)
    return Heat(values, float(np.ravel(told.base_values)[0]))


def error_map(image: Any, reference: Any, how: str = "norm") -> Floats:
    """Return how far each pixel is from its reference: the plain map that explains nothing and often does as well.

    Parameters
    ----------
    image, reference : array of shape (h, w, 3)
        In [0, 1].
    how : {"norm", "max"}
        Length of the difference of the colours, or its largest part.

    Returns
    -------
    array of float64 of shape (h, w)
        >= 0.
    """
    check_option(how, "how", "norm", "max")
    image, reference = as_pair(image, reference)
    away = np.abs(image - reference)
    return away.max(axis=2) if how == "max" else np.sqrt(np.square(away).sum(axis=2))


def asked(score: Score, batch: Any) -> Floats:
    """Return the scores of a batch, or say that they are none."""
    found = as_vector(score(batch), "score(batch)")
    if len(found) != len(batch):
        raise InputError(f"score(batch) has {len(found)} numbers for {len(batch)} images: give one an image")
    return found


@contextmanager
def _own_ties(seed: int) -> Iterator[None]:
    """Let SHAP, which breaks ties by NumPy's global state, draw from a seed of ours, and give the state back."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
