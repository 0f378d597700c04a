"""Folders of images with labels and masks: the layouts of the field, read as one item table.

`load_images(folder)` looks at what the folder holds, says which layout that is, and returns an `ImageSet`:
normal images to train on, images to test on, and for these the label, the kind of defect and the mask.
Nothing is read but names: images and masks are opened when they are asked for.

- ``mvtec`` (MVTec AD, MPDD, converted VisA): ``train/good``, ``test/{good, DEFECT}`` and
  ``ground_truth/DEFECT/NAME_mask.png`` or ``NAME.png``;
- ``btad``: ``train/ok``, ``test/{ok, ko}``, ``ground_truth/ko``;
- ``loco`` (MVTec LOCO): ``train/good``, ``validation/good``, ``test/{good, DEFECT}``, several masks an image
  in ``ground_truth/DEFECT/NAME/``, and ``defects_config.json``;
- ``visa`` (as published): ``OBJECT/Data/{Images, Masks}``, and ``split_csv/1cls.csv`` beside the objects;
- ``classes``: ``good`` or ``normal``; every other folder is a kind of defect, its masks ``NAME.png`` beside
  ``NAME.jpg``.

Masks are paired by name, never by position. Where a set has masks, a defective image without one is an error:
scored as all normal it would spoil every pixel metric. Only ``classes`` has no split of its own: a seeded
share of the normals trains, the rest and all defects test. Validation images are never taken from the test
set: where a set has none, `ImageSet.validation` is None, and whoever needs some takes normals from training.

A mask is True where its file is not 0, for some sets write the number of a class. Only masks of ``classes``
are often painted and have grey rims, whose specks would be regions of their own: there it is True above half
the file's largest value.

In MVTec LOCO every mask file is one region, whose value names the defect in ``defects_config.json``; that
gives how many of its pixels suffice (`Masks.saturations`).

A further layout is one line of `LAYOUTS`: how to recognise a category's folder, and how to read it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.images import ENDINGS, Images, list_images, read_mask, resized_mask
from assay.core.validation import Bools, InputError, Ints, check_number, check_option, told

#: Folders that hold normal images.
GOOD = ("good", "ok", "normal")
#: A test image, its kind of defect or "good", its mask files.
Item = tuple[Path, str, Sequence[Path]]


class Masks(Sequence[Any]):
    """The masks of a row of images, read when asked for: bool (H, W), or None where there is none.

    Parameters
    ----------
    files : sequence of sequences of Path
        Each image's mask files; none for a good image.
    images : Images
        The images they belong to.
    read : callable, optional
        Path -> bool (H, W).
    kinds : dict, optional
        For LOCO, value in the file -> (threshold, whether it is a share of the region).
    size : (int, int), optional
        Height and width to read masks at; the masks' own by default.
    zeros : bool, default False
        Whether a good image's mask is all False (of `size`, or of the image's own size) instead of None.
    """

    def __init__(
        self,
        files: Sequence[Sequence[Path]],
        images: Images,
        read: Callable[[Path], Bools] = read_mask,
        kinds: dict[int, tuple[float, bool]] | None = None,
        size: tuple[int, int] | None = None,
        zeros: bool = False,
    ) -> None:
        self.files, self.images, self.read, self.kinds = files, images, read, kinds or {}
        self.size, self.zeros = size, zeros

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        """Return one mask for a number, `Masks` for a slice, numbers or booleans."""
        if not isinstance(index, (int, np.integer)):
            rows = np.arange(len(self))[index]
            files = [self.files[i] for i in rows]
            return Masks(files, self.images[rows], self.read, self.kinds, self.size, self.zeros)
        regions = self.regions(index)
        if regions:
            return np.logical_or.reduce(regions)
        if not self.zeros:
            return None
        return np.zeros(self.size or self.images[index].shape[:2], dtype=bool)

    def at(self, size: tuple[int, int] | None = None) -> Masks:
        """Return the same masks for metrics: at `size` (nearest pixel) or their own, good images' all False."""
        return Masks(self.files, self.images, self.read, self.kinds, size, zeros=True)

    def regions(self, index: int) -> list[Bools]:
        """Return an image's masks one by one: several in LOCO, where each is a region of its own."""
        masks = [self.read(path) for path in self.files[index]]
        return [resized_mask(mask, self.size) for mask in masks] if self.size else masks

    def saturations(self, index: int) -> list[int]:
        """Return for each mask how many of its pixels suffice for sPRO: all, unless the set names a number."""
        return [
            self._saturation(path, int(region.sum())) for path, region in zip(self.files[index], self.regions(index))
        ]

    def _saturation(self, path: Path, area: int) -> int:
        if not self.kinds:
            return area
        value = int(Images([path])[0].max())
        if value not in self.kinds:
            raise InputError(f"{path} holds the value {value}, which defects_config.json does not name")
        threshold, is_share = self.kinds[value]
        if is_share:
            return max(int(threshold * area), 1)
        # A number of pixels is one at the mask's own size.
        scale = area / max(int(self.read(path).sum()), 1) if self.size else 1.0
        return max(min(int(threshold * scale), area), 1)


