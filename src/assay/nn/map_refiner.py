"""Refining anomaly maps pixel by pixel: a network learns from synthetic anomalies what a coarse map misses.

In: images (n, h, w, 3) of 8 bits, coarse maps (n, h, w) float32 in the unit of a range fitted on normals (0
its bottom, 1 its top; defects may lie above), masks (n, h, w), and, if wanted, a weight a pair, for instance
the quality of the synthetic anomaly. Out: refined maps (n, h, w), near 1 on a defect and near 0 elsewhere.

The network f sees image I and map A and predicts what to add: Ã = A + f(I, A). Its loss compares the map and
both of its finite differences with the mask M, so that edges count and not only areas:

    L = ½ mean (Ã - M)² + ¼ mean (∂x Ã - ∂x M)² + ¼ mean (∂y Ã - ∂y M)².

f has two stems (image, map) whose features are averaged, one encoder, and a decoder that doubles the size by
bilinear interpolation (corners aligned), halves the channels by a 1x1 convolution and filters by a 3x3 one.
Augmentation of the pairs: flips, turns up to 5°, colour jitter .4, lighting noise .1 along ImageNet's colour
axes.

Defaults: loss, augmentation and batch of 8 as published (PNI, Bae et al., ICCV 2023). Departures: f is a
small U-Net of 0.1 M weights trained from nothing in 300 steps of 1e-3, where the published one joins two
DenseNet-161 stems with ImageNet weights and takes 55 000 steps of 1e-4 at 320 px; the decoder also sees the
encoder's maps of its size; the last layer begins with weights of zero and a bias of mean (M - A), so that
training begins at A, shifted; maps are not cropped by 11 px before they are shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.images import Maps, Pixels
from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, InputError, as_vector, check_number
from assay.nn.state import arrays_of, seeded, with_arrays

#: Turn in degrees, colour jitter and lighting noise of the augmentation.
TURN, JITTER, LIGHTING = 5.0, 0.4, 0.1
#: Standard deviations and axes of ImageNet's colours, in units of 0 to 1 (Krizhevsky et al., 2012).
COLOUR_SPREAD = (0.2175, 0.0188, 0.0045)
COLOUR_AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
#: Images that are refined together.
BATCH = 16


def refinement_loss(refined: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the loss L of each pair (b,) from refined maps and masks (b, h, w); see the module."""
    error = refined - mask
    area, down, across = (e.square().flatten(1).mean(dim=1) for e in (error, error.diff(dim=1), error.diff(dim=2)))
    return area / 2 + across / 4 + down / 4


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class _Upward(nn.Module):
    """To twice the size and half the channels, joined with the encoder's maps of that size."""

    def __init__(self, inputs: int, beside: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(inputs, inputs // 2, 1)
        self.filter = nn.Conv2d(inputs // 2 + beside, inputs // 2, 3, padding=1)

    def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, size=beside.shape[2:], mode="bilinear", align_corners=True)
        return F.relu(self.filter(torch.cat([F.relu(self.halve(x)), beside], dim=1)))


class RefinementNetwork(nn.Module):
    """The residual network f(I, A) + A; see the module.

    Parameters
    ----------
    width : int
        Channels of the stems; the encoder doubles them twice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_stem = nn.Sequential(_conv(3, width, 2), _conv(width, width))
        self.map_stem = nn.Sequential(_conv(1, width, 2), _conv(width, width))
        self.down1 = nn.Sequential(_conv(width, 2 * width, 2), _conv(2 * width, 2 * width))
        self.down2 = nn.Sequential(_conv(2 * width, 4 * width, 2), _conv(4 * width, 4 * width))
        self.up1 = _Upward(4 * width, 2 * width)
        self.up2 = _Upward(2 * width, width)
        self.up3 = _Upward(width, 4)
        self.head = nn.Conv2d(width // 2, 1, 1)
        nn.init.zeros_(self.head.weight)

    def forward(self, image: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Return refined maps (b, h, w) from images (b, 3, h, w) of 0 to 1 and coarse maps (b, h, w)."""
        image, shown = 2 * image - 1, coarse[:, None]
        early = (self.image_stem(image) + self.map_stem(shown)) / 2
        middle = self.down1(early)
        x = self.up1(self.down2(middle), middle)
        x = self.up2(x, early)
        x = self.up3(x, torch.cat([image, shown], dim=1))
        return coarse + self.head(x)[:, 0]


def augmented(
    image: torch.Tensor, coarse: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a batch flipped, turned and recoloured at random, by torch's generator; the three go together."""
    b = len(image)
    angle = (2 * torch.rand(b) - 1) * (TURN * torch.pi / 180)
    flips = 2 * torch.randint(0, 2, (2, b, 1)).float() - 1
    rows = torch.stack(
        [
            flips[0] * torch.stack([angle.cos(), -angle.sin()], dim=1),
            flips[1] * torch.stack([angle.sin(), angle.cos()], dim=1),
        ],
        dim=1,
    )
    place = F.affine_grid(F.pad(rows, (0, 1)), [b, 1, *image.shape[2:]], align_corners=False)
    both = torch.cat([image, coarse[:, None]], dim=1)
    moved = F.grid_sample(both, place, padding_mode="reflection", align_corners=False)
    masks = F.grid_sample(mask[:, None], place, mode="nearest", padding_mode="reflection", align_corners=False)
    return _recoloured(moved[:, :3]), moved[:, 3], masks[:, 0]


def _recoloured(image: torch.Tensor) -> torch.Tensor:
    b = len(image)
    brightness, contrast, saturation = 1 + JITTER * (2 * torch.rand(3, b, 1, 1, 1) - 1)
    image = image * brightness
    centre = image.mean(dim=(1, 2, 3), keepdim=True)
    image = centre + contrast * (image - centre)
    grey = image.mean(dim=1, keepdim=True)
    image = grey + saturation * (image - grey)
    draw = LIGHTING * torch.randn(b, 3) * torch.tensor(COLOUR_SPREAD)
    return (image + (draw @ torch.tensor(COLOUR_AXES).T)[:, :, None, None]).clamp(0, 1)


class MapRefiner(BaseEstimator):
    """Refine coarse anomaly maps with a network trained on synthetic anomalies.

    Parameters
    ----------
    width : int, default 16
        Channels of the stems.
    steps : int, default 300
        Batches of training (published: 55 000).
    batch_size : int, default 8
        Pairs in a batch (published).
    learning_rate : float, default 1e-3
        Step size of Adam (published: 1e-4).
    random_state : None, int or numpy.random.Generator
        Seed of weights, batches and augmentation.

    Attributes
    ----------
    network_ : dict of arrays
        The network's weights.
    losses_ : array of shape (steps,)
        Loss of each batch.

    References
    ----------
    Bae, Lee and Kim: PNI: Industrial Anomaly Detection using Position and Neighborhood Information. ICCV
    2023, arXiv 2211.12634.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.nn.map_refiner import MapRefiner
    >>> rng = np.random.default_rng(0)
    >>> images = rng.integers(0, 256, size=(4, 32, 32, 3), dtype=np.uint8)
    >>> masks = np.zeros((4, 32, 32), dtype=bool)
    >>> masks[:, 8:16, 8:16] = True
    >>> coarse = 0.5 * masks + rng.random(masks.shape)
    >>> refiner = MapRefiner(width=4, steps=2, random_state=0).fit(images, coarse, masks)
    >>> refiner.refine(images, coarse).shape
    (4, 32, 32)
    """

    def __init__(self, width=16, steps=300, batch_size=8, learning_rate=1e-3, random_state=None):
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, images: Pixels, maps: Any, masks: Bools, weights: Any = None) -> MapRefiner:
        """Learn from pairs.

        Parameters
        ----------
        images : array of uint8 of shape (n, h, w, 3)
            Images with synthetic anomalies.
        maps : array of shape (n, h, w)
            What the detector says about them, in the unit of `refine`.
        masks : array of bool of shape (n, h, w)
            Where the anomalies are.
        weights : array of shape (n,), optional
            How often each pair is drawn relative to the others, >= 0; equally by default.

        Returns
        -------
        MapRefiner
            Itself, fitted.
        """
        check_number(self.width, "width", low=2, integer=True)
        check_number(self.steps, "steps", low=1, integer=True)
        check_number(self.batch_size, "batch_size", low=2, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, strict_low=True)
        coarse = _checked(images, maps)
        if np.shape(masks) != tuple(coarse.shape) or np.asarray(masks).dtype != bool:
            raise InputError(f"masks: give booleans of the maps' shape {tuple(coarse.shape)}, not {np.shape(masks)}")
        share = _shares(weights, len(images))
        used = share > 0
        share, coarse = share[used], coarse[torch.from_numpy(used)]
        truth = torch.from_numpy(np.asarray(masks)[used].astype(np.float32))
        colours = torch.from_numpy(images[used]).permute(0, 3, 1, 2)
        rng = as_generator(self.random_state)
        losses = []
        with seeded(rng):
            network = RefinementNetwork(self.width)
            nn.init.constant_(network.head.bias, float(share @ (truth - coarse).mean(dim=(1, 2)).numpy()))
            adam = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
            for _ in progress(range(self.steps), "refining maps", total=self.steps):
                rows = torch.from_numpy(rng.choice(len(share), size=self.batch_size, p=share))
                image, shown, mask = augmented(colours[rows].float() / 255, coarse[rows], truth[rows])
                loss = refinement_loss(network(image, shown), mask).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                losses.append(loss.item())
        self.network_ = arrays_of(network)
        self.losses_ = np.array(losses)
        return self

    def refine(self, images: Pixels, maps: Any) -> Maps:
        """Return the refined maps (n, h, w) of images (n, h, w, 3) and their coarse maps (n, h, w)."""
        check_is_fitted(self)
        coarse = _checked(images, maps)
        network = with_arrays(RefinementNetwork(len(self.network_["image_stem.0.0.weight"])), self.network_)
        refined = np.empty(coarse.shape, dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                rows = slice(start, start + BATCH)
                image = torch.from_numpy(np.array(images[rows])).permute(0, 3, 1, 2).float() / 255
                refined[rows] = network(image, coarse[rows]).numpy()
        return refined


def _checked(images: Any, maps: Any) -> torch.Tensor:
    """Return the maps as a tensor, or refuse the pairs."""
    if np.ndim(images) != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise InputError(f"images has shape {np.shape(images)}, expected (n, h, w, 3) of 8 bits")
    if np.shape(maps) != images.shape[:3] or not np.isfinite(maps).all():
        raise InputError(f"maps has shape {np.shape(maps)}: give finite numbers of shape {images.shape[:3]}")
    return torch.from_numpy(np.array(maps, dtype=np.float32))


def _shares(weights: Any, n: int) -> Floats:
    """Return weights of sum 1."""
    values = np.ones(n) if weights is None else as_vector(weights, "weights")
    if len(values) != n or (values < 0).any() or not values.any():
        raise InputError(f"weights: give {n} numbers >= 0, one a pair, not all of them 0")
    return np.asarray(values / values.sum())
