"""Real tables with labelled anomalies: six bundled ones, and the rest of ADBench by download.

`load_table("cardiotocography")` looks, in this order, at what the package bundles, at the folder that the
environment variable `ASSAY_DATA` names, at the download cache (`ASSAY_CACHE`, by default ``~/.cache/assay``),
and only with ``download=True`` at the network. Every file must match its recorded SHA-256; nothing is ever
unpickled.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from assay.core.validation import Floats, InputError, Ints

COMMIT = "3dac8221081e190f157d78e93bfa8867f90d0965"
URL = f"https://raw.githubusercontent.com/Minqi824/ADBench/{COMMIT}/adbench/datasets/"


@dataclass(frozen=True)
class Dataset:
    """A table with labels.

    Attributes
    ----------
    name : str
        Name within Assay.
    X : array of shape (n, d)
        Features.
    y : array of shape (n,)
        0 normal, 1 anomaly.
    feature_names : tuple of str
        ``x0`` … where the source names none.
    source : str
        Where it comes from.
    sha256 : str
        Checksum of the file.
    """

    name: str
    X: Floats
    y: Ints
    feature_names: tuple[str, ...]
    source: str
    sha256: str


@cache
def _registry() -> dict[str, tuple[str, str]]:
    """Return name -> (path within ADBench, sha256)."""
    registry = {}
    for line in (files("assay.datasets") / "adbench.sha256").read_text().splitlines():
        checksum, path = line.split(maxsplit=1)
        folder, stem = path.split("/")[0], Path(path).stem
        name = re.sub(r"^\d+_", "", stem).lower()
        registry[name if folder == "Classical" else f"{folder}/{stem}".lower()] = (path, checksum)
    return registry


def available(*, bundled: bool = False) -> list[str]:
    """Return the names `load_table` knows; with `bundled` those of the tables that the package itself holds."""
    folder = Path(str(files("assay.datasets"))) / "bundled"
    registry = _registry()
    return sorted(name for name in registry if not bundled or (folder / Path(registry[name][0]).name).is_file())


def load_table(name: str, *, download: bool = False) -> Dataset:
    """Load a labelled table.

    Parameters
    ----------
    name : str
        One of `available()`, for example ``"cardiotocography"`` or ``"cv_by_resnet18/mvtec-ad_bottle"``.
    download : bool, default False
        Whether the network may be used when the file is not on this machine.

    Raises
    ------
    InputError
        If the name is unknown, the file is nowhere to be found, or its checksum is wrong.

    Examples
    --------
    >>> from assay.datasets import load_table
    >>> data = load_table("breastw")
    >>> data.X.shape, int(data.y.sum())
    ((683, 9), 239)
    """
    registry = _registry()
    key = name.lower()
    if key not in registry:
        near = get_close_matches(key, registry, n=3, cutoff=0.4) or ["cardiotocography"]
        raise InputError(f"no data set is called {name!r}; did you mean {', '.join(near)}?")
    relative, checksum = registry[key]
    path = _find(relative) or (_download(relative, checksum) if download else None)
    if path is None:
        raise InputError(
            f"data set {name!r} is not on this machine: pass download=True, or let ASSAY_DATA name a folder that holds "
            f"{Path(relative).name}"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise InputError(f"{path} is not the published file (its SHA-256 differs): delete it and fetch it again")
    with np.load(path, allow_pickle=False) as archive:
        X, y = archive["X"].astype(np.float64), archive["y"].astype(np.int64).ravel()
    names = tuple(f"x{f}" for f in range(X.shape[1]))
    return Dataset(key, X, y, names, f"ADBench {relative}", checksum)


def _find(relative: str) -> Path | None:
    name = Path(relative).name
    folders = [Path(str(files("assay.datasets"))) / "bundled" / name]
    if os.environ.get("ASSAY_DATA"):
        root = Path(os.environ["ASSAY_DATA"])
        folders += [root / "adbench" / relative, root / relative, root / name]
    folders.append(_cache_folder() / relative)
    return next((path for path in folders if path.is_file()), None)


def _cache_folder() -> Path:
    return Path(os.environ.get("ASSAY_CACHE") or Path.home() / ".cache" / "assay") / "adbench"


def _download(relative: str, checksum: str) -> Path:
    """Fetch a file into the cache: checked before it gets its name, so the cache never holds a broken file."""
    target = _cache_folder() / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(URL + relative, timeout=60) as response:  # a constant https address
            content = response.read(64 * 2**20)
    except (urllib.error.URLError, TimeoutError) as error:
        raise InputError(
            f"{URL + relative} cannot be fetched: {error}; get it by other means and set ASSAY_DATA"
        ) from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise InputError(f"{URL + relative} is not the published file (its SHA-256 differs); nothing was kept")
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
        part.write(content)
    os.replace(part.name, target)
    return target
