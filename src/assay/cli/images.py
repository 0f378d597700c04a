"""Images in `assay fit`, `assay score` and `assay suggest`: folders in, tables, heat maps and pages out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from assay.cli.common import command_line, echo_json, print_table, settle_folder, versions, write_json

#: What the folder of a scoring holds.
SCORE_FILES = ("scores.csv", "report.html", "run.json", "overlays")
#: What the folder of a suggestion holds.
SUGGEST_FILES = ("suggestions.csv", "report.html", "run.json", "best")
#: Images that are scored, and written, together.
CHUNK = 64
#: Pictures in a gallery.
SHOWN = 12


def read_folder(folder: Path, option: str, *, known_anomalies: bool) -> tuple[Any, Any]:
    """Return the usable images of a folder with their labels, 0 normal and 1 anomaly.

    A folder ``good`` (or ``train/good``) holds the normals, any folder beside it known anomalies; without one all
    images are normals. Files that cannot be read are named on standard error and left out.

    Raises
    ------
    InputError
        If there are none, or no known anomalies where some are needed.
    """
    import numpy as np

    from assay.core.images import Images, list_images
    from assay.core.validation import InputError
    from assay.datasets.images import GOOD

    homes = [place for base in (folder / "train", folder) for name in GOOD if (place := base / name).is_dir()]
    normal = list_images(homes[0] if homes else folder, option)
    others = [path for path in sorted(homes[0].parent.iterdir()) if path.is_dir() and path != homes[0]] if homes else []
    bad = [path for other in others if known_anomalies for path in _photographs(other)]
    if known_anomalies and not bad:
        raise InputError(
            f"{option} {folder} holds no known anomalies: give a folder 'good' and at least one other beside it"
        )
    images = Images([*normal, *bad], [str(path.relative_to(folder)) for path in [*normal, *bad]])
    labels = np.repeat([0, 1], [len(normal), len(bad)])
    reasons = images.unreadable()
    for reason in reasons.values():
        typer.echo(f"left out: {reason}", err=True)
    usable = np.array([i for i in range(len(images)) if i not in reasons], dtype=int)
    if len(usable) == 0:
        raise InputError(f"{option} {folder}: none of its {len(images)} images can be read")
    return images[usable], labels[usable]


def _photographs(folder: Path) -> list[Path]:
    """Return a folder's images less the masks, which lie beside them as NAME.png or in ``ground_truth``."""
    from assay.core.images import ENDINGS

    if folder.name == "ground_truth":
        return []
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    photographed = {path.with_suffix("") for path in files if path.suffix.lower() != ".png"}
    return [path for path in files if path.suffix.lower() != ".png" or path.with_suffix("") not in photographed]


def training_images(train: Path, detector: Any) -> tuple[Any, Any, str]:
    """Return the images to fit a detector on, their labels if it learns from some, and how many there are."""
    images, labels = read_folder(train, "--train", known_anomalies=detector.labels == "required")
    return images, None if detector.labels == "normals" else labels, f"{len(images)} images"


