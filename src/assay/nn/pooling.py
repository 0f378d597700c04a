"""One vector an image: feature maps reduced over the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from assay.core.images import Pixels
from assay.nn.backbones import Backbone, architecture


@torch.inference_mode()
def pooled(network: Backbone, batch: Pixels, levels: Sequence[str], pool: str) -> Any:
    """Return (b, d) float32: the levels' means over the image (``"mean"``), maxima (``"max"``), or both."""
    maps = network(network.scaled(batch), levels)
    flat = [maps[level].flatten(2) for level in levels]
    parts = [level.mean(dim=2) for level in flat] if pool != "max" else []
    parts += [level.amax(dim=2) for level in flat] if pool != "mean" else []
    return torch.cat(parts, dim=1).numpy()


def check_backbone(name: str, levels: Sequence[str]) -> None:
    """Refuse a backbone, or a level of it, that does not exist."""
    with torch.device("meta"):
        architecture(name).check_levels(levels)
