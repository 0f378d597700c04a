"""Series in `assay fit` and `assay score`, and `assay watch`: time steps in, scores, alarms and a page out."""

from __future__ import annotations

import time as clock
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.common import command_line, echo_json, settle_folder, versions, write_json

#: What the folder of a scoring holds.
SCORE_FILES = ("scores.csv", "alarms.csv", "report.html", "drivers.html", "run.json")
#: Alarms that get a close-up, and steps on either side of one.
SHOWN, AROUND = 8, 120
#: Most steps of a close-up, and steps that are remembered for one.
LONGEST, BACK = 2_000, 20_000
#: Alarms in the page's table, and in its overview.
LISTED, DRAWN = 50, 1_000


def training_steps(train: Path, label: str | None, drop: list[str] | None) -> tuple[Any, Any, str]:
    """Return the series to fit a detector on, its labels where there are some, and how long it is."""
    from assay.datasets.series import read_steps

    steps = read_steps(train, label=label, drop=drop or (), name="--train")
    return steps.series, steps.labels, f"{len(steps.series):,} steps × {steps.series.values.shape[1]} channels"


class Watcher:
    """Scores and alarms for a stream of pieces, and the alarms that have ended.

    Parameters
    ----------
    model : Calibrated
        Around a fitted detector of series.
    patience, hold : int
        Of `assay.calibration.alarms.Alarms`.
    every : int
        New steps to wait for before scoring.
    """

    def __init__(self, model: Any, patience: int, hold: int, every: int = 1) -> None:
        from assay.calibration.alarms import Alarms
        from assay.detectors.series.stream import Stream

        self.threshold = float(model.calibrator_.threshold_)
        self.stream = Stream(model.detector_, every=every)
        self.alarms = Alarms(self.threshold, patience=patience, hold=hold)
        self.step = 0
        self.on: dict[str, Any] | None = None

    def push(self, series: Any) -> tuple[Any, Any, list[dict[str, Any]]]:
        """Return the scores that have become final, their decisions, and the alarms that have ended with them."""
        return self._decide(self.stream.push(series))

    def end(self) -> tuple[Any, Any, list[dict[str, Any]]]:
        """Return the rest; an alarm that is still on ends here."""
        scores, flags, ended = self._decide(self.stream.end())
        if self.on is not None:
            ended.append(self.on)
            self.on = None
        return scores, flags, ended

    def _decide(self, scores: Any) -> tuple[Any, Any, list[dict[str, Any]]]:
        import numpy as np

        flags, ended = self.alarms.update(scores), []
        edges = np.flatnonzero(np.diff(np.concatenate([[0 if self.on is None else 1], flags])))
        for first, last in zip([0, *edges], [*edges, len(flags)]):
            if first == last:
                continue
            if flags[first]:
                piece = np.where(np.isnan(scores[first:last]), -np.inf, scores[first:last])
                peak = int(np.argmax(piece))
                found = {"start": self.step + first, "peak": self.step + first + peak, "score": float(piece[peak])}
                if self.on is None:
                    self.on = found
                elif found["score"] > self.on["score"]:
                    self.on |= {"peak": found["peak"], "score": found["score"]}
                self.on["end"] = self.step + last - 1
            elif self.on is not None:
                ended.append(self.on)
                self.on = None
        self.step += len(scores)
        return scores, flags, ended


