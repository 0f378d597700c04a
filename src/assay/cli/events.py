"""Event sequences in `assay fit` and `assay score`: sequences in, scores and a page out."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Any

import typer

from assay.cli.common import command_line, echo_json, settle_folder, versions, write_json

#: What the folder of a scoring holds.
SCORE_FILES = ("scores.csv", "report.html", "run.json")
#: Sequences on the page, and in its table.
SHOWN, LISTED = 12, 50


def training_sequences(train: Path) -> tuple[Any, Any, str]:
    """Return the sequences to fit a detector on, their labels where there are some, and how many there are."""
    from assay.datasets.events import read_sequences

    sequences, labels = read_sequences(train, name="--train")
    return sequences, labels, f"{len(sequences):,} sequences, {len(sequences.flat):,} events"


def score_events(
    model: Path, detector: Any, data: Path, out: Path, overwrite: bool, quiet: bool, as_json: bool
) -> None:
    """Score a file of sequences; write scores and a page that shows the most anomalous ones."""
    import numpy as np

    from assay.base import Localizer
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.tables import write_table
    from assay.datasets.events import read_sequences
    from assay.metrics.ranking import average_precision, roc_auc

    overwrite = settle_folder(out, overwrite, SCORE_FILES, (data, model))
    start = clock.perf_counter()
    threshold = float(detector.calibrator_.threshold_)
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        sequences, labels = read_sequences(data, name="--data")
        scores = detector.anomaly_score(sequences)
        seconds = clock.perf_counter() - start
        order = np.argsort(-scores, kind="stable")
        flags = scores > threshold
        table = {
            "sequence": np.arange(len(scores)),
            "length": sequences.lengths,
            "anomaly_score": scores,
            "is_anomaly": flags.astype(np.int8),
        }
        maps = [None] * len(order[:SHOWN])
        if isinstance(detector.detector_, Localizer):
            maps = detector.detector_.anomaly_map(sequences[order[:SHOWN]])
        write_table(table, folder / "scores.csv")
        measures = {}
        if labels is not None and {0, 1} <= set(labels.tolist()):
            known = labels >= 0
            measures = {
                "AUROC": roc_auc(labels[known], scores[known]),
                "average precision": average_precision(labels[known], scores[known]),
                "false-alarm rate": float(flags[labels == 0].mean()),
                "recall": float(flags[labels == 1].mean()),
            }
        run = {
            "command": command_line(),
            "model": str(model),
            "data": str(data),
            "threshold": threshold,
            "versions": versions(),
        }
        write_json(run | {"sequences": len(scores), "measures": measures}, folder / "run.json")
        _page(sequences, scores, threshold, order, maps, measures, seconds, run).write(folder / "report.html")
    flagged = int(flags.sum())
    if as_json:
        echo_json({"sequences": len(scores), "anomalies": flagged, "measures": measures, "out": str(out)})
    elif not quiet:
        rate = len(sequences.flat) / seconds
        typer.echo(f"{len(scores):,} sequences, {flagged:,} anomalies; {rate:,.0f} events a second")
        typer.echo(f"report: {out / 'report.html'}")


def _page(
    sequences: Any, scores: Any, threshold: float, order: Any, maps: Any, measures: Any, seconds: float, run: Any
) -> Any:
    import numpy as np

    from assay.report import svg
    from assay.report.events import strip_of_events
    from assay.report.findings import FindingsPage

    flagged = int((scores > threshold).sum())
    drawn = []
    for row, curve in zip(order[:SHOWN], maps):
        marked = None if curve is None else np.asarray(curve) == np.max(curve)
        caption = f"score {scores[row]:.3g}" + ("" if curve is None else "; filled: what stands out most")
        drawn.append((caption, strip_of_events(sequences[int(row)], f"Sequence {row}", marked)))
    chart = svg.histograms(
        [svg.Series("sequences", scores, css="c-3")],
        title="Scores of the sequences",
        x_label="anomaly score",
        rules=[svg.Rule(threshold, "threshold")],
    )
    listed = [
        {"sequence": int(row), "length": int(sequences.lengths[row]), "score": float(scores[row])}
        for row in order[:LISTED]
    ]
    return FindingsPage(
        title=f"{flagged:,} of {len(scores):,} sequences look anomalous",
        over="what a detector found in event sequences",
        lead=[f"{flagged:,} of {len(scores):,} sequences lie above the threshold, {threshold:.3g}."],
        tiles={
            "sequences": len(scores),
            "anomalies": flagged,
            "threshold": threshold,
            "events a second": len(sequences.flat) / seconds,
        }
        | measures,
        charts={"The threshold keeps the promised false-alarm rate on fresh normal sequences.": chart},
        drawings={"The most anomalous": drawn},
        tables={f"The {len(listed)} highest scores": listed},
        run=run,
    )
