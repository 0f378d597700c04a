"""Foreign textures, and the smooth noise whose blobs they are pasted into.

In: a size (height, width) and a generator of random numbers. Out: an 8-bit RGB texture of that size with the
drawn parameters, from one of three sources:

- ``"procedural"``: eight families (`FAMILIES`), each a field of [0, 1] drawn in two random colours: Perlin
  octaves, marble, blurred grain, stripes, checkers, gradients, Voronoi cells, rings around random points;
- ``"photographs"``: random crops of the twelve photographs that scikit-image and scikit-learn bring along (CC0,
  public domain, or CC BY 2.0: danielbuechele and vultilion); nothing is downloaded;
- a folder or a list of images of yours, each resized whole; DTD is what the papers use, but its licence allows
  research alone.

Perlin noise (`perlin`) interpolates with the quintic fade 6t⁵ − 15t⁴ + 10t³ between random unit gradients on a
lattice of cells; times √2 it fills [-1, 1]. It is zero at the lattice points and does not repeat. DRAEM rotates
the finished noise, which blanks its corners; here the lattice is rotated and the noise evaluated on it, so
nothing is blank or interpolated twice, and the number of cells need not divide the size.

`augmented` applies some of DRAEM's ten augmentations with Pillow in the place of imgaug: gamma, brightness,
sharpness, hue and saturation, solarise, posterise, invert, autocontrast, equalise, rotate (mirrored beyond the
border rather than black).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from assay.core.extras import require
from assay.core.images import Images, Pixels, as_images, resized
from assay.core.validation import Floats
from assay.kernels.jit import jit

Size = tuple[int, int]
Meta = dict[str, Any]
Source = Callable[[Size, np.random.Generator], tuple[Pixels, Meta]]

#: Photographs inside scikit-image (CC0 or public domain); scikit-learn adds two (CC BY 2.0).
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "retina",
    "rocket",
)
#: The two colours of a procedural texture differ by at least this sum over the channels.
CONTRAST = 120


def texture_source(textures: Any, name: str = "textures") -> Source:
    """Return what draws one texture of a size.

    Parameters
    ----------
    textures : "procedural", "photographs", folder, list of files or array of images
        Where they come from.
    name : str, default "textures"
        What messages call it.
    """
    if isinstance(textures, str) and textures == "procedural":
        return procedural
    if isinstance(textures, str) and textures == "photographs":
        photographs = _photographs()
        return lambda size, rng: _crop_of_one(photographs, size, rng)
    images = as_images(textures, name)
    return lambda size, rng: _whole_of_one(images, size, rng)


def procedural(size: Size, rng: np.random.Generator) -> tuple[Pixels, Meta]:
    """Return a texture of a random family in two random colours, and the family's name."""
    name = list(FAMILIES)[rng.integers(len(FAMILIES))]
    field = FAMILIES[name](size, rng)
    colours = rng.integers(0, 256, (2, 3))
    while np.abs(colours[0] - colours[1]).sum() < CONTRAST:
        colours = rng.integers(0, 256, (2, 3))
    ramp = colours[0] + field[:, :, None] * (colours[1] - colours[0])
    return np.rint(ramp).astype(np.uint8), {"texture": name}


def perlin(size: Size, cells: tuple[int, int], rng: np.random.Generator, angle: float = 0.0) -> Floats:
    """Return Perlin noise (height, width) in [-1, 1].

    Parameters
    ----------
    size : (int, int)
        Height and width.
    cells : (int, int)
        Cells of the lattice along each.
    rng : numpy.random.Generator
        Draws the gradients.
    angle : float, default 0
        Rotation of the lattice about the middle, in degrees.

    Examples
    --------
    >>> noise = perlin((64, 96), (4, 2), np.random.default_rng(0))
    >>> bool((noise[::16, ::48] == 0).all()), bool(np.abs(noise).max() <= 1)
    (True, True)
    """
    turn = np.deg2rad(angle)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    extent = np.array([abs(cos) * size[0] + abs(sin) * size[1], abs(sin) * size[0] + abs(cos) * size[1]])
    density = np.array(cells) / size
    middle = np.array(size) / 2
    first = np.floor((middle - extent / 2) * density).astype(np.int64)
    last = np.ceil((middle + extent / 2) * density).astype(np.int64) + 1
    angles = rng.uniform(0.0, 2 * np.pi, tuple(last - first + 1))
    noise = np.empty(size)
    _interpolate(noise, np.cos(angles), np.sin(angles), first, density, cos, sin)
    return noise


