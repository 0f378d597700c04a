"""`assay audit`: what a saved detector cannot hold or would not notice, and which defects it finds for what reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import (
    Drop,
    Index,
    Json,
    Overwrite,
    Quiet,
    Seed,
    blaming,
    command_line,
    data_record,
    echo_json,
    known_columns,
    same_columns,
    settle_file,
)

app = typer.Typer(help="Audit a saved detector.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _audits() -> None:
    """Audit a saved detector."""


@app.command("topology")
def topology(
    model: Annotated[Path, typer.Argument(help="Folder that `assay fit` saved, e.g. of an autoencoder.")],
    table: Annotated[Path, typer.Argument(help="Normal rows: .csv, .parquet or .npz (X).")],
    out: Annotated[Path, typer.Option("--out", help="Page to write: .html.")],
    label: Annotated[str | None, typer.Option("--label", help="Column of labels: anomalies (1) are left out.")] = None,
    index: Index = None,
    drop: Drop = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How often it is trained anew.", min=0, max=1000)] = 5,
    regions: Annotated[int, typer.Option("--regions", help="Regions left out of training in turn.", min=0)] = 3,
    rate: Annotated[float, typer.Option("--rate", help="Share of normal rows that counts as false alarms.")] = 0.05,
    rows: Annotated[int, typer.Option("--rows", help="Rows that are looked at, by chance.", min=30)] = 5000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find where a detector must fail on normal rows and which gaps it would not notice; write a page about it."""
    import numpy as np

    from assay.core.progress import silence
    from assay.core.store import load
    from assay.core.tables import read_table
    from assay.core.validation import InputError
    from assay.explain.topology import TopologyAuditor
    from assay.report.topology import topology_report

    overwrite = settle_file(out, overwrite, (".html",), table)
    detector: Any = load(model)
    if not hasattr(detector, "anomaly_score"):
        raise InputError(f"{model} holds a {type(detector).__name__}, which gives no anomaly scores")
    read = read_table(table, label=label, index=index, drop=drop or (), argument="TABLE")
    expected, named = known_columns(detector)
    same_columns(read, str(table), expected, f"the model {model}", named)
    X = read.X if read.y is None else read.X[read.y != 1]
    if len(X) > rows:
        X = X[np.sort(np.random.default_rng(seed).choice(len(X), rows, replace=False))]
    with silence(quiet), blaming(str(table)):
        audit = TopologyAuditor(detector, rate=rate, random_state=seed).run(X, remove=regions, seeds=seeds)
    record = {"command": command_line(), "seed": seed, "data": data_record(table=table)}
    topology_report(audit, out, title=f"What {model.name} cannot hold", run=record)
    summary = {
        "verdict": audit.verdict,
        "dimension": audit.whole_dimension,
        "latent": audit.latent,
        "betti": audit.betti,
        "latent_betti": audit.latent_betti,
        "seams": len(audit.seams),
        "proved_error": max([0.0, *(twins.proved for twins in audit.twins)]),
        "alarms_at_seams": audit.alarm_share,
        "flip_rate": audit.flip_rate,
        "blind_regions": len(audit.blind_regions),
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        for sentence in (audit.verdict, *audit.advice):
            typer.echo(sentence)
        typer.echo(f"written: {out}")


@app.command("images")
def images(
    model: Annotated[Path, typer.Argument(help="Folder that `assay fit` saved, of a detector of images.")],
    folder: Annotated[Path, typer.Argument(help="A category with defects and masks, e.g. in the layout of MVTec AD.")],
    out: Annotated[Path, typer.Option("--out", help="Page to write: .html.")],
    normal: Annotated[
        Path | None, typer.Option("--normal", help="Unseen normal images that set the threshold, else the model's own.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="What takes the place of hidden pixels: normal or blur.")
    ] = None,
    heat: Annotated[
        list[str] | None, typer.Option("--heat", help="lime, shap or error (repeat for more); the first judges.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Perturbed images a heat map.", min=200)] = 1000,
    least: Annotated[float, typer.Option("--least", help="Least overlap of a right reason.")] = 0.25,
    defects: Annotated[int, typer.Option("--defects", help="Defects that are looked at, by chance.", min=1)] = 50,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find which defects a detector finds for the wrong reason; write a page about it."""
    import numpy as np

    from assay.base import uncalibrated
    from assay.core.progress import silence
    from assay.core.store import load
    from assay.core.validation import InputError
    from assay.datasets.images import load_images
    from assay.explain.trust import TrustAuditor
    from assay.report.trust import trust_report

    overwrite = settle_file(out, overwrite, (".html",), folder)
    detector: Any = load(model)
    data = load_images(folder)
    if not data.has_masks:
        raise InputError(f"{folder} holds no masks: the audit compares heat maps with them")
    if reference is None and not hasattr(uncalibrated(detector), "reconstruct_pixels"):
        reference = "normal"
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(data.labels == 1))[:defects]
    rows = np.sort(np.concatenate([np.flatnonzero(data.labels == 0), rows]))
    with silence(quiet):
        auditor = TrustAuditor(
            detector,
            reference=reference,
            normals=data.train,
            heats=tuple(heat or ("lime", "error")),
            least=least,
            n_samples=samples,
            random_state=seed,
        )
        masks = [data.masks[int(row)] for row in rows]
        validation = data.validation if normal is None else normal
        audit = auditor.run(data.test[rows], data.labels[rows], masks, validation=validation)
    record = {
        "command": command_line(),
        "seed": seed,
        "folder": str(folder),
        "hidden pixels become": reference or "those of the reconstruction",
    }
    trust_report(audit, out, title=f"Does {model.name} look at the defects?", run=record)
    summary = {
        "verdict": audit.verdict,
        "rate": audit.rate,
        "auroc": audit.auroc,
        "right_auroc": audit.right_auroc,
        **{name.replace(" ", "_"): count for name, count in audit.counts.items()},
        "threshold": audit.threshold,
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        for sentence in (audit.verdict, *audit.advice):
            typer.echo(sentence)
        typer.echo(f"written: {out}")
