"""Images at the door: files and arrays become RGB, and what cannot be read is refused by name.

In: a folder, a list of paths, of arrays or of Pillow's images, an array (n, H, W) or (n, H, W, 1 | 3 | 4). Out: 8-bit
RGB, (H, W, 3). Grey is repeated, transparency dropped, palette and CMYK converted, 16 bits scaled down by 257 (never
clipped), numbers with a fraction are read as [0, 1], and a photograph's stored rotation is applied. Files are read
when they are asked for: a folder larger than memory is no problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.extras import require
from assay.core.validation import Bools, InputError, told

Pixels = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]

#: What an image's file name ends with.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
#: Smallest side in pixels.
SMALLEST = 4


class Images(Sequence[Pixels]):
    """A row of images, each (H, W, 3) 8-bit RGB, read when asked for.

    Parameters
    ----------
    items : sequence
        Paths, arrays or Pillow's images.
    names : sequence of str, optional
        What to call them in messages and tables; the path or the number by default.
    """

    def __init__(self, items: Any, names: Sequence[str] | None = None) -> None:
        self.items = items
        if names is None:
            names = [str(item) if isinstance(item, Path) else f"image {i}" for i, item in enumerate(items)]
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        """Return one image for a number, `Images` for a slice, numbers or booleans."""
        if isinstance(index, (int, np.integer)):
            return _pixels(self.items[int(index)], self.names[int(index)])
        rows = np.arange(len(self))[index]
        items = self.items[rows] if isinstance(self.items, np.ndarray) else [self.items[i] for i in rows]
        return Images(items, [self.names[i] for i in rows])

    def batches(self, size: tuple[int, int], batch_size: int = 16) -> Iterator[Pixels]:
        """Yield the images resized to `size` (height, width), (b, h, w, 3) at a time."""
        for start in range(0, len(self), batch_size):
            stop = min(start + batch_size, len(self))
            yield np.stack([resized(self[i], size) for i in range(start, stop)])

    def unreadable(self) -> dict[int, str]:
        """Read everything once; return the numbers of the images that cannot be used, each with the reason."""
        reasons = {}
        for i in range(len(self)):
            try:
                self[i]
            except InputError as error:
                reasons[i] = str(error)
        return reasons


def as_images(X: Any, name: str = "X", *, min_images: int = 1) -> Images:
    """Return `X` as `Images`; nothing is read yet.

    Raises
    ------
    InputError
        If there is no image in it, or it is nothing that could be images.
    """
    if isinstance(X, (str, os.PathLike)):
        X = list_images(X, name)
    if isinstance(X, Images):
        images = X
    elif isinstance(X, np.ndarray) and X.dtype.kind in "buif":
        if X.ndim not in (3, 4) or (X.ndim == 4 and X.shape[3] not in (1, 3, 4)):
            raise InputError(
                f"{name} has shape {X.shape}, expected (n, H, W) or (n, H, W, 3); pass one image as [image]"
            )
        images = Images(X, [f"{name}[{i}]" for i in range(len(X))])
    elif isinstance(X, (list, tuple, np.ndarray)):
        items = [Path(item) if isinstance(item, (str, os.PathLike)) else item for item in X]
        names = [str(item) if isinstance(item, Path) else f"{name}[{i}]" for i, item in enumerate(items)]
        images = Images(items, names)
    else:
        raise InputError(f"{name} is a {type(X).__name__}: give a folder, a list of files, or an array (n, H, W, 3)")
    if len(images) < min_images:
        raise InputError(f"{name} holds {len(images)} images, at least {min_images} needed")
    return images


def list_images(folder: str | os.PathLike[str], name: str = "folder") -> list[Path]:
    """Return the images below a folder, sorted by path; hidden files are left out."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{name}={told(str(folder))} is no folder")
    found = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise InputError(f"{name} {root} holds no images ({', '.join(ENDINGS)})")
    return found


