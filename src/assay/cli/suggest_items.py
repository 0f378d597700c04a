"""`assay suggest` for windows of series, event sequences and graphs: the ranking, and what the anomalies look like."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from assay.cli.common import check_classes, command_line, echo_json, print_table, settle_folder, versions, write_json

#: What the folder holds.
FILES = ("suggestions.csv", "best.npz", "best.jsonl", "best", "report.html", "run.json")
#: Normal windows that the judge sees at most: neighbouring ones tell it little new.
MOST = 1_500
#: Items that the page shows of a kind.
SHOWN = 6
#: Generators in the chart, the first of the ranking: more lines cannot be told apart.
LINES = 8


def suggest_series(
    path: Path, out: Path, label: str, drop: Sequence[str], window: int, embedder: str, options: dict[str, Any]
) -> None:
    """Rank generators of anomalous windows for a labelled series."""
    import numpy as np

    from assay.cli.common import system
    from assay.core.validation import InputError
    from assay.datasets.series import read_steps
    from assay.report import svg

    def read(rng: Any) -> tuple[Any, Any, Any]:
        steps = read_steps(path, label=label, drop=drop, name="--series")
        series, labels = steps.series, steps.labels
        starts = series.whole(window)
        if len(starts) == 0:
            raise InputError(f"--window {window}: no window of {path} is without a missing step; give fewer steps")
        starts = starts[np.unique(np.r_[np.arange(0, len(starts), max(1, window // 2)), len(starts) - 1])]
        views = np.lib.stride_tricks.sliding_window_view(series.values, window, axis=0).transpose(0, 2, 1)
        seen = np.lib.stride_tricks.sliding_window_view(labels, window)[starts]
        anomalous, unknown = (seen == 1).any(axis=1), (seen == -1).any(axis=1)
        normal = np.flatnonzero(~anomalous & ~unknown)
        normal = np.sort(rng.permutation(normal)[:MOST])
        rows = np.concatenate([normal, np.flatnonzero(anomalous)])
        names = series.names or [f"channel {c}" for c in range(series.values.shape[1])]
        return views[starts[rows]].copy(), anomalous[rows].astype(int), names

    def draw(item: Any, title: str, names: Any, touched: Any = None) -> str:
        x = np.arange(len(item), dtype=float)
        moved = np.zeros(item.shape[1]) if touched is None else touched.sum(axis=0)
        shown = np.sort(np.argsort(-moved, kind="stable")[:3])
        spans = []
        if touched is not None and touched.any():
            hit = np.flatnonzero(touched.any(axis=1))
            spans = [(float(hit[0]), float(hit[-1]))]
        panels = [svg.Strip(str(names[c]), item[:, c], item[:, c]) for c in shown]
        return svg.strips(x, panels, title=title, x_label="step of the window", spans=spans, height=90.0)

    def write(best: Any, folder: Path) -> None:
        np.savez_compressed(folder / "best.npz", X=best.auxiliary.X[best.kept], mask=best.auxiliary.mask[best.kept])

    chosen = system(embedder, "embedder")
    if chosen.data != "windows":
        raise InputError(f"--embedder {embedder} takes {chosen.data}, not windows of series")
    _suggest("--series", "windows", path, out, read, draw, write, chosen, options | {"window": window})


def suggest_events(path: Path, out: Path, embedder: str, options: dict[str, Any]) -> None:
    """Rank generators of anomalous event sequences for labelled ones."""
    import json

    import numpy as np

    from assay.cli.common import system
    from assay.core.validation import InputError
    from assay.datasets.events import read_sequences

    def read(rng: Any) -> tuple[Any, Any, Any]:
        sequences, labels = read_sequences(path, name="--events")
        if labels is None:
            raise InputError(f"--events {path} has no labels: give .jsonl, each line with events and label")
        normal = np.sort(rng.permutation(np.flatnonzero(labels == 0))[:MOST])
        rows = np.concatenate([normal, np.flatnonzero(labels == 1)])
        return sequences[rows], labels[rows], None

    def draw(item: Any, title: str, names: Any, touched: Any = None) -> str:
        from assay.report.events import strip_of_events

        return strip_of_events(item, title, touched)

    def write(best: Any, folder: Path) -> None:
        with open(folder / "best.jsonl", "w", encoding="utf-8") as file:
            for row in np.flatnonzero(best.kept):
                file.write(json.dumps({"events": best.auxiliary.X[int(row)].tolist(), "label": 1}) + "\n")

    chosen = system(embedder, "embedder")
    if chosen.data != "events":
        raise InputError(f"--embedder {embedder} takes {chosen.data}, not event sequences")
    _suggest("--events", "sequences", path, out, read, draw, write, chosen, options)


def suggest_graphs(
    path: Path, out: Path, normal: int | None, known: int, embedder: str, options: dict[str, Any]
) -> None:
    """Rank generators of anomalous graphs, every kind of each, for a class of a labelled set."""
    import numpy as np

    from assay.cli.common import system
    from assay.cli.graphs import read_labelled
    from assay.core.validation import InputError
    from assay.datasets.graphs import write_graphs
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.report.graphs import picture_of_graph
    from assay.training.suggest import every_kind

    def read(rng: Any) -> tuple[Any, Any, Any]:
        data, labels = read_labelled(path, normal, usual=True)
        normals, others = (rng.permutation(np.flatnonzero(labels == value)) for value in (0, 1))
        rows = np.concatenate([np.sort(normals[:MOST]), np.sort(others[:known])])
        return data.graphs[rows], labels[rows], None

    def draw(item: Any, title: str, names: Any, touched: Any = None) -> str:
        return picture_of_graph(item, title, touched)

    def write(best: Any, folder: Path) -> None:
        kept = best.auxiliary.X[best.kept]
        write_graphs(folder / "best", kept, np.ones(len(kept), dtype=np.int64))

    chosen = system(embedder, "embedder")
    if chosen.data != "graphs":
        raise InputError(f"--embedder {embedder} takes {chosen.data}, not graphs")
    options = options | {"generators": options["generators"] or every_kind("graphs"), "normal": normal, "known": known}
    # Judge, ranking and embedding: the best of those tried on other sets than those of results/graphs_suggest.md.
    judge = ExpectedAnomalyPosterior()
    _suggest("--graphs", "graphs", path, out, read, draw, write, chosen, options, judge, "coverage")


def _suggest(
    option: str,
    kind: str,
    path: Path,
    out: Path,
    read: Callable[[Any], tuple[Any, Any, Any]],
    draw: Callable[..., str],
    write: Callable[[Any, Path], None],
    embedder: Any,
    options: dict[str, Any],
    judge: Any = None,
    rank: str = "lift",
) -> None:
    """Rank, and write what was found; the usual judge of items is EAP with neighbours and a smooth density."""
    import numpy as np

    from assay.cli.suggest import COLUMNS
    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.tables import write_table
    from assay.detectors.tabular.neighbours import KNN
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.training.suggest import suggest

    start = clock.perf_counter()
    overwrite = settle_folder(out, options["overwrite"], FILES, (path,))
    judge = judge or ExpectedAnomalyPosterior(detector=KNN(), density="smooth")
    judge.set_params(n_subsets=options["subsets"], n_jobs=options["jobs"])
    with silence(options["quiet"]), new_folder(out, overwrite=overwrite, name="--out") as folder:
        items, labels, names = read(np.random.default_rng(options["seed"]))
        check_classes(labels, f"{option} {path}", min_normals=judge.min_neighbors + 2, min_anomalies=1, minority=True)
        suggestions = suggest(
            items,
            labels,
            generators=options["generators"] or None,
            strengths=options["strengths"],
            n=options["count"],
            judge=judge,
            embedder=embedder,
            rank=rank,
            random_state=options["seed"],
        )
        rows = [suggestion.row() for suggestion in suggestions]
        write_table({name: [row[name] for row in rows] for name in COLUMNS}, folder / "suggestions.csv")
        write(suggestions[0], folder)
        run = {
            "command": command_line(),
            "data": str(path),
            "parameters": {key: value for key, value in options.items() if key not in ("overwrite", "quiet", "json")},
            "versions": versions(),
        }
        write_json(run | {"suggestions": rows}, folder / "run.json")
        seconds = round(clock.perf_counter() - start, 1)
        page = _page(suggestions, kind, items, labels, names, draw, run | {"seconds": seconds})
        page.write(folder / "report.html")
    best = suggestions[0]
    if options["json"]:
        echo_json({"suggestions": rows, "out": str(out)})
    elif not options["quiet"]:
        print_table("Best first", list(COLUMNS), [[row[name] for name in COLUMNS] for row in rows[:10]])
        typer.echo(
            f"\n{best.generator} at strength {best.strength:g}: {best.realistic:.0%} of its {kind} are realistic"
        )
        typer.echo(f"report: {out / 'report.html'}")


def _page(
    suggestions: Sequence[Any], kind: str, items: Any, labels: Any, names: Any, draw: Callable[..., str], run: Any
) -> Any:
    import numpy as np

    from assay.report.findings import FindingsPage
    from assay.report.ranking import suggestion_chart

    best = suggestions[0]
    prior = best.judge.prior_[0] / sum(best.judge.prior_)
    where = f"{best.generator} at {best.strength:g}"

    def drawn(one: Any, order: Any, title: str = "") -> list[tuple[str, str]]:
        verdicts = one.judge.evaluate(one.rows[order])["verdict"].to_pylist()
        return [
            (
                f"quality {one.row_quality[i]:.3g}; shaded: what was changed",
                draw(one.auxiliary.X[int(i)], title or verdict, names, _touched(one.auxiliary, int(i))),
            )
            for i, verdict in zip(order, verdicts)
        ]

    order = np.argsort(-best.row_quality, kind="stable")
    first = {suggestion.generator: suggestion for suggestion in reversed(suggestions)}
    ranked = sorted(first.values(), key=lambda one: (-one.score, -one.lift))
    each = [drawn(one, [int(one.row_quality.argmax())], f"{one.generator} at {one.strength:g}")[0] for one in ranked]
    real = {
        f"{what} {kind}": [
            ("", draw(items[int(i)], f"{what} {kind[:-1]} {int(i)}", names))
            for i in np.flatnonzero(labels == value)[:SHOWN]
        ]
        for what, value in (("Normal", 0), ("Anomalous", 1))
    }
    shown = {one.generator for one in ranked[:LINES]}
    lines = [suggestion.row() for suggestion in suggestions if suggestion.generator in shown]
    return FindingsPage(
        title=f"Best of {len(suggestions)} generators and strengths: {where}",
        over=f"which synthetic {kind} are worth training on",
        lead=[
            f"{where} ranks first: {best.realistic:.0%} of its {kind} are realistic, and {best.coverage:.0%} of the "
            f"known anomalies have one of its kept {kind} nearer than any normal one.",
            f"The judgement rests on {int((labels == 0).sum())} normal and {int((labels == 1).sum())} known anomalous "
            f"{kind}. A kind of anomaly that none of these resembles may be called unrealistic although it exists.",
        ],
        tiles={
            f"normal {kind}": int((labels == 0).sum()),
            "known anomalies": int((labels == 1).sum()),
            "generators": len(first),
            "prior": float(prior),
            "realistic": f"{best.realistic:.0%}",
            "kept": int(best.kept.sum()),
        },
        charts={
            "Too little strength looks normal, too much looks like nothing that occurs: the best lies between."
            + (f" The first {LINES} of {len(first)} generators." if len(first) > LINES else ""): (
                suggestion_chart(lines, prior) or ""
            )
        },
        drawings={
            f"Best of {where}": drawn(best, order[:SHOWN]),
            f"Worst of {where}": drawn(best, order[::-1][: SHOWN // 2]),
            "The best of every generator": each,
            **real,
        },
        tables={"The whole ranking": [suggestion.row() for suggestion in suggestions]},
        run=run,
    )


def _touched(auxiliary: Any, row: int) -> Any:
    """Return which entries of an item were meant to change."""
    if hasattr(auxiliary.X, "offsets"):
        return auxiliary.touched[auxiliary.X.offsets[row] : auxiliary.X.offsets[row + 1]]
    if hasattr(auxiliary.X, "nodes"):
        return auxiliary.touched[auxiliary.X.nodes[row] : auxiliary.X.nodes[row + 1]]
    return auxiliary.touched[row]
