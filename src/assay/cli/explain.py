"""`assay explain`: why a saved detector flags rows, and what would make each of them ordinary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import (
    Drop,
    Index,
    Json,
    MaybeLabel,
    Overwrite,
    Quiet,
    Seed,
    blaming,
    check_choice,
    command_line,
    data_record,
    echo_json,
    known_columns,
    same_columns,
    settle_file,
)


def explain(
    model: Annotated[Path, typer.Argument(help="Folder that `assay fit` saved: a detector of tables.")],
    data: Annotated[Path, typer.Option("--data", help="Rows: .csv, .parquet or .npz (X).")],
    train: Annotated[Path, typer.Option("--train", help="Rows it was fitted on: what is usual, and to train again.")],
    out: Annotated[Path, typer.Option("--out", help="Page to write: .html.")],
    label: MaybeLabel = None,
    index: Index = None,
    drop: Drop = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--fixed", help="Column that cannot change (repeat for more).")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="iterative: the smallest change; nearest: a real normal row.")
    ] = "iterative",
    top: Annotated[int, typer.Option("--top", help="Flagged rows to explain, highest scores first.", min=1)] = 10,
    twins: Annotated[int, typer.Option("--twins", help="Detectors to train again.", min=1, max=1000)] = 10,
    rows: Annotated[int, typer.Option("--rows", help="Training rows that are looked at, by chance.", min=10)] = 5000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which columns raise the score of each flagged row, and which values would make it ordinary; write a page.

    What would make a row ordinary is searched so that it lasts: detectors trained again on other draws of the training
    rows should agree, and the page says how many do.
    """
    import numpy as np
    import pyarrow as pa

    from assay.core.progress import silence
    from assay.core.store import load
    from assay.core.tables import read_table
    from assay.core.validation import InputError
    from assay.explain.attribution import attribute
    from assay.explain.counterfactuals import RobustCounterfactual
    from assay.report.explain import Explained, explanation_page
    from assay.training.twins import normality
    from assay.training.twins import twins as trained_again

    check_choice(method, ("iterative", "nearest"), "--method")
    overwrite = settle_file(out, overwrite, (".html",), data)
    detector: Any = load(model)
    if not hasattr(detector, "calibrator_") or getattr(detector.detector_, "data", "tables") != "tables":
        raise InputError(f"{model} holds no calibrated detector of tables: save one with assay fit")
    expected, named = known_columns(detector)
    left_out = list(drop or ())
    real = read_table(train, label=label, index=index, drop=left_out, argument="--train")
    # What is asked about may come without what only the training rows have.
    left_out += [] if label is None else [label]
    asked = read_table(data, index=index, drop=left_out, optional=True, argument="--data")
    for table, where in ((real, f"--train {train}"), (asked, f"--data {data}")):
        same_columns(table, where, expected, f"the model {model}", named)
    for name in fixed or ():
        check_choice(name, expected, "--fixed")
    normal = real.X if real.y is None else real.X[real.y != 1]
    threshold, inner = detector.calibrator_.threshold_, detector.detector_
    # A detector that learned from labelled anomalies is trained again with them.
    learns = getattr(inner, "labels", "normals") != "normals"
    anomalies = real.X[real.y == 1] if learns and real.y is not None and (real.y == 1).any() else None
    if len(normal) < 2:
        raise InputError(f"--train {train} holds {len(normal)} rows that are not anomalies, at least 2 needed")
    if len(normal) > rows:
        normal = normal[np.sort(np.random.default_rng(seed).choice(len(normal), rows, replace=False))]
    with silence(quiet), blaming(f"--data {data}"):
        scores = detector.anomaly_score(asked.X)
        flagged = np.flatnonzero(scores > threshold)
        shown = flagged[np.argsort(-scores[flagged], kind="stable")][:top]
        if len(shown) == 0:
            raise InputError(f"--data {data}: none of its {len(scores)} rows is flagged; there is nothing to explain")
        usual = np.median(normal, axis=0)
        told = attribute(inner, asked.X[shown], usual[None], random_state=seed)
        again = trained_again(inner, threshold, normal, twins, seed, anomalies)
        search = RobustCounterfactual(
            normality(inner, threshold, normal),
            pa.table(dict(zip(expected, normal.T))),
            method=method,
            immutable=fixed or (),
            random_state=seed,
        )
        answers = search.explain(asked.X[shown], models=again)
        explained = [
            Explained(str(asked.index[row]), float(scores[row]), usual, np.ptp(normal, axis=0), added, answer)
            for row, added, answer in zip(shown, told.values, answers)
        ]
    found = [answer for answer in answers if answer.status == "found"]
    survival = float(np.mean([answer.survival for answer in found])) if found else None
    lead = [
        f"{len(flagged)} of {len(scores)} rows are flagged (scores above {threshold:.3g}); "
        + ("all are" if len(shown) == len(flagged) else f"the {len(shown)} with the highest scores are")
        + " explained below.",
        f"For {len(found)} of them there are values that would be ordinary and stay so: of {twins} detectors trained "
        f"again {survival:.0%} agree on average."
        if found
        else "For none of them are there values that would be ordinary and stay so.",
        "It explains the detector, not the world: that other values would look normal does not say that they are "
        "possible, or that they would help.",
    ]
    tiles = {"rows": len(scores), "flagged": len(flagged), "explained": len(shown), "with lasting values": len(found)}
    run = {"command": command_line(), "seed": seed, "data": data_record(train=train, data=data)}
    page = explanation_page(explained, title=f"Why {model.name} flags them", lead=lead, tiles=tiles, run=run)
    page.write(out)
    summary = {
        "rows": len(scores),
        "flagged": len(flagged),
        "explained": [
            {
                "row": row.name,
                "score": row.score,
                "columns": dict(zip(expected, row.added.tolist())),
                "status": row.remedy.status,
                "ordinary": None
                if row.remedy.status == "not found"
                else dict(zip(expected, row.remedy.x_new.tolist())),
                "survival": row.remedy.survival,
                "stability": row.remedy.stability,
            }
            for row in explained
        ],
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        typer.echo(lead[0])
        for row in explained:
            most = expected[int(np.argmax(row.added))]
            typer.echo(f"row {row.name}: score {row.score:.3g}, most of it {most}; {row.remedy.status}")
        typer.echo(f"written: {out}")
