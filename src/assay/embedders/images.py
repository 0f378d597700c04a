"""Images as rows of numbers: what they are like on the whole, or at their most unusual place.

In: images of any size. Out: one row an image, (n, d), unitless.

`ImageEmbedder`, d the sum of the channels of the levels (twice that for ``pool="both"``): the levels of a
frozen backbone are averaged over the image (what it is like on the whole) or reduced to their largest value
(whether something is there at all: a small defect moves the maximum where the mean hides it). Deep levels say
what is seen, shallow ones how its surface looks.

`PatchEmbedder`, d = 2 D + 1: a small defect hardly moves the average of an image. Patch features are compared
with those of normal images; the patch that is farthest from all of them becomes the row, beside its
difference from the nearest one, and how far that is. Normal images have a most unusual patch too: so a row
says whether the worst place of an image is of the kind seen in real defects. It learns the normals' patches:
fit it on normal images alone.

Defaults: EfficientNet-Lite0 (weights come as a package), levels at strides 8, 16 and 32, both poolings: ours.
The published experiments of EAP embed images by ResNet-18 (``backbone="resnet18", levels=("layer4",),
pool="mean"``). Time: one pass of the backbone an image, for `PatchEmbedder` also 2 D flops for each of its
patches and of those kept (`n_patches`); memory of one batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.base import Embedder, TakesImages
from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, check_number, check_option
from assay.nn.backbones import build, initial_weights
from assay.nn.patch_features import PatchFeatures
from assay.nn.pooling import check_backbone, pooled
from assay.nn.unusual import most_unusual

#: Images that go through the network together.
BATCH = 16


def _batches(X: Images, size: int) -> Any:
    return progress(X.batches((size, size), BATCH), "embedding images", total=-(-len(X) // BATCH))


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
        rows = [pooled(network, batch, self.levels, self.pool) for batch in _batches(X, self.image_size)]
        return np.concatenate(rows).astype(np.float64)


class PatchEmbedder(TakesImages, Embedder):
    """The most unusual patch of an image.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        See `assay.nn.backbones`.
    weights : str or None, default "imagenet"
        ``"imagenet"``, the path of a state dict, or None for random ones (a baseline).
    levels : tuple of str, default strides 8 and 16
        Which maps; the first one's grid is that of the patches.
    n_patches : int, default 8000
        Patches of normal images kept, a uniform draw from all.
    image_size : int, default 224
        Pixels a side that images are resized to.
    random_state : None, int or numpy.random.Generator
        Seed of the draw, and of random weights.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone.
    bank_ : array of shape (n_patches, D)
        Patches of normal images.
    owner_ : array of shape (n_patches,)
        Which image each came from: an image of the training set is not compared with its own patches.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import PatchEmbedder
    >>> images = np.random.default_rng(0).integers(0, 256, size=(4, 64, 64), dtype=np.uint8)
    >>> PatchEmbedder(weights=None, image_size=64, random_state=0).fit_transform(images).shape
    (4, 305)
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage3", "stage5"),
        n_patches: int = 8000,
        image_size: int = 224,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.n_patches = n_patches
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_backbone(self.backbone, self.levels)
        check_number(self.n_patches, "n_patches", low=2, integer=True)
        check_number(self.image_size, "image_size", low=32, integer=True)

    def _fit(self, X: Images, rng: np.random.Generator) -> None:
        if len(X) < 2:
            raise InputError(f"X holds {len(X)} image: patches are compared with those of other images, give 2 or more")
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        features = self._features()
        # As many from each image: no more than these are ever held.
        share = -(-self.n_patches // len(X))
        patches, owners = [], []
        for batch in _batches(X, self.image_size):
            for image in features(batch).flatten(1, 2).numpy():
                chosen = rng.permutation(len(image))[:share]
                owners.append(np.full(len(chosen), len(owners)))
                patches.append(image[chosen])
        kept = np.sort(rng.permutation(sum(map(len, owners)))[: self.n_patches])
        self.bank_ = np.concatenate(patches)[kept]
        self.owner_ = np.concatenate(owners)[kept]

    def _features(self) -> PatchFeatures:
        return PatchFeatures(build(self.backbone, self.backbone_), self.levels)

    def _embed(self, X: Images) -> Floats:
        features = self._features()
        rows = []
        for batch in _batches(X, self.image_size):
            patch, near, distance = most_unusual(features(batch), self.bank_, self.owner_)
            rows.append(np.column_stack([patch, patch - near, distance]))
        return np.concatenate(rows).astype(np.float64)
