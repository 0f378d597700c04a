"""Real series with labelled anomalies: the layouts of the field, read as one record.

`load_series(name)` reads a bundled set or one of the folder that `ASSAY_DATA` names; `read_series(path)` any file of
a layout below. Each gives a `LabelledSeries`: a part to train on, a part to test on, and the labels of the latter.

- ``nab``: ``CATEGORY/NAME.csv`` (timestamp, value) and ``labels/combined_windows.json`` beside the categories. The
  labels are the windows; the first min(15 %, 750) rows, which NAB's scorer ignores, are the training part;
- ``ucr``: ``NNN_UCR_Anomaly_NAME_TRAINEND_BEGIN_END.txt``, one value a line, places counted from 1;
- ``smd`` (also ASD): ``MACHINE.npz`` (train, test, test_label), or as published ``train/MACHINE.txt``,
  ``test/MACHINE.txt``, ``test_label/MACHINE.txt``;
- ``nasa`` (SMAP, MSL): ``CHANNEL.npz`` (train, test) or ``train/CHANNEL.npy``, ``test/CHANNEL.npy``, with
  ``labeled_anomalies.csv`` in the folder (or the one above), whose ranges include both ends;
- ``tsb``: TSB-AD's ``…_tr_TRAINEND_….csv``, channels and a last column ``Label``; TSB-UAD's ``NAME.out`` (value,label)
  without a header, whose first tenth is the training part, as there;
- ``csv``: any other table with a column of labels (0/1; ``label``, ``Label``, ``is_anomaly`` or ``anomaly``) and at
  most one of times: `train_share` of it trains.

All may be gzipped. A training part may hold anomalies where the set says nothing of them: it is as published. Times
that do not rise strictly (some of NAB's do not) are left out, steps are rows then, and `note` says so.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.series import Series
from assay.core.validation import Floats, InputError, Ints, check_number

#: Columns that hold labels, in the order in which they are looked for.
LABELS = ("label", "Label", "is_anomaly", "anomaly")
#: Sets that the package itself holds, both MIT: one of NAB, one of ASD (server omi-9).
BUNDLED = ("nyc_taxi", "application_server")
_UCR = re.compile(r"_(\d+)_(\d+)_(\d+)\.txt(\.gz)?$")
_TSB = re.compile(r"_tr_(\d+)_")


@dataclass(frozen=True)
class LabelledSeries:
    """A series with labels.

    Attributes
    ----------
    name : str
        What it is called.
    layout : str
        Where it comes from: nab, ucr, smd, nasa, tsb or csv.
    train : Series
        Comes first in time.
    test : Series
        To score.
    labels : array of int of shape (T,)
        Of the test part: 0 normal, 1 anomaly, -1 unknown.
    note : str
        What a reader should know, empty for nothing.
    """

    name: str
    layout: str
    train: Series
    test: Series
    labels: Ints
    note: str = ""

    def __repr__(self) -> str:
        share = float((self.labels == 1).mean())
        return (
            f"LabelledSeries({self.name!r}, {self.layout}: {len(self.train)} + {len(self.test)} steps, "
            f"{self.test.values.shape[1]} channels, {share:.1%} anomalous)"
        )


def load_series(name: str) -> LabelledSeries:
    """Load a series by name.

    Parameters
    ----------
    name : str
        ``"nyc_taxi"`` or ``"application_server"`` (bundled), or a path below the folder ``timeseries`` of
        `ASSAY_DATA`, with or without its ending: ``"smd/machine-1-6"``, ``"nab/realTweets/Twitter_volume_KO"``.

    Raises
    ------
    InputError
        If nothing is called that.

    Examples
    --------
    >>> from assay.datasets.series import load_series
    >>> load_series("nyc_taxi")
    LabelledSeries('nyc_taxi', nab: 750 + 9570 steps, 1 channels, 10.8% anomalous)
    """
    if name in BUNDLED:
        return _bundled(name)
    for path in available_series():
        relative = _relative(path)
        if name in (relative, re.sub(r"(\.(csv|txt|npz|out))?(\.gz)?$", "", relative)):
            return read_series(path)
    raise InputError(
        f"no series is called {name!r}: {', '.join(BUNDLED)} are bundled; for others let ASSAY_DATA name a folder that "
        "holds timeseries/…, or give the file to read_series"
    )


def available_series() -> list[Path]:
    """Return the files below ``timeseries`` of `ASSAY_DATA` that `read_series` can read, sorted."""
    root = os.environ.get("ASSAY_DATA")
    found = Path(root).joinpath("timeseries").rglob("*") if root else ()
    endings = (".csv", ".npz", ".txt", ".txt.gz", ".out.gz", ".out")
    return sorted(
        path
        for path in found
        if path.name.endswith(endings)
        and path.name != "labeled_anomalies.csv"
        and not path.name.startswith("interpretation_")
    )


def _relative(path: Path) -> str:
    return path.relative_to(Path(os.environ["ASSAY_DATA"]) / "timeseries").as_posix()


def read_series(path: str | os.PathLike[str], *, train_share: float = 0.3, label: str | None = None) -> LabelledSeries:
    """Read a file of one of the field's layouts.

    Parameters
    ----------
    path : path
        The file; for SMD and NASA as published, that of the test part.
    train_share : float in (0, 1), default 0.3
        Share that trains, where the layout has no split of its own.
    label : str, optional
        Column of labels of a ``csv``; one of `LABELS` by default.

    Raises
    ------
    InputError
        If the file is not there, is of no such layout or cannot be read.
    """
    path = Path(path)
    check_number(train_share, "train_share", low=0.0, high=1.0, strict_low=True, strict_high=True)
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    name = re.sub(r"(\.(csv|txt|npz|npy|out))?(\.gz)?$", "", path.name)
    try:
        if path.suffix == ".npz":
            return _archive(path, name)
        if path.suffix == ".npy":
            return _nasa(name, np.load(_sibling(path, "train")), np.load(path), path.parent.parent)
        if _UCR.search(path.name):
            return _ucr(path, name)
        if path.parent.name == "test" and (path.parent.parent / "test_label" / path.name).is_file():
            parts = (_numbers(_sibling(path, part)) for part in ("train", "test", "test_label"))
            train, test, labels = parts
            return LabelledSeries(name, "smd", Series(train), Series(test), _binary(labels[:, 0], path))
        if path.name.endswith((".out", ".out.gz")):
            values = _numbers(path)
            return _cut(name, "tsb", values[:, :-1], _binary(values[:, -1], path), None, len(values) // 10)
        if path.name.endswith((".csv", ".csv.gz")):
            return _csv(path, name, train_share, label)
    except (OSError, ValueError, EOFError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error
    raise InputError(f"{path} is of no known layout: give .csv, .npz, .npy, .out or a UCR .txt")


def _bundled(name: str) -> LabelledSeries:
    path = Path(str(files("assay.datasets"))) / "bundled" / f"{name}.npz"
    if name == "application_server":
        return _archive(path, name)
    with np.load(path, allow_pickle=False) as archive:
        values, minutes, labels = archive["values"], archive["minutes"], archive["labels"]
    time = (minutes.astype("datetime64[m]")).astype("datetime64[ns]")
    return _nab_cut(name, values.astype(np.float64)[:, None], labels.astype(np.int64), time)


def _nab_cut(name: str, values: Floats, labels: Ints, time: Any) -> LabelledSeries:
    return _cut(name, "nab", values, labels, time, min(int(0.15 * len(values)), 750))


def _cut(
    name: str, layout: str, values: Floats, labels: Ints, time: Any, end: int, names: list[str] | None = None
) -> LabelledSeries:
    note = ""
    if time is not None and len(time) > 1:
        wrong = int((np.diff(time).astype(np.int64) <= 0).sum())
        if wrong:
            note, time = f"{wrong} times do not rise: steps are rows", None
    series = Series(values, time, names)
    return LabelledSeries(name, layout, series[:end], series[end:], labels[end:], note)


def _archive(path: Path, name: str) -> LabelledSeries:
    with np.load(path, allow_pickle=False) as archive:
        parts = {part: archive[part].astype(np.float64) for part in archive.files}
    if {"train", "test", "test_label"} <= parts.keys():
        labels = _binary(parts["test_label"], path)
        return LabelledSeries(name, "smd", Series(parts["train"]), Series(parts["test"]), labels)
    if {"train", "test"} <= parts.keys():
        return _nasa(name, parts["train"], parts["test"], path.parent)
    raise InputError(f"{path} holds {', '.join(parts)}: expected train, test and test_label")


def _nasa(name: str, train: Floats, test: Floats, folder: Path) -> LabelledSeries:
    table = folder / "labeled_anomalies.csv"
    if not table.is_file():
        raise InputError(f"{table} is missing: it holds the labels of {name}")
    labels, found = np.zeros(len(test), dtype=np.int64), False
    with open(table, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["chan_id"] == name:
                found = True
                for begin, end in json.loads(row["anomaly_sequences"]):
                    labels[int(begin) : int(end) + 1] = 1
    if not found:
        raise InputError(f"{table} has no line for {name}")
    return LabelledSeries(name, "nasa", Series(train.astype(np.float64)), Series(test.astype(np.float64)), labels)


def _ucr(path: Path, name: str) -> LabelledSeries:
    found = _UCR.search(path.name)
    assert found is not None
    train_end, begin, end = (int(group) for group in found.groups()[:3])
    # One value a line; a few files of the archive hold all of them in one line.
    values = np.array(_text(path).split(), dtype=np.float64)
    labels = np.zeros(len(values), dtype=np.int64)
    labels[begin - 1 : end] = 1
    return _cut(name, "ucr", values[:, None], labels, None, train_end)


def _csv(path: Path, name: str, train_share: float, label: str | None) -> LabelledSeries:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    table = arrow_csv.read_csv(io.BytesIO(_text(path).encode()))
    windows = path.parent.parent / "labels" / "combined_windows.json"
    time, values, names = None, [], []
    for column_name in table.column_names:
        column = table.column(column_name)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            time = column.to_numpy().astype("datetime64[ns]")
        elif column_name == "timestamp" and windows.is_file():
            time = np.array(column.to_pylist(), dtype="datetime64[ns]")
        elif column_name != label and (label is not None or column_name not in LABELS):
            if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
                raise InputError(f"{path}: column {column_name!r} holds {column.type}, not numbers")
            names.append(column_name)
            values.append(column.cast(pa.float64(), safe=False).to_numpy())
    if not values:
        raise InputError(f"{path} has no column of measurements")
    matrix = np.column_stack(values)
    if windows.is_file() and label is None:
        known = json.loads(windows.read_text(encoding="utf-8"))
        key = f"{path.parent.name}/{path.name.removesuffix('.gz')}"
        if key in known:
            labels = np.zeros(len(matrix), dtype=np.int64)
            for begin, end in known[key]:
                labels[(time >= np.datetime64(begin)) & (time <= np.datetime64(end))] = 1
            return _nab_cut(name, matrix, labels, time)
    wanted = next((column for column in LABELS if column in table.column_names), None) if label is None else label
    if wanted is None or wanted not in table.column_names:
        raise InputError(f"{path} has no column of labels: name it (label=…); it has {', '.join(table.column_names)}")
    labels = _binary(table.column(wanted).to_numpy(), path)
    split = _TSB.search(path.name)
    end = int(split.group(1)) if split else int(train_share * len(matrix))
    return _cut(name, "tsb" if split else "csv", matrix, labels, time, end, names)


def _sibling(path: Path, part: str) -> Path:
    return path.parent.parent / part / path.name


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def _numbers(path: Path) -> Floats:
    values = np.loadtxt(io.StringIO(_text(path)), delimiter=",", dtype=np.float64, ndmin=2)
    return values


def _binary(labels: Any, path: Path) -> Ints:
    labels = np.asarray(labels, dtype=np.float64).ravel()
    if not np.isin(labels, (0, 1, -1)).all():
        raise InputError(f"{path}: labels are 0 and 1, here {np.unique(labels)[:5].tolist()} occur")
    return labels.astype(np.int64)
