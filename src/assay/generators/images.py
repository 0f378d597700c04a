"""Auxiliary anomalies for images: seven published ways to damage a normal image, and plain noise.

In: normal images of any kind and size (`assay.core.images`), resized once to `image_size` and kept as 8-bit RGB
(3 x height x width bytes each). Out: `Auxiliary` with X (n, height, width, 3) of 8 bits, the mask (n, height,
width) of changed pixels, the region that was meant to change (`touched`), the parents and every drawn parameter
as plain numbers.

Outside the region an image is its parent, bit for bit. Strength 0 is the parent, strength 1 the published law,
and in between and beyond an image moves on the straight line ``parent + strength * (target - parent)``, rounded
and clipped to 0 … 255. For all that blend, this *is* the knob of the paper (α, 1 − β). Every image is drawn
from a seed of its own, which its parameters hold: parents and seed reproduce it.

    I1  CutPaste              a rectangle of the image itself pasted elsewhere; area U(.02, .15), aspect log-uniform
                              in (.3, 1/.3), colour jitter .1
        CutPasteScar          a thin rotated one: 2–16 x 10–25 pixels (at 256), U(−45°, 45°)
    I2  PerlinTexture         x' = (1 − M) x + M [(1 − β) A + β x]; M: Perlin noise > .5 on 2^k x 2^l cells, k and l
                              of 0 … 5; A: a foreign texture after 3 of 10 augmentations; β ~ U(0, .8)   (DRAEM)
    I3  NaturalPatch          up to 3 patches of another image, half-sides (.03 + Gamma(2, .05)) · side, resized by
                              N(1, .5²) clipped to [.7, 1.3], Poisson-blended at a random place   (NSA)
    I4  Interpolation         x' = (1 − α) x + α x_other in a square, half-side U(.05, .2), α ~ U(.05, .95)   (FPI)
        PoissonInterpolation  the same for gradients: of (1 − α) ∇x and α ∇x_other the stronger   (PII)
    I6  LocalTexture          as I2, but M: union, intersection or one of two Perlin masks (1/3 each) on the object,
                              and β ~ N(.5, .1²) clipped to [.2, .8]   (GLASS)
        PixelNoise            N(0, σ²) on every pixel: the floor

Where all normals are grey, everything made is grey: on a grey product a coloured texture is found by its colour
alone (the papers paste coloured ones). Departures from the sources:

- I1: hue, saturation, contrast and brightness change in one fixed order. A patch longer than the image is cut to it.
- I2, I6: the parent is not rotated and never left as it is: both belong to the training, not to the anomaly. An
  empty mask is drawn again. Lattice, rotation and augmentations: see `assay.generators.textures`.
- I3: OpenCV also erodes the patch by a pixel before blending; here the equation is solved on the whole inside of
  the patch. The published exemption of the background from the *label* is not repeated: the mask says what
  changed. `logistic_labels` gives the published soft labels.
- I3, I4: sizes of patches are relative to the shorter side where they must be square, to each side otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter, uniform_filter

from assay.base import Generator, TakesImages
from assay.core.extras import require
from assay.core.images import SMALLEST, Images, Pixels, resized, resized_mask
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option, told
from assay.generators.textures import Source, augmented, perlin, texture_source
from assay.kernels.poisson import differences, poisson_fill, stronger

Meta = dict[str, Any]
Drawn = tuple[npt.NDArray[Any], Bools, Meta]
#: Rec. 601: how bright red, green and blue are.
LUMA = np.array([0.299, 0.587, 0.114])


class ImageGenerator(TakesImages, Generator):
    """What all share: parents at one size, a seed for every image, the straight line.

    A generator writes `_draw`. Pixels are float arrays (h, w, c), c = 1 where all normals are grey, else 3.

    Attributes
    ----------
    parents_ : array of uint8 of shape (n, h, w, 3)
        The normal images at `image_size`.
    grey_ : bool
        Whether all of them are grey.
    """

    min_rows: ClassVar[int] = 1
    image_size: Any

    def _check_parameters(self) -> None:
        _as_size(self.image_size)

    def _keep_parents(self, X: Images) -> None:
        self.parents_ = np.empty((len(X), *_as_size(self.image_size), 3), dtype=np.uint8)
        row = 0
        for batch in X.batches(_as_size(self.image_size)):
            self.parents_[row : row + len(batch)] = batch
            row += len(batch)
        self.grey_ = all(bool((image == image[:, :, :1]).all()) for image in self.parents_)

    def _changed(self, X: Any, parents: Ints) -> Bools:
        return np.stack([_differ(image, self.parents_[parent]) for image, parent in zip(X, parents)])

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Any, Ints, list[Meta]]:
        draw = self._drawer()
        X = np.empty((n, *self.parents_.shape[1:]), dtype=np.uint8)
        parents = np.empty(n, dtype=np.int64)
        meta = []
        for row, seed in enumerate(progress(child_seeds(rng, n), type(self).__name__, n)):
            own = np.random.default_rng(seed)
            parents[row] = own.integers(len(self.parents_))
            target, region, drawn = draw(int(parents[row]), own)
            origin = self._pixels(parents[row])
            moved = target if strength == 1 else origin + strength * (target - origin)
            X[row] = np.clip(np.rint(moved), 0, 255)
            meta.append({"seed": seed, **drawn, "region": region})
        return X, parents, meta

    def _drawer(self) -> Callable[[int, np.random.Generator], Drawn]:
        """Return what draws one image: `_draw`, with whatever is got ready once a sample."""
        return self._draw

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        """Return the target of a parent (h, w, c), the region that was meant to change, the drawn parameters.

        Outside the region the target is the parent.
        """
        raise NotImplementedError

    def _pixels(self, row: Any) -> Floats:
        image = self.parents_[row]
        return (image[:, :, :1] if self.grey_ else image).astype(np.float64)

    def _other(self, parent: int, rng: np.random.Generator) -> int:
        """Draw another normal image."""
        return int(parent + 1 + rng.integers(len(self.parents_) - 1)) % len(self.parents_)


def _differ(one: Pixels, other: Pixels) -> Bools:
    red, green, blue = np.moveaxis(one != other, 2, 0)  # ten times as fast as any(axis=2)
    return red | green | blue


def _as_size(image_size: Any) -> tuple[int, int]:
    """Return the height and width of `image_size`."""
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sides) != 2:
        raise InputError(f"image_size={told(image_size)}: give a number of pixels, or (height, width)")
    for side in sides:
        check_number(side, "image_size", low=SMALLEST, high=2**15, integer=True)
    return int(sides[0]), int(sides[1])


def _check_range(value: Any, name: str, low: float = 0.0, high: float = np.inf, *, integer: bool = False) -> None:
    """Raise unless `value` is a pair low <= a <= b <= high."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(f"{name}={told(value)}: give two numbers (from, to)")
    check_number(value[0], name, low=low, high=high, integer=integer)
    check_number(value[1], name, low=value[0], high=high, integer=integer)


