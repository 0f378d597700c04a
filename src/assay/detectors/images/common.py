"""What detectors on patch features share: images in, a score for each cell of a grid, a score and a map an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.base import Localizer, TakesImages
from assay.core.images import Images, Maps
from assay.core.progress import progress
from assay.core.validation import Floats, check_number, check_option
from assay.nn.backbones import build, initial_weights
from assay.nn.maps import IMAGE_SCORES, full_size, image_scores
from assay.nn.patch_features import PatchFeatures
from assay.nn.pooling import check_backbone

#: Images that go through a network together; memory grows with it, the scores do not depend on it.
BATCH = 16


def in_batches(X: Images, size: int, description: str) -> Any:
    """Yield the images at `size` x `size`, `BATCH` at a time, with progress."""
    return progress(X.batches((size, size), BATCH), description, total=-(-len(X) // BATCH))


class MapDetector(TakesImages, Localizer):
    """Gives each cell of a grid a score; the image's score and map follow.

    A system has the parameters `image_size`, `smoothing` and `image_score`, and writes `_scorer`.
    """

    image_size: int
    smoothing: float
    image_score: str

    def _check_parameters(self) -> None:
        check_number(self.image_size, "image_size", low=32, integer=True)
        check_number(self.smoothing, "smoothing", low=0.0)
        check_option(self.image_score, "image_score", *IMAGE_SCORES)

    def _scorer(self) -> Any:
        """Return a function of a batch (b, h, w, 3), 8 bits, that gives a score a cell: a tensor (b, rows, columns)."""
        raise NotImplementedError

    def _locate(self, X: Images) -> tuple[Floats, Maps]:
        scorer, size = self._scorer(), (self.image_size, self.image_size)
        scores, maps = np.empty(len(X)), np.empty((len(X), *size), dtype=np.float32)
        done = 0
        for batch in in_batches(X, self.image_size, "scoring"):
            rows = slice(done, done + len(batch))
            with torch.inference_mode():
                grid = scorer(batch)
            maps[rows] = full_size(grid, size, self.smoothing)
            scores[rows] = image_scores(grid, maps[rows], self.image_score)
            done = rows.stop
        return scores, maps

    def _score(self, X: Images) -> Floats:
        if self.image_score == "max_map":
            return self._locate(X)[0]
        scorer = self._scorer()
        parts = []
        for batch in in_batches(X, self.image_size, "scoring"):
            with torch.inference_mode():
                grid = scorer(batch)
            parts.append(image_scores(grid, np.empty(0, dtype=np.float32), self.image_score))
        return np.concatenate(parts)


class PatchDetector(MapDetector):
    """A `MapDetector` on the patch features of a frozen backbone.

    A system has the further parameters `backbone`, `weights`, `levels`, `patch`, `aggregate` and `width`, and writes
    `_learn` and `_cells`.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone: a saved detector holds all it needs.
    """

    backbone: str
    weights: str | None
    levels: tuple[str, ...]
    patch: int
    aggregate: str
    width: int

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_backbone(self.backbone, self.levels)
        check_number(self.patch, "patch", low=1, integer=True)
        check_option(self.aggregate, "aggregate", "concat", "adaptive")
        check_number(self.width, "width", low=1, integer=True)

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        self._learn(X, self._features(), rng)

    def _features(self) -> PatchFeatures:
        network = build(self.backbone, self.backbone_)
        return PatchFeatures(network, self.levels, patch=self.patch, aggregate=self.aggregate, width=self.width)

    def _scorer(self) -> Any:
        features, cells = self._features(), self._cells()
        return lambda batch: cells(features(batch))

    def _extract(self, X: Images, features: PatchFeatures) -> torch.Tensor:
        """Return the features of all images, (n, h, w, D) float32: n·h·w·D·4 bytes."""
        return torch.cat([features(batch) for batch in in_batches(X, self.image_size, "extracting features")])

    def _learn(self, X: Images, features: PatchFeatures, rng: np.random.Generator) -> None:
        """Learn from the images through their features."""
        raise NotImplementedError

    def _cells(self) -> Any:
        """Return a function of features (b, h, w, D) that gives a score a cell (b, h, w)."""
        raise NotImplementedError
