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
    blaming,
    echo_json,
    settle_file,
    system,
)


def sample(generator: Any, real: Any, count: int, strength: float, seed: int, where: str) -> Any:
    """Fit a generator on the normal rows of a table (and its anomalies, if it uses them), and draw from it."""
    from assay.core.clone import seeded_clone

    normals = real.X if real.y is None else real.X[real.y == 0]
    anomalies = None if real.y is None or not (real.y == 1).any() else real.X[real.y == 1]
    with blaming(where):
        return seeded_clone(generator, seed).fit(normals, anomalies).sample(count, strength)


def generate(
    name: Annotated[str, typer.Argument(help="Name of a generator, as `assay list --role generator` gives it.")],
    train: Train,
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv, .parquet or .npz.")],
    count: Annotated[int, typer.Option("--count", help="How many rows.", min=1, max=10**9)] = 500,
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
    from assay.core.progress import silence
    from assay.core.tables import read_table, write_table

    generator = system(name, "generator")
    overwrite = settle_file(out, overwrite, (".csv", ".parquet", ".npz"), train)
    with silence(quiet), new_file(out, overwrite=overwrite, name="--out") as part:
        real = read_table(train, label=label, anomalous=anomalous, index=index, drop=drop or (), argument="--train")
        auxiliary = sample(generator, real, count, strength, seed, f"--train {train}")
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
        changed = f"{summary['changed']:.0%} of the entries changed, {idle} unchanged rows"
        typer.echo(f"{count} rows by {name}, {changed}: {out}")
