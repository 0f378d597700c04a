"""From a score for each cell of a grid to a score for the image and a map at its size."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from assay.core.images import Maps
from assay.core.validation import Floats

#: How an image's score is taken from the grid or from the finished map.
IMAGE_SCORES = ("max_grid", "max_map", "topk_mean")
#: Share of the cells that ``topk_mean`` averages.
TOP_SHARE = 0.01


def full_size(grid: torch.Tensor, size: tuple[int, int], smoothing: float = 0.0) -> Maps:
    """Return grids (b, h, w) at `size`, bilinear (corners not aligned), then smoothed.

    `smoothing` is the standard deviation of a Gaussian in pixels, cut at four of them, the border mirrored (SciPy's).
    """
    maps = F.interpolate(grid[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
    if smoothing > 0:
        maps = gaussian_filter(maps, sigma=(0, smoothing, smoothing))
    return np.ascontiguousarray(maps, dtype=np.float32)


def image_scores(grid: torch.Tensor, maps: Maps, rule: str) -> Floats:
    """Return one score an image (b,) by `rule`: largest cell, largest pixel, or mean of the top 1 % of the cells."""
    if rule == "max_map":
        return maps.reshape(len(maps), -1).max(axis=1).astype(np.float64)
    cells = grid.flatten(1).double()
    if rule == "max_grid":
        return cells.max(dim=1).values.numpy()
    count = max(1, round(TOP_SHARE * cells.shape[1]))
    return cells.topk(count, dim=1).values.mean(dim=1).numpy()