@jit
def _interpolate(noise, slopes_y, slopes_x, first, density, cos, sin):
    height, width = noise.shape
    for i in range(height):
        for j in range(width):
            down, right = i - height / 2, j - width / 2
            y = (cos * down - sin * right + height / 2) * density[0] - first[0]
            x = (sin * down + cos * right + width / 2) * density[1] - first[1]
            r, c = int(y), int(x)
            y, x = y - r, x - c
            fade_y = y * y * y * (y * (6 * y - 15) + 10)
            fade_x = x * x * x * (x * (6 * x - 15) + 10)
            above_left = slopes_y[r, c] * y + slopes_x[r, c] * x
            above_right = slopes_y[r, c + 1] * y + slopes_x[r, c + 1] * (x - 1)
            below_left = slopes_y[r + 1, c] * (y - 1) + slopes_x[r + 1, c] * x
            below_right = slopes_y[r + 1, c + 1] * (y - 1) + slopes_x[r + 1, c + 1] * (x - 1)
            above = above_left + fade_x * (above_right - above_left)
            below = below_left + fade_x * (below_right - below_left)
            noise[i, j] = np.sqrt(2.0) * (above + fade_y * (below - above))


def octaves(size: Size, rng: np.random.Generator, n: int = 5) -> Floats:
    """Return `n` layers of Perlin noise, each twice as fine and half as strong as the last, stretched to [0, 1]."""
    cells = 2 ** int(rng.integers(1, 4))
    layers = [perlin(size, (cells * 2**k, cells * 2**k), rng, rng.uniform(-90, 90)) / 2**k for k in range(n)]
    return _stretched(np.sum(layers, axis=0))


def augmented(texture: Pixels, n: int, rng: np.random.Generator) -> tuple[Pixels, list[list[Any]]]:
    """Return the texture after `n` different augmentations of `AUGMENTATIONS`, and what was drawn for each."""
    drawn: list[list[Any]] = []
    for number in rng.permutation(len(AUGMENTATIONS))[:n]:
        name = list(AUGMENTATIONS)[number]
        texture, *values = AUGMENTATIONS[name](texture, rng)
        drawn.append([name, *values])
    return texture, drawn


# -- procedural families: fields of [0, 1] ---------------------------------------------------------------------------


def _marble(size: Size, rng: np.random.Generator) -> Floats:
    veins = _distance_along(size, rng) * rng.uniform(2, 12) + rng.uniform(0.5, 3) * octaves(size, rng)
    return 0.5 + 0.5 * np.sin(2 * np.pi * veins)


def _grain(size: Size, rng: np.random.Generator) -> Floats:
    return _stretched(gaussian_filter(rng.standard_normal(size), rng.uniform(0.5, 4.0), mode="wrap"))


def _stripes(size: Size, rng: np.random.Generator) -> Floats:
    waves = np.sin(2 * np.pi * (_distance_along(size, rng) * 2 ** rng.uniform(1, 5) + rng.random()))
    return 0.5 + 0.5 * np.clip(waves * rng.uniform(1, 8), -1, 1)


def _checker(size: Size, rng: np.random.Generator) -> Floats:
    angle, squares = rng.uniform(0, np.pi), 2 ** rng.uniform(1.5, 5)
    one, other = (np.floor(_distance_along(size, rng, turn) * squares) for turn in (angle, angle + np.pi / 2))
    return (one + other) % 2


def _gradient(size: Size, rng: np.random.Generator) -> Floats:
    if rng.random() < 0.5:
        return _stretched(_distance_along(size, rng))
    y, x = np.ogrid[: size[0], : size[1]]
    return _stretched(np.hypot(y - rng.uniform(0, size[0]), x - rng.uniform(0, size[1])))


def _cells(size: Size, rng: np.random.Generator) -> Floats:
    _, nearest = _nearest_point(size, rng)
    return rng.random(size)[tuple(nearest)]


def _rings(size: Size, rng: np.random.Generator) -> Floats:
    distance, _ = _nearest_point(size, rng)
    return 0.5 + 0.5 * np.cos(2 * np.pi * distance / (min(size) / 2 ** rng.uniform(2, 5)))


FAMILIES: dict[str, Callable[[Size, np.random.Generator], Floats]] = {
    "octaves": octaves,
    "marble": _marble,
    "grain": _grain,
    "stripes": _stripes,
    "checker": _checker,
    "gradient": _gradient,
    "cells": _cells,
    "rings": _rings,
}


def _stretched(field: Floats) -> Floats:
    low, high = field.min(), field.max()
    return (field - low) / max(high - low, np.finfo(np.float64).tiny)


def _distance_along(size: Size, rng: np.random.Generator, angle: float | None = None) -> Floats:
    """Return how far each pixel lies along a direction, in shorter sides."""
    angle = rng.uniform(0, np.pi) if angle is None else angle
    y, x = np.ogrid[: size[0], : size[1]]
    return (np.sin(angle) * y + np.cos(angle) * x) / min(size)


