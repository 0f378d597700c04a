"""`assay bench`: measure methods on data sets over seeds; resume; table and report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import Overwrite, Quiet, check_choice, print_table, settle_file

Folder = Annotated[Path, typer.Argument(help="Folder that `assay bench run` wrote.")]

app = typer.Typer(help="Measure methods on data sets over seeds.")


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("run")
def run(
    config: Annotated[Path, typer.Argument(help="TOML file: seeds, datasets, methods, options.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the rows go; by default runs/bench/NAME.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Processes in parallel; -1 for all cores.", min=-1, max=256)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Dask scheduler, HOST:PORT; or local:N for N processes here.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells again.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure every cell that is not there yet; stopped at any moment, it goes on where it was."""
    from assay.benchmark import results
    from assay.benchmark.config import default_measure, read_config
    from assay.benchmark.engine import run as run_trial
    from assay.core.progress import silence

    measure = default_measure()
    trial = read_config(config, measure)
    folder = folder or Path("runs") / "bench" / trial.name
    with silence(quiet):
        summary = run_trial(trial, folder, measure=measure, n_jobs=jobs, cluster=cluster, retry_failed=retry)
    if not quiet:
        ended = f"{summary.done} done, {summary.failed} failed, {summary.skipped} skipped"
        typer.echo(f"{ended} in {summary.seconds:.0f} s; {summary.resumed} were there already")
        _explain(results.table(folder))
        typer.echo(f"folder: {folder}")


@app.command("table")
def table(
    folder: Folder,
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="Summarise only this column (repeat for more).")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write table.parquet and table.csv into the folder (the same rows give the same bits), and summarise."""
    import pyarrow as pa

    from assay.benchmark import results
    from assay.core.files import new_file
    from assay.core.tables import write_table

    rows = results.table(folder)
    for name in measure or ():
        check_choice(name, _measures(rows), "--measure")
    flat = [column.name for column in rows.schema if not pa.types.is_list(column.type)]
    for name, content in {"table.parquet": rows, "table.csv": rows.select(flat)}.items():
        with new_file(folder / name, overwrite=True) as part:
            write_table(content, part)
    if quiet:
        return
    done = "done" in rows["status"].to_pylist()
    for name in measure or (_measures(rows) if done else ()):
        _summarise(rows, name, chosen=bool(measure))
    _explain(rows)
    typer.echo(f"{rows.num_rows} rows: {folder / 'table.parquet'}")


@app.command("report")
def report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file; by default report.html in the folder.")
    ] = None,
    measure: Annotated[str, typer.Option("--measure", help="Column that decides; higher = better.")] = "auc",
    overwrite: Overwrite = False,
) -> None:
    """Write a page about the benchmark: ranks, tests, failures, costs."""
    from assay.benchmark import results
    from assay.core.files import new_file
    from assay.report.trial import trial_report

    rows = results.table(folder)
    check_choice(measure, _measures(rows), "--measure")
    # In the folder it is ours to replace.
    overwrite = out is None or settle_file(out, overwrite, (".html",), folder / "plan.json")
    out = out or folder / "report.html"
    with new_file(out, overwrite=overwrite, name="--out") as part:
        part.write_text(trial_report(rows, results.costs(folder), measure), encoding="utf-8")
    typer.echo(f"report: {out}")


def _measures(rows: Any) -> list[str]:
    """Return the columns that hold a number a row.

    Raises
    ------
    InputError
        If there are none.
    """
    import pyarrow.types as kinds

    from assay.core.validation import InputError

    numbers = (kinds.is_floating, kinds.is_integer, kinds.is_boolean)
    names = [
        column.name for column in rows.schema if column.name != "seed" and any(is_(column.type) for is_ in numbers)
    ]
    if not names:
        raise InputError("the benchmark holds no measured number yet: no cell is done (assay bench table says why)")
    return names


def _explain(rows: Any) -> None:
    """Print why cells failed or were skipped, the most frequent reasons first."""
    ended = Counter((row["status"], row["reason"]) for row in rows.select(["status", "reason"]).to_pylist())
    lines = [[status, reason, count] for (status, reason), count in ended.most_common() if status != "done"]
    if lines:
        print_table("Without a result", ["status", "reason", "cells"], lines[:10])
        typer.echo()


def _summarise(rows: Any, measure: str, chosen: bool) -> None:
    """Print mean and average rank of every method, the mean over seeds first and then over data sets."""
    import numpy as np

    from assay.metrics.comparison import average_ranks

    datasets, methods = (list(dict.fromkeys(rows[key].to_pylist())) for key in ("dataset", "method"))
    values: dict[tuple[str, str], list[float]] = {}
    for dataset, method, value in zip(*(rows[key].to_pylist() for key in ("dataset", "method", measure))):
        if value is not None:
            values.setdefault((dataset, method), []).append(float(value))
    scores = np.array(
        [[np.mean(values.get((dataset, method), [np.nan])) for method in methods] for dataset in datasets]
    )
    scores = scores[~np.isnan(scores).all(axis=1)]
    if not len(scores) or (not chosen and len(methods) > 1 and (scores == scores[:, :1]).all()):
        return  # nobody has it, or it tells the data sets apart and not the methods
    with_result = (~np.isnan(scores)).sum(axis=0)
    means = np.nansum(scores, axis=0) / np.maximum(with_result, 1)
    ranks = average_ranks(scores)
    lines = [
        [methods[k], ranks[k], means[k] if with_result[k] else "none", int(with_result[k])]
        for k in np.argsort(ranks, kind="stable")
    ]
    print_table(measure, ["method", "average rank (1: highest)", "mean", "data sets"], lines)
    typer.echo()
