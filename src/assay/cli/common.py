"""What several commands share: options, printing, the record of a run."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

Train = Annotated[Path, typer.Option("--train", help="Real rows: .csv, .parquet or .npz (X, y).")]
Label = Annotated[str, typer.Option("--label", help="Column of labels (0 normal, 1 anomaly); y in an NPZ file.")]
MaybeLabel = Annotated[
    str | None, typer.Option("--label", help="Column of labels; without it every row counts as normal.")
]
Anomalous = Annotated[str | None, typer.Option("--anomalous", help="Value of the label column that marks an anomaly.")]
Index = Annotated[str | None, typer.Option("--index", help="Column that identifies rows.")]
Drop = Annotated[list[str] | None, typer.Option("--drop", help="Column to leave out (repeat for more).")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is random.", min=0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Jobs in parallel; -1 for all cores.")]
Subsets = Annotated[int, typer.Option("--subsets", help="Random subsets of EAP.", min=1)]


def settle_overwrite(out: Path, overwrite: bool) -> bool:
    """Ask before replacing a filled folder or a file, if someone is there to answer."""
    filled = out.is_file() or (out.is_dir() and any(out.iterdir()))
    if filled and not overwrite and sys.stdin.isatty() and sys.stderr.isatty():
        return typer.confirm(f"{out} exists. Replace it?", err=True, abort=True)
    return overwrite


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    names = ("assay", "numpy", "scipy", "scikit-learn", "numba", "pyarrow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def command_line(arguments: list[str]) -> str:
    """Return the command as one would type it."""
    return shlex.join(["assay", *arguments])


def data_record(**paths: Path | None) -> dict[str, Any]:
    """Return name and SHA-256 of each input file."""
    from assay.core.files import sha256_of

    return {name: {"path": str(path), "sha256": sha256_of(path)} for name, path in paths.items() if path is not None}


def write_json(record: Any, path: Path) -> None:
    """Write a record, readable and with its keys in the order given."""
    path.write_text(json.dumps(record, indent=2, default=_plain) + "\n", encoding="utf-8")


def echo_json(record: Any) -> None:
    """Print a record on standard output."""
    typer.echo(json.dumps(record, default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table; numbers to three digits, right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        is_text = not rows or isinstance(rows[0][number], str)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*[value if isinstance(value, str) else f"{value:.3g}" for value in row])
    Console().print(table)


def same_columns(names: list[str], expected: list[str], where: str, other: str) -> None:
    """Raise an `InputError` unless the columns of a file are those expected, in that order."""
    from assay.core.validation import InputError

    if names == expected:
        return
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    if len(names) != len(expected) and not (missing and extra) and not missing and not extra:
        raise InputError(f"{where} has {len(names)} feature columns, {other} has {len(expected)}")
    if missing or extra:
        parts = [f"lacks {', '.join(missing[:5])}"] if missing else []
        parts += [f"has {', '.join(extra[:5])} besides (--drop leaves columns out)"] if extra else []
        raise InputError(f"{where} does not have the columns of {other}: it {' and '.join(parts)}")
    raise InputError(f"{where} has the columns of {other} in another order ({', '.join(names[:4])} …): reorder them")
