"""`assay fit` and `assay score`: a detector with a threshold, saved, and used on files of any size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.catalogue import find
from assay.cli.common import (
    Anomalous,
    Drop,
    Index,
    Json,
    MaybeLabel,
    Normal,
    Out,
    Overwrite,
    Quiet,
    Seed,
    Train,
    blaming,
    check_choice,
    check_classes,
    echo_json,
    known_columns,
    same_columns,
    settle_file,
    settle_folder,
    system,
)
from assay.cli.events import score_events, training_sequences
from assay.cli.graphs import score_graphs, training_graphs
from assay.cli.images import score_images, training_images
from assay.cli.series import score_series, training_steps

#: The detector that `assay fit KIND` takes.
USUAL = {"images": "patchcore", "series": "sub_pca", "events": "oc4seq", "graphs": "on_graphs"}
#: What a saved model's folder holds.
FILES = ("assay.json", "arrays.safetensors", "part_*.skops")


def fit(
    name: Annotated[
        str,
        typer.Argument(
            help="A detector, as `assay list --role detector` names it, or a kind of data, such as 'images', for the "
            "usual one."
        ),
    ],
    train: Train,
    out: Out,
    label: MaybeLabel = None,
    rate: Annotated[float, typer.Option("--rate", help="Promised false-alarm rate on fresh normal rows.")] = 0.05,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Parameter of the detector, NAME=VALUE (JSON).")
    ] = None,
    anomalous: Anomalous = None,
    index: Index = None,
    drop: Drop = None,
    normal: Normal = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Parts of images, a series, sequences or graphs held out in turn.", min=2)
    ] = 5,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a detector with a threshold that keeps its promise, and save it in the folder --out.

    --train is a table for detectors of tables. For detectors of images it is a folder: all of its images, or those in
    its folder good (or train/good). For detectors of series it is a table of time steps: a column of times, numbers,
    empty cells where nothing was measured; for detectors of events sequences, one a line (.txt or .jsonl); for
    detectors of graphs a folder in the TU layout, where --normal names the class that is normal (else all are).
    """
    import warnings

    import numpy as np

    from assay.calibration.calibrated import Calibrated
    from assay.calibration.false_alarm_rate import FalseAlarmRate
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.store import save
    from assay.core.tables import read_table
    from assay.core.validation import InputError, check_number

    name = USUAL.get(name, name)
    detector = system(name, "detector")
    detector.set_params(**_parameters(param or [], detector))
    check_number(rate, "--rate", low=0.0, high=1.0, strict_low=True, strict_high=True)
    kind = find(name, "detector").data
    readers = {
        "images": lambda: training_images(train, detector),
        "series": lambda: training_steps(train, label, drop),
        "events": lambda: training_sequences(train),
        "graphs": lambda: training_graphs(train, normal, model),
    }
    if kind == "graphs" and detector.labels == "required" and normal is None:
        raise InputError(f"--normal is missing: {name} learns from labelled anomalies")
    if kind in readers:
        overwrite = settle_folder(out, overwrite, FILES, (train,))
        model = Calibrated(detector, FalseAlarmRate(rate), cv=folds, random_state=seed)
        _fit_items(name, model, readers[kind], train, out, overwrite, quiet, as_json)
        return
    if detector.labels == "required" and label is None:
        raise InputError(f"--label is missing: {name} learns from labelled anomalies")
    overwrite = settle_folder(out, overwrite, FILES, (train,))
    model = Calibrated(detector, FalseAlarmRate(rate), random_state=seed)
    with (
        silence(quiet),
        new_folder(out, overwrite=overwrite, name="--out") as folder,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        real = read_table(train, label=label, anomalous=anomalous, index=index, drop=drop or (), argument="--train")
        if detector.labels == "required":
            check_classes(real.y, f"--train {train}", min_normals=1, min_anomalies=1)
        with blaming(f"--train {train}"):
            model.fit(real.X, real.y)
        if real.named:
            model.feature_names_in_ = np.array(real.names, dtype=object)
        save(model, folder, overwrite=True)
    notes = sorted({str(warning.message) for warning in caught if warning.category is UserWarning})
    summary = {
        "detector": name,
        "rows": len(real.X),
        "columns": len(real.names),
        "threshold": model.calibrator_.threshold_,
        "promised_rate": model.calibrator_.guaranteed_,
        "notes": notes,
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        rate_note = f"false-alarm rate at most {summary['promised_rate']:.3g}"
        typer.echo(f"{name} fitted on {len(real.X)} rows × {len(real.names)} columns; {rate_note}")
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"saved: {out}")


def _fit_items(
    name: str,
    model: Any,
    read: Callable[[], tuple[Any, Any, str]],
    train: Path,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit to items that are no rows of a table, and save."""
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.store import save

    start = time.perf_counter()
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        X, y, size = read()
        with blaming(f"--train {train}"):
            model.fit(X, y)
        save(model, folder, overwrite=True)
    summary = {
        "detector": name,
        "items": len(X),
        "threshold": model.calibrator_.threshold_,
        "promised_rate": model.calibrator_.guaranteed_,
        "seconds": time.perf_counter() - start,
        "out": str(out),
    }
    if as_json:
        echo_json(summary)
    elif not quiet:
        promise = f"false-alarm rate at most {summary['promised_rate']:.3g}"
        typer.echo(f"{name} fitted on {size} in {summary['seconds']:.0f} s; {promise}")
        typer.echo(f"saved: {out}")


def _parameters(pairs: list[str], detector: Any) -> dict[str, Any]:
    from difflib import get_close_matches

    from assay.core.validation import InputError

    values = {}
    known = detector.get_params()
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"--param {pair!r}: write NAME=VALUE")
        if key not in known:
            near = get_close_matches(key, known, n=3) or sorted(known)
            raise InputError(f"--param {key!r} is no parameter of this detector; did you mean {', '.join(near)}?")
        try:
            values[key] = json.loads(text)
        except json.JSONDecodeError:
            values[key] = text
    return values


def score(
    model: Annotated[Path, typer.Argument(help="Folder that `assay fit` saved.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Rows or steps to score: .csv, .parquet, .npy or .npz; or images or graphs: a folder."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet; of images and series a folder.")],
    index: Index = None,
    drop: Drop = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Of a series: column of labels, to measure scores and alarms by.")
    ] = None,
    normal: Normal = None,
    patience: Annotated[
        int, typer.Option("--patience", help="Of a series: steps above the threshold before an alarm.", min=1)
    ] = 1,
    hold: Annotated[
        int, typer.Option("--hold", help="Of a series: steps below the threshold before the alarm ends.", min=1)
    ] = 1,
    overlays: Annotated[str, typer.Option("--overlays", help="Heat maps to write: flagged, all or none.")] = "flagged",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a file in pieces, so that it may be larger than memory.

    Writes one row an input row: row (its index), anomaly_score and is_anomaly. Columns the model does not
    know are refused, unless left out with --drop.

    A folder of images becomes a folder: scores.csv, overlays (heat maps), report.html and run.json. Files that cannot
    be read are listed with the reason. A series becomes a folder too: scores.csv, alarms.csv, report.html and
    run.json; event sequences and graphs likewise, without alarms.
    """
    import numpy as np

    from assay.base import TakesGraphs, TakesImages, TakesSequences, TakesSeries
    from assay.core.files import new_file
    from assay.core.progress import progress, silence
    from assay.core.store import load
    from assay.core.tables import iter_tables
    from assay.core.validation import InputError

    check_choice(overlays, ("flagged", "all", "none"), "--overlays")
    detector = load(model)
    if isinstance(getattr(detector, "detector_", None), TakesSeries):
        score_series(model, detector, data, out, label, drop, patience, hold, overwrite, quiet, as_json)
        return
    if isinstance(getattr(detector, "detector_", None), TakesSequences):
        score_events(model, detector, data, out, overwrite, quiet, as_json)
        return
    if isinstance(getattr(detector, "detector_", None), TakesGraphs):
        score_graphs(model, detector, data, out, normal, overwrite, quiet, as_json)
        return
    if data.is_file():
        overwrite = settle_file(out, overwrite, (".csv", ".parquet"), data)
    if isinstance(getattr(detector, "detector_", None), TakesImages):
        if not data.is_dir():
            raise InputError(f"--data {data} is no folder: {model} holds a detector of images")
        score_images(model, detector, data, out, overlays, overwrite, quiet, as_json)
        return
    if data.is_dir():
        raise InputError(f"--data {data} is a folder, but {model} holds no calibrated detector of images")
    if not hasattr(detector, "decision_function"):
        raise InputError(
            f"{model} holds a {type(detector).__name__}, not a calibrated detector: save one with assay fit"
        )
    expected, named = known_columns(detector)
    rows = flagged = 0
    pieces = iter_tables(data, index=index, drop=drop or (), argument="--data")
    with silence(quiet), new_file(out, overwrite=overwrite, name="--out") as part, _Writer(part) as writer:
        for table in progress(pieces, "scoring"):
            same_columns(table, f"--data {data}", expected, f"the model {model}", named)
            scores = detector.anomaly_score(table.X)
            is_anomaly = scores > detector.calibrator_.threshold_
            writer.write({"row": table.index, "anomaly_score": scores, "is_anomaly": is_anomaly.astype(np.int8)})
            rows, flagged = rows + len(scores), flagged + int(is_anomaly.sum())
    summary = {"rows": rows, "anomalies": flagged, "share": flagged / rows, "out": str(out)}
    if as_json:
        echo_json(summary)
    elif not quiet:
        typer.echo(f"{rows} rows scored, {flagged} anomalies ({flagged / rows:.2%}): {out}")


class _Writer:
    """Appends pieces to a CSV or Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: Any = None

    def __enter__(self) -> _Writer:
        return self

    def write(self, columns: dict[str, Any]) -> None:
        import pyarrow as pa
        from pyarrow import csv, parquet

        table = pa.table(columns)
        if self.writer is None:
            kind = parquet.ParquetWriter if self.path.suffix.lower() == ".parquet" else csv.CSVWriter
            self.writer = kind(str(self.path), table.schema)
        self.writer.write_table(table)

    def __exit__(self, *_: Any) -> None:
        if self.writer is not None:
            self.writer.close()
