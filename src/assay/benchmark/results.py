"""Where a benchmark's rows lie: a folder with one small Parquet file a cell, and the table made of them.

::

    cells/<digest>.parquet   one row each; the digest is that of all the cell's result may depend on
    aside/                   files that could not be read
    plan.json                the cells of the last configuration, in the order of the table
    trial.toml               that configuration
    .lock                    held by the process that runs

**Why a file a cell, and no database.** A file appears whole, by one rename, or not at all: no crash, at any instant,
costs more than the cell it hit, and a damaged file costs its own cell alone. A database is one file to lose and lets
one process write; its journal would guard transactions that are never larger than a row. Only the driving process
writes, when a worker hands it the row, so that workers need no disk in common. Ten thousand cells are some 80 MB and
are read in seconds.

**What is run again.** The digest covers data set, seed, method (label, system, parameters), the options and the
measure's name and version. What was measured under the same digest is kept; whatever else a configuration changes
gets new names, and returning to the old one finds the old files.

`table` leaves out what depends on the machine or the moment, which `costs` has: time, versions, and whatever
measured column has a name that ends in ``_seconds``. So two runs give the same bits.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from assay.benchmark.config import Cell, Trial, digest_of
from assay.core.files import new_file
from assay.core.validation import InputError

#: What a row says of itself, before what was measured.
KEYS = {
    "dataset": pa.string(),
    "seed": pa.int64(),
    "method": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "config": pa.string(),
}
_LIBRARIES = ("assay", "numpy", "scipy", "scikit-learn", "numba")
#: What depends on the machine or the moment.
COSTS = {
    "seconds": pa.float64(),
    "cpu_seconds": pa.float64(),
    **{f"version_{library.replace('-', '_')}": pa.string() for library in _LIBRARIES},
}
_OURS = ("cells", "aside", "plan.json", "trial.toml", ".lock", "table.parquet", "table.csv", "report.html")


def digest(trial: Trial, cell: Cell, measure: Callable[..., Any]) -> str:
    """Return the name of a cell's file: a digest of all that its result may depend on, but for the libraries."""
    method = trial.methods[cell.method]
    name = f"{measure.__module__}:{measure.__qualname__}"
    release = getattr(sys.modules[measure.__module__], "VERSION", 0)
    return digest_of([cell, method.system, method.parameters, trial.options, name, release])[:32]


# -- a row


def columns_of(measured: Any) -> dict[str, pa.Array]:
    """Return what a measure returned as columns of one row.

    Raises
    ------
    TypeError
        If it is no dict of texts, numbers and lists of numbers, or uses a name that a row has anyway.
    """
    if not isinstance(measured, dict):
        raise TypeError(f"the measure returned {type(measured).__name__}, not a dict of what it measured")
    columns = {}
    for name, value in measured.items():
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(name, str) or name in KEYS or name in COSTS:
            raise TypeError(f"the measure returned a column {name!r}: every row has one of this name, rename it")
        if isinstance(value, (list, tuple, np.ndarray)):
            columns[name] = pa.array([np.asarray(value, dtype=np.float64).tolist()], pa.list_(pa.float64()))
        elif isinstance(value, (bool, int, float, str)):
            columns[name] = pa.array([value])
        else:
            raise TypeError(
                f"the measure returned {name}={type(value).__name__}: give a number, text, or list of numbers"
            )
    return columns


def encode(
    cell: Cell,
    config: str,
    status: str,
    reason: str | None,
    columns: dict[str, pa.Array],
    seconds: float,
    cpu_seconds: float,
) -> bytes:
    """Return the content of a cell's file."""
    keys = dict(zip(KEYS, (*cell, status, reason, config)))
    costs = dict(zip(COSTS, (seconds, cpu_seconds, *_versions())))
    typed = {name: pa.array([value], (KEYS | COSTS)[name]) for name, value in (keys | costs).items()}
    row = {name: typed[name] for name in KEYS} | columns | {name: typed[name] for name in COSTS}
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(row), sink, write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@cache
def _versions() -> tuple[str, ...]:
    return tuple(version(library) for library in _LIBRARIES)


# -- the folder