def read_mask(path: str | os.PathLike[str]) -> Bools:
    """Return a mask's file as (H, W): True where the pixel is not 0, whatever the depth (class numbers too)."""
    raw = _opened(Path(path), str(path), rgb=False)
    return np.asarray(raw.max(axis=2) if raw.ndim == 3 else raw) > 0


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return an image at `size` (height, width): bilinear, averaged where it shrinks."""
    if image.shape[:2] == tuple(size):
        return image
    pil = require("PIL.Image", "images", "Resizing images")
    return np.asarray(pil.fromarray(image).resize((size[1], size[0]), pil.Resampling.BILINEAR))


def resized_map(values: npt.NDArray[Any], size: tuple[int, int]) -> Maps:
    """Return a map of scores (H, W) at `size` by bilinear interpolation between cell centres, float32."""
    if values.shape == tuple(size):
        return np.asarray(values, dtype=np.float32)
    rows, columns = (_interpolation(n, m) for n, m in zip(values.shape, size))
    return np.asarray(rows @ values.astype(np.float32) @ columns.T, dtype=np.float32)


def resized_mask(mask: Bools, size: tuple[int, int]) -> Bools:
    """Return a mask (H, W) at `size`: each pixel takes its nearest one, so that nothing is invented in between."""
    rows, columns = ((np.arange(m) * 2 + 1) * n // (2 * m) for n, m in zip(mask.shape, size))
    return mask[rows[:, None], columns]


def _interpolation(n: int, m: int) -> Any:
    """Return the sparse matrix (m, n) of linear interpolation, corners not aligned (as torch and Pillow do)."""
    from scipy.sparse import csr_array

    place = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    low = np.minimum(place.astype(np.int64), max(n - 2, 0))
    high = np.minimum(low + 1, n - 1)
    share = (place - low).astype(np.float32)
    rows = np.arange(m)
    return csr_array(
        (np.concatenate([1 - share, share]), (np.tile(rows, 2), np.concatenate([low, high]))), shape=(m, n)
    )


def _pixels(item: Any, name: str) -> Pixels:
    raw = _opened(item, name) if isinstance(item, Path) else item
    if not isinstance(raw, np.ndarray):
        if not hasattr(raw, "convert"):
            raise InputError(f"{name} is a {type(raw).__name__}, not an image: give a path or an array (H, W, 3)")
        raw = _decoded(raw)
    return _as_rgb(raw, name)


def _opened(path: Path, name: str, *, rgb: bool = True) -> npt.NDArray[Any]:
    pil = require("PIL.Image", "images", "Reading images")
    try:
        with pil.open(path) as image:
            return _decoded(image) if rgb else np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist") from error
    except (OSError, SyntaxError, ValueError, EOFError, pil.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from error


def _decoded(image: Any) -> npt.NDArray[Any]:
    """Return a Pillow image's numbers: grey of any depth as it is, all else RGB."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode[0] == "I":  # 16 bits, whatever Pillow stores them in
        return np.asarray(image).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode in ("P", "PA"):  # straight to RGB would warn where the palette holds transparency
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _as_rgb(raw: npt.NDArray[Any], name: str) -> Pixels:
    if raw.ndim == 2:
        raw = raw[:, :, None]
    if raw.ndim != 3 or raw.shape[2] not in (1, 3, 4):
        raise InputError(f"{name} has shape {raw.shape}, expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if min(raw.shape[:2]) < SMALLEST:
        raise InputError(f"{name} has {raw.shape[0]} x {raw.shape[1]} pixels, at least {SMALLEST} x {SMALLEST} needed")
    rgb = np.broadcast_to(raw, (*raw.shape[:2], 3)) if raw.shape[2] == 1 else raw[:, :, :3]
    return np.ascontiguousarray(_in_8_bits(rgb, name))


def _in_8_bits(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "uif":
        raise InputError(f"{name} holds {values.dtype}, not pixel values")
    low, high = float(values.min()), float(values.max())
    limit = {"f": 1, "u": 65535 if values.dtype == np.uint16 else 255, "i": 255}[kind]
    if not (low >= 0 and high <= limit):  # NaN fails both
        raise InputError(f"{name} holds {low:g} to {high:g}: pixels of {values.dtype} must lie in 0 to {limit}")
    return np.round(values * (255 / limit)).astype(np.uint8)
