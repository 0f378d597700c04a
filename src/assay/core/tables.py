"""Tables in and out: CSV, Parquet and NumPy files into numbers, results into files or the caller's own dataframes.

Every complaint names the file and the column, and says what to do.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.core.progress import progress
from assay.core.validation import (
    ANOMALY,
    NORMAL,
    Floats,
    InputError,
    Ints,
    _looks_like_a_frame,
    as_labels,
    refuse_non_finite,
)

SUFFIXES = (".csv", ".parquet", ".npz", ".npy")


@dataclass(frozen=True)
class Table:
    """Numbers of a file.

    Attributes
    ----------
    path : Path
        The file.
    names : list of str
        Feature columns.
    X : array of shape (n, d)
        Their values, finite.
    y : array of shape (n,) or None
        Labels 0, 1, -1, where a label column was named.
    index : array of shape (n,)
        What identifies a row: the named or stored index column, else 0, 1, 2, …
    named : bool
        Whether the columns have names of their own; those of NumPy files are only numbered (x0, x1, …).
    absent : list of str
        Columns that were to be left out and are not there.
    """

    path: Path
    names: list[str]
    X: Floats
    y: Ints | None
    index: Any
    named: bool = True
    absent: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Wanted:
    """What to read of a file, and what to call it in messages."""

    path: Path
    where: str
    label: str | None
    anomalous: str | None
    index: str | None
    drop: Sequence[str]
    optional: bool


def read_table(
    path: str | Path,
    *,
    label: str | None = None,
    anomalous: str | None = None,
    index: str | None = None,
    drop: Sequence[str] = (),
    optional: bool = False,
    argument: str = "file",
) -> Table:
    """Read a whole table.

    Parameters
    ----------
    path : path
        A ``.csv``, ``.parquet``, ``.npz`` (arrays ``X`` and optionally ``y``) or ``.npy`` file.
    label : str, optional
        Column of labels: 0 normal, 1 anomaly, -1 unknown (in an NPZ file ``y``).
    anomalous : str, optional
        Value of the label column that marks an anomaly; every other value is then normal.
    index : str, optional
        Column that identifies rows.
    drop : sequence of str
        Columns to leave out.
    optional : bool, default False
        Whether columns to leave out may be absent; `Table.absent` then names them.
    argument : str
        What to call the file in messages.

    Raises
    ------
    InputError
        If the file is missing, empty or broken, or a column is missing, not numeric or not finite.
    """
    pieces = iter_tables(
        path, label=label, anomalous=anomalous, index=index, drop=drop, optional=optional, argument=argument
    )
    parts = list(progress(pieces, f"reading {Path(path).name}"))
    if len(parts) == 1:
        return parts[0]
    y = None if parts[0].y is None else np.concatenate([part.y for part in parts if part.y is not None])
    X = np.concatenate([part.X for part in parts])
    return replace(parts[0], X=X, y=y, index=np.concatenate([part.index for part in parts]))


def iter_tables(
    path: str | Path,
    *,
    label: str | None = None,
    anomalous: str | None = None,
    index: str | None = None,
    drop: Sequence[str] = (),
    optional: bool = False,
    argument: str = "file",
    rows: int = 50_000,
) -> Iterator[Table]:
    """Yield a table in pieces of about `rows` rows, so that a file larger than memory can be read (not ``.npz``)."""
    path = Path(path)
    where = f"{argument} {path}"
    if not path.exists():
        raise InputError(f"{where} does not exist")
    if path.is_dir():
        raise InputError(f"{where} is a folder: name a {', '.join(SUFFIXES)} file")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{where} ends in {path.suffix or 'nothing'!r}: give a {', '.join(SUFFIXES)} file")
    if path.stat().st_size == 0:
        raise InputError(f"{where} is empty (0 bytes)")
    wanted = _Wanted(path, where, label, anomalous, index, drop, optional)
    offset, marked = 0, False
    seen: set[str] = set()
    for piece, stored in _pieces(wanted, rows):
        table = _interpret(piece, wanted, stored, offset, seen)
        offset += len(table.X)
        marked = marked or (table.y is not None and bool((table.y == ANOMALY).any()))
        yield table
    if offset == 0:
        raise InputError(f"{where} holds no rows")
    if anomalous is not None and label is not None and not marked:
        raise InputError(f"{where}: no label is {anomalous!r}; column {label!r} holds {', '.join(sorted(seen)[:5])}")


def _pieces(wanted: _Wanted, rows: int) -> Iterator[tuple[Any, Any]]:
    """Yield Arrow tables, or dicts of arrays for NumPy files, each with the index pandas stored beside it."""
    suffix = wanted.path.suffix.lower()
    try:
        if suffix == ".csv":
            yield from _csv_pieces(wanted)
        elif suffix == ".parquet":
            yield from _parquet_pieces(wanted.path, rows)
        else:
            yield from _numpy_pieces(wanted.path, wanted.where, rows)
    except InputError:
        raise
    except Exception as error:  # whatever a parser says about damaged data: one kind of error, one line
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{wanted.where} cannot be read as {suffix[1:]}: {reason}") from error


def _csv_pieces(wanted: _Wanted) -> Iterator[tuple[Any, None]]:
    from pyarrow import csv

    blocks = csv.ReadOptions(block_size=4 * 2**20)
    with csv.open_csv(wanted.path, read_options=blocks) as reader:
        schema = reader.schema
    # Types are guessed from the first block: a column of whole numbers there may hold fractions further down.
    apart = (wanted.label, wanted.index)
    types = {
        column.name: pa.float64()
        for column in schema
        if column.name not in apart and (pa.types.is_integer(column.type) or pa.types.is_null(column.type))
    }
    options = csv.ConvertOptions(column_types=types)
    with csv.open_csv(wanted.path, read_options=blocks, convert_options=options) as reader:
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch]), None


def _parquet_pieces(path: Path, rows: int) -> Iterator[tuple[Any, Any]]:
    from pyarrow import parquet

    # By default Arrow fetches every row group ahead and keeps them all; a small buffer spares even a single large one.
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
        stored = (file.schema_arrow.metadata or {}).get(b"pandas")
        index = json.loads(stored)["index_columns"] if stored else []
        for batch in file.iter_batches(batch_size=rows):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]), index


def _numpy_pieces(path: Path, where: str, rows: int) -> Iterator[tuple[Any, None]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of Python 2 are read all the same
        content = np.load(path, mmap_mode="r", allow_pickle=False)
    y = None
    if isinstance(content, np.ndarray):
        X = content
    else:
        with content as archive:
            if "X" not in archive:
                raise InputError(f"{where} holds {', '.join(archive.files[:5]) or 'nothing'}: it must hold an array X")
            X, y = archive["X"], archive.get("y")
    if X.ndim != 2 or X.dtype.kind not in "iufb":
        raise InputError(f"{where}: X has shape {X.shape} and type {X.dtype}; give a two-dimensional array of numbers")
    if y is not None and y.shape[:1] != X.shape[:1]:
        raise InputError(f"{where}: y has {y.shape[:1]} rows, X has {X.shape[:1]}")
    for first in range(0, len(X), rows):
        part = slice(first, first + rows)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            matrix = np.asarray(X[part], dtype=np.float64)
        yield {"X": matrix, "y": None if y is None else y[part]}, None


def _interpret(piece: Any, wanted: _Wanted, stored: Any, offset: int, seen: set[str]) -> Table:
    if isinstance(piece, dict):
        return _interpret_arrays(piece, wanted, offset, seen)
    where, label, index = wanted.where, wanted.label, wanted.index
    available = piece.column_names
    twice = sorted({name for name in available if available.count(name) > 1})
    if twice:
        raise InputError(f"{where} has two columns called {twice[0]!r}: rename one")
    # What pandas stored as its index is no feature; an index of mere numbers is a dictionary, not a column.
    stored_columns = [name for name in stored or () if isinstance(name, str) and name in available]
    if index is None and len(stored_columns) > 1:
        raise InputError(f"{where} has an index of {len(stored_columns)} columns: name one of them with --index")
    index = stored_columns[0] if index is None and stored_columns else index
    absent = _absent(wanted, available)
    for name, what in [(label, "label"), (index, "index")]:
        if name is not None and name not in available:
            raise InputError(f"{where} has no {what} column {name!r}; it has {', '.join(available[:8])}")
    features = [name for name in available if name not in (label, index, *wanted.drop, *stored_columns)]
    if not features:
        raise InputError(f"{where} has no feature columns besides label and index")
    X = np.column_stack([_numbers(piece.column(name), where, name, offset) for name in features])
    refuse_non_finite(X, where, features, offset)
    y = None if label is None else _labels(_plain(piece.column(label)), wanted, seen)
    if index is None:
        identity = _numbered(stored, offset, len(X))
    else:
        identity = _identity(piece.column(index), where, index, offset)
    return Table(wanted.path, features, np.ascontiguousarray(X), y, identity, absent=absent)


def _interpret_arrays(piece: dict[str, Any], wanted: _Wanted, offset: int, seen: set[str]) -> Table:
    X, y, where, label = piece["X"], piece["y"], wanted.where, wanted.label
    names = [f"x{f}" for f in range(X.shape[1])]
    if label is not None and (y is None or label != "y"):
        raise InputError(f"{where} has no label {label!r}: an NPZ file keeps its labels in an array y (label 'y')")
    if wanted.index is not None:
        raise InputError(f"{where} has no index column {wanted.index!r}: the columns of a NumPy file have no names")
    labels = None if label is None else _labels(y, wanted, seen)
    kept = [f for f, name in enumerate(names) if name not in wanted.drop]
    if not kept:
        raise InputError(f"{where} has no feature columns")
    absent = _absent(wanted, [*names, "y"])
    X, names = np.ascontiguousarray(X[:, kept]), [names[f] for f in kept]
    refuse_non_finite(X, where, names, offset)
    return Table(wanted.path, names, X, labels, np.arange(offset, offset + len(X)), named=False, absent=absent)


def _absent(wanted: _Wanted, available: list[str]) -> list[str]:
    """Return the columns to leave out that are not there, unless that is an error."""
    absent = [name for name in wanted.drop if name not in available]
    if absent and not wanted.optional:
        raise InputError(f"{wanted.where} has no dropped column {absent[0]!r}; it has {', '.join(available[:8])}")
    return absent


def _numbered(stored: Any, offset: int, n: int) -> Ints:
    """Return the row numbers from `offset` on, in the steps of the range that pandas stored as its index, if it did."""
    ranges = [entry for entry in stored or () if isinstance(entry, dict) and entry.get("kind") == "range"]
    start, step = (int(ranges[0]["start"]), int(ranges[0]["step"])) if ranges else (0, 1)
    return start + step * np.arange(offset, offset + n)


def _identity(column: Any, where: str, name: str, offset: int) -> Any:
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        raise InputError(f"{where}: index column {name!r} holds {column.type}: give numbers, texts or times")
    _refuse_missing(column, where, f"index column {name!r}", offset)
    return _plain(column)


def _plain(column: Any) -> Any:
    return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)


def _numbers(column: Any, where: str, name: str, offset: int) -> Floats:
    kind = column.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        what = "nothing" if pa.types.is_null(kind) else "text" if pa.types.is_string(kind) else str(kind)
        raise InputError(
            f"{where}: column {name!r} holds {what}, not numbers; encode it, or leave it out (--drop {name})"
        )
    _refuse_missing(column, where, f"column {name!r}", offset)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _refuse_missing(column: Any, where: str, what: str, offset: int) -> None:
    if column.null_count:
        first = offset + int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise InputError(f"{where}: {what} holds missing values (the first in row {first}); impute or drop these rows")


def _labels(values: Any, wanted: _Wanted, seen: set[str]) -> Ints:
    """Return the labels of a piece; `seen` gathers some of the file's labels that do not mark an anomaly."""
    values = np.asarray(values)
    if wanted.anomalous is not None:
        texts = np.array([str(value) for value in values])
        seen.update(str(text) for text in np.unique(texts)[:5])
        return np.where(texts == wanted.anomalous, ANOMALY, NORMAL).astype(np.int64)
    try:
        return as_labels(values, len(values), f"{wanted.where}: label column {wanted.label!r}")
    except InputError as error:
        raise InputError(f"{error} (or name the anomalous value: --anomalous VALUE)") from error


def write_table(columns: Any, path: str | Path) -> None:
    """Write named columns (a dict of arrays or an Arrow table) as ``.csv``, ``.parquet`` or ``.npz``, by the ending."""
    from pyarrow import csv, parquet

    path = Path(path)
    if path.suffix.lower() == ".npz":
        np.savez_compressed(path, **columns)
        return
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix.lower() == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix.lower() == ".csv":
        csv.write_csv(table, path)
    else:
        raise InputError(f"file {path} ends in {path.suffix!r}: give .csv, .parquet or .npz")


def like_input(columns: dict[str, Any], like: Any) -> Any:
    """Return `columns` as a dataframe of the library of `like`; as a `pyarrow.Table` if that is no dataframe.

    A pandas index is carried over.
    """
    if not _looks_like_a_frame(like):
        return pa.table(columns)
    import narwhals.stable.v1 as nw

    frame = nw.from_native(like, eager_only=True)
    result = nw.to_native(nw.from_dict(columns, backend=nw.get_native_namespace(frame)))
    if hasattr(like, "index") and hasattr(result, "index"):
        result.index = like.index
    return result
