"""What several commands share: options, printing, the record of a run."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer


def _no_zero(jobs: int) -> int:
    if jobs == 0:
        raise typer.BadParameter("0 jobs do nothing: give 1 or more, or -1 for all cores")
    return jobs


Train = Annotated[Path, typer.Option("--train", help="Real rows: .csv, .parquet or .npz (X, y); images: a folder.")]
MaybeTrain = Annotated[Path | None, typer.Option("--train", help="Real rows: .csv, .parquet or .npz (X, y).")]
Label = Annotated[str, typer.Option("--label", help="Column of labels (0 normal, 1 anomaly); y in an NPZ file.")]
MaybeLabel = Annotated[
    str | None, typer.Option("--label", help="Column of labels; without it every row counts as normal.")
]
Anomalous = Annotated[str | None, typer.Option("--anomalous", help="Value of the label column that marks an anomaly.")]
Index = Annotated[str | None, typer.Option("--index", help="Column that identifies rows.")]
Drop = Annotated[list[str] | None, typer.Option("--drop", help="Column to leave out (repeat for more).")]
Normal = Annotated[
    int | None, typer.Option("--normal", help="Of graphs: the class that is normal; the others are anomalies.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is random.", min=0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Jobs = Annotated[
    int, typer.Option("--jobs", help="Jobs in parallel; -1 for all cores.", min=-1, max=256, callback=_no_zero)
]
Subsets = Annotated[int, typer.Option("--subsets", help="Random subsets of EAP.", min=1, max=10**6)]


def settle_folder(out: Path, overwrite: bool, ours: Sequence[str], inputs: Iterable[Path | None] = ()) -> bool:
    """Return whether the folder `out` may be replaced; ask if it is filled and someone is there to answer.

    Raises
    ------
    InputError
        If it is filled and stays, is a file, or holds an input of this run or anything whose name matches none of
        the patterns `ours`.
    """
    from assay.core.validation import InputError

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: name a folder")
    names = sorted(os.listdir(out)) if out.is_dir() else []
    for path in inputs:
        if path is not None and out.resolve() in path.resolve().parents and path.exists():
            raise InputError(f"--out {out} holds {path}, which is read here: choose another folder")
    strangers = [name for name in names if not any(fnmatch(name, pattern) for pattern in ours)]
    if strangers:
        raise InputError(
            f"--out {out} holds {strangers[0]!r}, which is no result of this command: choose another folder"
        )
    return _ask(out, overwrite, "exists and is not empty") if names else overwrite


def settle_file(out: Path, overwrite: bool, suffixes: Sequence[str], read: Path) -> bool:
    """Return whether the file `out` may be replaced; ask if it exists and someone is there to answer.

    Raises
    ------
    InputError
        If it stays, is a folder or the file `read`, or has none of the `suffixes`.
    """
    from assay.core.validation import InputError

    if out.suffix.lower() not in suffixes:
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'!r}: give {' or '.join(suffixes)}")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file")
    if out.exists() and read.exists() and out.samefile(read):
        raise InputError(f"--out {out} is the file that is read: choose another name")
    return _ask(out, overwrite, "exists") if out.exists() else overwrite


def _ask(out: Path, overwrite: bool, state: str) -> bool:
    from assay.core.validation import InputError

    if overwrite:
        return True
    someone = sys.stdin.isatty() and sys.stderr.isatty()
    if not (someone and typer.confirm(f"--out {out} {state}. Replace it?", err=True)):
        raise InputError(f"--out {out} {state}: choose another, or overwrite it (--overwrite)")
    return True


def system(name: str, role: str) -> Any:
    """Return the named system with its default parameters."""
    from assay.catalogue import find, load_class
    from assay.core.validation import InputError

    try:
        return load_class(find(name, role))()
    except KeyError as error:
        raise InputError(str(error.args[0])) from error


def check_choice(value: str, choices: Sequence[str], option: str) -> None:
    """Raise an `InputError` that offers the nearest choices unless `value` is one of them."""
    from difflib import get_close_matches

    from assay.core.validation import InputError

    if value not in choices:
        near = get_close_matches(value, choices, n=3, cutoff=0.5) or choices
        raise InputError(f"{option} {value!r} is unknown; did you mean {', '.join(near)}?")


def check_classes(y: Any, where: str, *, min_normals: int, min_anomalies: int, minority: bool = False) -> None:
    """Raise an `InputError` unless the labels of a file hold enough of both kinds, and none unknown."""
    from assay.core.validation import InputError, normals_and_anomalies

    name = f"{where}: the label column"
    normals, anomalies = normals_and_anomalies(y, min_normals=min_normals, min_anomalies=min_anomalies, name=name)
    if minority and len(anomalies) >= len(normals):
        raise InputError(f"{name} holds {len(anomalies)} anomalies among {len(y)} rows: they must be the minority")


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Name the file where an error is about the rows or the labels it holds."""
    from assay.core.validation import InputError

    try:
        yield
    except InputError as error:
        if str(error).startswith(("X", "y ", "y:")):
            raise InputError(f"{where}: {error}") from error
        raise


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    names = ("assay", "numpy", "scipy", "scikit-learn", "numba", "pyarrow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def command_line() -> str:
    """Return the command as it was typed."""
    return shlex.join(["assay", *sys.argv[1:]])


def data_record(**paths: Path | None) -> dict[str, Any]:
    """Return name and SHA-256 of each input file."""
    from assay.core.files import sha256_of

    return {name: {"path": str(path), "sha256": sha256_of(path)} for name, path in paths.items() if path is not None}


def write_json(record: Any, path: Path) -> None:
    """Write a record, readable and with its keys in the order given."""
    path.write_text(json.dumps(_plain(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def echo_json(record: Any) -> None:
    """Print a record on standard output."""
    typer.echo(json.dumps(_plain(record), allow_nan=False))


def _plain(value: Any) -> Any:
    """Return `value` as JSON knows it: numbers of NumPy as plain ones, and null for NaN and infinity."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers to three digits, right-aligned. In a pipe a row is a line, however long."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        is_text = not rows or isinstance(rows[0][number], str)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*[value if isinstance(value, str) else _digits(value) for value in row])
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, color_system=None if os.environ.get("NO_COLOR") else "auto", markup=False).print(table)


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def free_name(name: str, taken: Sequence[str]) -> str:
    """Return `name`, with underscores behind it until it is not among those `taken`."""
    while name in taken:
        name += "_"
    return name


def check_dropped(drop: Sequence[str] | None, tables: Sequence[Any]) -> None:
    """Raise an `InputError` if a column to leave out is in none of the tables."""
    from assay.core.validation import InputError

    for name in drop or ():
        if all(name in table.absent for table in tables):
            raise InputError(f"--drop {name}: no file has such a column")


def known_columns(model: Any) -> tuple[list[str], bool]:
    """Return the columns that a saved model of tables was fitted on, and whether they have names (else numbers)."""
    names = getattr(model, "feature_names_in_", range(model.n_features_in_))
    return [str(name) for name in names], hasattr(model, "feature_names_in_")


def same_columns(table: Any, where: str, names: Sequence[str], other: str, named: bool = True) -> None:
    """Raise an `InputError` unless the columns of a table are those expected, in that order.

    NumPy files, and what was fitted on one (`named` False), have numbered columns: there the number alone counts.
    """
    from assay.core.validation import InputError

    found, expected = list(table.names), list(names)
    if found == expected or (len(found) == len(expected) and not (named and table.named)):
        return
    if not (named and table.named):
        raise InputError(f"{where} has {len(found)} feature columns, {other} has {len(expected)} (--drop leaves out)")
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        parts = [f"lacks {', '.join(missing[:5])}"] if missing else []
        parts += [f"has {', '.join(extra[:5])} besides (--drop leaves columns out)"] if extra else []
        raise InputError(f"{where} does not have the columns of {other}: it {' and '.join(parts)}")
    raise InputError(f"{where} has the columns of {other} in another order ({', '.join(found[:4])} …): reorder them")