def score_images(
    model: Path, detector: Any, data: Path, out: Path, overlays: str, overwrite: bool, quiet: bool, as_json: bool
) -> None:
    """Score a folder of images; write a table, heat maps and a page."""
    from assay.base import Localizer
    from assay.core.files import new_folder
    from assay.core.images import as_images
    from assay.core.progress import silence
    from assay.core.tables import write_table

    overwrite = settle_folder(out, overwrite, SCORE_FILES, (data, model))
    images = as_images(data, "--data")
    names = [str(Path(name).relative_to(data)) for name in images.names]
    start = time.perf_counter()
    threshold = float(detector.calibrator_.threshold_)
    rows: dict[str, list[Any]] = {"image": [], "anomaly_score": [], "is_anomaly": [], "error": []}
    pictures = _Pictures(threshold)
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as folder:
        if overlays != "none" and isinstance(detector.detector_, Localizer):
            (folder / "overlays").mkdir()
        for place, usable, reasons in _chunks(images):
            scores, maps = _located(detector.detector_, usable)
            pictures.measure(maps)
            answers = iter(range(len(usable)))
            for i in range(place, min(place + CHUNK, len(images))):
                k = next(answers) if i not in reasons else None
                score = float(scores[k]) if k is not None else float("nan")
                rows["image"].append(names[i])
                rows["anomaly_score"].append(score)
                rows["is_anomaly"].append(int(score > threshold) if k is not None else None)
                rows["error"].append(reasons.get(i))
                if k is not None:
                    shown = pictures.add(names[i], usable, k, score, None if maps is None else maps[k])
                    if shown is not None and (overlays == "all" or (overlays == "flagged" and score > threshold)):
                        _write_picture(shown, folder / "overlays" / (names[i].replace("/", "__") + ".jpg"))
        seconds = time.perf_counter() - start
        write_table(rows, folder / "scores.csv")
        run = {
            "command": command_line(),
            "model": str(model),
            "data": str(data),
            "threshold": threshold,
            "versions": versions(),
        }
        write_json(run, folder / "run.json")
        _score_page(rows, pictures, threshold, seconds, run).write(folder / "report.html")
    failed = sum(reason is not None for reason in rows["error"])
    flagged = sum(flag == 1 for flag in rows["is_anomaly"])
    rate = len(images) / seconds
    summary = {"images": len(images), "anomalies": flagged, "unreadable": failed, "images_per_second": rate}
    if as_json:
        echo_json(summary | {"out": str(out)})
    elif not quiet:
        unread = f", {failed} could not be read (see scores.csv)" if failed else ""
        typer.echo(f"{len(images)} images, {flagged} anomalies{unread}; {rate:.1f} images a second")
        typer.echo(f"report: {out / 'report.html'}")


def _chunks(images: Any) -> Iterator[tuple[int, Any, dict[int, str]]]:
    """Yield where a chunk begins, its readable images, and why the others are not, by their number."""
    from assay.core.progress import progress

    starts = range(0, len(images), CHUNK)
    for place in progress(starts, "scoring images", total=len(starts)):
        chunk = images[place : place + CHUNK]
        reasons = {place + i: reason for i, reason in chunk.unreadable().items()}
        yield place, chunk[[i for i in range(len(chunk)) if place + i not in reasons]], reasons


def _located(detector: Any, images: Any) -> tuple[Any, Any]:
    from assay.base import Localizer

    if len(images) == 0:
        return [], None
    if isinstance(detector, Localizer):
        return detector.locate(images)
    return detector.anomaly_score(images), None