def _nearest_point(size: Size, rng: np.random.Generator) -> tuple[Floats, Any]:
    """Return each pixel's distance to the nearest of some random points, and where that lies."""
    n = int(2 ** rng.uniform(3, 8))
    away = np.ones(size, dtype=bool)
    away.ravel()[rng.integers(away.size, size=n)] = False
    return distance_transform_edt(away, return_indices=True)


# -- photographs -----------------------------------------------------------------------------------------------------


@cache
def _photographs() -> Images:
    from sklearn.datasets import load_sample_images

    data = require("skimage.data", "images", "Photographs as textures")
    inside = [getattr(data, name)() for name in PHOTOGRAPHS]
    return Images([*inside, *load_sample_images().images], [*PHOTOGRAPHS, "china", "flower"])


def _crop_of_one(photographs: Images, size: Size, rng: np.random.Generator) -> tuple[Pixels, Meta]:
    """Return a random crop of the shape of `size`, a quarter to all of the largest one along each side."""
    which = int(rng.integers(len(photographs)))
    image = photographs[which]
    largest = min(image.shape[0] / size[0], image.shape[1] / size[1])
    height, width = (max(1, int(side * largest * share)) for share in [rng.uniform(0.25, 1.0)] for side in size)
    top, left = (int(rng.integers(n - m + 1)) for n, m in zip(image.shape, (height, width)))
    crop = np.ascontiguousarray(image[top : top + height, left : left + width])
    drawn = {"texture": photographs.names[which], "crop": [top, left, height, width]}
    return resized(crop, size), drawn


def _whole_of_one(images: Images, size: Size, rng: np.random.Generator) -> tuple[Pixels, Meta]:
    which = int(rng.integers(len(images)))
    return resized(images[which], size), {"texture": images.names[which]}


# -- augmentations ---------------------------------------------------------------------------------------------------


def _by_table(image: Pixels, tables: Floats) -> Pixels:
    """Return the image with each value of channel c looked up in column c of `tables` (256, 3)."""
    return np.clip(np.rint(tables), 0, 255).astype(np.uint8)[image, np.arange(3)]


def _gamma(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    gammas = rng.uniform(0.5, 2.0, 3)
    return _by_table(image, 255 * np.linspace(0, 1, 256)[:, None] ** gammas), gammas.tolist()


def _brightness(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return _by_table(image, np.tile(np.arange(256)[:, None] * factor + offset, 3)), factor, offset


def _sharpness(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    factor = rng.uniform(0.1, 1.9)
    enhance = require("PIL.ImageEnhance", "images", "Augmenting textures")
    return np.asarray(enhance.Sharpness(_pil(image)).enhance(factor)), factor


def _hue_saturation(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    hue, saturation = (int(value) for value in rng.integers(-50, 51, 2))
    values = np.array(_pil(image).convert("HSV")).astype(np.int16)
    values[:, :, 0] = (values[:, :, 0] + hue) % 256
    values[:, :, 1] = np.clip(values[:, :, 1] + saturation, 0, 255)
    pil = require("PIL.Image", "images", "Augmenting textures")
    back = pil.merge("HSV", [pil.fromarray(np.ascontiguousarray(values[:, :, c], dtype=np.uint8)) for c in range(3)])
    return np.asarray(back.convert("RGB")), hue, saturation


def _solarise(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    threshold = int(rng.integers(32, 129))
    if rng.random() < 0.5:
        return image, None
    return np.where(image >= threshold, 255 - image, image), threshold


def _posterise(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    bits = int(rng.integers(1, 9))
    return image & np.uint8(256 - 2 ** (8 - bits)), bits


def _invert(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    return (255 - image,)


def _autocontrast(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    cutoff = int(rng.integers(0, 21))
    return np.asarray(_ops().autocontrast(_pil(image), cutoff)), cutoff


def _equalise(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    return (np.asarray(_ops().equalize(_pil(image))),)


def _rotate(image: Pixels, rng: np.random.Generator) -> tuple[Any, ...]:
    angle = rng.uniform(-45, 45)
    height, width = image.shape[:2]
    reach = (int(np.hypot(height, width)) + 1 - min(height, width)) // 2 + 1
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    turned = np.asarray(_pil(wide).rotate(angle, resample=2))  # 2 is bilinear
    return np.ascontiguousarray(turned[reach : reach + height, reach : reach + width]), angle


AUGMENTATIONS: dict[str, Callable[[Pixels, np.random.Generator], tuple[Any, ...]]] = {
    "gamma": _gamma,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "hue_saturation": _hue_saturation,
    "solarise": _solarise,
    "posterise": _posterise,
    "invert": _invert,
    "autocontrast": _autocontrast,
    "equalise": _equalise,
    "rotate": _rotate,
}


def _pil(image: Pixels) -> Any:
    return require("PIL.Image", "images", "Augmenting textures").fromarray(image)


def _ops() -> Any:
    return require("PIL.ImageOps", "images", "Augmenting textures")