@contextmanager
def opened(folder: Path, trial: Trial, measure: Callable[..., Any]) -> Iterator[None]:
    """Prepare a folder for the rows of a trial and keep every other run out of it.

    Raises
    ------
    InputError
        If it cannot be created, holds anything that is no benchmark's, or is in use.
    """
    strangers = sorted(name for name in os.listdir(folder) if not _is_ours(name)) if folder.is_dir() else []
    if strangers:
        raise InputError(f"folder {folder} holds {strangers[0]!r}, which no benchmark wrote: choose another folder")
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} cannot be written: {error.strerror or error}") from error
    with _locked(folder):
        for pattern in (".plan.*", ".trial.*", "cells/.*"):
            for leftover in folder.glob(pattern):  # of a killed run
                leftover.unlink()
        # In the order of the table: by data set, seed, method.
        order = product(trial.datasets, sorted(trial.seeds), trial.methods)
        names = [digest(trial, Cell(*cell), measure) for cell in order]
        plan = {"name": trial.name, "trial": trial.digest, "cells": names}
        for name, content in {"plan.json": json.dumps(plan, indent=1) + "\n", "trial.toml": trial.text}.items():
            with new_file(folder / name, overwrite=True) as part:
                part.write_text(content, encoding="utf-8")
        yield


def _is_ours(name: str) -> bool:
    """Tell whether a benchmark wrote what has this name, whole or (a hidden part of it) on the way there."""
    return name in _OURS or name.startswith(tuple(f".{Path(whole).stem}." for whole in _OURS))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back from a process that dies, however it dies."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 200).decode(errors="replace") or "another process"
            raise InputError(f"folder {folder} is in use by {holder}: wait for it, or choose another folder") from error
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def store(folder: Path, name: str, content: bytes) -> None:
    """Write a cell's file, whole or not at all."""
    with new_file(folder / "cells" / f"{name}.parquet", overwrite=True) as part:
        part.write_bytes(content)


def find_row(folder: Path, name: str) -> pa.Table | None:
    """Return a cell's row; None if there is none. A file that cannot be read is put aside and said to be."""
    try:
        return _read(folder, name)
    except _Unreadable as error:
        path = folder / "cells" / f"{name}.parquet"
        aside = folder / "aside" / path.name
        aside.parent.mkdir(exist_ok=True)
        number = 1
        while aside.exists():
            number += 1
            aside = aside.with_name(f"{name}.{number}.parquet")
        os.replace(path, aside)
        print(f"assay: {path} {error}; it was moved to {aside}, and its cell is run again", file=sys.stderr)
        return None


class _Unreadable(Exception):
    """A cell's file that holds no row of that cell."""


def _read(folder: Path, name: str) -> pa.Table | None:
    try:
        content = (folder / "cells" / f"{name}.parquet").read_bytes()
    except FileNotFoundError:
        return None
    try:
        with parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            row = file.read()
        row.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _Unreadable(f"cannot be read ({' '.join(str(error).split())[:100]})") from error
    if row.num_rows != 1 or not {*KEYS, *COSTS}.issubset(row.column_names) or row["config"][0].as_py() != name:
        raise _Unreadable("is not the row of its cell")
    return row


# -- the table


def table(folder: str | Path) -> pa.Table:
    """Return all rows of the folder's configuration, sorted by data set (in its order), seed, method (in its order).

    Without what depends on the machine or the moment, so that two runs give the same table to the last bit.

    Raises
    ------
    InputError
        If the folder holds no benchmark, or a file of it cannot be read.
    """
    rows = _rows(Path(folder))
    return rows.drop_columns([name for name in rows.column_names if _is_cost(name)])


def costs(folder: str | Path) -> pa.Table:
    """Return what every row of `table` cost, in its order: time, versions, and ``fits`` where the measure counts them.

    Raises
    ------
    InputError
        As `table`.
    """
    rows = _rows(Path(folder))
    names = [name for name in rows.column_names if _is_cost(name) or name == "fits"]
    return rows.select(["dataset", "seed", "method", "status", *names])


def _is_cost(name: str) -> bool:
    return name in COSTS or name.endswith("_seconds")


def _rows(folder: Path) -> pa.Table:
    try:
        names = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"folder {folder} holds no benchmark (no plan.json): name one that `assay bench run` wrote"
        ) from error
    try:
        rows = [row for name in names if (row := _read(folder, name)) is not None]
    except _Unreadable as error:
        raise InputError(f"folder {folder}: a cell {error}: run the benchmark again, which measures it anew") from error
    # Types and order of the columns that every table has, even an empty one.
    first = pa.schema(list(KEYS.items())).empty_table()
    last = pa.schema(list(COSTS.items())).empty_table()
    try:
        joined = pa.concat_tables([first, *rows, last], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise InputError(f"folder {folder}: a measured column changes its kind between cells: {error}") from error
    return joined.combine_chunks()
