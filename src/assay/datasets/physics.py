"""Real collision events: the LHC Olympics' features and CMS open data, read from the folder that `ASSAY_DATA` names.

Nothing is bundled and nothing is downloaded: each loader takes a folder, or looks below ``hep`` of `ASSAY_DATA`.

- `load_lhco`: R&D set of the LHC Olympics 2020 (simulated QCD dijets and a W' → XY signal at 3.5 TeV), the signal
  region 3.3-3.7 TeV with the four features of the resonant papers: ``lhco_rnd/lhco_signal_region.npz``;
- `load_lhco_spectrum`: 20 000 events of it over all masses, with coarser features: ``lhco_rnd/lhco_full_mjj_20k.npz``;
- `load_dilepton`: CMS 2011 di-muon and di-electron events around the Z: ``cms_dilepton/Z…_Run2011A.csv.gz``. The pair's
  mass is computed from the leptons, taken as massless: m² = 2 pt1 pt2 (cosh Δη - cos Δφ).

Of the archives arrays of numbers alone are read, never pickled objects.
"""

from __future__ import annotations

import csv
import gzip
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats, InputError, Ints, check_option

_SIGNAL_REGION = "lhco_rnd/lhco_signal_region.npz"
_SPECTRUM = "lhco_rnd/lhco_full_mjj_20k.npz"
_DILEPTON = {"muons": "cms_dilepton/Zmumu_Run2011A.csv.gz", "electrons": "cms_dilepton/Zee_Run2011A.csv.gz"}


class Collisions(NamedTuple):
    """Collision events.

    Attributes
    ----------
    X : array of shape (n, 1 + d)
        Mass first, then the features.
    y : array of int of shape (n,)
        1 for signal, 0 for background, -1 unknown (real data).
    names : list of str
        What the columns are.
    """

    X: Floats
    y: Ints
    names: list[str]


class Olympics(NamedTuple):
    """The signal region of the LHC Olympics' R&D set, masses in TeV.

    Attributes
    ----------
    train, val : Collisions
        Benchmark mixtures with about .6 % signal.
    test : Collisions
        One third signal.
    extra : Collisions
        Signal only.
    """

    train: Collisions
    val: Collisions
    test: Collisions
    extra: Collisions


def load_lhco(folder: str | os.PathLike[str] | None = None) -> Olympics:
    """Load the signal region: mjj, lighter jet's mass, mass difference (TeV), τ21 of both jets.

    Parameters
    ----------
    folder : path, optional
        Holds ``lhco_rnd``; by default ``hep`` below `ASSAY_DATA`.

    Raises
    ------
    InputError
        If the file is missing or is something else.
    """
    path = _path(folder, _SIGNAL_REGION)
    arrays = _archive(path, ("train", "val", "test", "extrasig", "columns"))
    names = [str(name) for name in arrays.pop("columns")]
    if names[-1:] != ["is_signal"]:
        raise InputError(f"{path.name}: its last column is {names[-1:]}, expected 'is_signal'")
    return Olympics(*(_collisions(array, names[:-1], -1) for array in arrays.values()))


def load_lhco_spectrum(folder: str | os.PathLike[str] | None = None) -> Collisions:
    """Load 20 000 events over all masses: mjj (GeV), angles between the two jets and sums of transverse momenta.

    Parameters
    ----------
    folder : path, optional
        Holds ``lhco_rnd``; by default ``hep`` below `ASSAY_DATA`.

    Raises
    ------
    InputError
        If the file is missing or is something else.
    """
    path = _path(folder, _SPECTRUM)
    arrays = _archive(path, ("X", "columns"))
    names = [str(name) for name in arrays["columns"]]
    if names[:3] != ["evtIdx", "isSignal", "mjj"]:
        raise InputError(f"{path.name}: its columns begin with {names[:3]}, expected evtIdx, isSignal, mjj")
    return _collisions(arrays["X"][:, 1:], names[2:], 0)


def load_dilepton(kind: str = "muons", folder: str | os.PathLike[str] | None = None) -> Collisions:
    """Load real pairs of leptons around the Z; no event has a label.

    Parameters
    ----------
    kind : {"muons", "electrons"}, default "muons"
        Which leptons.
    folder : path, optional
        Holds ``cms_dilepton``; by default ``hep`` below `ASSAY_DATA`.

    Returns
    -------
    Collisions
        Mass of the pair in GeV; transverse momentum and η of both leptons, Δφ in [0, π], product of the charges.

    Raises
    ------
    InputError
        If the file is missing or is something else.
    """
    check_option(kind, "kind", *_DILEPTON)
    path = _path(folder, _DILEPTON[kind])
    needed = [f"{what}{lepton}" for what in ("pt", "eta", "phi", "Q") for lepton in (1, 2)]
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = [[float(row[name]) for name in needed] for row in csv.DictReader(lines)]
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise InputError(f"{path.name} cannot be read as a table with {', '.join(needed)}: {error}") from error
    pt1, pt2, eta1, eta2, phi1, phi2, q1, q2 = np.array(rows, dtype=np.float64).reshape(-1, len(needed)).T
    turn = np.abs(np.mod(phi1 - phi2 + np.pi, 2 * np.pi) - np.pi)
    mass = np.sqrt(np.maximum(0.0, 2 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(turn))))
    X = np.column_stack([mass, pt1, pt2, eta1, eta2, turn, q1 * q2])
    names = ["mass", "pt1", "pt2", "eta1", "eta2", "delta_phi", "charges"]
    return Collisions(X, np.full(len(X), -1, dtype=np.int64), names)


def _collisions(array: npt.NDArray[np.float64], names: list[str], label: int) -> Collisions:
    y = np.rint(array[:, label]).astype(np.int64)
    return Collisions(np.ascontiguousarray(np.delete(array, label, axis=1), dtype=np.float64), y, names)


def _path(folder: str | os.PathLike[str] | None, relative: str) -> Path:
    if folder is None:
        root = os.environ.get("ASSAY_DATA")
        if not root:
            raise InputError(
                f"folder is not given: name the one that holds {relative}, or let ASSAY_DATA name its parent"
            )
        folder = Path(root) / "hep"
    path = Path(folder) / relative
    if not path.is_file():
        raise InputError(f"folder holds no {relative}: see the page on physics for where to get it")
    return path


def _archive(path: Path, needed: tuple[str, ...]) -> dict[str, npt.NDArray[np.float64]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in needed}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} cannot be read as an archive of {', '.join(needed)}: {error}") from error
