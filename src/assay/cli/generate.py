"""`assay generate`: write auxiliary anomalies made from normal rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import (
    Anomalous,
    Drop,
    Index,
    Json,
    MaybeLabel,
    Overwrite,
    Quiet,
    Seed,
    Train,
    echo_json,
    settle_overwrite,
)


def make_generator(name: str, X: Any, y: Any, seed: int) -> Any:
    """Return the named generator, fitted on the normal rows (and the anomalies, if it uses them)."""
    from assay.catalogue import find, load_class
    from assay.core.clone import seeded_clone
    from assay.core.validation import InputError

    try:
        generator = load_class(find(name, "generator"))()
    except KeyError as error:
        raise InputError(str(error.args[0])) from error
    normals = X if y is None else X[y == 0]
    anomalies = None if y is None or not (y == 1).any() else X[y == 1]
    if len(normals) < 2:
        raise InputError(f"--train holds {len(normals)} normal rows: a generator needs at least 2")
    return seeded_clone(generator, seed).fit(normals, anomalies)


def generate(
    name: Annotated[str, typer.Argument(help="Name of a generator, as `assay list --role generator` gives it.")],
    train: Train,
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv, .parquet or .npz.")],
    count: Annotated[int, typer.Option("--count", help="How many rows.", min=1)] = 500,
    strength: Annotated[
        float, typer.Option("--strength", help="0 the row itself, 1 the published setting.", min=0.0)
    ] = 1.0,
    label: MaybeLabel = None,
    anomalous: Anomalous = None,
    index: Index = None,
    drop: Drop = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write auxiliary anomalies made from the normal rows of a file.

    An NPZ file also holds the mask of changed entries and the parents.
    """
    import numpy as np

    from assay.core.files import new_file
    from assay.core.tables import read_table, write_table
    from assay.core.validation import InputError

    if out.suffix.lower() not in (".csv", ".parquet", ".npz"):
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'!r}: give .csv, .parquet or .npz")
    overwrite = settle_overwrite(out, overwrite)
    real = read_table(train, label=label, anomalous=anomalous, index=index, drop=drop or (), argument="--train")
    auxiliary = make_generator(name, real.X, real.y, seed).sample(count, strength)
    with new_file(out, overwrite=overwrite, name="--out") as part:
        if out.suffix.lower() == ".npz":
            labels = np.ones(count, dtype=np.int64)
            write_table({"X": auxiliary.X, "y": labels, "mask": auxiliary.mask, "parents": auxiliary.parents}, part)
        else:
            write_table({column: auxiliary.X[:, f] for f, column in enumerate(real.names)}, part)
    idle = sum(bool(meta["noop"]) for meta in auxiliary.meta)
    summary = {
        "generator": name,
        "rows": count,
        "strength": strength,
        "changed": float(auxiliary.mask.mean()),
        "noop": idle,
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        typer.echo(
            f"{count} rows by {name}, {summary['changed']:.0%} of the entries changed, {idle} unchanged rows: {out}"
        )
