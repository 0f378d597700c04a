"""`assay rank`: which of these auxiliary anomalies are worth training on?"""

from __future__ import annotations

import sys
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
    Label,
    Out,
    Overwrite,
    Quiet,
    Seed,
    Subsets,
    Train,
    command_line,
    data_record,
    echo_json,
    print_table,
    same_columns,
    settle_overwrite,
    versions,
    write_json,
)

VERDICTS = ("realistic", "indistinguishable", "unrealistic", "uncertain")


def rank(
    train: Train,
    label: Label,
    out: Out,
    auxiliary: Annotated[
        Path | None, typer.Option("--auxiliary", help="File of auxiliary anomalies, same columns.")
    ] = None,
    generate: Annotated[str | None, typer.Option("--generate", help="Make them with this generator instead.")] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Labelled real rows to measure the gain on; by default a held-out half."),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many to generate.", min=1)] = 500,
    strength: Annotated[
        float, typer.Option("--strength", help="Strength of the generator; 1 is the published one.", min=0.0)
    ] = 1.0,
    rule: Annotated[str, typer.Option("--rule", help="Which to keep: prior, otsu, top, ci or verdict.")] = "prior",
    learner: Annotated[
        str, typer.Option("--learner", help="What to measure the gain with: svc, forest, logistic or boosting.")
    ] = "svc",
    gain: Annotated[
        bool, typer.Option("--gain/--no-gain", help="Measure what training with the kept rows gains.")
    ] = True,
    anomalous: Anomalous = None,
    index: Index = None,
    drop: Drop = None,
    subsets: Subsets = 100,
    seed: Seed = 0,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which auxiliary anomalies are worth training on, why, and what that gains.

    Writes quality.parquet and quality.csv (one row an auxiliary row, in its order), selected.parquet (the
    rows to keep), report.html and run.json into the folder --out.
    """
    from assay.core.progress import silence
    from assay.core.tables import read_table
    from assay.core.validation import InputError

    if (auxiliary is None) == (generate is None):
        raise InputError("give either --auxiliary FILE or --generate NAME")
    overwrite = settle_overwrite(out, overwrite)
    options = {"anomalous": anomalous, "drop": drop or ()}
    real = read_table(train, label=label, index=index, argument="--train", **options)
    judged = None
    if test is not None:
        held = read_table(test, label=label, index=index, argument="--test", **options)
        same_columns(held.names, real.names, f"--test {test}", f"--train {train}")
        judged = held.X, held.y
    with silence(quiet):
        if auxiliary is not None:
            rows = read_table(auxiliary, index=index, drop=drop or (), argument="--auxiliary")
            same_columns(rows.names, real.names, f"--auxiliary {auxiliary}", f"--train {train}")
            source, X_aux, row_index = None, rows.X, rows.index
        else:
            source = _generated(str(generate), real, count, strength, seed)
            X_aux, row_index = source.X, None
        arguments = sys.argv[1:]
        summary = rank_tables(
            real.X, real.y, source if source is not None else X_aux, out,
            names=real.names, index=row_index, rule=rule, learner=learner, gain=gain, test=judged, subsets=subsets, seed=seed, jobs=jobs,
            overwrite=overwrite, command=command_line(arguments),
            data=data_record(train=train, auxiliary=auxiliary, test=test),
            parameters={"label": label, "anomalous": anomalous, "generate": generate, "count": count if generate else None,
                        "strength": strength if generate else None, "drop": list(drop or ())},
        )  # fmt: skip
    if as_json:
        echo_json(summary)
    elif not quiet:
        print_summary(summary)


def _generated(name: str, real: Any, count: int, strength: float, seed: int) -> Any:
    from assay.cli.generate import make_generator

    return make_generator(name, real.X, real.y, seed).sample(count, strength)


def rank_tables(
    X: Any,
    y: Any,
    auxiliary: Any,
    out: Path,
    *,
    names: list[str],
    index: Any = None,
    rule: str = "prior",
    learner: str = "svc",
    gain: bool = True,
    test: Any = None,
    subsets: int = 100,
    seed: int = 0,
    jobs: int = 1,
    overwrite: bool = False,
    command: str = "",
    data: Any = None,
    parameters: Any = None,
) -> dict[str, Any]:
    """Judge, select, measure, and write the folder; return the summary."""
    import numpy as np
    import pyarrow as pa

    from assay.base import Auxiliary
    from assay.core.files import new_folder
    from assay.core.tables import write_table
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.report.ranking import RankingReport
    from assay.training.auxiliary import choose, cross_checked_gain, named_learner
    from assay.training.probe import artefact_probe

    start = time.perf_counter()
    X_aux = auxiliary.X if isinstance(auxiliary, Auxiliary) else auxiliary
    with new_folder(out, overwrite=overwrite, name="--out") as folder:
        eap = ExpectedAnomalyPosterior(n_subsets=subsets, n_jobs=jobs, random_state=seed).fit(X, y)
        table = eap.evaluate(X_aux)
        quality = table["quality"].to_numpy()
        kept = choose(quality, eap, X_aux, rule, seed)
        if isinstance(auxiliary, Auxiliary):
            probe = artefact_probe(X[y == 0], auxiliary, feature_names=names, random_state=seed)
        else:
            probe = artefact_probe(X, X_aux, feature_names=names, random_state=seed)
        gains = None
        if gain and (test is not None or (y == 1).sum() >= 2):
            gains = cross_checked_gain(
                named_learner(learner),
                X,
                y,
                X_aux,
                ExpectedAnomalyPosterior(n_subsets=min(subsets, 30), n_jobs=jobs),
                rule=rule,
                test=test,
                random_state=seed,
            )
        identity = np.arange(len(X_aux)) if index is None else index
        columns = {"row": identity} | {name: table[name] for name in table.column_names} | {"selected": kept}
        result = pa.table(columns)
        write_table(result, folder / "quality.parquet")
        write_table(result, folder / "quality.csv")
        chosen = (
            {"row": identity[kept]}
            | {name: X_aux[kept, f] for f, name in enumerate(names)}
            | {"quality": quality[kept]}
        )
        write_table(chosen, folder / "selected.parquet")
        verdict = np.array(table["verdict"].to_pylist())
        summary = {
            "auxiliary": len(X_aux),
            "verdicts": {name: int((verdict == name).sum()) for name in VERDICTS},
            "kept": int(kept.sum()),
            "rule": rule,
            "mean_quality": float(quality.mean()),
            "prior": eap.prior_[0] / sum(eap.prior_),
            "gain": gains,
            "probe": {
                "auroc": probe.auroc,
                "p_value": probe.p_value,
                "passed": probe.passed,
                "verdict": probe.verdict,
            },
            "out": str(out),
        }
        settings = {"seed": seed, "subsets": subsets, "rule": rule, "learner": learner, "gain": gain} | (
            parameters or {}
        )
        run = {"command": command, "parameters": settings, "data": data or {}, "versions": versions()}
        write_json(run | {"summary": summary}, folder / "run.json")
        RankingReport(
            title="Which of these auxiliary anomalies are worth training on?",
            table={name: result[name].to_pylist() for name in result.column_names},
            prior=summary["prior"],
            X_normal=(X[y == 0] - eap.mean_) / eap.scale_,
            X_anomaly=(X[y == 1] - eap.mean_) / eap.scale_,
            X_aux=(X_aux - eap.mean_) / eap.scale_,
            feature_names=names,
            gain=report_gain(gains, learner, test is not None),
            probe=summary["probe"],
            suggestions=None,
            run=run | {"seconds": round(time.perf_counter() - start, 1)},
        ).write(folder / "report.html")
    return summary


def report_gain(gains: list[dict[str, Any]] | None, learner: str, has_test: bool) -> dict[str, Any] | None:
    """Return the gain table as the report wants it."""
    if gains is None:
        return None
    rows = [{"training": row["training"], "mean": row["roc_auc"], "std": row["roc_auc_std"], "n": 5} for row in gains]
    rounds = "five seeds, judged on the test rows given" if has_test else "five random halvings of the real rows"
    note = f"Learner: {learner}, judged on real rows that neither it nor the judge has seen; {rounds}."
    return {"metric": "ROC AUC", "rows": rows, "note": note}


def print_summary(summary: dict[str, Any]) -> None:
    """Print what a person wants to know first."""
    total = summary["auxiliary"]
    rows = [[name, count, f"{count / total:.0%}"] for name, count in summary["verdicts"].items()]
    print_table(f"{total} auxiliary anomalies", ["verdict", "rows", "share"], rows)
    typer.echo(
        f"\nmean quality {summary['mean_quality']:.3f} (prior {summary['prior']:.3g}); rule {summary['rule']} keeps {summary['kept']}"
    )
    if summary["gain"]:
        columns = ["training", "ROC AUC", "±", "average precision", "±", "rows added"]
        keys = ("roc_auc", "roc_auc_std", "average_precision", "average_precision_std", "auxiliary_rows")
        typer.echo()
        print_table(
            "On real rows held out",
            columns,
            [[row["training"], *(row[key] for key in keys)] for row in summary["gain"]],
        )
    typer.echo(f"\n{summary['probe']['verdict']}")
    typer.echo(f"\nreport: {Path(summary['out']) / 'report.html'}")
