"""MeanImage: how far each pixel is from the mean normal image. The baseline that every detector of images must beat.

In: images of any size (resized to `image_size` x `image_size`). Out: one score an image >= 0, the largest
value of its map, and the map (n, image_size, image_size): the distance in colour to the mean normal image, in
standard deviations of that pixel over the normal images, smoothed. It finds what is wrong on a product that
always lies in the same place, and nothing on a texture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from assay.base import Localizer, TakesImages
from assay.core.images import Images, Maps
from assay.core.validation import Floats, check_number
from assay.detectors.images.common import in_batches

#: Grey levels below which a pixel's spread counts as this much: rounding and noise of the camera.
LEAST_SPREAD = 4.0


class MeanImage(TakesImages, Localizer):
    """Standardised distance to the mean normal image.

    Parameters
    ----------
    image_size : int, default 128
        Pixels a side.
    smoothing : float, default 2
        Standard deviation of the map's Gaussian in pixels.

    Attributes
    ----------
    mean_, spread_ : arrays of float32 of shape (image_size, image_size, 3)
        Mean and standard deviation of each pixel over the normal images, the latter at least 4 grey levels.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import MeanImage
    >>> images = np.random.default_rng(0).integers(90, 110, size=(6, 64, 64), dtype=np.uint8)
    >>> detector = MeanImage(image_size=64).fit(images)
    >>> spoiled = images[:1].copy()
    >>> spoiled[0, 20:40, 20:40] = 255
    >>> bool(detector.anomaly_score(spoiled) > detector.anomaly_score(images).max())
    True
    """

    def __init__(self, image_size: int = 128, smoothing: float = 2.0) -> None:
        self.image_size = image_size
        self.smoothing = smoothing

    def _check_parameters(self) -> None:
        check_number(self.image_size, "image_size", low=8, integer=True)
        check_number(self.smoothing, "smoothing", low=0.0)

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        shape = (self.image_size, self.image_size, 3)
        total, squares = np.zeros(shape), np.zeros(shape)
        for batch in in_batches(X, self.image_size, "averaging"):
            total += batch.sum(axis=0, dtype=np.float64)
            squares += np.square(batch, dtype=np.float64).sum(axis=0)
        mean = total / len(X)
        self.mean_ = mean.astype(np.float32)
        spread = np.sqrt(np.maximum(squares / len(X) - mean**2, 0.0))
        self.spread_ = np.maximum(spread, LEAST_SPREAD).astype(np.float32)

    def _locate(self, X: Images) -> tuple[Floats, Maps]:
        maps = []
        for batch in in_batches(X, self.image_size, "scoring"):
            away = np.sqrt(np.square((batch - self.mean_) / self.spread_).mean(axis=3))
            maps.append(gaussian_filter(away, (0, self.smoothing, self.smoothing)).astype(np.float32))
        together = np.concatenate(maps)
        return together.max(axis=(1, 2)).astype(np.float64), together
