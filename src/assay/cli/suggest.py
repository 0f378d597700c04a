"""`assay suggest`: which generator, at which strength?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import (
    Anomalous,
    Drop,
    Index,
    Jobs,
    Json,
    MaybeLabel,
    MaybeTrain,
    Normal,
    Out,
    Overwrite,
    Quiet,
    Seed,
    Subsets,
    blaming,
    check_classes,
    command_line,
    data_record,
    echo_json,
    free_name,
    print_table,
    settle_folder,
    system,
    versions,
    write_json,
)
from assay.cli.images import suggest_images
from assay.cli.suggest_items import suggest_events, suggest_graphs, suggest_series

COLUMNS = (
    "generator",
    "strength",
    "score",
    "lift",
    "coverage",
    "quality",
    "realistic",
    "indistinguishable",
    "unrealistic",
)

#: The ladder for images: each rung costs a pass of the network over every image.
IMAGE_STRENGTHS = (0.25, 0.5, 1.0, 2.0)
#: What the folder holds.
FILES = ("suggestions.csv", "best.parquet", "report.html", "run.json")


def suggest(
    out: Out,
    train: MaybeTrain = None,
    label: MaybeLabel = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Instead of --train: a folder with good images in 'good', known defects beside."),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option(
            "--series", help="Instead of --train: a table of time steps, with --label; its windows are judged."
        ),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", help="Instead of --train: sequences with labels, .jsonl: events and label a line."),
    ] = None,
    graphs: Annotated[
        Path | None,
        typer.Option("--graphs", help="Instead of --train: graphs with classes, a folder in the TU layout."),
    ] = None,
    normal: Normal = None,
    known: Annotated[
        int, typer.Option("--known", help="Of --graphs: anomalies that are taken as known, at most.", min=1)
    ] = 20,
    window: Annotated[int, typer.Option("--window", help="Of --series: steps of a window.", min=4, max=10**5)] = 64,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            help="What judges see: of --series spectral_windows, --events event_counts, --graphs weisfeiler_lehman.",
        ),
    ] = None,
    generator: Annotated[
        list[str] | None, typer.Option("--generator", help="Try only this one, NAME or NAME:KIND (repeat for more).")
    ] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option("--strength", help="A rung of the ladder (repeat for more).", min=0.0),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", help="Rows, windows, sequences or graphs a batch (100), or images (30).", min=2, max=10**9
        ),
    ] = None,
    anomalous: Anomalous = None,
    index: Index = None,
    drop: Drop = None,
    subsets: Subsets = 50,
    seed: Seed = 0,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the generator and strength whose rows are worth training on.

    Writes suggestions.csv (the ranking), best.parquet (the best batch's kept rows; for images the folder best,
    for windows best.npz, for event sequences best.jsonl, for graphs the folder best), report.html and run.json into
    --out.
    """
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.tables import read_table, write_table
    from assay.core.validation import InputError
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.quality.probability import standardised
    from assay.report.ranking import RankingReport
    from assay.training.suggest import STRENGTHS
    from assay.training.suggest import suggest as find_best

    start = time.perf_counter()
    for name in generator or ():
        system(name.partition(":")[0], "generator")
    given = [
        name
        for name, value in {
            "--train": train,
            "--images": images,
            "--series": series,
            "--events": events,
            "--graphs": graphs,
        }.items()
        if value
    ]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: give one of them")
    if series is not None or events is not None or graphs is not None:
        options = {
            "generators": generator, "strengths": tuple(strength or STRENGTHS), "count": count or 100,
            "subsets": subsets, "seed": seed, "jobs": jobs, "overwrite": overwrite, "quiet": quiet, "json": as_json,
        }  # fmt: skip
        if graphs is not None:
            suggest_graphs(graphs, out, normal, known, embedder or "weisfeiler_lehman", options)
            return
        if events is not None:
            suggest_events(events, out, embedder or "event_counts", options)
            return
        if label is None:
            raise InputError("--label is missing: it says which steps of the series are anomalous")
        suggest_series(series, out, label, drop or (), window, embedder or "spectral_windows", options)
        return
    if images is not None:
        suggest_images(
            images, out, generator, tuple(strength or IMAGE_STRENGTHS), count or 30, subsets, seed, jobs, overwrite,
            quiet, as_json, COLUMNS,
        )  # fmt: skip
        return
    if train is None or label is None:
        missing = "--train (a table), --images, --series, --events or --graphs" if train is None else "--label"
        raise InputError(f"{missing} is missing")
    count = count or 100
    overwrite = settle_folder(out, overwrite, FILES, (train,))
    strengths = tuple(strength or STRENGTHS)
    judge = ExpectedAnomalyPosterior(n_subsets=subsets, n_jobs=jobs)
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        real = read_table(train, label=label, anomalous=anomalous, index=index, drop=drop or (), argument="--train")
        where, fewest = f"--train {train}", judge.min_neighbors + 2
        check_classes(real.y, where, min_normals=fewest, min_anomalies=1, minority=True)
        with blaming(where):
            suggestions = find_best(
                real.X,
                real.y,
                generators=generator or None,
                strengths=strengths,
                n=count,
                judge=judge,
                random_state=seed,
            )
        best = suggestions[0]
        rows = [suggestion.row() for suggestion in suggestions]
        write_table({name: [row[name] for row in rows] for name in COLUMNS}, folder / "suggestions.csv")
        kept = {name: best.auxiliary.X[best.kept, f] for f, name in enumerate(real.names)}
        quality = {free_name("quality", real.names): best.row_quality[best.kept]}
        write_table(kept | quality, folder / "best.parquet")
        run: dict[str, Any] = {
            "command": command_line(),
            "parameters": {
                "seed": seed,
                "subsets": subsets,
                "count": count,
                "generators": generator,
                "strengths": strengths,
                "label": label,
                "anomalous": anomalous,
                "index": index,
                "drop": list(drop or ()),
            },
            "data": data_record(train=train),
            "versions": versions(),
        }
        write_json(run | {"suggestions": rows}, folder / "run.json")
        fitted = best.judge
        table = fitted.evaluate(best.auxiliary.X)
        RankingReport(
            title=f"Best of {len(rows)} generators and strengths: {best.generator} at {best.strength:g}",
            table={"row": list(range(count))}
            | {name: table[name].to_pylist() for name in table.column_names}
            | {"selected": best.kept.tolist()},
            prior=fitted.prior_[0] / sum(fitted.prior_),
            X_normal=standardised(real.X[real.y == 0], fitted.mean_, fitted.scale_),
            X_anomaly=standardised(real.X[real.y == 1], fitted.mean_, fitted.scale_),
            X_aux=standardised(best.auxiliary.X, fitted.mean_, fitted.scale_),
            feature_names=real.names,
            gain=None,
            probe=None,
            suggestions=rows,
            run=run | {"seconds": round(time.perf_counter() - start, 1)},
        ).write(folder / "report.html")
    if as_json:
        echo_json({"suggestions": rows, "out": str(out)})
    elif not quiet:
        print_table("Best first", list(COLUMNS), [[row[name] for name in COLUMNS] for row in rows[:10]])
        typer.echo(f"\n{best.generator} at strength {best.strength:g}: {best.realistic:.0%} of its rows are realistic")
        typer.echo(f"report: {Path(out) / 'report.html'}")
