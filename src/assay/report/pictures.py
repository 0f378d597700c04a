"""Images for a page: heat maps laid over photographs, outlines of masks, and pictures as text."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion

from assay.core.extras import require
from assay.core.images import Maps, Pixels, resized, resized_map
from assay.core.validation import Bools

#: From dark violet to pale yellow: even to the eye, readable in grey and for the colour-blind.
_STOPS = np.array(
    [[13, 8, 60], [84, 15, 109], [150, 38, 103], [206, 72, 69], [242, 125, 21], [250, 190, 40], [252, 253, 165]]
)
#: Opacity of the heat map where the score is highest.
OPACITY = 0.6
OUTLINE = np.array([64, 224, 255], dtype=np.uint8)


def heated(image: Pixels, scores: Maps, low: float, high: float, threshold: float | None = None) -> Pixels:
    """Return the image with its map of scores over it, and an outline around what exceeds `threshold`.

    Parameters
    ----------
    image : array of shape (H, W, 3)
        8-bit RGB.
    scores : array of shape (h, w)
        One score a pixel, resized to the image.
    low, high : float
        Scores drawn as nothing and as brightest: the same for all images of a page, or they cannot be compared.
    threshold : float, optional
        Where to draw the outline.
    """
    scores = resized_map(scores, image.shape[:2])
    heat = np.clip((scores - low) / max(high - low, 1e-12), 0.0, 1.0)
    place = heat * (len(_STOPS) - 1)
    lower = np.minimum(place.astype(np.int64), len(_STOPS) - 2)
    share = (place - lower)[..., None]
    colour = (1 - share) * _STOPS[lower] + share * _STOPS[lower + 1]
    opacity = OPACITY * heat[..., None]
    blended = np.round((1 - opacity) * image + opacity * colour).astype(np.uint8)
    return blended if threshold is None else outlined(blended, scores > threshold)


def outlined(image: Pixels, mask: Bools) -> Pixels:
    """Return the image with a bright line along the border of `mask`, inside it."""
    width = max(1, round(min(image.shape[:2]) / 160))
    border = mask & ~binary_erosion(mask, iterations=width, border_value=1)
    result = image.copy()
    result[border] = OUTLINE
    return result


def thumbnail(image: Pixels, side: int = 240) -> Pixels:
    """Return the image with its longer side cut to `side` pixels; smaller ones stay as they are."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(factor * length)) for length in image.shape[:2])
    return resized(image, (height, width))


def data_uri(image: Pixels) -> str:
    """Return the image as a JPEG in a ``data:`` address."""
    pil: Any = require("PIL.Image", "images", "Showing images")
    buffer = io.BytesIO()
    pil.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
