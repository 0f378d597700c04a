"""A small industrial data set with exact masks, written to disk: `write_mini_mvtec`.

Out: folders in the layout of MVTec AD (RGB PNG, masks 0 and 255), bit for bit the same for the same
arguments.

- brick, grass, gravel: textures, crops of scikit-image's photographs, flipped, their brightness varied. Crops
  to train on come from the upper part of a photograph, crops to test on from the lower: no pixel is in both.
- gear, board: aligned objects, drawn: a toothed disc with six bolts, a board with seven parts. Position,
  light, brightness, wear and noise vary a little.

Defects: ``scratch`` (a line with kinks), ``hole`` (a dark disc), ``stain`` (another tint), ``blur`` (a blob
out of focus); objects also ``missing`` (a part is not there) and ``swapped`` (two different parts have
changed places, so that every patch looks normal somewhere). None is what common generators train with (cut
and paste, Perlin noise with a foreign texture, Poisson blending and interpolation with other images, noise):
who trains on these is not graded on their own homework.

Each defect is drawn fully and blended: image = normal + s · (defect - normal), s = 1 - 0.95 · difficulty. A
defect covers a footprint; where rounding left one of its pixels unchanged it is moved by one grey level. So
the mask is at once the footprint and exactly the pixels that differ from the image without the defect.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.core.extras import require
from assay.core.images import Pixels
from assay.core.validation import Bools, Floats, InputError, check_number, check_option

TEXTURES = ("brick", "grass", "gravel")
OBJECTS = ("gear", "board")
CATEGORIES = (*TEXTURES, *OBJECTS)
DEFECTS = ("scratch", "hole", "stain", "blur")
PART_DEFECTS = ("missing", "swapped")
#: Rows of a 512 x 512 photograph that training crops come from; test crops come from the rest.
TRAIN_ROWS = 320
_TINTS = {"brick": (1.15, 0.9, 0.78), "grass": (0.85, 1.1, 0.7), "gravel": (1.05, 1.0, 0.92)}
_SPLITS = ("train", "test")


class _Part(NamedTuple):
    """A part of an object: place and half sizes in shares of the side, round or not, colour."""

    row: float
    column: float
    half_height: float
    half_width: float
    is_round: bool
    colour: tuple[float, float, float]


_BRASS, _STEEL, _RED, _BLACK = (200.0, 165.0, 70.0), (205.0, 208.0, 214.0), (185.0, 60.0, 50.0), (38.0, 38.0, 42.0)
_PARTS = {
    "gear": tuple(
        _Part(0.5 + 0.25 * np.sin(angle), 0.5 + 0.25 * np.cos(angle), 0.055, 0.055, True, colour)
        for angle, colour in zip(np.arange(6) * np.pi / 3, (_BRASS, _STEEL, _RED, _STEEL, _BRASS, _BLACK))
    ),
    "board": (
        _Part(0.30, 0.30, 0.10, 0.10, False, _BLACK),
        _Part(0.30, 0.66, 0.07, 0.13, False, _BLACK),
        _Part(0.56, 0.25, 0.065, 0.065, True, _STEEL),
        _Part(0.56, 0.45, 0.065, 0.065, True, _RED),
        _Part(0.56, 0.70, 0.04, 0.11, False, _BRASS),
        _Part(0.76, 0.32, 0.04, 0.11, False, _RED),
        _Part(0.76, 0.66, 0.06, 0.06, False, _STEEL),
    ),
}


def write_mini_mvtec(
    folder: str | os.PathLike[str],
    categories: Sequence[str] = CATEGORIES,
    n_train: int = 60,
    n_test_good: int = 20,
    n_defects: int = 10,
    size: int = 96,
    difficulty: float = 0.5,
    random_state: int = 0,
) -> Path:
    """Write the data set below `folder` and return that folder; `assay.datasets.images.load_images` reads it.

    Parameters
    ----------
    folder : path
        Where; a category that is there already is refused.
    categories : sequence of str
        Of brick, grass, gravel, gear, board; all by default.
    n_train, n_test_good : int, default 60, 20
        Normal images of each category.
    n_defects : int, default 10
        Defective images of each kind.
    size : int, default 96
        Side in pixels, 48 to 192.
    difficulty : float in [0, 1], default .5
        0: obvious, 1: nearly invisible.
    random_state : int, default 0
        Seed. Every image has a stream of its own: other counts or categories do not change it, another
        difficulty changes neither place nor shape of a defect.

    Examples
    --------
    >>> import tempfile
    >>> from assay.datasets.mini_mvtec import write_mini_mvtec
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = write_mini_mvtec(folder, ["gear"], n_train=2, n_test_good=1, n_defects=1)
    ...     sorted(path.name for path in (root / "gear" / "test").iterdir())
    ['blur', 'good', 'hole', 'missing', 'scratch', 'stain', 'swapped']
    """
    for category in categories:
        check_option(category, "categories", *CATEGORIES)
    for count, name in ((n_train, "n_train"), (n_test_good, "n_test_good"), (n_defects, "n_defects")):
        check_number(count, name, low=0, integer=True)
    check_number(size, "size", low=48, high=192, integer=True)
    check_number(difficulty, "difficulty", low=0.0, high=1.0)
    check_number(random_state, "random_state", low=0, integer=True)
    root = Path(folder)
    for category in categories:
        if (root / category).exists():
            raise InputError(f"folder {root / category} is there already: give another folder, or remove it")
    for category in categories:
        kinds = DEFECTS + (PART_DEFECTS if category in OBJECTS else ())
        seed = (int(random_state), CATEGORIES.index(category), size)
        for split, count in (("train", n_train), ("test", n_test_good)):
            for i in range(count):
                rng = np.random.default_rng((*seed, _SPLITS.index(split), i))
                _save(
                    root / category / split / "good" / f"{i:03d}.png",
                    _rounded(_Scene(category, size, split, rng).draw()),
                )
        for k, kind in enumerate(kinds):
            for i in range(n_defects):
                image, mask = _defective(category, kind, size, difficulty, np.random.default_rng((*seed, 2 + k, i)))
                _save(root / category / "test" / kind / f"{i:03d}.png", image)
                _save(
                    root / category / "ground_truth" / kind / f"{i:03d}_mask.png", mask.astype(np.uint8) * np.uint8(255)
                )
    return root


def _defective(
    category: str, kind: str, size: int, difficulty: float, rng: np.random.Generator
) -> tuple[Pixels, Bools]:
    """Return an image with one defect and the mask of what it changed."""
    scene = _Scene(category, size, "test", rng)
    normal = scene.draw()
    cover, defect = _DRAW[kind](scene, normal, rng)
    mask = cover > 0.25
    strength = (1.0 - 0.95 * difficulty) * cover * mask
    before, after = _rounded(normal), _rounded(normal + strength[:, :, None] * (defect - normal))
    unchanged = mask & (after == before).all(axis=2)
    after[unchanged, 0] = np.where(before[unchanged, 0] > 127, before[unchanged, 0] - 1, before[unchanged, 0] + 1)
    return after, mask


class _Scene:
    """What varies from image to image, drawn once, so that the same scene can be drawn with other parts."""

    def __init__(self, category: str, size: int, split: str, rng: np.random.Generator) -> None:
        self.category, self.size = category, size
        self.gain = rng.uniform(0.93, 1.07)
        if category in TEXTURES:
            photograph = _photograph(category)
            top, bottom = (0, TRAIN_ROWS) if split == "train" else (TRAIN_ROWS, photograph.shape[0])
            row = rng.integers(top, bottom - size + 1)
            column = rng.integers(0, photograph.shape[1] - size + 1)
            crop = photograph[row : row + size, column : column + size].astype(np.float64)
            self.crop = crop[:: rng.choice((1, -1)), :: rng.choice((1, -1))]
        else:
            self.shift = rng.uniform(-0.012, 0.012, size=2)
            self.light = rng.uniform(-0.06, 0.06, size=2)
            self.noise = rng.normal(scale=2.5, size=(size, size, 3))
            self.wear = rng.normal(scale=3.0, size=len(_PARTS[category]))

    def draw(self, parts: Sequence[_Part] | None = None) -> Floats:
        """Return the image (size, size, 3) in 0 to 255, by default with all its parts."""
        if self.category in TEXTURES:
            return np.asarray(self.crop[:, :, None] * self.gain * np.array(_TINTS[self.category]))
        image = _ground(self.category, self.size, self.shift)
        for part, wear in zip(_PARTS[self.category] if parts is None else parts, self.wear):
            image = _over(image, self.cover(part), np.array(part.colour) + wear)
        down, right = np.linspace(-1, 1, self.size)[:, None, None], np.linspace(-1, 1, self.size)[None, :, None]
        return np.asarray(image * self.gain * (1 + self.light[0] * down + self.light[1] * right) + self.noise)

    def cover(self, part: _Part) -> Floats:
        """Return how much of each pixel a part covers."""
        rows, columns = _grid(self.size)
        dr, dc = rows - part.row - self.shift[0], columns - part.column - self.shift[1]
        if part.is_round:
            distance = np.hypot(dr, dc) - part.half_height
        else:
            distance = np.maximum(np.abs(dr) - part.half_height, np.abs(dc) - part.half_width)
        return _coverage(distance, self.size)

    def places(self) -> Floats:
        """Return where a defect may lie: 1 on the object, or everywhere on a texture."""
        rows, columns = _grid(self.size)
        if self.category == "gear":
            return np.asarray(np.hypot(rows - 0.5, columns - 0.5) < 0.36)
        inset = 0.18 if self.category == "board" else 0.12
        return np.asarray(np.maximum(np.abs(rows - 0.5), np.abs(columns - 0.5)) < 0.5 - inset)


@cache
def _photograph(name: str) -> npt.NDArray[np.uint8]:
    return np.asarray(getattr(require("skimage.data", "images", "The mini data set"), name)())


def _ground(category: str, size: int, shift: Floats) -> Floats:
    """Return the object without parts, before light and noise."""
    rows, columns = _grid(size)
    dr, dc = rows - 0.5 - shift[0], columns - 0.5 - shift[1]
    image = np.full((size, size, 3), (226.0, 224.0, 218.0))
    if category == "board":
        image = _over(image, _coverage(np.maximum(np.abs(dr), np.abs(dc)) - 0.41, size), np.array((42.0, 110.0, 66.0)))
        for track in (-0.05, 0.155):
            lines = _coverage(np.maximum(np.abs(dr - track) - 0.008, np.abs(dc) - 0.36), size)
            image = _over(image, lines, np.array((120.0, 160.0, 90.0)))
        return image
    radius, angle = np.hypot(dr, dc), np.arctan2(dr, dc)
    teeth = 0.425 + 0.02 * np.clip(4 * np.cos(16 * angle), -1, 1)
    image = _over(image, _coverage(radius - teeth, size), np.array((138.0, 142.0, 150.0)))
    image = _over(image, _coverage(np.abs(radius - 0.35) - 0.008, size), np.array((112.0, 116.0, 124.0)))
    return _over(image, _coverage(radius - 0.11, size), np.array((60.0, 62.0, 66.0)))


def _grid(size: int) -> tuple[Floats, Floats]:
    centres = (np.arange(size) + 0.5) / size
    return centres[:, None], centres[None, :]


def _coverage(distance: Floats, size: int) -> Floats:
    """Return what a shape covers of each pixel; the distance to its edge (inside < 0) is in shares of the side."""
    return np.clip(0.5 - distance * size, 0.0, 1.0)


def _over(image: Floats, cover: Floats, colour: Floats) -> Floats:
    return np.asarray(image + cover[:, :, None] * (colour - image))


def _blob(scene: _Scene, rng: np.random.Generator, small: float, large: float) -> Floats:
    """Return the cover of a rounded shape: a disc whose radius varies with the angle, soft at the rim."""
    rows, columns = _grid(scene.size)
    place = rng.choice(np.argwhere(scene.places()))
    dr, dc = rows - rows[place[0], 0], columns - columns[0, place[1]]
    angle, radius = np.arctan2(dr, dc), rng.uniform(small, large)
    for wave in (2, 3):
        radius = radius * (1 + rng.uniform(0.05, 0.2) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)))
    return np.clip((radius - np.hypot(dr, dc)) * scene.size / 2, 0.0, 1.0)


def _scratch(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    rows, columns = _grid(scene.size)
    point = (rng.choice(np.argwhere(scene.places())) + 0.5) / scene.size
    heading, half_width = rng.uniform(0, 2 * np.pi), rng.uniform(0.007, 0.014)
    # Towards the middle, so that it stays in the picture.
    middle = np.arctan2(0.5 - point[0], 0.5 - point[1])
    heading = middle + 0.5 * np.sin(heading)
    distance = np.full((scene.size, scene.size), np.inf)
    for _ in range(rng.integers(3, 6)):
        end = point + rng.uniform(0.06, 0.13) * np.array((np.sin(heading), np.cos(heading)))
        along = end - point
        share = ((rows - point[0]) * along[0] + (columns - point[1]) * along[1]) / (along @ along)
        share = np.clip(share, 0.0, 1.0)
        distance = np.minimum(
            distance, np.hypot(rows - point[0] - share * along[0], columns - point[1] - share * along[1])
        )
        point, heading = end, heading + rng.uniform(-0.7, 0.7)
    colour = np.full(3, 250.0 if rng.random() < 0.5 else 15.0)
    return _coverage(distance - half_width, scene.size), np.broadcast_to(colour, normal.shape)


def _hole(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    rows, columns = _grid(scene.size)
    place = (rng.choice(np.argwhere(scene.places())) + 0.5) / scene.size
    distance = np.hypot(rows - place[0], columns - place[1]) - rng.uniform(0.03, 0.075)
    return _coverage(distance, scene.size), np.broadcast_to(np.full(3, rng.uniform(5, 25)), normal.shape)


def _stain(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    tint = np.array(((1.35, 0.95, 0.45), (0.5, 0.85, 1.4), (0.45, 0.4, 0.35))[rng.integers(3)])
    return _blob(scene, rng, 0.07, 0.14), normal * tint


def _blur(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    from scipy.ndimage import gaussian_filter

    return _blob(scene, rng, 0.1, 0.17), gaussian_filter(normal, (0.04 * scene.size, 0.04 * scene.size, 0))


def _missing(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    parts = list(_PARTS[scene.category])
    gone = int(rng.integers(len(parts)))
    return _wholly(scene, [parts[gone]]), scene.draw([part for k, part in enumerate(parts) if k != gone])


def _wholly(scene: _Scene, parts: Sequence[_Part]) -> Floats:
    """Return 1 wherever a part touches a pixel: a rim covered in part would keep the colour of what was there."""
    return np.asarray(np.any([scene.cover(part) > 0 for part in parts], axis=0), dtype=np.float64)


def _swapped(scene: _Scene, normal: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    parts = list(_PARTS[scene.category])
    pairs = [(a, b) for a in range(len(parts)) for b in range(a) if parts[a].colour != parts[b].colour]
    a, b = pairs[rng.integers(len(pairs))]
    one, other = parts[a], parts[b]
    parts[a] = other._replace(row=one.row, column=one.column)
    parts[b] = one._replace(row=other.row, column=other.column)
    return _wholly(scene, [one, other, parts[a], parts[b]]), scene.draw(parts)


_DRAW: dict[str, Any] = {
    "scratch": _scratch,
    "hole": _hole,
    "stain": _stain,
    "blur": _blur,
    "missing": _missing,
    "swapped": _swapped,
}


def _rounded(image: Floats) -> Pixels:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    require("PIL.Image", "images", "Writing images").fromarray(pixels).save(path)
