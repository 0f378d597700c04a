"""Gaussian-AD: one Gaussian for the pooled features of each level of a pretrained network.

In: images of any size (resized to `image_size` x `image_size`). Out: one score an image >= 0, the sum over
the levels of its distances; no map. Nothing is trained but means and covariances.

For every level l of a frozen network an image becomes z_l, the mean of its feature map over the image, of C_l
numbers. With the mean μ_l and the covariance Σ_l of the normal images, shrunk by Ledoit and Wolf's rule
(there are fewer images than channels),

    d_l(x) = √((z_l - μ_l)ᵀ Σ_l⁻¹ (z_l - μ_l)),     score = Σ_l d_l.

If z_l is Gaussian, d_l² is chi-squared with C_l degrees of freedom, so that a false-alarm rate can be
promised without one anomaly: `threshold(level, fpr)`. Whether it is Gaussian, `calibration(level)` tells on
held-out normals.

Which part of the spectrum tells normal from anomalous? `reduce` keeps some principal components of each
level: ``("pca", q)`` those up to the first at which the explained share of the variance exceeds q, the usual
choice; ``("npca", q)`` those from one before that index on, the least varying ones. The paper's finding is
that the second do as well as all and the first clearly worse. Comparators: ``distance="sed"`` divides each
channel by its standard deviation, ``"l2"`` does not, both taking the root of the *mean* square over the
channels, as published; ``"ocsvm"`` is scikit-learn's one-class SVM at each level.

Published: EfficientNet-B4 at 380 pixels, nine levels (stem, seven stages, head). Here EfficientNet-Lite0 at
224, its own native size, with the same nine levels. Departures: everything is solved through the Cholesky
factor; the study's augmentation of the training images (which concerns its working point alone) is left to
the caller. "npca" keeps the directions in which n < C_l training images do not vary at all, where a
decomposition of n components has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.stats import chi2, kstest
from sklearn.covariance import ledoit_wolf
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import OneClassSVM
from sklearn.utils.validation import check_is_fitted

from assay.base import Detector, TakesImages
from assay.core.images import Images
from assay.core.validation import Floats, InputError, as_matrix, check_number, check_option, told
from assay.detectors.images.common import in_batches
from assay.nn.backbones import build, initial_weights
from assay.nn.pooling import check_backbone

LEVELS = ("stem", *(f"stage{i}" for i in range(1, 8)), "head")
DISTANCES = ("mahalanobis", "sed", "l2", "ocsvm")


def kept_components(variances: Floats, reduce: tuple[str, float] | None) -> slice:
    """Return which principal components are kept, given their variances, largest first.

    j is the first index at which the cumulative share exceeds q: "pca" keeps 0 … j, "npca" keeps j - 1 … d -
    1.
    """
    if reduce is None:
        return slice(0, len(variances))
    kind, q = reduce
    shares = np.cumsum(variances) / variances.sum()
    j = int(np.argmax(shares > q)) if (shares > q).any() else len(shares) - 1
    return slice(0, j + 1) if kind == "pca" else slice(max(j - 1, 0), len(variances))


class Level:
    """The Gaussian of one level, for any table of features: fit, distances, contributions, working point.

    Parameters
    ----------
    distance : str
        One of `DISTANCES`.
    reduce : tuple of (str, float), or None
        Which principal components are kept.
    """

    def __init__(self, distance: str = "mahalanobis", reduce: tuple[str, float] | None = None) -> None:
        self.distance, self.reduce = distance, reduce

    def fit(self, Z: Floats) -> Level:
        """Learn from the features (n, C) of normal images."""
        self.arrays: dict[str, Floats] = {"mean": Z.mean(axis=0)}
        if self.reduce is not None:
            triangle = np.linalg.qr(Z - self.arrays["mean"], mode="r")  # or the other factor would be n x n
            _, singular, directions = np.linalg.svd(triangle, full_matrices=True)
            variances = np.zeros(Z.shape[1])
            variances[: len(singular)] = singular**2
            self.arrays["components"] = directions[kept_components(variances, self.reduce)]
        away = self._away(Z)
        if self.distance == "mahalanobis":
            covariance, _ = ledoit_wolf(away, assume_centered=True)
            # A direction without any spread must not break the factor: it counts as a millionth of the mean
            # variance.
            ridge = 1e-6 * max(np.trace(covariance) / len(covariance), 1e-30)
            self.arrays["cholesky"] = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
        elif self.distance == "sed":
            spread = away.std(axis=0)
            self.arrays["scale"] = np.where(spread > 0, spread, 1.0)
        elif self.distance == "ocsvm":
            machine = OneClassSVM(gamma="scale").fit(away)
            self.arrays |= {"vectors": machine.support_vectors_, "weights": machine.dual_coef_[0]}
            self.arrays |= {"gamma": np.array([machine._gamma]), "offset": machine.intercept_}
        return self

    @classmethod
    def of(cls, arrays: dict[str, Floats], distance: str, reduce: tuple[str, float] | None) -> Level:
        """Return a fitted level from what it learned."""
        level = cls(distance, reduce)
        level.arrays = arrays
        return level

    @property
    def width(self) -> int:
        """Degrees of freedom: channels, or components that are kept."""
        return len(self.arrays.get("components", self.arrays["mean"]))

    def _away(self, Z: Floats) -> Floats:
        away = Z - self.arrays["mean"]
        return away @ self.arrays["components"].T if "components" in self.arrays else away

    def distances(self, Z: Floats) -> Floats:
        """Return the distance of each row, (n,)."""
        away = self._away(Z)
        if self.distance == "mahalanobis":
            return np.linalg.norm(solve_triangular(self.arrays["cholesky"], away.T, lower=True), axis=0)
        if self.distance == "ocsvm":
            near = rbf_kernel(away, self.arrays["vectors"], gamma=float(self.arrays["gamma"][0]))
            return -(near @ self.arrays["weights"] + self.arrays["offset"])
        return np.sqrt(np.square(away / self.arrays.get("scale", 1.0)).mean(axis=1))

    def contributions(self, Z: Floats) -> Floats:
        """Return what each channel (component) adds to the squared distance: they sum to it; (n, C)."""
        away = self._away(Z)
        if self.distance != "mahalanobis":
            raise InputError(f"distance={self.distance!r} has no contributions: take 'mahalanobis'")
        factor = self.arrays["cholesky"]
        solved = solve_triangular(factor, solve_triangular(factor, away.T, lower=True), lower=True, trans="T").T
        return away * solved

    def threshold(self, fpr: float) -> float:
        """Return the distance that a share `fpr` of normal images exceeds if their features are Gaussian."""
        if self.distance != "mahalanobis":
            raise InputError(f"distance={self.distance!r} follows no known law: take 'mahalanobis'")
        return float(np.sqrt(chi2.isf(fpr, self.width)))


class GaussianAD(TakesImages, Detector):
    """Sum over the levels of Mahalanobis distances of pooled features.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        See `assay.nn.backbones`; published: EfficientNet-B4.
    weights : str or None, default "imagenet"
        ``"imagenet"``, the path of a state dict, or None for random ones (a baseline).
    levels : tuple of str, default all nine
        Levels of the backbone (paper: all).
    distance : {"mahalanobis", "sed", "l2", "ocsvm"}, default "mahalanobis"
        Distance at each level (paper; the others are its comparators).
    reduce : tuple of (str, float), or None, default None
        ``("pca", .95)`` or ``("npca", .99)``: principal components to keep (paper: analysis).
    image_size : int, default 224
        Pixels a side: the network's native size (paper).
    random_state : None, int or numpy.random.Generator
        Seed of random weights.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone.
    levels_ : list of dict of arrays
        What each level learned.

    References
    ----------
    Rippel, Mertens and Merhof: Modeling the Distribution of Normal Data in Pre-Trained Deep Features for
    Anomaly Detection. ICPR 2020, arXiv 2005.14140.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import GaussianAD
    >>> images = np.random.default_rng(0).integers(90, 110, size=(12, 64, 64), dtype=np.uint8)
    >>> detector = GaussianAD(weights=None, image_size=64, random_state=0).fit(images)
    >>> bool(detector.anomaly_score(255 - images[:1]) > detector.anomaly_score(images).max())
    True
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = LEVELS,
        distance: str = "mahalanobis",
        reduce: tuple[str, float] | None = None,
        image_size: int = 224,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.distance = distance
        self.reduce = reduce
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_backbone(self.backbone, self.levels)
        check_option(self.distance, "distance", *DISTANCES)
        check_number(self.image_size, "image_size", low=32, integer=True)
        if self.reduce is not None:
            if not isinstance(self.reduce, (tuple, list)) or len(self.reduce) != 2:
                raise InputError(f"reduce={told(self.reduce)}: give None, ('pca', share) or ('npca', share)")
            check_option(self.reduce[0], "reduce", "pca", "npca")
            check_number(self.reduce[1], "reduce", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        if len(X) < 2:
            raise InputError(f"X holds {len(X)} image: a covariance needs 2 or more")
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        self.levels_ = [Level(self.distance, self.reduce).fit(Z).arrays for Z in self._features(X)]

    def _features(self, X: Images) -> list[Floats]:
        """Return the pooled features of each level, (n, C_l)."""
        network = build(self.backbone, self.backbone_)
        parts: dict[str, list[Floats]] = {level: [] for level in self.levels}
        for batch in in_batches(X, self.image_size, "extracting features"):
            for level, rows in pooled_levels(network, batch, self.levels).items():
                parts[level].append(rows)
        return [np.concatenate(parts[level]) for level in self.levels]

    def _fitted(self) -> list[Level]:
        return [Level.of(arrays, self.distance, self.reduce) for arrays in self.levels_]

    def _score(self, X: Images) -> Floats:
        return self._distances(X).sum(axis=1)

    def _distances(self, X: Images) -> Floats:
        return np.column_stack([level.distances(Z) for level, Z in zip(self._fitted(), self._features(X))])

    def level_scores(self, X: Any) -> Floats:
        """Return the distance at every level, (n, levels): the score is their sum."""
        check_is_fitted(self)
        return self._distances(self._check_table(X, reset=False))

    def contributions(self, level: str, X: Any) -> Floats:
        """Return what each channel (kept component) of `level` adds to d², (n, C_l): they sum to it."""
        check_is_fitted(self)
        place = self._place(level)
        return self._fitted()[place].contributions(self._features(self._check_table(X, reset=False))[place])

    def threshold(self, level: str, fpr: float | None = None, sigma: float | None = None) -> float:
        """Return the distance at `level` that normal images exceed with probability `fpr`, if they are Gaussian there.

        Parameters
        ----------
        level : str
            One of `levels`.
        fpr : float in (0, 1), optional
            False-alarm rate.
        sigma : float, optional
            In its place: as rare as that many standard deviations of a normal variable, either side.
        """
        check_is_fitted(self)
        place = self._place(level)
        if (fpr is None) == (sigma is None):
            raise InputError("fpr and sigma: give one of them")
        if sigma is not None:
            check_number(sigma, "sigma", low=0.0, strict_low=True)
            fpr = float(chi2.sf(float(sigma) ** 2, 1))
        check_number(fpr, "fpr", low=0.0, high=1.0, strict_low=True, strict_high=True)
        return self._fitted()[place].threshold(fpr)

    def calibration(self, level: str, X_normal: Any) -> dict[str, float]:
        """Return how far fresh normal images are from the law that `threshold` trusts.

        Returns
        -------
        dict
            ``ks``: largest gap between the distribution of d² and chi-squared; ``p_value`` of it;
            ``alarms_5`` and ``alarms_1``: shares beyond the thresholds of 5 and 1 %.
        """
        check_is_fitted(self)
        place = self._place(level)
        away = self.level_scores(X_normal)[:, place]
        fitted = self._fitted()[place]
        return chi_squared_check(away, fitted)

    def _place(self, level: Any) -> int:
        if level not in self.levels:
            raise InputError(f"level={told(level)}: one of {tuple(self.levels)} was fitted")
        return list(self.levels).index(level)


def chi_squared_check(distances: Floats, level: Level) -> dict[str, float]:
    """Return how far distances of fresh normals are from the law of a level; see `GaussianAD.calibration`."""
    away = as_matrix(np.asarray(distances)[:, None], "distances")[:, 0]
    gap = kstest(away**2, chi2(level.width).cdf)
    alarms = {
        f"alarms_{share:.0%}".rstrip("%"): float((away > level.threshold(share)).mean()) for share in (0.05, 0.01)
    }
    return {"ks": float(gap.statistic), "p_value": float(gap.pvalue)} | alarms


def pooled_levels(network: Any, batch: Any, levels: tuple[str, ...]) -> dict[str, Floats]:
    """Return the mean over the image of each level's map, float64 (b, C_l)."""
    with torch.inference_mode():
        maps = network(network.scaled(batch), levels)
    return {level: maps[level].double().mean(dim=(2, 3)).numpy() for level in levels}