# -- I1: CutPaste ----------------------------------------------------------------------------------------------------


class _CutPaste(ImageGenerator):
    """Cuts a rectangle out of the image, jitters its colours, pastes it elsewhere."""

    jitter: float

    def _patch(self, image: Floats, height: int, width: int, rng: np.random.Generator) -> tuple[Floats, Meta]:
        rows, columns = image.shape[0] - height + 1, image.shape[1] - width + 1
        top, left = divmod(int(rng.integers(rows * columns)), columns)
        factors = rng.uniform(1 - self.jitter, 1 + self.jitter, 3)
        hue = rng.uniform(-self.jitter, self.jitter)
        patch = _jittered(image[top : top + height, left : left + width], factors, hue)
        return patch, {
            "source": [top, left],
            "height": height,
            "width": width,
            "jitter": [*factors.tolist(), hue],
        }


def _jittered(patch: Floats, factors: Floats, hue: float) -> Floats:
    """Return a patch with other brightness, contrast, saturation and hue (a share of the circle)."""
    brightness, contrast, saturation = factors
    patch = np.clip(brightness * patch, 0, 255)
    patch = np.clip(contrast * patch + (1 - contrast) * _luma(patch).mean(), 0, 255)
    if patch.shape[2] == 1:
        return patch
    patch = np.clip(saturation * patch + (1 - saturation) * _luma(patch), 0, 255)
    colour = require("skimage.color", "images", "Changing hues")
    values = colour.rgb2hsv(patch / 255)
    values[:, :, 0] = (values[:, :, 0] + hue) % 1.0
    return 255 * colour.hsv2rgb(values)


def _luma(image: Floats) -> Floats:
    return image if image.shape[2] == 1 else (image @ LUMA)[:, :, None]