@dataclass(frozen=True)
class ImageSet:
    """Images of one category, split, with labels, kinds of defect and masks.

    Attributes
    ----------
    name : str
        The category.
    layout : str
        How its folder is laid out: a key of `LAYOUTS`.
    train : Images
        Normal images.
    validation : Images or None
        More normal images, where the set has some of its own.
    test : Images
        Normal and defective images.
    labels : array of int64 of shape (n,)
        0 normal, 1 defective, of each test image.
    defects : tuple of str
        Kind of defect of each test image, "good" for none.
    masks : Masks
        Of each test image: bool (H, W), or None where it is good or the set has no masks.
    """

    name: str
    layout: str
    train: Images
    validation: Images | None
    test: Images
    labels: Ints
    defects: tuple[str, ...]
    masks: Masks

    @property
    def has_masks(self) -> bool:
        """Whether defective images have masks."""
        return any(self.masks.files)

    def __str__(self) -> str:
        kinds = [kind for kind in dict.fromkeys(self.defects) if kind != "good"]
        bad = int(self.labels.sum())
        return (
            f"{self.name} ({self.layout}): {len(self.train)} normal images to train on, to test on "
            f"{len(self.labels) - bad} normal and {bad} defective ({', '.join(kinds) or 'none'}), "
            f"{'with' if self.has_masks else 'without'} masks"
        )


class Layout(NamedTuple):
    """One way to lay out a category's folder.

    Attributes
    ----------
    recognises : callable
        Folder -> whether it is laid out so.
    read : callable
        Folder, share of the normals that trains, seed -> `ImageSet`.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, float, int], ImageSet]


def load_images(
    folder: str | os.PathLike[str],
    category: str | None = None,
    layout: str | None = None,
    *,
    train_share: float = 0.7,
    random_state: int = 0,
) -> ImageSet:
    """Load a category of images from a folder in one of the field's layouts.

    Parameters
    ----------
    folder : path
        The category's folder, or the data set's with `category`. A bare name that is no folder here is looked
        for in the folder that the environment variable ``ASSAY_DATA`` names, and below its ``images``.
    category : str, optional
        Folder of the category within.
    layout : str, optional
        A key of `LAYOUTS`; found out by default.
    train_share : float in (0, 1), default .7
        Share of the normals to train on, where the layout has no split.
    random_state : int, default 0
        Seed of that split.

    Raises
    ------
    InputError
        If the folder is missing, has no known layout or several categories, holds no images where there
        should be some, or if a defective image has no mask in a set that has masks.

    Examples
    --------
    >>> import tempfile
    >>> from assay.datasets.images import load_images
    >>> from assay.datasets.mini_mvtec import write_mini_mvtec
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_mini_mvtec(folder, ["brick"], n_train=3, n_test_good=2, n_defects=1)
    ...     data = load_images(folder, "brick")
    >>> data.layout, len(data.train), data.labels.tolist(), data.defects
    ('mvtec', 3, [1, 0, 0, 1, 1, 1], ('blur', 'good', 'good', 'hole', 'scratch', 'stain'))
    """
    check_number(train_share, "train_share", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(random_state, "random_state", low=0, integer=True)
    check_option(layout, "layout", None, *LAYOUTS)
    root = _find(folder)
    if category is not None:
        root = root / category
        if not root.is_dir():
            raise InputError(
                f"category={told(category)} is no folder in {root.parent}: {_one_of(categories(root.parent))}"
            )
    found = layout or _layout_of(root)
    if found is None:
        inside = categories(root)
        if inside:
            raise InputError(f"folder {root} holds categories: pass category, {_one_of(inside)}")
        raise InputError(f"folder {root} has no known layout ({', '.join(LAYOUTS)}): see assay.datasets.images")
    return LAYOUTS[found].read(root, train_share, int(random_state))


def categories(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the folders within that `load_images` can read, sorted."""
    root = _find(folder)
    return [path.name for path in _folders(root) if _layout_of(path) is not None]


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if names else "it holds none"


