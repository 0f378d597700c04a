"""`assay demo`: the main job on bundled real data, where the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.common import Jobs, Json, Overwrite, Quiet, Seed, Subsets, echo_json, settle_folder
from assay.cli.rank import FILES, print_summary, rank_tables


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("runs/demo"),
    data: Annotated[str, typer.Option("--data", help="A bundled table with labels.")] = "annthyroid",
    subsets: Subsets = 100,
    seed: Seed = 0,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the main job on bundled real data, where the truth is known.

    Builds the published benchmark pool: a third real anomalies held back, a third normal rows in disguise, a
    third rows of other data sets. Then ranks them without knowing which is which, and says how well that
    went.
    """
    from pyarrow import parquet

    from assay.core.progress import silence
    from assay.datasets import load_table
    from assay.generators.benchmark_mix import benchmark_mix
    from assay.metrics.ranking import quality_auc

    overwrite = settle_folder(out, overwrite, FILES)
    table = load_table(data)
    pool = benchmark_mix(table.X, table.y, random_state=seed)
    with silence(quiet):
        summary = rank_tables(
            pool.X_train,
            pool.y_train,
            pool.X_aux,
            out,
            names=list(table.feature_names),
            test=(pool.X_test, pool.y_test),
            subsets=subsets,
            seed=seed,
            jobs=jobs,
            overwrite=overwrite,
            data={"table": {"path": table.source, "sha256": table.sha256}},
            parameters={"data": data},
        )
    quality = parquet.read_table(out / "quality.parquet", columns=["quality"])["quality"].to_numpy()
    truth = quality_auc(pool.kind, quality)
    if as_json:
        echo_json(summary | {"truth": truth})
    elif not quiet:
        print_summary(summary)
        typer.echo(
            f"\nThe truth: of {len(pool.kind)} rows a third each is real, normal and foreign. Quality ranks a real"
            f" anomaly above a useless row in {truth['all']:.0%} of the pairs (normal ones"
            f" {truth['indistinguishable']:.0%}, foreign ones {truth['unrealistic']:.0%})."
        )
