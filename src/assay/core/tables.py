"""Tables in and out: CSV, Parquet and NumPy files into numbers, results back into files or the caller's own dataframe library.

Every complaint names the file and the column, and says what to do.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

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
    """

    path: Path
    names: list[str]
    X: Floats
    y: Ints | None
    index: Any


def read_table(
    path: str | Path,
    *,
    label: str | None = None,
    anomalous: str | None = None,
    index: str | None = None,
    drop: Sequence[str] = (),
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
    argument : str
        What to call the file in messages.

    Raises
    ------
    InputError
        If the file is missing, empty or broken, or a column is missing, not numeric or not finite.
    """
    path = Path(path)
    parts = list(iter_tables(path, label=label, anomalous=anomalous, index=index, drop=drop, argument=argument))
    if len(parts) == 1:
        return parts[0]
    y = None if parts[0].y is None else np.concatenate([part.y for part in parts if part.y is not None])
    X = np.concatenate([part.X for part in parts])
    return Table(path, parts[0].names, X, y, np.concatenate([part.index for part in parts]))


def iter_tables(
    path: str | Path,
    *,
    label: str | None = None,
    anomalous: str | None = None,
    index: str | None = None,
    drop: Sequence[str] = (),
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
    offset = 0
    for piece, stored_index in _pieces(path, where, rows):
        names = index if index is not None else stored_index
        table = _interpret(piece, path, where, label, anomalous, names, drop, offset)
        offset += len(table.X)
        yield table
    if offset == 0:
        raise InputError(f"{where} holds no rows")


def _pieces(path: Path, where: str, rows: int) -> Iterator[tuple[Any, str | None]]:
    """Yield Arrow tables, or dicts of arrays for NumPy files, each with the name of a stored index column."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            yield from _csv_pieces(path)
        elif suffix == ".parquet":
            yield from _parquet_pieces(path, rows)
        else:
            yield from _numpy_pieces(path, where, rows)
    except InputError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        UnicodeError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where} cannot be read as {suffix[1:]}: {reason}") from error


def _csv_pieces(path: Path) -> Iterator[tuple[Any, None]]:
    from pyarrow import csv

    blocks = csv.ReadOptions(block_size=16 * 2**20)
    with csv.open_csv(path, read_options=blocks) as reader:
        for batch in reader:
            if batch.num_rows:
                yield pa.Table.from_batches([batch]), None


def _parquet_pieces(path: Path, rows: int) -> Iterator[tuple[Any, str | None]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        stored = (file.schema_arrow.metadata or {}).get(b"pandas")
        columns = json.loads(stored)["index_columns"] if stored else []
        index = columns[0] if len(columns) == 1 and isinstance(columns[0], str) else None
        for batch in file.iter_batches(batch_size=rows):
            if batch.num_rows:
                yield pa.Table.from_batches([batch]), index


def _numpy_pieces(path: Path, where: str, rows: int) -> Iterator[tuple[Any, None]]:
    if path.suffix.lower() == ".npy":
        X, y = np.load(path, mmap_mode="r", allow_pickle=False), None
    else:
        with np.load(path, allow_pickle=False) as archive:
            if "X" not in archive:
                raise InputError(f"{where} holds {', '.join(archive.files[:5]) or 'nothing'}: it must hold an array X")
            X = archive["X"]
            y = archive.get("y")
    if X.ndim != 2 or X.dtype.kind not in "iufb":
        raise InputError(f"{where}: X has shape {X.shape} and type {X.dtype}; give a two-dimensional array of numbers")
    if y is not None and y.shape[:1] != X.shape[:1]:
        raise InputError(f"{where}: y has {y.shape[:1]} rows, X has {X.shape[:1]}")
    for first in range(0, len(X), rows):
        part = slice(first, first + rows)
        yield {"X": np.asarray(X[part], dtype=np.float64), "y": None if y is None else y[part]}, None


def _interpret(
    piece: Any,
    path: Path,
    where: str,
    label: str | None,
    anomalous: str | None,
    index: str | None,
    drop: Sequence[str],
    offset: int,
) -> Table:
    if isinstance(piece, dict):
        X, y = piece["X"], piece["y"]
        names = [f"x{f}" for f in range(X.shape[1])]
        if label is not None and (y is None or label != "y"):
            raise InputError(f"{where} has no label {label!r}: an NPZ file keeps its labels in an array y (label 'y')")
        labels = None if label is None else _labels(y, where, label, anomalous)
        refuse_non_finite(X, where, names)
        return Table(path, names, X, labels, np.arange(offset, offset + len(X)))
    available = piece.column_names
    twice = sorted({name for name in available if available.count(name) > 1})
    if twice:
        raise InputError(f"{where} has two columns called {twice[0]!r}: rename one")
    for name, what in [(label, "label"), (index, "index"), *((column, "dropped") for column in drop)]:
        if name is not None and name not in available:
            raise InputError(f"{where} has no {what} column {name!r}; it has {', '.join(available[:8])}")
    features = [name for name in available if name not in (label, index, *drop)]
    if not features:
        raise InputError(f"{where} has no feature columns besides label and index")
    X = np.column_stack([_numbers(piece.column(name), where, name) for name in features])
    refuse_non_finite(X, where, features)
    y = None if label is None else _labels(_plain(piece.column(label)), where, label, anomalous)
    identity = np.arange(offset, offset + len(X)) if index is None else _plain(piece.column(index))
    return Table(path, features, np.ascontiguousarray(X), y, identity)


def _plain(column: Any) -> Any:
    return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)


def _numbers(column: Any, where: str, name: str) -> Floats:
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
    if column.null_count:
        raise InputError(
            f"{where}: column {name!r} holds {column.null_count} missing values; impute or drop these rows"
        )
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _labels(values: Any, where: str, label: str, anomalous: str | None) -> Ints:
    values = np.asarray(values)
    if anomalous is not None:
        marked = np.array([str(value) == anomalous for value in values])
        if not marked.any():
            seen = sorted({str(value) for value in values[:10_000]})[:5]
            raise InputError(f"{where}: no label is {anomalous!r}; column {label!r} holds {', '.join(seen)}")
        return np.where(marked, ANOMALY, NORMAL).astype(np.int64)
    try:
        return as_labels(values, len(values), f"{where}: label column {label!r}")
    except InputError as error:
        raise InputError(f"{error} (or name the anomalous value: --anomalous VALUE)") from error


def write_table(columns: Any, path: str | Path) -> None:
    """Write named columns (a dict of arrays or an Arrow table) as ``.csv``, ``.parquet`` or ``.npz``, by the name's ending."""
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
