"""Noise-contrastive density: tell normal rows from generated noise, and read the density off the classifier.

In: a table (n, d). Out: one score a row, an estimate of -log p(x) up to a constant.

A classifier learns to tell the n normal rows from ν n rows of a known noise law q. Its log odds estimate log
p(x) - log(ν q(x)), so log p / q = logit + log ν. With uniform noise over the inflated bounding box (the
default) q is constant there and the score -(logit + log ν) is -log p up to that constant; with another
generator it is -log p / q. Outside the box the classifier extrapolates. Defaults: ν = 3, a random forest of
200 trees with at least 5 rows a leaf.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from assay.base import Detector
from assay.core.clone import seeded_clone
from assay.core.random import child_seeds
from assay.core.validation import Floats, InputError, Ints, check_methods, check_number
from assay.generators.tabular import UniformBox


class NoiseContrastive(Detector):
    """Density ratio to generated noise, by any classifier.

    Parameters
    ----------
    generator : Generator, optional
        Source of the noise; `UniformBox` by default.
    classifier : classifier, optional
        Anything with `predict_proba`; a random forest by default.
    ratio : float, default 3
        Noise rows per normal row, ν.
    random_state : None, int or numpy.random.Generator
        Seed of the noise and the classifier.

    Attributes
    ----------
    classifier_ : classifier
        Fitted to tell normals (1) from noise (0).
    mean_, scale_ : arrays of shape (d,)
        What standardises the columns for it.
    log_ratio_ : float
        log ν, of the rows drawn.

    References
    ----------
    Gutmann and Hyvärinen: Noise-contrastive Estimation. AISTATS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import NoiseContrastive
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> score = NoiseContrastive(random_state=0).fit(X).anomaly_score([[0.0, 0.0], [3.0, -3.0]])
    >>> bool(score[1] > score[0])
    True
    """

    def __init__(self, generator=None, classifier=None, ratio=3.0, random_state=None):
        self.generator = generator
        self.classifier = classifier
        self.ratio = ratio
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.generator is not None:
            check_methods(self.generator, "generator", "fit", "sample")
        if self.classifier is not None:
            check_methods(self.classifier, "classifier", "fit", "predict_proba")
        check_number(self.ratio, "ratio", low=0.0, strict_low=True)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        if not np.ptp(X, axis=0).any():
            raise InputError("X: all rows are equal, so there is no noise to tell them from; give rows that differ")
        seeds = child_seeds(rng, 2)
        generator: Any = UniformBox() if self.generator is None else self.generator
        classifier = RandomForestClassifier(200, min_samples_leaf=5) if self.classifier is None else self.classifier
        n_noise = max(1, round(self.ratio * len(X)))
        noise = seeded_clone(generator, seeds[0]).fit(X).sample(n_noise)
        spread, varies = X.std(axis=0), np.ptp(X, axis=0) > 0
        self.mean_, self.scale_ = X.mean(axis=0), np.where(varies & (spread > 0), spread, 1.0)
        rows = self._standardised(np.vstack([X, noise.X]))
        is_normal = np.repeat([1, 0], [len(X), n_noise])
        self.classifier_ = seeded_clone(classifier, seeds[1]).fit(rows, is_normal)
        self.log_ratio_ = math.log(n_noise / len(X))

    def _standardised(self, X: Floats) -> Floats:
        # scikit-learn's trees work in single precision: what is far out must not overflow there.
        return np.clip((X - self.mean_) / self.scale_, -1e30, 1e30)

    def _score(self, X: Floats) -> Floats:
        p = np.clip(self.classifier_.predict_proba(self._standardised(X))[:, 1], 1e-6, 1.0 - 1e-6)
        return -(np.log(p) - np.log1p(-p) + self.log_ratio_)
