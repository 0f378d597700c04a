"""What is reviewed: the items of a source, of any kind of data, each shown as a fragment of a page.

In: a file or folder. Out: `Items`: how many, what they are called, the data for embedding and detectors, and a
picture of one. Whatever text comes from outside is escaped where it enters a page; images are decoded and written
anew, so that a file's own bytes never reach a browser.

    kind      source                                          shown as
    tables    .csv, .parquet, .npy, .npz                      its values beside the middle half of all
    images    a folder                                        the image; with a localising model its heat map
    windows   .npy (n, L) or (n, L, C)                        a curve a channel
    events    .txt or .jsonl, a sequence a line               labelled boxes
    sets      .npy (n, N, d), e.g. point clouds               points from two sides
    graphs    a folder in the TU layout                       nodes and links
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from assay.core.extras import require
from assay.core.images import as_images, list_images
from assay.core.validation import InputError
from assay.report import svg
from assay.report.events import strip_of_events

#: The embedder of each kind; tables are their own rows.
EMBEDDERS = {
    "tables": None,
    "images": "image_embedder",
    "windows": "spectral_windows",
    "events": "event_counts",
    "sets": "set_statistics",
    "graphs": "graph_statistics",
}
#: Values of a row, channels of a window, that are shown; what is left out is counted.
SHOWN_VALUES, SHOWN_CHANNELS = 24, 6


class Items:
    """The items of one kind.

    Attributes
    ----------
    names : sequence of str
        What each is called.
    data : object
        What embedders and detectors take; index it with numbers of items.
    files : list of Path
        What the source consists of.
    """

    names: Sequence[str]
    data: Any
    files: list[Path]

    def __init__(self, source: Path) -> None:
        self.files = [source]

    @property
    def all_names(self) -> Sequence[str]:
        """What each is called, unreadable ones included."""
        return self.names

    def __len__(self) -> int:
        return len(self.names)

    def show(self, item: int) -> Markup:
        """Return the item as a fragment of a page."""
        raise NotImplementedError

    def picture(self, item: int, heat: Any = None) -> bytes | None:
        """Return the item as a JPEG where it is an image."""
        return None


class Rows(Items):
    """The rows of a table; their numbers are read by the stage that writes the features."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.columns: list[str] = []
        self.middle: Any = None

    def attach(self, values: Any, names: Sequence[str], columns: list[str], offset: Any) -> None:
        """Take the values (n, d) less an offset, on disk, with the names of rows and columns."""
        self.data, self.names, self.columns = Shifted(values, offset), names, columns
        sample = self.data[:: max(1, len(values) // 20_000)]
        self.middle = np.percentile(sample, [25, 50, 75], axis=0)

    def show(self, item: int) -> Markup:
        """Return the values, those farthest from the middle of all first."""
        values = self.data[item]
        low, middle, high = self.middle
        width = np.where(high > low, high - low, 1.0)
        order = np.argsort(-np.abs(values - middle) / width, kind="stable")[:SHOWN_VALUES]
        lines = [
            f"<tr><th scope=row>{escape(svg.shorten(self.columns[j], 60))}</th><td>{svg.number(values[j])}</td>"
            f"<td>{svg.number(low[j])} to {svg.number(high[j])}</td></tr>"
            for j in order
        ]
        rest = len(values) - len(order)
        more = f"<p class=note>{rest} more values are not shown.</p>" if rest else ""
        head = "<tr><th scope=col>Column</th><th scope=col>Value</th><th scope=col>Middle half of all</th></tr>"
        table = f"<table class=values><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"
        return Markup(f'<div class=scroll tabindex=0 role=region aria-label="Values">{table}</div>{more}')


class Shifted:
    """Rows on disk in single precision, and what is added to each: taken in double precision."""

    def __init__(self, values: Any, offset: Any) -> None:
        self.values, self.offset = values, offset

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        return np.asarray(self.values[rows], dtype=np.float64) + self.offset


class Pictures(Items):
    """The images of a folder."""

    def __init__(self, source: Path) -> None:
        self.files = list_images(source, "--items")
        self.data = as_images(self.files)
        # A name is for pages: what no page may hold is replaced.
        self.names = [svg.clean(path.relative_to(source).as_posix()) for path in self.files]
        self._all_names = self.names

    @property
    def all_names(self) -> Sequence[str]:
        """What each is called, unreadable ones included."""
        return self._all_names

    def keep(self, readable: Sequence[int]) -> None:
        """Leave out what cannot be read."""
        self.data, self.names = self.data[list(readable)], [self.names[item] for item in readable]

    def show(self, item: int) -> Markup:
        """Return the place of the image in a page."""
        return Markup(f'<img class="item-image" src="/items/{int(item)}/image.jpg" alt="{escape(self.names[item])}">')

    def picture(self, item: int, heat: Any = None) -> bytes:
        """Return the image as a JPEG, with a heat map (h, w) in [0, 1] over it if one is given."""
        from assay.report.pictures import heated, thumbnail

        image = thumbnail(self.data[item], 900)
        if heat is not None:
            image = heated(image, np.asarray(heat, dtype=np.float32), 0.0, 1.0)
        pil: Any = require("PIL.Image", "images", "Showing images")
        buffer = io.BytesIO()
        pil.fromarray(image).save(buffer, "JPEG", quality=88)
        return buffer.getvalue()


class Arrays(Items):
    """Windows of series, or sets of points, in one .npy file."""

    def __init__(self, source: Path, windows: bool) -> None:
        super().__init__(source)
        if source.suffix != ".npy" or not source.is_file():
            raise InputError(f"--items {source}: {'windows' if windows else 'sets'} are read from a .npy file")
        try:
            data = np.load(source, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"--items {source} cannot be read as .npy: {str(error).splitlines()[0]}") from error
        data = data[:, :, None] if data.ndim == 2 and windows else data
        if data.ndim != 3 or data.dtype.kind not in "fiu" or 0 in data.shape:
            raise InputError(f"--items {source} has shape {data.shape}: give numbers (n, length, channels)")
        self.data, self.windows = data, windows
        self.names = Numbered("window" if windows else "set", len(data))

    def show(self, item: int) -> Markup:
        """Return curves of a window, or two views of a set."""
        values = np.asarray(self.data[item], dtype=np.float64)
        if self.windows:
            return Markup(_curves(values))
        second = 2 if values.shape[1] > 2 else 0
        views = [(0, min(1, values.shape[1] - 1)), (min(1, values.shape[1] - 1), second)]
        return Markup(
            "".join(
                svg.scatter(
                    [svg.Series("members", values[:, a], values[:, b], "c-3")],
                    title=f"Members, numbers {a + 1} and {b + 1}",
                    x_label=f"number {a + 1}",
                    y_label=f"number {b + 1}",
                )
                for a, b in views[: 1 if values.shape[1] < 3 else 2]
            )
        )


class Numbered(Sequence[str]):
    """Names that are nothing but a number: ``window 17``."""

    def __init__(self, word: str, count: int) -> None:
        self.word, self.count = word, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: Any) -> Any:
        return f"{self.word} {range(self.count)[item]}"

    def index(self, value: str, *_: Any) -> int:
        """Return the place of a name."""
        word, _, number = value.partition(" ")
        if word != self.word or not number.isdecimal() or int(number) >= self.count:
            raise ValueError(value)
        return int(number)


class Events(Items):
    """Event sequences, one a line."""

    def __init__(self, source: Path) -> None:
        from assay.datasets.events import read_sequences

        super().__init__(source)
        self.data, _ = read_sequences(source, name="--items")
        self.names = Numbered("sequence", len(self.data))

    def show(self, item: int) -> Markup:
        """Return the events in reading order."""
        return Markup(strip_of_events(self.data[item], f"{len(self.data[item]):,} events"))


class GraphItems(Items):
    """Graphs in the TU layout."""

    def __init__(self, source: Path) -> None:
        from assay.datasets.graphs import load_graphs

        self.files = sorted(source.glob(f"{source.name}_*.txt"))
        self.data = load_graphs(source).graphs
        self.names = Numbered("graph", len(self.data))

    def show(self, item: int) -> Markup:
        """Return nodes and links."""
        from assay.report.graphs import node_link_chart

        graph = self.data[item]
        return Markup(node_link_chart(graph, title=f"{len(graph.x)} nodes, {graph.edges.shape[1] // 2} edges"))


def open_items(source: Path, kind: str) -> Items:
    """Return the items of a source.

    Raises
    ------
    InputError
        If it does not exist or cannot be read as items of that kind.
    """
    if not source.exists():
        raise InputError(f"--items {source} does not exist")
    makers: dict[str, Any] = {
        "tables": Rows,
        "images": Pictures,
        "windows": lambda path: Arrays(path, windows=True),
        "sets": lambda path: Arrays(path, windows=False),
        "events": Events,
        "graphs": GraphItems,
    }
    items: Items = makers[kind](source)
    return items


def kind_of(source: Path) -> str:
    """Guess the kind of items from the look of a source."""
    if source.is_dir():
        return "graphs" if (source / f"{source.name}_A.txt").is_file() else "images"
    if source.suffix in (".txt", ".jsonl"):
        return "events"
    if source.suffix == ".npy":
        try:
            return "windows" if np.load(source, mmap_mode="r", allow_pickle=False).ndim == 3 else "tables"
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"--items {source} cannot be read as .npy: {str(error).splitlines()[0]}") from error
    return "tables"


def _curves(values: Any) -> str:
    steps = np.arange(len(values), dtype=np.float64)
    panels = [
        svg.Strip(f"{channel + 1}", values[:, channel], values[:, channel])
        for channel in range(min(SHOWN_CHANNELS, values.shape[1]))
    ]
    rest = values.shape[1] - len(panels)
    note = f"<p class=note>{rest} more channels are not shown.</p>" if rest else ""
    return svg.strips(steps, panels, title=f"{len(values)} steps", x_label="step") + note
