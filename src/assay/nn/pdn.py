"""Patch description network: four or six convolutions that describe every 33 x 33 window of an image.

In: 8-bit RGB as numbers in [0, 1], (b, 3, h, w); ImageNet's mean and standard deviation are taken inside, once. Out:
features (b, C, ⌈h/4⌉ - 8, ⌈w/4⌉ - 8). Nothing is padded, so a cell sees exactly its window, wherever it lies, and an
image moved by 4 pixels gives features moved by one cell.

    S  conv 4x4 128, pool, conv 4x4 256, pool, conv 3x3 256, conv 4x4 C
    M  conv 4x4 256, pool, conv 4x4 512, pool, conv 1x1 512, conv 3x3 512, conv 4x4 C, conv 1x1 C

with ReLU between convolutions and means over 2 x 2 as pools (Batzner et al., WACV 2024). `width_mult` multiplies
every width but C.

The network is made by `distil`: it learns the maps of a larger one on any images. As published, it is padded while it
learns (`padded`, the same weights), so that an image of h pixels gives h/4 cells, and the larger network sees the image
at twice its size, where a stride of 8 gives the same grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.images import Pixels
from assay.core.progress import progress
from assay.core.validation import InputError
from assay.nn.backbones import ResNet, read_weights
from assay.nn.patch_features import PatchFeatures
from assay.nn.state import Arrays

#: Of the published teacher.
CHANNELS = 384
#: kernel and width of each convolution (0: C), and its padding while it learns; the first two are followed by a pool.
SIZES = {
    "S": ((4, 128, 3), (4, 256, 3), (3, 256, 1), (4, 0, 0)),
    "M": ((4, 256, 3), (4, 512, 3), (1, 512, 0), (3, 512, 1), (4, 0, 0), (1, 0, 0)),
}


class PatchDescriptionNetwork(nn.Sequential):
    """The network; its tensors have the published names (``0.weight`` …).

    Parameters
    ----------
    outputs : int
        C.
    size : {"S", "M"}, default "S"
        Which of the two.
    width_mult : float, default 1
        Multiplies the hidden widths.
    padded : bool, default False
        With the paddings of distillation.
    """

    def __init__(self, outputs: int, size: str = "S", width_mult: float = 1.0, padded: bool = False) -> None:
        layers: list[nn.Module] = []
        inputs = 3
        for number, (kernel, width, padding) in enumerate(SIZES[size]):
            channels = scaled_width(width, width_mult) if width else outputs
            layers.append(nn.Conv2d(inputs, channels, kernel, padding=padding if padded else 0))
            if number < len(SIZES[size]) - 1:
                layers.append(nn.ReLU())
            if number < 2:
                layers.append(nn.AvgPool2d(2, 2, padding=int(padded)))
            inputs = channels
        super().__init__(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of images in [0, 1]."""
        return super().forward(imagenet_scaled(x))


def scaled_width(width: int, width_mult: float) -> int:
    """Return a width times `width_mult`, at least 1."""
    return max(1, round(width * width_mult))


def as_numbers(batch: Pixels | torch.Tensor) -> torch.Tensor:
    """Return 8-bit images (b, h, w, 3) as numbers in [0, 1], (b, 3, h, w), channels last in memory."""
    given = batch if isinstance(batch, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(batch))
    return given.permute(0, 3, 1, 2).float() / 255


def imagenet_scaled(x: torch.Tensor) -> torch.Tensor:
    """Return images in [0, 1] shifted and divided by ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(values)[:, None, None] / 255 for values in (ResNet.mean, ResNet.std))
    return (x - mean) / std


def targets(features: PatchFeatures, images: Pixels, channels: int, batch_size: int = 8) -> torch.Tensor:
    """Return what to distil, (n, `channels`, h', w'): patch features of `images`, projected and normalised.

    Each dimension is standardised over the images, turned by a random orthogonal projection to `channels` (from
    torch's generator), and standardised again.
    """
    starts = progress(range(0, len(images), batch_size), "describing images", -(-len(images) // batch_size))
    maps = torch.cat([features(images[start : start + batch_size]) for start in starts])
    turn = nn.init.orthogonal_(torch.empty(channels, maps.shape[-1]))
    return _standardised(_standardised(maps) @ turn.T).permute(0, 3, 1, 2)


def distil(
    network: PatchDescriptionNetwork,
    images: Pixels,
    maps: torch.Tensor,
    rng: np.random.Generator,
    *,
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-5,
) -> PatchDescriptionNetwork:
    """Teach a padded network to give `maps` (n, C, h', w') of `images` (n, h, w, 3), by squared error and Adam."""
    network.train().requires_grad_(True).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    for rows in progress(batches(len(images), steps, batch_size, rng), "distilling the teacher", steps):
        described = network(as_numbers(images[rows]))
        wanted = maps[torch.from_numpy(rows)]
        if wanted.shape[2:] != described.shape[2:]:
            wanted = F.interpolate(wanted, size=described.shape[2:], mode="bilinear", align_corners=False)
        optimiser.zero_grad()
        F.mse_loss(described, wanted).backward()
        optimiser.step()
    frozen: Any = network.requires_grad_(False).eval()
    return frozen


def read_teacher(path: str, size: str, width_mult: float, channels: int) -> Arrays:
    """Return a teacher's weights from a file, under our names: a state dict in the order of the layers.

    Raises
    ------
    InputError
        If it is not the state dict of this network.
    """
    state = read_weights(Path(path))
    with torch.device("meta"):
        wanted = PatchDescriptionNetwork(channels, size, width_mult).state_dict()
    shapes = [tuple(tensor.shape) for tensor in wanted.values()]
    if [tuple(tensor.shape) for tensor in state.values()] != shapes:
        raise InputError(
            f"teacher={path}: not the weights of PDN-{size} with {channels} channels, one after the other; the "
            "published teachers need width_mult=1"
        )
    return {name: tensor.float().numpy() for name, tensor in zip(wanted, state.values())}


def batches(n: int, steps: int, batch_size: int, rng: np.random.Generator) -> Any:
    """Return the rows of each step, (steps, batch_size): every item once before any comes again."""
    rounds = -(-steps * batch_size // n)
    order = [rng.permutation(n) for _ in range(rounds)]
    return np.concatenate([*order, np.empty(0, dtype=np.int64)])[: steps * batch_size].reshape(steps, batch_size)


def _standardised(maps: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(maps.ndim - 1))
    std = maps.std(dim=axes, correction=0)
    return (maps - maps.mean(dim=axes)) / torch.where(std > 0, std, torch.ones_like(std))