class _Pictures:
    """Keeps the highest and lowest scored images for the page; the scale of the heat is that of the first chunk."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.scale: tuple[float, float] | None = None
        self.kept: list[tuple[float, Any]] = []

    def measure(self, maps: Any) -> None:
        """Fix the scale: from the median of the first maps to their highest, or as far beyond the threshold as it lies
        above the median."""
        import numpy as np

        if self.scale is None and maps is not None:
            low = min(float(np.median(maps)), self.threshold)
            self.scale = low, max(float(maps.max()), 2 * self.threshold - low)

    def add(self, name: str, images: Any, k: int, score: float, scores: Any) -> Any:
        """Return the image under its heat map, if there is one; keep both if they belong on the page."""
        from assay.report.images import Picture
        from assay.report.pictures import heated, thumbnail

        image, over = images[k], None
        if scores is not None:
            over = heated(image, scores, *self.scale, self.threshold)
        flagged = "anomaly" if score > self.threshold else "normal"
        small = None if over is None else thumbnail(over)
        self.kept.append((score, Picture(thumbnail(image), name, f"{flagged}, score {score:.3g}", small)))
        if len(self.kept) > 4 * SHOWN:
            self.kept = self.highest() + self.lowest()
        return over

    def highest(self) -> list[tuple[float, Any]]:
        return sorted(self.kept, key=lambda one: -one[0])[: 2 * SHOWN]

    def lowest(self) -> list[tuple[float, Any]]:
        rest = sorted(self.kept, key=lambda one: -one[0])[2 * SHOWN :]
        return rest[::-1][: SHOWN // 2]


def _score_page(rows: dict[str, list[Any]], pictures: _Pictures, threshold: float, seconds: float, run: Any) -> Any:
    import numpy as np

    from assay.report.findings import FindingsPage
    from assay.report.images import Gallery, score_chart

    scores = np.array(rows["anomaly_score"])
    scores = scores[np.isfinite(scores)]
    flagged, total = int((scores > threshold).sum()), len(rows["image"])
    unread = [
        {"image": name, "reason": reason} for name, reason in zip(rows["image"], rows["error"]) if reason is not None
    ]
    lead = [f"{flagged} of {len(scores)} images lie above the threshold, {threshold:.3g}."]
    if unread:
        lead.append(f"{len(unread)} of {total} files could not be read; they are listed below.")
    promise = "The threshold keeps the promised false-alarm rate on fresh normal images."
    charts = {promise: score_chart(scores, threshold)} if len(scores) else {}
    caption = (
        "Left the image, right its map of scores: pale where they are high; the line surrounds what exceeds the "
        "threshold. All pictures of this page share one scale."
    )
    return FindingsPage(
        title=f"{flagged} of {total} images look anomalous",
        over="what a detector found in a folder of images",
        lead=lead,
        tiles={
            "images": total,
            "anomalies": flagged,
            "unreadable": len(unread),
            "threshold": threshold,
            "images a second": total / seconds,
        },
        charts=charts,
        galleries=[
            Gallery("Highest scores", [picture for _, picture in pictures.highest()], caption),
            *([Gallery("Lowest scores", [picture for _, picture in pictures.lowest()])] if pictures.lowest() else []),
        ],
        tables={"Files that could not be read": unread},
        run=run,
    )


def _write_picture(image: Any, path: Path) -> None:
    from assay.core.extras import require

    require("PIL.Image", "images", "Writing heat maps").fromarray(image).save(path, "JPEG", quality=90)


def suggest_images(
    folder: Path,
    out: Path,
    generators: Sequence[str] | None,
    strengths: Sequence[float],
    count: int,
    subsets: int,
    seed: int,
    jobs: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    columns: Sequence[str],
) -> None:
    """Rank generators of synthetic defects for a folder of images; write the ranking, pictures and a page."""
    import numpy as np

    from assay.core.files import new_folder
    from assay.core.progress import silence
    from assay.core.tables import write_table
    from assay.detectors.tabular.neighbours import KNN
    from assay.embedders.images import ImageEmbedder, PatchEmbedder
    from assay.quality.eap import ExpectedAnomalyPosterior
    from assay.training.probe import image_probe
    from assay.training.suggest import suggest

    start = time.perf_counter()
    overwrite = settle_folder(out, overwrite, SUGGEST_FILES, (folder,))
    judge = ExpectedAnomalyPosterior(detector=KNN(), density="smooth", n_subsets=subsets, n_jobs=jobs)
    with silence(quiet), new_folder(out, overwrite=overwrite, name="--out") as results:
        images, labels = read_folder(folder, "--images", known_anomalies=True)
        suggestions = suggest(
            images,
            labels,
            generators=generators or None,
            strengths=strengths,
            n=count,
            judge=judge,
            embedder=PatchEmbedder(),
            rank="lift",
            random_state=seed,
        )
        best = suggestions[0]
        # The mask is painted grey for the probe: the most unusual patch would be its edge.
        embedder = ImageEmbedder()
        more = best.fitted.sample(max(count, 60), best.strength, random_state=seed)
        probe = image_probe(more, best.fitted.parents_, embedder.fit(images[:1]), random_state=seed)
        rows = [suggestion.row() for suggestion in suggestions]
        write_table({name: [row[name] for row in rows] for name in columns}, results / "suggestions.csv")
        (results / "best").mkdir()
        for i in np.flatnonzero(best.kept):
            _write_picture(best.auxiliary.X[i], results / "best" / f"{i:04d}.jpg")
        run = {
            "command": command_line(),
            "parameters": {"seed": seed, "subsets": subsets, "count": count, "strengths": list(strengths)},
            "data": str(folder),
            "versions": versions(),
        }
        write_json(run | {"suggestions": rows, "probe": probe}, results / "run.json")
        seconds = time.perf_counter() - start
        _suggest_page(suggestions, images, labels, probe, run | {"seconds": round(seconds, 1)}).write(
            results / "report.html"
        )
    if as_json:
        echo_json({"suggestions": rows, "out": str(out)})
    elif not quiet:
        print_table("Best first", list(columns), [[row[name] for name in columns] for row in rows[:10]])
        typer.echo(
            f"\n{best.generator} at strength {best.strength:g}: {best.realistic:.0%} of its images are realistic"
        )
        typer.echo(f"report: {out / 'report.html'}")


def _suggest_page(suggestions: Sequence[Any], images: Any, labels: Any, probe: tuple[float, float], run: Any) -> Any:
    import numpy as np

    from assay.report.findings import FindingsPage
    from assay.report.images import Gallery, Picture
    from assay.report.pictures import outlined
    from assay.report.ranking import suggestion_chart

    best = suggestions[0]
    prior = best.judge.prior_[0] / sum(best.judge.prior_)
    rows = [suggestion.row() for suggestion in suggestions]

    def pictures(one: Any, order: Any) -> list[Any]:
        verdicts = one.judge.evaluate(one.rows[order])["verdict"].to_pylist()
        return [
            Picture(
                one.auxiliary.X[i],
                verdict,
                f"quality {one.row_quality[i]:.3g}",
                outlined(one.auxiliary.X[i], one.auxiliary.mask[i]),
            )
            for i, verdict in zip(order, verdicts)
        ]

    order = np.argsort(-best.row_quality, kind="stable")
    first = {suggestion.generator: suggestion for suggestion in reversed(suggestions)}
    ranked = sorted(first.values(), key=lambda one: (-one.score, -one.lift))
    samples = [
        Picture(
            one.auxiliary.X[i := int(one.row_quality.argmax())],
            f"{one.generator} at {one.strength:g}",
            f"score {one.score:.3g}, quality of this one {one.row_quality[i]:.3g}",
            outlined(one.auxiliary.X[i], one.auxiliary.mask[i]),
        )
        for one in ranked
    ]
    real = [
        Gallery("Normal images", [Picture(images[int(i)], images.names[i]) for i in np.flatnonzero(labels == 0)[:6]]),
        Gallery("Known anomalies", [Picture(images[int(i)], images.names[i]) for i in np.flatnonzero(labels == 1)[:6]]),
    ]
    where = f"{best.generator} at {best.strength:g}"
    told = "cannot be told" if not probe[1] < 0.01 else "CAN be told"
    lead = [
        f"{where} ranks first: {best.realistic:.0%} of its images are realistic, "
        f"and {best.coverage:.0%} of the known anomalies have one of its kept images nearer than any normal image.",
        f"Outside what it changed, its images {told} from real ones (AUROC {probe[0]:.2f}, p = {probe[1]:.2g}).",
        f"The judgement rests on {int((labels == 0).sum())} normal images and {int((labels == 1).sum())} known "
        "anomalies. A kind of defect that none of these resembles may be called unrealistic although it exists.",
    ]
    return FindingsPage(
        title=f"Best of {len(suggestions)} generators and strengths: {where}",
        over="which synthetic defects are worth training on",
        lead=lead,
        tiles={
            "normal images": int((labels == 0).sum()),
            "known anomalies": int((labels == 1).sum()),
            "generators": len(first),
            "prior": float(prior),
            "realistic": f"{best.realistic:.0%}",
            "kept": int(best.kept.sum()),
        },
        charts={
            "Too little strength looks normal, too much looks like nothing that occurs: the best lies between.": (
                suggestion_chart(rows, prior) or ""
            )
        },
        galleries=[
            Gallery(
                f"Best of {best.generator} at {best.strength:g}",
                pictures(best, order[:SHOWN]),
                "Right: what was changed.",
            ),
            Gallery(f"Worst of {best.generator} at {best.strength:g}", pictures(best, order[::-1][: SHOWN // 2])),
            Gallery("Each generator's best", samples),
            *real,
        ],
        tables={"All generators and strengths": rows},
        run=run,
    )
