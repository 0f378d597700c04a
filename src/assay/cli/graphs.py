"""Graphs in `assay fit` and `assay score`: a folder in the TU layout in, scores and a page out."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Any

import typer

from assay.cli.common import command_line, echo_json, settle_folder, versions, write_json

#: What the folder of a scoring holds.
SCORE_FILES = ("scores.csv", "report.html", "run.json")
#: Graphs on the page, and in its table.
SHOWN, LISTED = 12, 50


def read_labelled(path: Path, normal: int | None, *, kinds: Any = None, usual: bool = False) -> tuple[Any, Any]:
    """Return a set of graphs and its labels, 1 for all classes but `normal`.

    Without `normal` there are no labels, or, if `usual`, the class of most graphs is normal.
    """
    import numpy as np

    from assay.core.validation import InputError
    from assay.datasets.graphs import load_graphs

    data = load_graphs(path, kinds=kinds)
    classes, counts = np.unique(data.classes, return_counts=True)
    if normal is None and usual:
        normal = int(classes[counts.argmax()])
    if normal is not None and normal not in classes:
        raise InputError(f"--normal {normal} is no class of {path}: its classes are {classes.tolist()}")
    return data, None if normal is None else (data.classes != normal).astype(np.int64)


def training_graphs(train: Path, normal: int | None, model: Any) -> tuple[Any, Any, str]:
    """Return the graphs to fit a detector on, their labels if a class is normal, and how many there are.

    The model is told the node labels of the folder: another folder may not hold all of them.
    """
    data, labels = read_labelled(train, normal)
    if len(data.kinds):
        model.kinds_ = data.kinds.tolist()
    return data.graphs, labels, f"{len(data.graphs):,} graphs, {len(data.graphs.x):,} nodes"


def score_graphs(
    model: Path, detector: Any, data: Path, out: Path, normal: int | None, overwrite: bool, quiet: bool, as_json: bool
) -> None:
    """Score a folder of graphs; write scores and a page that shows the most anomalous ones."""
    import numpy as np

    from assay.base import Localizer
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.tables import write_table
    from assay.metrics.ranking import average_precision, roc_auc

    overwrite = settle_folder(out, overwrite, SCORE_FILES, (data, model))
    start = clock.perf_counter()
    threshold = float(detector.calibrator_.threshold_)
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        read, labels = read_labelled(data, normal, kinds=getattr(detector, "kinds_", None))
        graphs = read.graphs
        scores = detector.anomaly_score(graphs)
        seconds = clock.perf_counter() - start
        order = np.argsort(-scores, kind="stable")
        flags = scores > threshold
        table = {
            "graph": np.arange(len(scores)),
            "class": read.classes,
            "nodes": graphs.sizes,
            "edges": np.diff(graphs.starts) // 2,
            "anomaly_score": scores,
            "is_anomaly": flags.astype(np.int8),
        }
        maps = [None] * len(order[:SHOWN])
        if isinstance(detector.detector_, Localizer):
            maps = detector.detector_.anomaly_map(graphs[order[:SHOWN]])
        write_table(table, folder / "scores.csv")
        measures = {}
        if labels is not None and {0, 1} <= set(labels.tolist()):
            measures = {
                "AUROC": roc_auc(labels, scores),
                "average precision": average_precision(labels, scores),
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
        write_json(run | {"graphs": len(scores), "measures": measures}, folder / "run.json")
        _page(graphs, table, threshold, order, maps, measures, seconds, run).write(folder / "report.html")
    flagged = int(flags.sum())
    if as_json:
        echo_json({"graphs": len(scores), "anomalies": flagged, "measures": measures, "out": str(out)})
    elif not quiet:
        typer.echo(f"{len(scores):,} graphs, {flagged:,} anomalies; {len(scores) / seconds:,.0f} graphs a second")
        typer.echo(f"report: {out / 'report.html'}")


def _page(
    graphs: Any, table: Any, threshold: float, order: Any, maps: Any, measures: Any, seconds: float, run: Any
) -> Any:
    import numpy as np

    from assay.report import svg
    from assay.report.findings import FindingsPage
    from assay.report.graphs import picture_of_graph

    scores = table["anomaly_score"]
    flagged = int((scores > threshold).sum())
    drawn = []
    for row, curve in zip(order[:SHOWN], maps):
        marked = None
        if curve is not None:  # the tenth of the nodes that stands out most
            marked = np.asarray(curve) >= np.quantile(curve, 0.9)
        caption = f"score {scores[row]:.3g}" + ("" if curve is None else "; filled: what stands out most")
        drawn.append((caption, picture_of_graph(graphs[int(row)], f"Graph {row}", marked)))
    chart = svg.histograms(
        [svg.Series("graphs", scores, css="c-3")],
        title="Scores of the graphs",
        x_label="anomaly score",
        rules=[svg.Rule(threshold, "threshold")],
    )
    names = ("graph", "class", "nodes", "edges")
    listed = [{name: int(table[name][row]) for name in names} | {"score": float(scores[row])} for row in order[:LISTED]]
    return FindingsPage(
        title=f"{flagged:,} of {len(scores):,} graphs look anomalous",
        over="what a detector found in graphs",
        lead=[f"{flagged:,} of {len(scores):,} graphs lie above the threshold, {threshold:.3g}."],
        tiles={
            "graphs": len(scores),
            "anomalies": flagged,
            "threshold": threshold,
            "graphs a second": len(scores) / seconds,
        }
        | measures,
        charts={"The threshold keeps the promised false-alarm rate on fresh normal graphs.": chart},
        drawings={"The most anomalous": drawn},
        tables={f"The {len(listed)} highest scores": listed},
        run=run,
    )
