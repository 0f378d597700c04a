"""A project: a folder that knows what is reviewed, computes features, scores and a map once, and keeps the labels.

    project.json    what is reviewed and how; written when the project is made
    stages/         features, scaled features, scores, map (see `assay.review.stages`)
    labels.sqlite   who said what, unless another database is named

Everything is done in blocks from files that are memory-mapped: what is kept in memory is a few numbers an item, not its
features.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.base import uncalibrated
from assay.catalogue import find, load_class
from assay.core.files import new_file
from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.store import load, save
from assay.core.tables import iter_tables
from assay.core.validation import InputError, check_number, check_option
from assay.report import svg
from assay.review.items import EMBEDDERS, Items, Pictures, Rows, kind_of, open_items
from assay.review.stages import Stages, in_blocks, join, key_of_files

FORMAT = 1
MAPS = ("pca", "tsne", "umap")
#: Rows of features in one block; items embedded at a time; rows that scales, directions and detectors are learned from.
BLOCK, EMBEDDED, SAMPLE = 65536, 512, 200_000
#: Items below which every map is that of the principal components.
FEWEST_TO_EMBED = 10
#: Seconds in which a cluster must answer.
ANSWERS = 20


@dataclass(frozen=True)
class Settings:
    """What a project does; every field but the first five has a default.

    Attributes
    ----------
    name, kind, source : str
        What it is called, the kind of data, where the items are.
    id : str
        Under which its labels are kept.
    format : int
        Version of this file.
    drop : list of str
        Columns of a table that are no features.
    meta : str or None
        A table with a row an item, shown beside it: columns ``verdict`` and ``quality`` are those of `assay rank`.
    model : str or None
        A saved detector that scores the items themselves; its heat maps are shown.
    embedder : str or None
        What turns items into features; that of their kind by default, see `assay.review.items`.
    detector : str
        Otherwise this detector of tables scores the scaled features.
    components : int
        More features than that are reduced to so many principal components.
    map : str
        ``"pca"``, ``"tsne"`` or ``"umap"``.
    points : int
        Items on the map: half of them those with the highest scores, the others drawn at random.
    seed : int
        Of everything random.
    """

    name: str
    kind: str
    source: str
    id: str
    format: int = FORMAT
    drop: list[str] = field(default_factory=list)
    meta: str | None = None
    model: str | None = None
    embedder: str | None = None
    detector: str = "isolation_forest"
    components: int = 64
    map: str = "pca"
    points: int = 50_000
    seed: int = 0


@dataclass
class Prepared:
    """What the stages give.

    Attributes
    ----------
    items : Items
        The items that could be read.
    features : array of float32 of shape (n, d)
        Scaled features, memory-mapped.
    scores : array of shape (n,)
        The detector's scores.
    rows : array of int of shape (m,)
        The items on the map.
    places : array of float32 of shape (m, 2)
        Where they are on it.
    failed : dict of str to str
        Items that could not be read, and why.
    meta : pyarrow.Table or None
        A row an item.
    detector : Detector or None
        What scored the features, where each of them is one of `columns`: its scores can be explained by them.
    scale : array of shape (2, d)
        Mean and spread by which features were scaled.
    columns : list of str
        What the features were called before they were scaled; empty where the embedder does not say.
    key : str
        Of the items' names and contents.
    """

    items: Items
    features: Any
    scores: Any
    rows: Any
    places: Any
    failed: dict[str, str]
    meta: pa.Table | None
    detector: Any
    scale: Any
    columns: list[str]
    key: str


class Project:
    """A project's folder.

    Parameters
    ----------
    folder : path
        Where it is.

    Raises
    ------
    InputError
        If it holds no project, or one that cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "project.json"
        if not path.is_file():
            raise InputError(f"{self.folder} holds no project: make one with --items")
        try:
            self.settings = Settings(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is no project of this version: {error}") from error
        if self.settings.format != FORMAT:
            raise InputError(f"{path} is no project of this version: format {self.settings.format}, expected {FORMAT}")
        _check(self.settings)
        self.stages = Stages(self.folder / "stages")

    @classmethod
    def create(cls, folder: str | Path, source: str | Path, kind: str | None = None, **settings: Any) -> Project:
        """Make a project's folder; nothing is computed yet.

        Parameters
        ----------
        folder : path
            New, or empty.
        source : path
            The items.
        kind : str, optional
            See `assay.review.items`; guessed from the source by default.
        **settings
            See `Settings`.
        """
        folder, source = Path(folder), Path(source)
        if not source.exists():
            raise InputError(f"--items {source} does not exist")
        if (folder / "project.json").exists():
            raise InputError(f"{folder} holds a project already: open it without --items")
        settings.setdefault("name", folder.resolve().name)
        made = Settings(
            kind=kind or kind_of(source), source=str(source.resolve()), id=secrets.token_hex(16), **settings
        )
        _check(made)
        open_items(source, made.kind)
        folder.mkdir(parents=True, exist_ok=True)
        with new_file(folder / "project.json") as path:
            path.write_text(json.dumps(asdict(made), indent=2) + "\n", encoding="utf-8")
        return cls(folder)

    def forget(self) -> None:
        """Undo `create`: what was computed stays, and is found again if it fits."""
        (self.folder / "project.json").unlink(missing_ok=True)

    @property
    def database(self) -> str:
        """The URL of the project's own database of labels."""
        import sqlalchemy as sa

        path = str((self.folder / "labels.sqlite").resolve())
        return sa.URL.create("sqlite", database=path).render_as_string(hide_password=False)

    def prepare(self, n_jobs: int | None = None) -> Prepared:
        """Compute what is not there yet, and open it.

        Parameters
        ----------
        n_jobs : int, optional
            Workers that embed and score blocks; joblib's backend (Dask too) decides where.
        """
        told = self.settings
        items = open_items(Path(told.source), told.kind)
        content = key_of_files(items.files, Path(told.source).parent, self.folder / "stages" / "files.json")
        features, failed = self._features(items, content, n_jobs)
        scaled = self._scaled(features, n_jobs)
        scores = self._scores(items, scaled, n_jobs)
        mapped = self._map(scaled, scores)
        values = np.load(scaled / "scaled.npy", mmap_mode="r")
        columns = json.loads((features / "columns.json").read_text())
        own = values.shape[1] == len(columns) and told.model is None
        return Prepared(
            items,
            values,
            np.load(scores / "scores.npy"),
            np.load(mapped / "rows.npy"),
            np.load(mapped / "places.npy"),
            failed,
            self._meta(items, failed),
            load(scores / "detector") if own else None,
            np.load(scaled / "scale.npy"),
            columns,
            content,
        )

    def _features(self, items: Items, content: str, n_jobs: int | None) -> tuple[Path, dict[str, str]]:
        embedder = self.settings.embedder or EMBEDDERS[self.settings.kind]
        told = self.settings
        parameters = {"content": content, "embedder": embedder, "drop": told.drop, "seed": told.seed, "format": 2}

        def compute(work: Path) -> None:
            if isinstance(items, Rows):
                _write_rows(Path(self.settings.source), self.settings.drop, work)
                return
            failed = items.data.unreadable() if isinstance(items, Pictures) else {}
            _write_json(work / "failed.json", {items.names[item]: why for item, why in failed.items()})
            readable = [item for item in range(len(items)) if item not in failed]
            _write_json(work / "readable.json", readable)
            if len(readable) < 2:
                raise InputError(
                    f"--items {self.settings.source}: {len(readable)} items can be read, at least 2 needed"
                )
            if isinstance(items, Pictures):
                items.keep(readable)
            cls = load_class(find(str(embedder), "embedder"))
            seeded = {"random_state": self.settings.seed} if "random_state" in cls().get_params() else {}
            sample = as_generator(self.settings.seed).permutation(len(readable))[:2000]
            fitted = cls(**seeded).fit(_taken(items.data, np.sort(sample)))
            named = hasattr(fitted, "get_feature_names_out")
            _write_json(work / "columns.json", fitted.get_feature_names_out().tolist() if named else [])
            in_blocks(work, "features", len(readable), EMBEDDED, _embed, (fitted, items.data), n_jobs)

        stage = self.stages.get("features", compute, parameters)
        values = np.load(stage / "features.npy", mmap_mode="r")
        failed = json.loads((stage / "failed.json").read_text())
        if isinstance(items, Rows):
            names = np.load(stage / "names.npy", mmap_mode="r")
            offset = np.load(stage / "offset.npy")
            items.attach(values, _Texts(names), json.loads((stage / "columns.json").read_text()), offset)
        elif isinstance(items, Pictures) and failed and len(items) != len(values):
            items.keep(json.loads((stage / "readable.json").read_text()))
        return stage, failed

    def _scaled(self, features: Path, n_jobs: int | None) -> Path:
        """Standardise; where there are many features, keep the principal components."""
        limit = self.settings.components

        def compute(work: Path) -> None:
            sample, count = _sample(features / "features.npy", as_generator(self.settings.seed))
            mean, spread = sample.mean(axis=0), sample.std(axis=0)
            spread[spread == 0] = 1.0
            np.save(work / "scale.npy", np.stack([mean, spread]))
            turn = None
            if sample.shape[1] > limit:
                standard = (sample - mean) / spread
                _, vectors = np.linalg.eigh(standard.T @ standard)
                turn = vectors[:, ::-1][:, :limit].astype(np.float32)
            arguments = (features / "features.npy", mean.astype(np.float32), spread.astype(np.float32), turn)
            in_blocks(work, "scaled", count, BLOCK, _scale, arguments, n_jobs)

        parameters = {"components": limit, "seed": self.settings.seed, "format": 2}
        return self.stages.get("scaled", compute, parameters, [features])

    def _scores(self, items: Items, scaled: Path, n_jobs: int | None) -> Path:
        told = self.settings
        parameters: dict[str, Any] = {"detector": told.detector, "seed": told.seed}
        if told.model is not None:
            files = sorted(path for path in Path(told.model).iterdir() if path.is_file())
            parameters = {"model": key_of_files(files, Path(told.model))}

        def compute(work: Path) -> None:
            count = len(items)
            if told.model is not None:
                _check_columns(load(told.model), items, told.model)
                in_blocks(work, "scores", count, EMBEDDED, _score_items, (Path(told.model), items.data), n_jobs)
                return
            if not (work / "detector").is_dir():
                rng = as_generator(told.seed)
                sample, _ = _sample(scaled / "scaled.npy", rng)
                cls = load_class(find(told.detector, "detector"))
                known = cls().get_params()
                # 200 trees are Astronomaly's; a detector without trees or chance takes neither.
                wanted = {"n_trees": 200, "random_state": rng}
                detector: Any = cls(**{name: value for name, value in wanted.items() if name in known})
                detector.fit(sample)
                detector.set_params(**({"random_state": None} if "random_state" in known else {}))
                save(detector, work / "detector")
            arguments = (work / "detector", scaled / "scaled.npy")
            in_blocks(work, "scores", count, BLOCK, _score_rows, arguments, n_jobs)

        return self.stages.get("scores", compute, parameters, [scaled])

    def _map(self, scaled: Path, scores: Path) -> Path:
        told = self.settings

        def compute(work: Path) -> None:
            values, weird = np.load(scaled / "scaled.npy", mmap_mode="r"), np.load(scores / "scores.npy")
            order = np.argsort(-weird, kind="stable")
            half = min(len(order), told.points // 2)
            rest = as_generator(told.seed).permutation(order[half:])[: told.points - half]
            rows = np.sort(np.concatenate([order[:half], rest]))
            places = _places(np.asarray(values[rows], dtype=np.float64), told.map, told.seed)
            np.save(work / "rows.npy", rows)
            np.save(work / "places.npy", places.astype(np.float32))

        return self.stages.get("map", compute, {"map": told.map, "points": told.points, "seed": told.seed}, [scores])

    def _meta(self, items: Items, failed: dict[str, str]) -> pa.Table | None:
        if self.settings.meta is None:
            return None
        from pyarrow import csv, parquet

        path = Path(self.settings.meta)
        try:
            read: Any = csv.read_csv if path.suffix == ".csv" else parquet.read_table
            table = read(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"--meta {path} cannot be read: {str(error).splitlines()[0]}") from error
        if len(set(table.column_names)) < len(table.column_names):
            raise InputError(f"--meta {path} has two columns of the same name: rename one of them")
        if "quality" in table.column_names and not pa.types.is_floating(table["quality"].type):
            try:
                place = table.column_names.index("quality")
                table = table.set_column(place, "quality", table["quality"].cast(pa.float64()))
            except pa.ArrowInvalid as error:
                raise InputError(f"--meta {path}: the column quality holds no numbers: rename it") from error
        if failed and len(table) == len(items) + len(failed):
            # A row a file, those that cannot be read included.
            table = table.take([place for place, name in enumerate(items.all_names) if name not in failed])
        if len(table) != len(items):
            raise InputError(f"--meta {path} has {len(table)} rows for {len(items)} items")
        return table

    def heat_model(self) -> Any:
        """Return the saved detector if it can say where, else None."""
        if self.settings.model is None:
            return None
        model = load(self.settings.model)
        model = uncalibrated(model)
        return model if hasattr(model, "anomaly_map") else None


class _Texts(Sequence[str]):
    """Names as text, whatever kind of array holds them."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, item: Any) -> Any:
        value = self.values[item]
        return svg.clean(value) if isinstance(value, str) else f"row {value}"

    def index(self, value: str, *_: Any) -> int:
        """Return the first place of a name."""
        wanted: Any = value
        if self.values.dtype.kind in "iuf":
            word, _, number = value.partition(" ")
            try:
                wanted = float(number) if word == "row" else np.nan
            except ValueError:
                wanted = np.nan
        found = np.flatnonzero(self.values == wanted)
        if not len(found):
            raise ValueError(value)
        return int(found[0])


@contextmanager
def workers(address: str | None) -> Iterator[None]:
    """Let blocks be computed by the workers of a Dask scheduler within this context; here where `address` is None."""
    if address is None:
        yield
        return
    import joblib

    from assay.core.extras import require

    distributed: Any = require("distributed", "cluster", "Workers of a cluster")
    try:
        client = distributed.Client(address, timeout=ANSWERS)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"--cluster {address} does not answer: {error}") from error
    with client, joblib.parallel_config("dask"):
        yield


def _check(told: Settings) -> None:
    check_option(told.kind, "kind", *EMBEDDERS)
    check_option(told.map, "map", *MAPS)
    check_number(told.components, "components", low=2, integer=True)
    check_number(told.points, "points", low=2, integer=True)
    check_number(told.seed, "seed", low=0, integer=True)
    try:
        entry = find(told.detector, "detector")
        embedder = None if told.embedder is None else find(told.embedder, "embedder")
    except KeyError as error:
        raise InputError(str(error.args[0])) from error
    if embedder is not None and embedder.data != told.kind:
        raise InputError(f"embedder {told.embedder} takes {embedder.data}, the items are {told.kind}")
    if entry.data != "tables" or entry.labels != "normals":
        raise InputError(
            f"detector {told.detector} does not score the features alone: choose one of tables and normals"
        )
    if told.model is not None and not Path(told.model).is_dir():
        raise InputError(f"--model {told.model} is no folder of a saved detector")


def _write_rows(source: Path, drop: list[str], work: Path) -> None:
    """Write a table's numbers, row names and column names, piece by piece."""
    pieces, names, columns, count = [], [], [], 0
    offset: Any = None
    for number, piece in enumerate(progress(iter_tables(source, drop=drop, argument="--items"), "reading the table")):
        columns = piece.names
        # Single precision keeps seven digits: what all rows share, such as the date of times in seconds, is taken off.
        offset = np.median(piece.X, axis=0) if offset is None else offset
        with np.errstate(over="ignore"):  # what is too far is refused
            values = piece.X - offset
        far = np.flatnonzero((np.abs(values) > np.finfo(np.float32).max).any(axis=0))
        if len(far):
            raise InputError(f"--items {source}: the column {columns[far[0]]!r} holds numbers beyond 1e38: rescale it")
        np.save(work / f"piece.{number}.npy", values.astype(np.float32))
        pieces.append(work / f"piece.{number}.npy")
        names.append(np.asarray(piece.index))
        count += len(piece.X)
    if count < 2:
        raise InputError(f"--items {source} has {count} rows, at least 2 needed")
    join(pieces, count, work / "features.npy")
    np.save(work / "offset.npy", offset)
    joined = np.concatenate(names)
    np.save(work / "names.npy", joined if joined.dtype.kind in "iuf" else joined.astype(str))
    _write_json(work / "columns.json", columns)
    _write_json(work / "failed.json", {})


def _check_columns(model: Any, items: Items, folder: str) -> None:
    """Refuse a model of tables that was fitted on other columns, or in another order."""
    fitted = getattr(model, "feature_names_in_", None)
    if isinstance(items, Rows) and fitted is not None and list(map(str, fitted)) != list(items.columns):
        raise InputError(
            f"--model {folder} was fitted on the columns {', '.join(map(str, fitted[:5]))}…, the items have "
            f"{', '.join(items.columns[:5])}…: give the same, in that order (--drop leaves out)"
        )
    if not hasattr(model, "anomaly_score"):
        raise InputError(f"--model {folder} holds a {type(model).__name__}, which gives no anomaly scores")


def _sample(path: Path, rng: np.random.Generator) -> tuple[Any, int]:
    """Return some rows, at most `SAMPLE`, and how many there are; the memory-mapped pages are given back."""
    values = np.load(path, mmap_mode="r")
    rows = np.sort(rng.permutation(len(values))[:SAMPLE])
    return np.asarray(values[rows], dtype=np.float64), len(values)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _taken(data: Any, rows: Any) -> Any:
    return np.asarray(data[rows]) if isinstance(data, np.ndarray) else data[rows]


def _embed(start: int, stop: int, embedder: Any, data: Any) -> Any:
    return embedder.transform(_taken(data, np.arange(start, stop))).astype(np.float32)


def _scale(start: int, stop: int, path: Path, mean: Any, spread: Any, turn: Any) -> Any:
    values = (np.load(path, mmap_mode="r")[start:stop] - mean) / spread
    return values if turn is None else values @ turn


def _score_rows(start: int, stop: int, detector: Path, path: Path) -> Any:
    return load(detector).anomaly_score(np.asarray(np.load(path, mmap_mode="r")[start:stop], dtype=np.float64))


def _score_items(start: int, stop: int, model: Path, data: Any) -> Any:
    model = load(model)
    return uncalibrated(model).anomaly_score(_taken(data, np.arange(start, stop)))


def _places(values: Any, kind: str, seed: int) -> Any:
    """Return where to draw rows, (m, 2)."""
    centred = values - values.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    flat = centred @ vectors[:, ::-1][:, :2]
    if flat.shape[1] == 1:
        flat = np.column_stack([flat, np.zeros(len(flat))])
    # Few items, or one column, are their own map.
    if kind == "pca" or len(values) < FEWEST_TO_EMBED or values.shape[1] == 1:
        return flat
    if kind == "umap":
        from assay.core.extras import require

        umap: Any = require("umap", "review", "A map by UMAP")
        return umap.UMAP(n_neighbors=15, min_dist=0.1, random_state=seed, n_jobs=1).fit_transform(values)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