class _Closeups:
    """Keeps the steps around the worst alarms of a stream, in constant memory."""

    def __init__(self, width: int) -> None:
        import numpy as np

        self.values = np.empty((0, width + 1))
        self.first = 0
        self.waiting: deque[dict[str, Any]] = deque()
        self.kept: list[tuple[float, dict[str, Any], int, Any]] = []

    def add(self, rows: Any, ended: list[dict[str, Any]], final: bool = False) -> None:
        import numpy as np

        self.values = np.concatenate([self.values, rows])
        self.waiting.extend(ended)
        last = self.first + len(self.values)
        while self.waiting and (final or self.waiting[0]["end"] + AROUND < last):
            alarm = self.waiting.popleft()
            begin = max(self.first, alarm["start"] - AROUND)
            if alarm["end"] - begin > LONGEST:  # of a long alarm the peak tells most
                begin = max(begin, alarm["peak"] - LONGEST // 2)
            end = min(alarm["end"] + AROUND, begin + LONGEST)
            stretch = self.values[begin - self.first : end - self.first].copy()
            if len(stretch):
                self.kept.append((alarm["score"], alarm, begin, stretch))
            self.kept = sorted(self.kept, key=lambda one: -one[0])[:SHOWN]
        # What may still be drawn: around alarms that wait for their end, or one that is on since not too long ago.
        needed = min([alarm["start"] - AROUND for alarm in self.waiting], default=last - BACK)
        surplus = max(min(needed, last - BACK) - self.first, len(self.values) - 4 * BACK)
        if surplus > 0:
            self.values, self.first = self.values[surplus:].copy(), self.first + surplus


def score_series(
    model: Path,
    detector: Any,
    data: Path,
    out: Path,
    label: str | None,
    drop: list[str] | None,
    patience: int,
    hold: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score a table of time steps, piece by piece; write scores, alarms and a page."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    from assay.core.files import new_folder
    from assay.core.progress import progress, silence
    from assay.core.tables import write_table
    from assay.datasets.series import iter_steps, read_steps
    from assay.detectors.series.telemetry import TelemetryMonitor
    from assay.report.series import Envelope
    from assay.report.telemetry import telemetry_report

    overwrite = settle_folder(out, overwrite, SCORE_FILES, (data, model))
    inner = detector.detector_
    width = int(inner.n_features_in_)
    names = [str(one) for one in getattr(inner, "feature_names_in_", [f"channel {c}" for c in range(width)])]
    watcher, overview, closeups = Watcher(detector, patience, hold), Envelope(width + 1), _Closeups(width)
    alarms: list[dict[str, Any]] = []
    pending: deque[Any] = deque()
    known: list[Any] = []
    start, steps, missing = clock.perf_counter(), 0, 0

    def take(answer: tuple[Any, Any, list[dict[str, Any]]], writer: Any, final: bool = False) -> None:
        nonlocal missing
        scores, flags, ended = answer
        rows = _first(pending, len(scores))
        stamps, values = [row[0] for row in rows], np.concatenate([row[1] for row in rows]) if rows else None
        alarms.extend(ended)
        if values is None:
            closeups.add(np.empty((0, width + 1)), ended, final)
            return
        with_scores = np.column_stack([values, scores])
        overview.add(with_scores)
        closeups.add(with_scores, ended, final)
        missing += int(np.isnan(scores).sum())
        first = watcher.step - len(scores)
        columns = {
            "step": np.arange(first, watcher.step),
            **({} if stamps[0] is None else {"time": np.concatenate(stamps).astype("datetime64[us]")}),
            "anomaly_score": pa.array(scores, from_pandas=True),
            "is_anomaly": (scores > watcher.threshold).astype(np.int8),
            "alarm": flags.astype(np.int8),
        }
        table = pa.table(columns)
        if not writer:
            writer.append(csv.CSVWriter(str(folder / "scores.csv"), table.schema))
        writer[0].write_table(table)

    writer: list[Any] = []
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        try:
            for piece in progress(iter_steps(data, label=label, drop=drop or (), name="--data"), "scoring"):
                pending.append((piece.series.time, piece.series.values))
                steps += len(piece.series)
                if piece.labels is not None:
                    known.append(piece.labels)
                take(watcher.push(piece.series), writer)
            take(watcher.end(), writer, final=True)
        finally:
            for one in writer:
                one.close()
        seconds = clock.perf_counter() - start
        table = {
            key: np.array([alarm[key] for alarm in alarms], dtype=kind)
            for key, kind in (("start", np.int64), ("end", np.int64), ("peak", np.int64), ("score", np.float64))
        }
        write_table(table, folder / "alarms.csv")
        labels = np.concatenate(known) if known else None
        run = {
            "command": command_line(),
            "model": str(model),
            "data": str(data),
            "threshold": watcher.threshold,
            "patience": patience,
            "hold": hold,
            "versions": versions(),
        }
        figures = _figures(folder / "scores.csv", labels)
        write_json(run | {"steps": steps, "alarms": len(alarms), "measures": figures}, folder / "run.json")
        tiles = {"steps": steps, "alarms": len(alarms), "steps a second": steps / seconds}
        page = _page(names, watcher.threshold, overview, closeups, alarms, labels, figures, tiles, missing, run)
        page.write(folder / "report.html")
        if isinstance(inner, TelemetryMonitor):
            # What drove an event is looked for in the whole series.
            whole = read_steps(data, label=label, drop=drop or (), name="--data").series
            telemetry_report(inner, whole, folder / "drivers.html", fresh=True)
    summary = {"steps": steps, "alarms": len(alarms), "unmeasured": missing, "steps_per_second": steps / seconds}
    if as_json:
        echo_json(summary | {"measures": figures, "out": str(out)})
    elif not quiet:
        typer.echo(f"{steps:,} steps, {len(alarms)} alarms; {steps / seconds:,.0f} steps a second")
        typer.echo(f"report: {out / 'report.html'}")
        if isinstance(inner, TelemetryMonitor):
            typer.echo(f"drivers: {out / 'drivers.html'}")


def _first(pending: deque[Any], count: int) -> list[tuple[Any, Any]]:
    """Take the first `count` rows off a queue of (times, values)."""
    rows = []
    while count > 0:
        times, values = pending.popleft()
        if len(values) > count:
            pending.appendleft((None if times is None else times[count:], values[count:]))
            times, values = None if times is None else times[:count], values[:count]
        if len(values):
            rows.append((times, values))
        count -= len(values)
    return rows


def _figures(scores: Path, labels: Any) -> dict[str, float]:
    """Return how good scores and alarms are, where the labels are known."""
    if labels is None:
        return {}
    from pyarrow import csv

    from assay.metrics.series import evaluate_series

    table = csv.read_csv(scores)
    scored = table.column("anomaly_score").to_numpy()
    return dict(evaluate_series(labels, scored, predictions=table.column("alarm").to_numpy()))


def _page(
    names: Any,
    threshold: float,
    overview: Any,
    closeups: _Closeups,
    alarms: list[dict[str, Any]],
    labels: Any,
    figures: dict[str, float],
    tiles: dict[str, Any],
    missing: int,
    run: Any,
) -> Any:
    import numpy as np

    from assay.report.series import CHANNELS, Closeup, SeriesPage

    worst = sorted(alarms, key=lambda alarm: -alarm["score"])
    flagged = sum(alarm["end"] - alarm["start"] + 1 for alarm in alarms)
    lead = [
        f"{len(alarms)} alarms cover {flagged:,} of {tiles['steps']:,} steps; the threshold is {threshold:.3g}.",
        *([f"{missing:,} steps hold no measurement: they have no score, and raise no alarm."] if missing else []),
    ]
    known = [] if labels is None else _spans(labels == 1)
    pictures = []
    for score, alarm, begin, rows in closeups.kept:
        values = rows[:, :-1]
        inside = slice(max(0, alarm["start"] - begin), max(1, alarm["end"] - begin + 1))
        # Which channels moved most, in units of the stretch around.
        filled = np.where(np.isnan(values), 0.0, values)
        moved, spread = np.abs(filled[inside] - np.median(filled, axis=0)).mean(axis=0), filled.std(axis=0)
        order = np.argsort(-moved / np.where(spread > 0, spread, 1.0), kind="stable")
        pictures.append(
            Closeup(
                title=f"Steps {alarm['start']:,} to {alarm['end']:,}",
                note=f"highest score {score:.3g} at step {alarm['peak']:,}",
                start=begin,
                values=values,
                scores=rows[:, -1],
                span=(alarm["start"], alarm["end"]),
                channels=[int(c) for c in order[: min(3, CHANNELS)]],
            )
        )
    listed = [
        {"start": one["start"], "end": one["end"], "steps": one["end"] - one["start"] + 1, "score": one["score"]}
        for one in worst[:LISTED]
    ]
    some = f" (the first {LISTED} of {len(worst)})" if len(worst) > LISTED else ""
    measured = {"VUS-PR": figures["vus_pr"], "event F1": figures["composite_f1"]} if figures else {}
    return SeriesPage(
        title=f"{len(alarms)} alarms in {tiles['steps']:,} steps",
        lead=lead,
        tiles=tiles | {"threshold": threshold} | measured,
        overview=overview,
        names=names,
        threshold=threshold,
        spans=[(alarm["start"], alarm["end"]) for alarm in worst[:DRAWN]],
        known=known,
        closeups=pictures,
        tables={
            f"List of alarms{some}": listed,
            "Against the labels": [{"measure": name.replace("_", " "), "value": v} for name, v in figures.items()],
        },
        run=run,
    )


def _spans(flags: Any) -> list[tuple[int, int]]:
    from assay.metrics.series import events

    return [(int(first), int(last) - 1) for first, last in events(flags.astype(int))]


def watch(
    model: Annotated[Path, typer.Argument(help="Folder that `assay fit` saved, of a detector of series.")],
    data: Annotated[
        str,
        typer.Option("--data", help="Lines of numbers parted by commas, a step each: a file, or - for standard input."),
    ] = "-",
    follow: Annotated[bool, typer.Option("--follow", help="Wait for further lines at the end of the file.")] = False,
    patience: Annotated[int, typer.Option("--patience", help="Steps above the threshold before an alarm.", min=1)] = 1,
    hold: Annotated[int, typer.Option("--hold", help="Steps below it before the alarm ends.", min=1)] = 1,
    alarms_only: Annotated[bool, typer.Option("--alarms-only", help="Print the alarms alone, as they end.")] = False,
) -> None:
    """Score a live stream of lines as they come, with bounded memory and the scores of the whole series.

    Prints a line for each step once its score is final: step,anomaly_score,alarm. A first line of names is left out.
    """
    import sys

    import numpy as np

    from assay.base import TakesSeries
    from assay.core.store import load
    from assay.core.validation import InputError
    from assay.detectors.series.stream import parsed

    loaded = load(model)
    if not isinstance(getattr(loaded, "detector_", None), TakesSeries):
        raise InputError(f"{model} holds no calibrated detector of series: save one with assay fit")
    if data != "-" and not Path(data).is_file():
        raise InputError(f"--data {data} is not a file")
    watcher = Watcher(loaded, patience, hold)
    width = int(loaded.detector_.n_features_in_)

    def tell(answer: tuple[Any, Any, list[dict[str, Any]]]) -> None:
        scores, flags, ended = answer
        first = watcher.step - len(scores)
        if alarms_only:
            for alarm in ended:
                typer.echo(f"{alarm['start']},{alarm['end']},{alarm['score']:.6g}")
            return
        for i, (score, flag) in enumerate(zip(scores, flags)):
            typer.echo(f"{first + i},{'' if np.isnan(score) else f'{score:.6g}'},{flag}")

    stream = sys.stdin if data == "-" else open(data, encoding="utf-8")  # noqa: SIM115  # closed below
    try:
        for number, line in enumerate(_lines(stream, follow)):
            if number == 0 and not _is_numbers(line):
                continue
            tell(watcher.push(parsed(line, number + 1, width)))
            sys.stdout.flush()
        tell(watcher.end())
    finally:
        if stream is not sys.stdin:
            stream.close()


def _lines(stream: Any, follow: bool) -> Any:
    """Yield whole lines; with `follow`, wait for more at the end."""
    rest = ""
    while True:
        line = stream.readline()
        if line.endswith("\n"):
            yield rest + line
            rest = ""
        elif line:
            rest += line  # half a line: the writer is not done with it
        elif follow:
            clock.sleep(0.2)
        else:
            break
    if rest:
        yield rest


def _is_numbers(line: str) -> bool:
    try:
        return bool([float(field) for field in line.split(",") if field.strip()])
    except ValueError:
        return False
