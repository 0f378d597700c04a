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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from assay.core.series import Series, as_series
from assay.core.validation import Floats, InputError, Ints, check_number

#: Columns that hold labels, in the order in which they are looked for.
LABELS = ("label", "Label", "is_anomaly", "anomaly")
#: Sets that the package itself holds, both MIT: one of NAB, one of ASD (server omi-9).
BUNDLED = ("nyc_taxi", "application_server")
#: Rows of a piece.
ROWS = 65_536
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
    from pyarrow import csv as arrow_csv

    table = arrow_csv.read_csv(io.BytesIO(_text(path).encode()))
    windows = path.parent.parent / "labels" / "combined_windows.json"
    known = json.loads(windows.read_text(encoding="utf-8")) if windows.is_file() and label is None else {}
    key = f"{path.parent.name}/{path.name.removesuffix('.gz')}"
    if key in known:
        time = np.array(table.column("timestamp").to_pylist(), dtype="datetime64[ns]")
        labels = np.zeros(len(time), dtype=np.int64)
        for begin, end in known[key]:
            labels[(time >= np.datetime64(begin)) & (time <= np.datetime64(end))] = 1
        values = np.asarray(table.column("value").to_numpy(), dtype=np.float64)
        return _nab_cut(name, values[:, None], labels, time)
    wanted = next((column for column in LABELS if column in table.column_names), None) if label is None else label
    if wanted is None or wanted not in table.column_names:
        raise InputError(f"{path} has no column of labels: name it (label=…); it has {', '.join(table.column_names)}")
    steps = _steps_of(table, str(path), wanted, ())
    assert steps.labels is not None
    split = _TSB.search(path.name)
    end = int(split.group(1)) if split else int(train_share * len(steps.labels))
    series = steps.series
    return _cut(name, "tsb" if split else "csv", series.values, steps.labels, series.time, end, series.names)


class Steps(NamedTuple):
    """A piece of a file.

    Attributes
    ----------
    series : Series
        Its steps.
    labels : array of int of shape (n,), optional
        Theirs, where a column of labels was named.
    """

    series: Series
    labels: Ints | None


def iter_steps(
    path: str | os.PathLike[str], *, label: str | None = None, drop: Sequence[str] = (), name: str = "path"
) -> Iterator[Steps]:
    """Yield a table's rows as steps of a series, piece by piece: the file may be larger than memory.

    Parameters
    ----------
    path : path
        ``.csv``, ``.parquet`` or ``.npy`` (T,) or (T, C). A column of times is the time, numbers are channels, an
        empty cell is a missing measurement.
    label : str, optional
        Column of labels (0, 1, -1).
    drop : sequence of str
        Columns to leave out.
    name : str, default "path"
        What messages call the argument.

    Raises
    ------
    InputError
        If the file is not there, is of another kind, or holds a column that is neither time nor numbers.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    path = Path(path)
    where = f"{name} {path}"
    if not path.is_file():
        raise InputError(f"{where} is not a file")
    try:
        if path.suffix == ".npy":
            content = np.load(path, mmap_mode="r", allow_pickle=False)
            for start in range(0, len(content), ROWS):
                yield Steps(as_series(np.asarray(content[start : start + ROWS]), where, min_steps=0), None)
            return
        if path.suffix == ".csv":
            batches: Any = arrow_csv.open_csv(path, arrow_csv.ReadOptions(block_size=4 * 2**20))
        elif path.suffix == ".parquet":
            batches = parquet.ParquetFile(path).iter_batches(ROWS)
        else:
            raise InputError(f"{where} ends in {path.suffix or 'nothing'!r}: give .csv, .parquet or .npy")
        for batch in batches:
            if batch.num_rows:
                yield _steps_of(pa.Table.from_batches([batch]), where, label, drop)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} cannot be read: {error}") from error


def read_steps(path: str | os.PathLike[str], **options: Any) -> Steps:
    """Return what `iter_steps` yields as one piece."""
    pieces = list(iter_steps(path, **options))
    if not pieces:
        raise InputError(f"{options.get('name', 'path')} {path} has no rows")
    first = pieces[0].series
    time = None if first.time is None else np.concatenate([piece.series.time for piece in pieces])
    labels = None if pieces[0].labels is None else np.concatenate([piece.labels for piece in pieces])
    return Steps(Series(np.concatenate([piece.series.values for piece in pieces]), time, first.names), labels)


def _steps_of(table: Any, where: str, label: str | None, drop: Sequence[str]) -> Steps:
    import pyarrow as pa

    for wanted, what in [(label, "label column"), *((column, "dropped column") for column in drop)]:
        if wanted is not None and wanted not in table.column_names:
            raise InputError(f"{where} has no {what} {wanted!r}; it has {', '.join(table.column_names[:8])}")
    time, values, names = None, [], []
    for column_name in table.column_names:
        column = table.column(column_name)
        kind = column.type
        if column_name == label or column_name in drop:
            continue
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            if time is not None:
                raise InputError(f"{where} has two columns of times: leave {column_name!r} out")
            time = np.asarray(column.to_numpy()).astype("datetime64[ns]")
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            names.append(column_name)
            values.append(np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64))
        elif pa.types.is_null(kind):  # empty as far as this piece goes
            names.append(column_name)
            values.append(np.full(len(column), np.nan))
        else:
            raise InputError(f"{where}: column {column_name!r} holds {kind}, not numbers or times; leave it out")
    if not values:
        raise InputError(f"{where} has no column of measurements")
    labels = None if label is None else _binary(table.column(label).to_numpy(), where)
    return Steps(Series(np.column_stack(values), time, names), labels)


def _sibling(path: Path, part: str) -> Path:
    return path.parent.parent / part / path.name


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def _numbers(path: Path) -> Floats:
    values = np.loadtxt(io.StringIO(_text(path)), delimiter=",", dtype=np.float64, ndmin=2)
    return values


def _binary(labels: Any, where: Any) -> Ints:
    labels = np.asarray(labels, dtype=np.float64).ravel()
    if not np.isin(labels, (0, 1, -1)).all():
        raise InputError(f"{where}: labels are 0 and 1, here {np.unique(labels)[:5].tolist()} occur")
    return labels.astype(np.int64)