def _find(folder: str | os.PathLike[str]) -> Path:
    root = Path(folder)
    if root.is_dir():
        return root
    if len(root.parts) == 1 and os.environ.get("ASSAY_DATA"):
        data = Path(os.environ["ASSAY_DATA"])
        for path in (data / "images" / root, data / root):
            if path.is_dir():
                return path
    raise InputError(
        f"folder={told(str(folder))} is no folder, nor the name of one in the folder that ASSAY_DATA names"
    )


def _layout_of(root: Path) -> str | None:
    return next((name for name, layout in LAYOUTS.items() if layout.recognises(root)), None)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(paths: Sequence[Path], root: Path) -> Images:
    return Images(list(paths), [path.relative_to(root.parent).as_posix() for path in paths])


def _assembled(
    root: Path,
    layout: str,
    train: Sequence[Path],
    test: Sequence[Item],
    has_masks: bool,
    validation: Sequence[Path] | None = None,
    kinds: dict[int, tuple[float, bool]] | None = None,
    read: Callable[[Path], Bools] = read_mask,
) -> ImageSet:
    """Return the set from its files; where it has masks, every defective image must have one."""
    without = [path for path, kind, masks in test if has_masks and kind != "good" and not masks]
    if without:
        raise InputError(f"{without[0]} is defective and has no mask ({len(without)} such): add it or remove the image")
    images = _images([path for path, _, _ in test], root)
    return ImageSet(
        name=root.name,
        layout=layout,
        train=_images(train, root),
        validation=None if validation is None else _images(validation, root),
        test=images,
        labels=np.array([kind != "good" for _, kind, _ in test], dtype=np.int64),
        defects=tuple(kind for _, kind, _ in test),
        masks=Masks([list(masks) for _, _, masks in test], images, read, kinds),
    )


def _split_in_folders(root: Path, layout: str, good: str, masks_of: Callable[[Path, str], Sequence[Path]]) -> ImageSet:
    """Read train/GOOD, validation/GOOD and test/KIND; `masks_of` gives the mask files of an image and kind."""
    test: list[Item] = []
    for folder in _folders(root / "test"):
        kind = "good" if folder.name == good else folder.name
        test += [(path, kind, [] if kind == "good" else masks_of(path, kind)) for path in list_images(folder)]
    if not test:
        raise InputError(f"{root / 'test'} holds no folders of images")
    held_out = root / "validation" / good
    validation = list_images(held_out) if held_out.is_dir() else None
    kinds = _loco_config(root) if layout == "loco" else None
    has_masks = (root / "ground_truth").is_dir()
    return _assembled(root, layout, list_images(root / "train" / good), test, has_masks, validation, kinds)


def _one_mask(path: Path, candidates: dict[str, list[Path]]) -> list[Path]:
    """Return the mask of an image by name; two of them are an error."""
    found = [mask for stem in (path.stem, f"{path.stem}_mask") for mask in candidates.get(stem, [])]
    if len(found) > 1:
        raise InputError(f"{path} has several masks, {' and '.join(mask.name for mask in found)}: keep one")
    return found


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    for path in list_images(folder) if folder.is_dir() else []:
        stems.setdefault(path.stem, []).append(path)
    return stems


def _read_mvtec(root: Path, layout: str, good: str) -> ImageSet:
    truth = {folder.name: _by_stem(folder) for folder in _folders(root / "ground_truth")}
    for kind in truth:
        twice = [paths for paths in _by_stem(root / "test" / kind).values() if len(paths) > 1]
        if twice:
            raise InputError(
                f"{twice[0][0]} and {twice[0][1].name}: a mask of that name could be of either; rename one"
            )
    return _split_in_folders(root, layout, good, lambda path, kind: _one_mask(path, truth.get(kind, {})))


