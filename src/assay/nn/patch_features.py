"""Patch features: one vector for each place of an image, from the named levels of a backbone.

In: maps (b, C_l, h_l, w_l) of one or more levels. Out: (b, h, w, D) on the grid of the first level.

``aggregate="adaptive"`` (Roth et al., CVPR 2022, and its code): around every cell the `patch` x `patch` values of each
channel are taken (zero beyond the border); later levels are brought to the first grid bilinearly, element by element;
each vector of C·patch² values, in the order channel, row, column, is averaged down to `width` by 1-D adaptive
pooling; the levels' vectors are laid end to end and averaged down to `width` again. With `width` = C the first
average is the mean over the patch.

``aggregate="concat"`` (the convention of anomalib): the mean over the patch, later levels brought to the first grid
bilinearly, channels laid side by side; D is the sum of the channels.

The adaptive form wants levels of more channels than `width` / patch²: below, it only repeats values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from assay.core.images import Pixels
from assay.nn.backbones import Backbone


def aggregated(
    maps: Sequence[torch.Tensor], *, patch: int = 3, aggregate: str = "concat", width: int = 1024
) -> torch.Tensor:
    """Return the patch features (b, h, w, D) of maps (b, C_l, h_l, w_l); see the module."""
    grid = maps[0].shape[2:]
    if aggregate == "concat":
        means = [F.avg_pool2d(level, patch, 1, patch // 2) if patch > 1 else level for level in maps]
        return torch.cat([means[0], *(_at(mean, grid) for mean in means[1:])], dim=1).permute(0, 2, 3, 1)
    vectors = []
    for level in maps:
        patches = F.unfold(level, patch, padding=patch // 2).unflatten(2, level.shape[2:])
        cells = _at(patches, grid).permute(0, 2, 3, 1)
        vectors.append(_averaged(cells, width))
    return _averaged(torch.cat(vectors, dim=-1), width)


class PatchFeatures:
    """A frozen backbone and an aggregation: images in, patch features out.

    Parameters
    ----------
    backbone : Backbone
        Frozen.
    levels : sequence of str
        Of the backbone, shallow first: the first one's grid is the grid of the features.
    patch, aggregate, width
        See the module.
    """

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[str],
        *,
        patch: int = 3,
        aggregate: str = "concat",
        width: int = 1024,
    ) -> None:
        self.backbone = backbone
        self.levels = tuple(levels)
        self.patch, self.aggregate, self.width = patch, aggregate, width

    @torch.no_grad()
    def __call__(self, batch: Pixels) -> torch.Tensor:
        """Return the features (b, h, w, D) of 8-bit images (b, H, W, 3)."""
        maps = self.backbone(self.backbone.scaled(batch), self.levels)
        levels = [maps[name] for name in self.levels]
        return aggregated(levels, patch=self.patch, aggregate=self.aggregate, width=self.width)


def _at(maps: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    if tuple(maps.shape[2:]) == tuple(grid):
        return maps
    return F.interpolate(maps, size=tuple(grid), mode="bilinear", align_corners=False)


def _averaged(cells: torch.Tensor, width: int) -> torch.Tensor:
    flat = F.adaptive_avg_pool1d(cells.reshape(-1, 1, cells.shape[-1]), width)
    return flat.reshape(*cells.shape[:-1], width)
