"""`assay rank`: which of these auxiliary anomalies are worth training on?"""

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
    Label,
    Out,
    Overwrite,
    Quiet,
    Seed,
    Subsets,
    Train,
    check_choice,
    check_classes,
    check_dropped,
    command_line,
    data_record,
    echo_json,
    free_name,
    print_table,
    same_columns,
    settle_folder,
    system,
    versions,
    write_json,
)
from assay.cli.generate import sample

VERDICTS = ("realistic", "indistinguishable", "unrealistic", "uncertain")
RULES = ("prior", "otsu", "top", "ci", "verdict")
#: What the folder holds.
FILES = ("quality.parquet", "quality.csv", "selected.parquet", "report.html", "run.json")


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
    count: Annotated[int, typer.Option("--count", help="How many to generate.", min=1, max=10**9)] = 500,
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
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.training.auxiliary import LEARNERS

    if (auxiliary is None) == (generate is None):
        raise InputError("give either --auxiliary FILE or --generate NAME")
    check_choice(rule, RULES, "--rule")
    check_choice(learner, LEARNERS, "--learner")
    maker = None if generate is None else system(generate, "generator")
    overwrite = settle_folder(out, overwrite, FILES, (train, auxiliary, test))
    options: dict[str, Any] = {"index": index, "drop": drop or (), "optional": True}
    with silence(quiet):
        real = read_table(train, label=label, anomalous=anomalous, argument="--train", **options)
        fewest = ExpectedAnomalyPosterior().min_neighbors + 2
        check_classes(real.y, f"--train {train}", min_normals=fewest, min_anomalies=1, minority=True)
        tables, judged = [real], None
        if test is not None:
            held = read_table(test, label=label, anomalous=anomalous, argument="--test", **options)
            same_columns(held, f"--test {test}", real.names, f"--train {train}", real.named)
            check_classes(held.y, f"--test {test}", min_normals=1, min_anomalies=1)
            tables, judged = [*tables, held], (held.X, held.y)
        if auxiliary is not None:
            # The labels are no feature, wherever they stand.
            options["drop"] = [*options["drop"], label]
            rows = read_table(auxiliary, argument="--auxiliary", **options)
            same_columns(rows, f"--auxiliary {auxiliary}", real.names, f"--train {train}", real.named)
            tables, source, row_index = [*tables, rows], rows.X, rows.index
        else:
            source, row_index = sample(maker, real, count, strength, seed, f"--train {train}"), None
        check_dropped(drop, tables)
        summary = rank_tables(
            real.X,
            real.y,
            source,
            out,
            names=real.names,
            index=row_index,
            rule=rule,
            learner=learner,
            gain=gain,
            test=judged,
            subsets=subsets,
            seed=seed,
            jobs=jobs,
            overwrite=overwrite,
            data=data_record(train=train, auxiliary=auxiliary, test=test),
            parameters={
                "label": label,
                "anomalous": anomalous,
                "index": index,
                "drop": list(drop or ()),
                "generate": generate,
                "count": count if generate else None,
                "strength": strength if generate else None,
            },
        )
    if as_json:
        echo_json(summary)
    elif not quiet:
        print_summary(summary)


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
    from assay.quality.probability import standardised
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
        gains, note = None, why_no_gain(y, gain, test is not None)
        if note is None:
            gains = cross_checked_gain(
                named_learner(learner),
                X,
                y,
                X_aux,
                ExpectedAnomalyPosterior(n_subsets=subsets, n_jobs=jobs),
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
            {free_name("row", names): identity[kept]}
            | {name: X_aux[kept, f] for f, name in enumerate(names)}
            | {free_name("quality", names): quality[kept]}
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
            "note": note,
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
        run = {"command": command_line(), "parameters": settings, "data": data or {}, "versions": versions()}
        write_json(run | {"summary": summary}, folder / "run.json")
        RankingReport(
            title="Which of these auxiliary anomalies are worth training on?",
            table={name: result[name].to_pylist() for name in result.column_names},
            prior=summary["prior"],
            X_normal=standardised(X[y == 0], eap.mean_, eap.scale_),
            X_anomaly=standardised(X[y == 1], eap.mean_, eap.scale_),
            X_aux=standardised(X_aux, eap.mean_, eap.scale_),
            feature_names=names,
            gain=report_gain(gains, learner, test is not None),
            probe=summary["probe"],
            suggestions=None,
            run=run | {"seconds": round(time.perf_counter() - start, 1)},
        ).write(folder / "report.html")
    return summary


def why_no_gain(y: Any, wanted: bool, has_test: bool) -> str | None:
    """Say why the gain is not measured; None if it is."""
    from assay.training.auxiliary import MIN_NORMALS

    normals, anomalies = int((y == 0).sum()), int((y == 1).sum())
    if not wanted:
        return "the gain was not measured (--no-gain)"
    if normals < MIN_NORMALS:
        return f"the gain was not measured: it takes {MIN_NORMALS} normal rows, there are {normals}"
    if anomalies < 2 and not has_test:
        return "the gain was not measured: it takes 2 real anomalies, one to train on and one to find (or --test FILE)"
    return None


def report_gain(gains: list[dict[str, Any]] | None, learner: str, has_test: bool) -> dict[str, Any] | None:
    """Return the gain table as the report wants it."""
    if gains is None:
        return None
    rows = [
        {"training": row["training"], "mean": row["roc_auc"], "std": row["roc_auc_std"], "n": row["rounds"]}
        for row in gains
    ]
    rounds = gains[0]["rounds"]
    how = f"{rounds} seeds, judged on the test rows given" if has_test else f"{rounds} random halvings of the real rows"
    note = f"Learner: {learner}, judged on real rows that neither it nor the judge has seen; {how}."
    return {"metric": "ROC AUC", "rows": rows, "note": note}


def print_summary(summary: dict[str, Any]) -> None:
    """Print what a person wants to know first."""
    total = summary["auxiliary"]
    rows = [[name, count, f"{count / total:.0%}"] for name, count in summary["verdicts"].items()]
    print_table(f"{total} auxiliary anomalies", ["verdict", "rows", "share"], rows)
    quality = f"mean quality {summary['mean_quality']:.3f} (prior {summary['prior']:.3g})"
    typer.echo(f"\n{quality}; rule {summary['rule']} keeps {summary['kept']}")
    if summary["gain"]:
        columns = ["training", "ROC AUC", "±", "average precision", "±", "rows added"]
        keys = ("roc_auc", "roc_auc_std", "average_precision", "average_precision_std", "auxiliary_rows")
        typer.echo()
        print_table(
            "On real rows held out",
            columns,
            [[row["training"], *(row[key] for key in keys)] for row in summary["gain"]],
        )
    else:
        typer.echo(summary["note"])
    typer.echo(f"\n{summary['probe']['verdict']}")
    typer.echo(f"\nreport: {Path(summary['out']) / 'report.html'}")
