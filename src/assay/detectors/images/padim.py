"""PaDiM: a Gaussian for every place of the image, of pretrained features.

In: images of any size (resized to `image_size` x `image_size`), of a product that lies in the same place.
Out: one score an image >= 0, the largest value of its map, and the map (n, image_size, image_size):
Mahalanobis distances.

The levels of a frozen backbone are brought to the first one's grid (nearest cell) and laid side by side; a
random subset of `n_features` channels, the same everywhere, is kept. At each cell the mean μ and the
covariance Σ over the normal images give d = √((z - μ)ᵀ (Σ + 0.01 I)⁻¹ (z - μ)). The grid of distances is
enlarged and smoothed (σ = 4).

Published: ResNet-18, layers 1 to 3, 100 of 448 channels, or WideResNet-50-2, 550 of 1792. Default here:
EfficientNet-Lite0, strides 4, 8 and 16, 100 of 176 channels.

The inverse is kept as the inverse of the Cholesky factor, so that d is the length of a vector. Time O(cells ·
F³) to fit and O(cells · F²) an image; memory cells · F² · 4 bytes: 125 MB by default (56 x 56 cells, F =
100).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import InputError, check_number
from assay.detectors.images.common import MapDetector, in_batches
from assay.nn.backbones import Backbone, build, initial_weights
from assay.nn.pooling import check_backbone

#: Added to the diagonal of every covariance (paper's code).
RIDGE = 0.01
#: Cells whose covariances are inverted together.
CELLS = 64


class PaDiM(MapDetector):
    """Mahalanobis distance to the normal features of the same place.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        See `assay.nn.backbones`; published: ``"resnet18"``, ``"wide_resnet50_2"``.
    weights : str or None, default "imagenet"
        ``"imagenet"``, the path of a state dict, or None for random ones (a baseline).
    levels : tuple of str, default ("stage2", "stage3", "stage5")
        Levels of the backbone, shallow first: strides 4, 8 and 16, as published.
    n_features : int, default 100
        Channels kept, at most all (paper: 100 for ResNet-18).
    image_size : int, default 224
        Pixels a side (paper).
    smoothing : float, default 4
        Standard deviation of the map's Gaussian in pixels (paper).
    image_score : {"max_map", "max_grid", "topk_mean"}, default "max_map"
        How the image's score is taken (paper: largest value of the smoothed map).
    random_state : None, int or numpy.random.Generator
        Seed of the channels, and of random weights.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone.
    channels_ : array of int of shape (n_features,)
        Which channels.
    mean_ : array of float32 of shape (rows, columns, n_features)
        Mean of every cell.
    whitener_ : array of float32 of shape (rows, columns, n_features, n_features)
        Inverse Cholesky factor W of every cell's covariance: d = |W (z - μ)|.

    References
    ----------
    Defard, Setkov, Loesch and Audigier: PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection
    and Localization. ICPR workshops 2020, arXiv 2011.08785.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import PaDiM
    >>> images = np.random.default_rng(0).integers(90, 110, size=(8, 64, 64), dtype=np.uint8)
    >>> detector = PaDiM(weights=None, n_features=8, image_size=64, random_state=0).fit(images)
    >>> spoiled = images[:1].copy()
    >>> spoiled[0, 20:40, 20:40] = 255
    >>> bool(detector.anomaly_score(spoiled) > detector.anomaly_score(images).max())
    True
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage2", "stage3", "stage5"),
        n_features: int = 100,
        image_size: int = 224,
        smoothing: float = 4.0,
        image_score: str = "max_map",
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.n_features = n_features
        self.image_size = image_size
        self.smoothing = smoothing
        self.image_score = image_score
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_backbone(self.backbone, self.levels)
        check_number(self.n_features, "n_features", low=1, integer=True)

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        if len(X) < 2:
            raise InputError(f"X holds {len(X)} image: a covariance needs 2 or more")
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        network = build(self.backbone, self.backbone_)
        parts = []
        with torch.inference_mode():
            for batch in in_batches(X, self.image_size, "extracting features"):
                stacked = self._stacked(network, batch)
                if not parts:
                    chosen = rng.permutation(stacked.shape[-1])[: self.n_features]
                    self.channels_ = np.sort(chosen)
                parts.append(stacked[..., torch.from_numpy(self.channels_)])
        features = torch.cat(parts)
        n, rows, columns, width = features.shape
        cells = features.reshape(n, rows * columns, width).transpose(0, 1).numpy()
        self.mean_ = cells.mean(axis=1).reshape(rows, columns, width)
        whitener = np.empty((len(cells), width, width), dtype=np.float32)
        starts = range(0, len(cells), CELLS)
        for start in progress(starts, "inverting covariances", total=len(starts)):
            some = cells[start : start + CELLS].astype(np.float64)
            away = some - some.mean(axis=1, keepdims=True)
            covariance = away.transpose(0, 2, 1) @ away / (n - 1) + RIDGE * np.eye(width)
            whitener[start : start + CELLS] = np.linalg.inv(np.linalg.cholesky(covariance))
        self.whitener_ = whitener.reshape(rows, columns, width, width)

    def _stacked(self, network: Backbone, batch: Any) -> torch.Tensor:
        """Return the levels at the first one's grid, side by side: (b, h, w, channels)."""
        maps = network(network.scaled(batch), self.levels)
        levels = [maps[name] for name in self.levels]
        grid = tuple(levels[0].shape[2:])
        resized = [levels[0], *(F.interpolate(level, size=grid, mode="nearest") for level in levels[1:])]
        return torch.cat(resized, dim=1).permute(0, 2, 3, 1)

    def _scorer(self) -> Any:
        network = build(self.backbone, self.backbone_)
        mean, whitener = torch.from_numpy(self.mean_), torch.from_numpy(self.whitener_)
        channels = torch.from_numpy(self.channels_)

        def distances(batch: Any) -> torch.Tensor:
            away = self._stacked(network, batch)[..., channels] - mean
            return (whitener @ away[..., None])[..., 0].square().sum(dim=-1).sqrt()

        return distances
