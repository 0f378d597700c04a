"""PatchCore: an image is as anomalous as its patch that is farthest from all patches of normal images.

In: images of any size (resized to `image_size` x `image_size`). Out: one score an image >= 0, a distance
between patch features, and a map of the same unit, (n, image_size, image_size).

The features of all patches of the normal images (`assay.nn.patch_features`) are thinned to a coreset by the
greedy k-centre rule, on a random projection to 128 dimensions: it covers the features evenly, however rare
some are. A cell's score is the distance of its feature to the nearest element of this bank; the image's is
the largest cell's, weighted:

    s = w d*,   w = 1 - exp(d*) / Σ_b exp(d_b)

over the b = 9 elements nearest to the bank element m* that gave d*, d_b their distances to the cell's
feature: what lies near a rare element counts more (paper, equation 7; the authors' code leaves it out:
``reweight=False``). The map is the grid of distances, enlarged and smoothed (σ = 4).

Published: WideResNet-50-2, levels 2 and 3, ``aggregate="adaptive"``, 10 % or 1 % of the patches
(``PatchCore(backbone="wide_resnet50_2", weights=PATH, levels=("layer2", "layer3"), aggregate="adaptive")``).
Default here: EfficientNet-Lite0, whose weights are a package, with ``aggregate="concat"``, for its levels
have too few channels for the adaptive form; 10 %.

Departures: the plain resize has no centre crop, which hides defects at the border. At most `max_features`
patches enter the choice, a uniform draw from each image: a bound on memory (`max_features` · D · 4 bytes
while fitting, `coreset` times that fitted; 122 MB and 12 MB by default) and on time (`coreset` ·
`max_features`² · 128 multiplications at most).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.core.images import Images
from assay.core.validation import Floats, check_number
from assay.detectors.images.common import PatchDetector, in_batches
from assay.nn.maps import full_size
from assay.nn.memory_bank import choose_bank, nearest_in_bank, sampled
from assay.nn.patch_features import PatchFeatures


class PatchCore(PatchDetector):
    """Distance to the nearest of a coreset of normal patches.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        See `assay.nn.backbones`; published: ``"wide_resnet50_2"``.
    weights : str or None, default "imagenet"
        ``"imagenet"``, the path of a state dict, or None for random ones (a baseline).
    levels : tuple of str, default ("stage3", "stage5")
        Levels of the backbone, shallow first: strides 8 and 16, as published.
    patch : int, default 3
        Cells a side that a feature describes (paper).
    aggregate : {"concat", "adaptive"}, default "concat"
        See `assay.nn.patch_features`; published: ``"adaptive"``.
    width : int, default 1024
        Length of a feature, for ``"adaptive"`` (paper).
    coreset : float in (0, 1], default .1
        Share of the patches kept (paper).
    reweight : bool, default True
        Weight the image's score (paper; not in the authors' code).
    neighbours : int, default 9
        Elements b that the weight looks at (paper).
    max_features : int, default 200000
        Most patches that the coreset is chosen from (ours).
    image_size : int, default 224
        Pixels a side (paper).
    smoothing : float, default 4
        Standard deviation of the map's Gaussian in pixels (paper).
    random_state : None, int or numpy.random.Generator
        Seed of the projection, of the first element, and of random weights.

    Attributes
    ----------
    bank_ : array of float32 of shape (m, D)
        The coreset, in the order of its choice.
    radius_ : float
        Largest distance, in the projection, of a normal patch to the bank.

    References
    ----------
    Roth, Pemula, Zepeda, Schölkopf, Brox and Gehler: Towards Total Recall in Industrial Anomaly Detection.
    CVPR 2022, arXiv 2106.08265.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import PatchCore
    >>> images = np.random.default_rng(0).integers(90, 110, size=(6, 64, 64), dtype=np.uint8)
    >>> detector = PatchCore(weights=None, image_size=64, random_state=0).fit(images)
    >>> spoiled = images[:1].copy()
    >>> spoiled[0, 20:40, 20:40] = 255
    >>> bool(detector.anomaly_score(spoiled) > detector.anomaly_score(images).max())
    True
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage3", "stage5"),
        patch: int = 3,
        aggregate: str = "concat",
        width: int = 1024,
        coreset: float = 0.1,
        reweight: bool = True,
        neighbours: int = 9,
        max_features: int = 200_000,
        image_size: int = 224,
        smoothing: float = 4.0,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.patch = patch
        self.aggregate = aggregate
        self.width = width
        self.coreset = coreset
        self.reweight = reweight
        self.neighbours = neighbours
        self.max_features = max_features
        self.image_size = image_size
        self.smoothing = smoothing
        self.random_state = random_state

    image_score = "max_grid"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.coreset, "coreset", low=0.0, high=1.0, strict_low=True)
        check_number(self.neighbours, "neighbours", low=1, integer=True)
        check_number(self.max_features, "max_features", low=1, integer=True)

    def _learn(self, X: Images, features: PatchFeatures, rng: np.random.Generator) -> None:
        batches = (features(batch) for batch in in_batches(X, self.image_size, "extracting features"))
        rows = sampled(batches, len(X), int(self.max_features), rng)
        picks, self.radius_ = choose_bank(rows, self.coreset, rng)
        self.bank_ = np.ascontiguousarray(rows[picks])

    def _scorer(self) -> Any:
        """Return what is exported: tensor operations alone, from images to the grid and the score."""
        features, bank = self._features(), torch.from_numpy(self.bank_)
        halves, b = 0.5 * bank.square().sum(dim=1), self._n_around()

        def scored(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            found = features(batch)
            rows = found.flatten(1, 2)
            nearest = bank[(rows @ bank.T - halves).argmax(dim=2)]
            grid = (rows - nearest).square().sum(dim=2).sqrt()
            largest, worst = grid.max(dim=1)
            if b > 1:
                image = torch.arange(len(rows))
                around = bank[(nearest[image, worst] @ bank.T - halves).topk(b, dim=1).indices]
                away = (rows[image, worst][:, None] - around).square().sum(dim=2).sqrt().double()
                largest = largest * (1.0 - 1.0 / (away - largest[:, None]).exp().sum(dim=1))
            return grid.unflatten(1, found.shape[1:3]), largest.double()

        return scored

    def _n_around(self) -> int:
        """Return how many elements the weight looks at; 1 for no weight."""
        return min(self.neighbours, len(self.bank_)) if self.reweight else 1

    def _locate(self, X: Images) -> tuple[Floats, Any]:
        features, size = self._features(), (self.image_size, self.image_size)
        scores, maps = [], []
        for batch in in_batches(X, self.image_size, "scoring"):
            found = features(batch)
            rows = found.flatten(0, 2).numpy()
            distance, index = nearest_in_bank(rows, self.bank_)
            grid = distance[:, 0].reshape(found.shape[:3])
            scores.append(self._image_scores(rows, grid, index[:, 0]))
            maps.append(full_size(torch.from_numpy(grid), size, self.smoothing))
        return np.concatenate(scores), np.concatenate(maps)

    def _score(self, X: Images) -> Floats:
        features = self._features()
        scores = []
        for batch in in_batches(X, self.image_size, "scoring"):
            found = features(batch)
            rows = found.flatten(0, 2).numpy()
            distance, index = nearest_in_bank(rows, self.bank_)
            scores.append(self._image_scores(rows, distance[:, 0].reshape(found.shape[:3]), index[:, 0]))
        return np.concatenate(scores)

    def _image_scores(self, rows: Any, grid: Any, index: Any) -> Floats:
        """Return the score of each image from its features, its distances and the elements they belong to."""
        flat = grid.reshape(len(grid), -1).astype(np.float64)
        worst = flat.argmax(axis=1)
        largest = flat[np.arange(len(flat)), worst]
        b = self._n_around()
        if b == 1:
            return largest
        cell = np.arange(len(flat)) * flat.shape[1] + worst
        _, around = nearest_in_bank(self.bank_[index[cell]], self.bank_, b)
        away = np.linalg.norm(rows[cell][:, None] - self.bank_[around], axis=2).astype(np.float64)
        # Σ exp(d_b) includes m* itself; differences keep the exponentials from overflowing.
        return largest * (1.0 - 1.0 / np.exp(away - largest[:, None]).sum(axis=1))