def _read_loco(root: Path) -> ImageSet:
    def masks_of(path: Path, kind: str) -> list[Path]:
        folder = root / "ground_truth" / kind / path.stem
        return list_images(folder) if folder.is_dir() else []

    return _split_in_folders(root, "loco", "good", masks_of)


def _loco_config(root: Path) -> dict[int, tuple[float, bool]]:
    path = root / "defects_config.json"
    if not path.is_file():
        return {}
    try:
        return {
            int(kind["pixel_value"]): (float(kind["saturation_threshold"]), bool(kind["relative_saturation"]))
            for kind in json.loads(path.read_text(encoding="utf-8"))
        }
    except (ValueError, KeyError, TypeError) as error:
        names = "pixel_value, saturation_threshold and relative_saturation"
        raise InputError(f"{path} is no list of defects with {names}") from error


def _read_visa(root: Path) -> ImageSet:
    table = root.parent / "split_csv" / "1cls.csv"
    train: list[Path] = []
    test: list[Item] = []
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("object") == root.name]
    for row in rows:
        try:
            path, bad = root.parent / row["image"], row["label"] != "normal"
            mask, split = row["mask"], row["split"]
        except KeyError as error:
            raise InputError(f"{table} has no column {error}: object, split, label, image, mask are needed") from error
        if not path.is_file():
            raise InputError(f"{table} names {row['image']}, which is not there")
        if split == "test":
            has_one = bad and mask and (root.parent / mask).is_file()
            test.append((path, "bad" if bad else "good", [root.parent / mask] if has_one else []))
        elif not bad:
            train.append(path)
    if not train or not test:
        raise InputError(f"{table} names {len(train)} images to train on and {len(test)} to test on for {root.name}")
    return _assembled(root, "visa", train, test, has_masks=True)


def _read_classes(root: Path, train_share: float, random_state: int) -> ImageSet:
    good: list[Path] = []
    bad: list[Item] = []
    for folder in _folders(root):
        for path, masks in _photographs(folder):
            if folder.name in GOOD:
                good.append(path)
            else:
                bad.append((path, folder.name, masks))
    order = np.random.default_rng(random_state).permutation(len(good))
    n_train = round(train_share * len(good))
    if not 0 < n_train < len(good):
        raise InputError(f"{root} holds {len(good)} normal images: train_share={train_share:g} leaves none on one side")
    train = [good[i] for i in sorted(order[:n_train])]
    test: list[Item] = [(good[i], "good", []) for i in sorted(order[n_train:])]
    has_masks = any(masks for _, _, masks in bad)
    return _assembled(root, "classes", train, [*test, *bad], has_masks, read=_read_painted)


def _read_painted(path: Path) -> Bools:
    grey = Images([path])[0].max(axis=2)
    return np.asarray(grey > grey.max() / 2)


def _photographs(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each image of a folder with its mask: NAME.png beside NAME of another ending is one."""
    paths = list_images(folder)
    others = {path.with_suffix("") for path in paths if path.suffix.lower() != ".png"}
    masks = {path.with_suffix(""): path for path in paths if path.suffix.lower() == ".png"}
    for path in paths:
        mask = masks.get(path.with_suffix("")) if path.with_suffix("") in others else None
        if path != mask:
            yield path, [mask] if mask else []


def _holds(*parts: str) -> Callable[[Path], bool]:
    return lambda root: root.joinpath(*parts).is_dir()


def _is_loco(root: Path) -> bool:
    return (root / "train" / "good").is_dir() and (root / "validation" / "good").is_dir()


def _is_visa(root: Path) -> bool:
    return (root / "Data" / "Images").is_dir() and (root.parent / "split_csv" / "1cls.csv").is_file()


def _is_classes(root: Path) -> bool:
    return any((root / name).is_dir() for name in GOOD) and any(_has_images(path) for path in _folders(root))


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in ENDINGS for path in folder.iterdir())


LAYOUTS: dict[str, Layout] = {
    "loco": Layout(_is_loco, lambda root, *_: _read_loco(root)),
    "mvtec": Layout(_holds("train", "good"), lambda root, *_: _read_mvtec(root, "mvtec", "good")),
    "btad": Layout(_holds("train", "ok"), lambda root, *_: _read_mvtec(root, "btad", "ok")),
    "visa": Layout(_is_visa, lambda root, *_: _read_visa(root)),
    "classes": Layout(_is_classes, _read_classes),
}
