"""Augmentations: small random changes of images, each drawn from the generator it is given.

`resized_crop` takes one image of any size, 8 bits, and gives one of the wanted size. All else takes and gives a batch
(b, 3, h, w) of numbers in [0, 1]; every image of a batch has its own draw. The draws are those of the usual recipe of
contrastive learning (Chen et al., ICML 2020), in the order crop, jitter, grey, blur, flip: `contrastive_view`.

Colour is changed by brightness x·f, contrast (about the mean grey of the image), saturation (about the grey of the
pixel) and hue (a turn of the colour wheel), in a random order; grey is .299 R + .587 G + .114 B; blur is a true
Gaussian cut at four standard deviations whose weights at the border are those inside the image, scaled to sum to one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from assay.core.extras import require
from assay.core.images import Images, Pixels

#: Share of an image that a crop keeps, and width over height of the crop.
AREA, SHAPE = (0.2, 1.0), (3 / 4, 4 / 3)
#: Most that brightness, contrast, saturation and hue change, and how often.
JITTER, JITTERED = (0.4, 0.4, 0.4, 0.1), 0.8
GREYED, BLURRED, FLIPPED = 0.2, 0.5, 0.5
#: Standard deviation of the blur in pixels.
BLUR = (0.1, 2.0)
GREY = (0.299, 0.587, 0.114)


def contrastive_view(X: Images, size: int, rng: np.random.Generator) -> Pixels:
    """Return one random view of every image, (n, size, size, 3), 8 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.core.images import as_images
    >>> from assay.nn.augment import contrastive_view
    >>> X = as_images(np.random.default_rng(0).random((2, 32, 40, 3)))
    >>> contrastive_view(X, 24, np.random.default_rng(0)).shape
    (2, 24, 24, 3)
    """
    crops = np.stack([resized_crop(X[i], size, rng) for i in range(len(X))])
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    for change in (jittered, greyed, blurred, flipped):
        x = change(x, rng)
    return np.ascontiguousarray((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def resized_crop(image: Pixels, size: int, rng: np.random.Generator, area: tuple[float, float] = AREA) -> Pixels:
    """Return a random piece of an image (H, W, 3), of random area and shape, at `size` x `size`.

    Ten draws are tried; if none fits into the image, its middle is taken, cut to the nearest allowed shape.
    """
    pil = require("PIL.Image", "images", "Cropping images")
    top, left, height, width = crop_box(image.shape[0], image.shape[1], rng, area)
    box = (left, top, left + width, top + height)
    return np.asarray(pil.fromarray(image).resize((size, size), pil.Resampling.BILINEAR, box=box))


def crop_box(
    height: int, width: int, rng: np.random.Generator, area: tuple[float, float] = AREA
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop; see `resized_crop`."""
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        shape = math.exp(rng.uniform(math.log(SHAPE[0]), math.log(SHAPE[1])))
        w, h = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h = min(height, round(width / SHAPE[0]))
    w = min(width, round(height * SHAPE[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def padded_crop(x: torch.Tensor, rng: np.random.Generator, pad: int = 4) -> torch.Tensor:
    """Return every image moved by up to `pad` pixels each way, black coming in: a crop of the padded image."""
    height, width = x.shape[2:]
    padded = F.pad(x, (pad,) * 4)
    places = rng.integers(2 * pad + 1, size=(len(x), 2))
    return torch.stack([image[:, t : t + height, l : l + width] for image, (t, l) in zip(padded, places)])


def flipped(x: torch.Tensor, rng: np.random.Generator, share: float = FLIPPED) -> torch.Tensor:
    """Return the batch with a `share` of the images mirrored, left for right."""
    return _where(_drawn(len(x), share, rng), x.flip(3), x)


def greyed(x: torch.Tensor, rng: np.random.Generator, share: float = GREYED) -> torch.Tensor:
    """Return the batch with a `share` of the images without colour."""
    return _where(_drawn(len(x), share, rng), grey(x).expand_as(x), x)


def jittered(
    x: torch.Tensor,
    rng: np.random.Generator,
    strength: tuple[float, float, float, float] = JITTER,
    share: float = JITTERED,
) -> torch.Tensor:
    """Return the batch with a `share` of the images changed in brightness, contrast, saturation and hue."""
    chosen = _drawn(len(x), share, rng)
    factors = np.stack([rng.uniform(max(0.0, 1 - s), 1 + s, len(x)) for s in strength[:3]])
    turns = rng.uniform(-strength[3], strength[3], len(x))
    amounts = torch.from_numpy(np.vstack([factors, turns])).to(x.dtype)
    order = rng.permuted(np.tile(np.arange(4), (len(x), 1)), axis=1)
    out = x.clone()
    for place in range(4):
        for number, change in enumerate((brightness, contrast, saturation, hue)):
            rows = torch.from_numpy(np.flatnonzero(chosen & (order[:, place] == number)))
            if len(rows):
                out[rows] = change(out[rows], amounts[number, rows])
    return out


def blurred(
    x: torch.Tensor, rng: np.random.Generator, sigma: tuple[float, float] = BLUR, share: float = BLURRED
) -> torch.Tensor:
    """Return the batch with a `share` of the images blurred, each by its own standard deviation of `sigma`."""
    chosen = _drawn(len(x), share, rng)
    widths = rng.uniform(*sigma, size=len(x))
    out = x.clone()
    for row in np.flatnonzero(chosen):
        rows, columns = (_gaussian(n, widths[row]).to(x.dtype) for n in x.shape[2:])
        out[row] = rows @ x[row] @ columns.T
    return out


def grey(x: torch.Tensor) -> torch.Tensor:
    """Return the brightness of every pixel, (b, 1, h, w)."""
    return torch.einsum("c,bchw->bhw", torch.tensor(GREY, dtype=x.dtype), x)[:, None]


def brightness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return each image times its factor (b,), cut to [0, 1]."""
    return (x * factor[:, None, None, None]).clamp(0, 1)


def contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return each image moved away from its mean grey by its factor (b,), cut to [0, 1]."""
    return _between(grey(x).mean(dim=(1, 2, 3), keepdim=True), x, factor)


def saturation(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return each image moved away from its own grey by its factor (b,), cut to [0, 1]."""
    return _between(grey(x), x, factor)


def hue(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Return each image with its colours turned by `turn` (b,) of the colour wheel; 1 is all the way round."""
    value, least = x.amax(dim=1), x.amin(dim=1)
    chroma = value - least
    red, green, blue = x.unbind(dim=1)
    span = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        value == red,
        (green - blue) / span,
        torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    sixth = sixth + 6 * turn[:, None, None]
    # A channel falls from the largest value to the least within two sixths of the wheel and rises again after four.
    channels = [((offset + sixth) % 6) for offset in (5.0, 3.0, 1.0)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], dim=1)


def _between(origin: torch.Tensor, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (origin + factor[:, None, None, None] * (x - origin)).clamp(0, 1)


def _gaussian(n: int, sigma: float) -> torch.Tensor:
    """Return the matrix (n, n) that blurs a line of n pixels."""
    away = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n, dtype=torch.float64)
    weights = torch.exp(-0.5 * (away / sigma) ** 2) * (away.abs() <= math.ceil(4 * sigma))
    return weights / weights.sum(dim=1, keepdim=True)


def _drawn(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(n) < share


def _where(chosen: np.ndarray, changed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.from_numpy(chosen)[:, None, None, None], changed, x)
