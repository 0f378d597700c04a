"""ImageEmbedder: an image becomes the pooled feature maps of a pretrained network.

In: images of any size. Out: one row an image, (n, d), d the sum of the channels of the levels (twice that for
``pool="both"``); unitless, >= 0 for most networks' levels.

The levels of a frozen backbone are averaged over the image (what it is like on the whole) or reduced to their largest
value (whether something is there at all: a small defect moves the maximum where the mean hides it). Deep levels say
what is seen, shallow ones how its surface looks.

Defaults: EfficientNet-Lite0 (weights come as a package), levels at strides 8, 16 and 32, both poolings: ours. The
published experiments of EAP embed images by ResNet-18 (``backbone="resnet18", levels=("layer4",), pool="mean"``).
Time: one pass of the backbone an image; memory of one batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.base import Embedder, TakesImages
from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import Floats, check_number, check_option
from assay.nn.backbones import build, initial_weights
from assay.nn.pooling import check_backbone, pooled

BATCH = 16


class ImageEmbedder(TakesImages, Embedder):
    """Pooled feature maps of a frozen network.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        See `assay.nn.backbones`.
    weights : str or None, default "imagenet"
        ``"imagenet"``, the path of a state dict, or None for random ones (a baseline).
    levels : tuple of str
        Which maps.
    pool : {"both", "mean", "max"}, default "both"
        How a map becomes one number a channel.
    image_size : int, default 224
        Pixels a side that images are resized to.
    random_state : None, int or numpy.random.Generator
        Seed of random weights.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ImageEmbedder
    >>> images = np.random.default_rng(0).integers(0, 256, size=(3, 64, 64), dtype=np.uint8)
    >>> ImageEmbedder(weights=None, image_size=64, random_state=0).fit_transform(images).shape
    (3, 944)
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage3", "stage5", "stage7"),
        pool: str = "both",
        image_size: int = 224,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.pool = pool
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_backbone(self.backbone, self.levels)
        check_option(self.pool, "pool", "both", "mean", "max")
        check_number(self.image_size, "image_size", low=32, integer=True)

    def _fit(self, X: Images, rng: np.random.Generator) -> None:
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)

    def _embed(self, X: Images) -> Floats:
        network = build(self.backbone, self.backbone_)
        batches = X.batches((self.image_size, self.image_size), BATCH)
        total = -(-len(X) // BATCH)
        rows = [
            pooled(network, batch, self.levels, self.pool)
            for batch in progress(batches, "embedding images", total=total)
        ]
        return np.concatenate(rows).astype(np.float64)