class CutPaste(_CutPaste):
    """A rectangle of the image itself, pasted elsewhere with hard edges (I1).

    With as many `CutPasteScar` and normal images these are the three classes of the paper's 3-way variant.

    Parameters
    ----------
    area : (float, float), default (.02, .15)
        Share of the image that the patch covers, drawn uniformly (paper).
    aspect : float in (0, 1], default .3
        Width over height is log-uniform in (aspect, 1 / aspect) (paper).
    jitter : float in [0, .5], default .1
        Brightness, contrast and saturation are multiplied by U(1 - jitter, 1 + jitter), the hue is moved by
        U(-jitter, jitter) of the circle (paper).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    C.-L. Li, K. Sohn, J. Yoon, T. Pfister: CutPaste: Self-Supervised Learning for Anomaly Detection and
    Localization. CVPR 2021, arXiv 2104.04015.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 32, 48, 3), dtype=np.uint8)
    >>> auxiliary = CutPaste(image_size=(32, 48), random_state=0).fit(X).sample(10)
    >>> auxiliary.X.shape, auxiliary.mask.shape
    ((10, 32, 48, 3), (10, 32, 48))
    """

    def __init__(
        self,
        area: Any = (0.02, 0.15),
        aspect: float = 0.3,
        *,
        jitter: float = 0.1,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.area = area
        self.aspect = aspect
        self.jitter = jitter
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_range(self.area, "area", high=1.0)
        check_number(self.aspect, "aspect", low=0.0, high=1.0, strict_low=True)
        check_number(self.jitter, "jitter", low=0.0, high=0.5)

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        image = self._pixels(parent)
        area = rng.uniform(*self.area) * image.shape[0] * image.shape[1]
        aspect = np.exp(rng.uniform(np.log(self.aspect), -np.log(self.aspect)))
        height = int(np.clip(round(np.sqrt(area / aspect)), 1, image.shape[0]))
        width = int(np.clip(round(np.sqrt(area * aspect)), 1, image.shape[1]))
        patch, drawn = self._patch(image, height, width, rng)
        columns = image.shape[1] - width + 1
        places = (image.shape[0] - height + 1) * columns
        # Any place but the patch's own; an image that is all patch stays as it is.
        source = drawn["source"][0] * columns + drawn["source"][1]
        place = (source + 1 + int(rng.integers(max(places - 1, 1)))) % places
        top, left = divmod(place, columns)
        region = np.zeros(image.shape[:2], dtype=bool)
        if places > 1:
            region[top : top + height, left : left + width] = True
            image[top : top + height, left : left + width] = patch
        return image, region, {"kind": "patch", "target": [top, left], **drawn}


class CutPasteScar(_CutPaste):
    """A thin rotated rectangle of the image itself, pasted elsewhere (I1).

    Parameters
    ----------
    width : (int, int), default (2, 16)
        Shorter side in pixels of an image whose shorter side is 256, drawn uniformly (paper).
    height : (int, int), default (10, 25)
        Longer side, likewise (paper).
    angle : float in [0, 180], default 45
        Rotation by U(-angle, angle) degrees, clockwise (paper).
    jitter : float in [0, .5], default .1
        As in `CutPaste` (paper).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    C.-L. Li, K. Sohn, J. Yoon, T. Pfister: CutPaste: Self-Supervised Learning for Anomaly Detection and
    Localization. CVPR 2021, arXiv 2104.04015.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64), dtype=np.uint8)
    >>> auxiliary = CutPasteScar(image_size=64, random_state=0).fit(X).sample(10)
    >>> bool(auxiliary.mask.any(axis=(1, 2)).all()), bool(auxiliary.touched.mean() < 0.02)
    (True, True)
    """

    def __init__(
        self,
        width: Any = (2, 16),
        height: Any = (10, 25),
        angle: float = 45.0,
        *,
        jitter: float = 0.1,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.height = height
        self.angle = angle
        self.jitter = jitter
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_range(self.width, "width", low=1, high=128, integer=True)
        _check_range(self.height, "height", low=1, high=128, integer=True)
        check_number(self.angle, "angle", low=0.0, high=180.0)
        check_number(self.jitter, "jitter", low=0.0, high=0.5)

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        image = self._pixels(parent)
        unit = min(image.shape[:2]) / 256
        width, height = (max(1, round(rng.uniform(*sides) * unit)) for sides in (self.width, self.height))
        patch, drawn = self._patch(image, height, width, rng)
        angle = rng.uniform(-self.angle, self.angle)
        patch, inside = _rotated(patch, angle)
        top, left = (int(rng.integers(max(n - m, 0) + 1)) for n, m in zip(image.shape, inside.shape))
        region = np.zeros(image.shape[:2], dtype=bool)
        window = region[top : top + inside.shape[0], left : left + inside.shape[1]]
        window |= inside[: window.shape[0], : window.shape[1]]
        place = np.argwhere(region) - (top, left)
        image[region] = patch[place[:, 0], place[:, 1]]
        return image, region, {"kind": "scar", "target": [top, left], "angle": angle, **drawn}


def _rotated(patch: Floats, angle: float) -> tuple[Floats, Bools]:
    """Return a patch rotated clockwise on a canvas that holds all of it, and which pixels of the canvas are patch.

    Each pixel takes its nearest one: nothing bleeds in from outside the patch.
    """
    turn = np.deg2rad(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    height, width = patch.shape[:2]
    rows = max(1, int(np.ceil(abs(cos) * height + abs(sin) * width - 1e-9)))
    columns = max(1, int(np.ceil(abs(sin) * height + abs(cos) * width - 1e-9)))
    y, x = np.mgrid[:rows, :columns] + 0.5
    y, x = y - rows / 2, x - columns / 2
    source_y = np.floor(cos * y - sin * x + height / 2).astype(np.int64)
    source_x = np.floor(sin * y + cos * x + width / 2).astype(np.int64)
    inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
    return patch[source_y.clip(0, height - 1), source_x.clip(0, width - 1)], inside


# -- I2 and I6: foreign textures in Perlin masks -----------------------------------------------------------------------


class _Texture(ImageGenerator):
    """Blends a foreign texture into the blobs of Perlin noise."""

    textures: Any
    scales: Any
    threshold: float
    n_augmentations: int

    def _check_parameters(self) -> None:
        super()._check_parameters()
        texture_source(self.textures)
        _check_range(self.scales, "scales", high=10, integer=True)
        check_number(self.threshold, "threshold", low=0.0, high=0.95)
        check_number(self.n_augmentations, "n_augmentations", low=0, high=10, integer=True)

    def _drawer(self) -> Callable[[int, np.random.Generator], Drawn]:
        source = texture_source(self.textures)
        return lambda parent, rng: self._pasted(parent, source, rng)

    def _pasted(self, parent: int, source: Source, rng: np.random.Generator) -> Drawn:
        image = self._pixels(parent)
        region, drawn = self._mask(image, rng)
        for _ in range(200):
            if region.any():
                break
            region, drawn = self._mask(image, rng)
        texture, look = source(image.shape[:2], rng)
        texture, augmentations = augmented(texture, self.n_augmentations, rng)
        foreign = texture.astype(np.float64)
        beta = self._beta(rng)
        image[region] = (1 - beta) * (_luma(foreign) if self.grey_ else foreign)[region] + beta * image[region]
        return image, region, {**drawn, "beta": beta, **look, "augmentations": augmentations}

    def _mask(self, image: Floats, rng: np.random.Generator) -> tuple[Bools, Meta]:
        """Draw a mask, which may be empty."""
        raise NotImplementedError

    def _beta(self, rng: np.random.Generator) -> float:
        """Draw how much of the image shows through."""
        raise NotImplementedError

    def _blob(self, rng: np.random.Generator) -> tuple[Bools, Meta]:
        """Draw one thresholded Perlin noise."""
        size = self.parents_.shape[1:3]
        cells = [2 ** int(k) for k in rng.integers(self.scales[0], self.scales[1] + 1, 2)]
        angle = rng.uniform(-90, 90)
        return perlin(size, (cells[0], cells[1]), rng, angle) > self.threshold, {"cells": cells, "angle": angle}


class PerlinTexture(_Texture):
    """A foreign texture in the blobs of thresholded Perlin noise (I2): DRAEM's simulated anomalies.

    Parameters
    ----------
    textures : "procedural", "photographs", folder, list of files or array, default "procedural"
        Where textures come from (ours; the paper takes DTD, which is for research alone).
    beta : (float, float), default (0, .8)
        The image shows through by U(beta) (paper).
    scales : (int, int), default (0, 5)
        The noise has 2 ** k cells along each side, k drawn uniformly from these bounds (paper).
    threshold : float in [0, .95], default .5
        Noise above it is the mask (paper).
    n_augmentations : int in [0, 10], default 3
        How many of ten augmentations the texture gets (paper).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    V. Zavrtanik, M. Kristan, D. Skočaj: DRÆM – A Discriminatively Trained Reconstruction Embedding for
    Surface Anomaly Detection. ICCV 2021, arXiv 2108.07610.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    >>> auxiliary = PerlinTexture(image_size=64, random_state=0).fit(X).sample(3)
    >>> bool((auxiliary.X[~auxiliary.mask] == X[auxiliary.parents][~auxiliary.mask]).all())
    True
    """

    def __init__(
        self,
        textures: Any = "procedural",
        beta: Any = (0.0, 0.8),
        *,
        scales: Any = (0, 5),
        threshold: float = 0.5,
        n_augmentations: int = 3,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.textures = textures
        self.beta = beta
        self.scales = scales
        self.threshold = threshold
        self.n_augmentations = n_augmentations
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_range(self.beta, "beta", high=1.0)

    def _mask(self, image: Floats, rng: np.random.Generator) -> tuple[Bools, Meta]:
        return self._blob(rng)

    def _beta(self, rng: np.random.Generator) -> float:
        return rng.uniform(*self.beta)


class LocalTexture(_Texture):
    """A foreign texture in the union, intersection or one of two Perlin masks, on the object (I6): GLASS's local part.

    Parameters
    ----------
    textures : "procedural", "photographs", folder, list of files or array, default "procedural"
        Where textures come from (ours; the paper takes DTD, which is for research alone).
    beta : (float, float), default (.5, .1)
        The image shows through by N(mean, standard deviation), clipped to [.2, .8] (paper).
    background : None or (float, float), default None
        Grey level of the background and how far from it an object's pixel lies at least: the mask then stays on the
        object. None: the object fills the image (the paper takes segmentations made beforehand).
    scales : (int, int), default (0, 5)
        The noise has 2 ** k cells along each side, k drawn uniformly from these bounds (paper).
    threshold : float in [0, .95], default .5
        Noise above it is the mask (paper).
    n_augmentations : int in [0, 10], default 3
        How many of ten augmentations the texture gets (paper).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (ours; the paper takes 288).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    Q. Chen, H. Luo, C. Lv, Z. Zhang: A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial
    Anomaly Detection and Localization. ECCV 2024, arXiv 2407.09359.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    >>> auxiliary = LocalTexture(image_size=64, random_state=0).fit(X).sample(3)
    >>> all(0.2 <= drawn["beta"] <= 0.8 for drawn in auxiliary.meta)
    True
    """

    def __init__(
        self,
        textures: Any = "procedural",
        beta: Any = (0.5, 0.1),
        *,
        background: Any = None,
        scales: Any = (0, 5),
        threshold: float = 0.5,
        n_augmentations: int = 3,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.textures = textures
        self.beta = beta
        self.background = background
        self.scales = scales
        self.threshold = threshold
        self.n_augmentations = n_augmentations
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.beta, (tuple, list)) or len(self.beta) != 2:
            raise InputError(f"beta={told(self.beta)}: give a mean and a standard deviation")
        check_number(self.beta[0], "beta", low=0.0, high=1.0)
        check_number(self.beta[1], "beta", low=0.0, high=1.0)
        _check_background(self.background)

    def _mask(self, image: Floats, rng: np.random.Generator) -> tuple[Bools, Meta]:
        (one, drawn), (other, more) = self._blob(rng), self._blob(rng)
        kind = ("union", "intersection", "single")[rng.integers(3)]
        region = {"union": one | other, "intersection": one & other, "single": one}[kind]
        return region & _object(image, self.background), {
            "kind": kind,
            **{key: [value, more[key]] for key, value in drawn.items()},
        }

    def _beta(self, rng: np.random.Generator) -> float:
        return float(np.clip(rng.normal(*self.beta), 0.2, 0.8))


def _check_background(background: Any) -> None:
    if background is None:
        return
    if not isinstance(background, (tuple, list)) or len(background) != 2:
        raise InputError(f"background={told(background)}: give None, or its grey level and a tolerance")
    for value in background:
        check_number(value, "background", low=0.0, high=255.0)


def _object(image: Floats, background: Any) -> Bools:
    """Return which pixels differ from the background by more than its tolerance, after a median of 7 x 7."""
    if background is None:
        return np.ones(image.shape[:2], dtype=bool)
    level, tolerance = background
    far = np.abs(image.mean(axis=2) - level) > tolerance
    return uniform_filter(far.astype(np.float64), 7, mode="nearest") > 0.5


# -- I3: NSA -----------------------------------------------------------------------------------------------------------


class NaturalPatch(ImageGenerator):
    """Patches of another normal image, blended in without a seam (I3): NSA's natural synthetic anomalies.

    Parameters
    ----------
    n_patches : int, default 3
        Most patches; the first always, each further one with probability 1/2 (paper: 3 or 4).
    half_side : (float, float), default (.03, .4)
        Bounds of the half-sides of a patch as shares of the image's, and, as in the code, of its whole sides once
        it is resized (paper: by class).
    gamma : (float, float, float), default (2, .05, .03)
        A half-side is offset + Gamma(shape, scale): shape, scale, offset (paper).
    resize : (float, float), default (.7, 1.3)
        Bounds of the factor N(1, .5²) by which a patch is resized (paper).
    gradients : {"source", "mixed"}, default "source"
        Blend with the patch's gradients, or with the stronger of both images' (paper: both).
    background : None or (float, float), default None
        Grey level of the background and how far from it an object's pixel lies at least (paper: by class).
    min_object : float in [0, 1], default .25
        Least share of object in a patch; only with `background` (paper: .25 to .7 by class).
    min_overlap : float in [0, 1], default .25
        Least share of a patch's object that lands on the object; only with `background` (paper).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    H. M. Schlüter, J. Tan, B. Hou, B. Kainz: Natural Synthetic Anomalies for Self-Supervised Anomaly Detection
    and Localization. ECCV 2022, arXiv 2109.15222.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    >>> auxiliary = NaturalPatch(image_size=64, random_state=0).fit(X).sample(3)
    >>> [len(drawn["patches"]) in (1, 2, 3) for drawn in auxiliary.meta]
    [True, True, True]
    """

    min_rows: ClassVar[int] = 2

    def __init__(
        self,
        n_patches: int = 3,
        half_side: Any = (0.03, 0.4),
        gamma: Any = (2.0, 0.05, 0.03),
        resize: Any = (0.7, 1.3),
        *,
        gradients: str = "source",
        background: Any = None,
        min_object: float = 0.25,
        min_overlap: float = 0.25,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.n_patches = n_patches
        self.half_side = half_side
        self.gamma = gamma
        self.resize = resize
        self.gradients = gradients
        self.background = background
        self.min_object = min_object
        self.min_overlap = min_overlap
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.n_patches, "n_patches", low=1, high=100, integer=True)
        _check_range(self.half_side, "half_side", high=0.5)
        if not isinstance(self.gamma, (tuple, list)) or len(self.gamma) != 3:
            raise InputError(f"gamma={told(self.gamma)}: give shape, scale and offset")
        for value in self.gamma:
            check_number(value, "gamma", low=0.0, high=1e3)
        _check_range(self.resize, "resize", low=0.01, high=100.0)
        check_option(self.gradients, "gradients", "source", "mixed")
        _check_background(self.background)
        check_number(self.min_object, "min_object", low=0.0, high=1.0)
        check_number(self.min_overlap, "min_overlap", low=0.0, high=1.0)

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        image, donor = self._pixels(parent), self._other(parent, rng)
        source, patches = self._pixels(donor), []
        stages = _object(source, self.background), _object(image, self.background)
        region = np.zeros(image.shape[:2], dtype=bool)
        for number in range(self.n_patches):
            if number == 0 or rng.random() < 0.5:
                place = self._patch(image, source, *stages, rng)
                if place is not None:
                    top, left, height, width = place["target"]
                    region[top + 1 : top + height - 1, left + 1 : left + width - 1] = True
                    patches.append(place)
        return image, region, {"donor": donor, "gradients": self.gradients, "patches": patches}

    def _patch(
        self, image: Floats, source: Floats, of_source: Bools, of_image: Bools, rng: np.random.Generator
    ) -> Meta | None:
        """Blend one patch of `source` into `image`; return what was drawn, None if nothing fits."""
        sides = np.array(image.shape[:2])
        shortest, longest = (np.rint(share * sides).astype(np.int64) for share in self.half_side)
        shape, scale, offset = self.gamma
        least = max(1, round(50 * sides.prod() / 256**2))
        for _ in range(200):
            half = np.clip((offset + rng.gamma(shape, scale, 2)) * sides, shortest, longest).astype(np.int64)
            middle = rng.integers(shortest, np.maximum(sides - shortest, shortest + 1))
            (top, left), (bottom, right) = np.maximum(middle - half, 0), np.minimum(middle + half, sides)
            if bottom - top < 3 or right - left < 3:
                continue
            cut = source[top:bottom, left:right]
            kept = of_source[top:bottom, left:right]
            if kept.mean() <= self.min_object:
                continue
            factor = float(np.clip(rng.normal(1.0, 0.5), *self.resize))
            height, width = _resized_sides(cut.shape[0], cut.shape[1], factor, shortest, longest)
            if (height - 2) * (width - 2) < least or height < 3 or width < 3:
                continue
            cut, kept = _resized_pixels(cut, (height, width)), resized_mask(kept, (height, width))
            y, x = (int(rng.integers(n - m + 1)) for n, m in zip(sides, (height, width)))
            window = image[y : y + height, x : x + width]
            if (kept & of_image[y : y + height, x : x + width]).sum() <= self.min_overlap * kept.sum():
                continue
            guide = differences(cut)
            if self.gradients == "mixed":
                guide = tuple(stronger(own, theirs) for own, theirs in zip(differences(window), guide))
            window[:] = np.clip(poisson_fill(window, *guide), 0, 255)
            box = [int(side) for side in (top, left, bottom - top, right - left)]
            return {"source": box, "factor": factor, "target": [y, x, height, width]}
        return None


def _resized_sides(height: int, width: int, factor: float, low: Ints, high: Ints) -> tuple[int, int]:
    """Return the sides of a patch after resizing within bounds, keeping its aspect as far as they allow."""
    tall = np.clip(factor * height, low[0], high[0])
    wide = int(np.clip(int(tall / height * width), low[1], high[1]))
    return int(np.clip(int(wide / width * height), low[0], high[0])), wide


def _resized_pixels(patch: Floats, size: tuple[int, int]) -> Floats:
    grey = patch.shape[2] == 1
    image = resized(np.ascontiguousarray(patch[:, :, 0] if grey else patch).astype(np.uint8), size)
    return image.reshape(*size, patch.shape[2]).astype(np.float64)


def logistic_labels(X: Pixels, parents: Pixels, slope: float = 1 / 6, middle: float = 20.0) -> Floats:
    """Return NSA's soft labels (n, h, w) in [0, 1]: how much each pixel changed, on a logistic scale.

    Parameters
    ----------
    X : array of uint8 of shape (n, h, w, 3)
        Auxiliary images.
    parents : array of uint8 of shape (n, h, w, 3)
        The images they were made from: ``generator.parents_[auxiliary.parents]``.
    slope : float, default 1/6
        Steepness per grey level (paper: by class).
    middle : float, default 20
        Change in grey levels, averaged over the channels and filtered by a median over a disk of radius 5, whose label
        is 1/2 (paper: by class).

    Examples
    --------
    >>> parents = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    >>> X = parents.copy()
    >>> X[0, 8:24, 8:24] = 20
    >>> labels = logistic_labels(X, parents)
    >>> float(labels[0, 16, 16]), float(labels[0, 0, 0])
    (0.5, 0.0)
    """
    labels = np.zeros(X.shape[:3])
    y, x = np.ogrid[-5:6, -5:6]
    for row, (image, parent) in enumerate(zip(X, parents)):
        change = np.abs(image.astype(np.float64) - parent).mean(axis=2)
        changed = uniform_filter((change > 1).astype(np.float64), 5, mode="nearest") > 0.5
        smooth = median_filter(np.where(changed, change, 0.0), footprint=y**2 + x**2 <= 25, mode="nearest")
        labels[row] = changed / (1 + np.exp(-slope * (smooth - middle)))
    return labels


# -- I4: FPI and PII ---------------------------------------------------------------------------------------------------


class Interpolation(ImageGenerator):
    """A square in which the image is mixed with another normal image, at the same place (I4): FPI.

    Parameters
    ----------
    half_side : (float, float), default (.05, .2)
        Half of the square's side, drawn uniformly, as a share of the image's shorter side (paper); the square is cut
        off at the border.
    core : float in (0, 1], default .8
        The middle of the square lies in this central share of each side (code; .5 for some organs).
    alpha : (float, float), default (.05, .95)
        Weight of the other image, drawn uniformly (paper); it is also the label of the changed pixels.
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    J. Tan, B. Hou, J. Batten, H. Qiu, B. Kainz: Detecting Outliers with Foreign Patch Interpolation. MELBA 2022,
    arXiv 2011.04197.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    >>> auxiliary = Interpolation(image_size=64, random_state=0).fit(X).sample(3)
    >>> all(0.05 <= drawn["alpha"] <= 0.95 for drawn in auxiliary.meta)
    True
    """

    min_rows: ClassVar[int] = 2

    def __init__(
        self,
        half_side: Any = (0.05, 0.2),
        core: float = 0.8,
        alpha: Any = (0.05, 0.95),
        *,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        self.half_side = half_side
        self.core = core
        self.alpha = alpha
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_range(self.half_side, "half_side", high=0.5)
        check_number(self.core, "core", low=0.0, high=1.0, strict_low=True)
        _check_range(self.alpha, "alpha", high=1.0)

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        image, donor = self._pixels(parent), self._other(parent, rng)
        sides = np.array(image.shape[:2])
        half = max(1, round(rng.uniform(*self.half_side) * min(sides)))
        middle = (sides * ((1 - self.core) / 2 + self.core * rng.random(2))).astype(np.int64)
        (top, left), (bottom, right) = np.maximum(middle - half, 0), np.minimum(middle + half, sides)
        alpha = rng.uniform(*self.alpha)
        region = np.zeros(image.shape[:2], dtype=bool)
        region[top:bottom, left:right] = True
        image, region = self._mixed(image, self._pixels(donor), region, alpha)
        box = [int(side) for side in (top, left, bottom - top, right - left)]
        return image, region, {"donor": donor, "box": box, "alpha": alpha}

    def _mixed(self, image: Floats, other: Floats, region: Bools, alpha: float) -> tuple[Floats, Bools]:
        return np.where(region[:, :, None], (1 - alpha) * image + alpha * other, image), region


class PoissonInterpolation(Interpolation):
    """A square whose gradients are mixed with those of another normal image, without a seam (I4): PII.

    Of (1 - alpha) times its own and alpha times the other's difference, each pair of neighbours keeps the stronger; the
    result is clipped to the range of the image.

    Parameters
    ----------
    half_side : (float, float), default (.05, .2)
        As in `Interpolation` (code).
    core : float in (0, 1], default .8
        As in `Interpolation` (code).
    alpha : (float, float), default (.05, .95)
        Weight of the other image's gradients, drawn uniformly (code).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images (code).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    J. Tan, B. Hou, T. Day, J. Simpson, D. Rueckert, B. Kainz: Detecting Outliers with Poisson Image Interpolation.
    MICCAI 2021, arXiv 2107.02622.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    >>> auxiliary = PoissonInterpolation(image_size=64, random_state=0).fit(X).sample(3)
    >>> bool(auxiliary.touched[:, [0, -1]].any())  # the border of the image holds the solution
    False
    """

    def __init__(
        self,
        half_side: Any = (0.05, 0.2),
        core: float = 0.8,
        alpha: Any = (0.05, 0.95),
        *,
        image_size: Any = 256,
        random_state: Any = None,
    ) -> None:
        super().__init__(half_side, core, alpha, image_size=image_size, random_state=random_state)

    def _mixed(self, image: Floats, other: Floats, region: Bools, alpha: float) -> tuple[Floats, Bools]:
        region[[0, -1]] = region[:, [0, -1]] = False
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        if len(rows) == 0:
            return image, region
        frame = np.s_[rows[0] - 1 : rows[-1] + 2, columns[0] - 1 : columns[-1] + 2]
        own, theirs = differences(image[frame]), differences(other[frame])
        guide = (stronger((1 - alpha) * one, alpha * two) for one, two in zip(own, theirs))
        mixed = image.copy()
        mixed[frame] = np.where(region[frame][:, :, None], poisson_fill(image[frame], *guide), image[frame])
        return np.clip(mixed, image.min(), image.max()), region


# -- a baseline --------------------------------------------------------------------------------------------------------


class PixelNoise(ImageGenerator):
    """Gaussian noise on every pixel: what the others must beat.

    Parameters
    ----------
    sigma : float, default 25
        Standard deviation in grey levels (ours).
    image_size : int or (int, int), default 256
        Side, or height and width, of all images.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> X = np.full((5, 32, 32), 128, dtype=np.uint8)
    >>> auxiliary = PixelNoise(sigma=10, image_size=32, random_state=0).fit(X).sample(3)
    >>> bool(9 < auxiliary.X.std() < 11)
    True
    """

    def __init__(self, sigma: float = 25.0, *, image_size: Any = 256, random_state: Any = None) -> None:
        self.sigma = sigma
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.sigma, "sigma", low=0.0, high=1e4, strict_low=True)

    def _draw(self, parent: int, rng: np.random.Generator) -> Drawn:
        image = self._pixels(parent)
        return image + self.sigma * rng.standard_normal(image.shape), np.ones(image.shape[:2], dtype=bool), {}
