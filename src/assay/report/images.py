"""Pages about images: what a detector found in a folder, and which synthetic defects are worth training on.

In: scores with maps, or suggestions with pictures. Out: one HTML page that needs nothing but a browser; the pictures
are inside it, small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from assay.core.files import new_file
from assay.core.images import Pixels
from assay.report import svg
from assay.report.page import render
from assay.report.pictures import data_uri, thumbnail
from assay.report.svg import Rule, Series


class Picture(NamedTuple):
    """A picture with words below it.

    Attributes
    ----------
    image : array of shape (H, W, 3)
        8-bit RGB.
    title : str
        First line.
    note : str
        Second line.
    beside : array of shape (H, W, 3), optional
        A second picture of the same thing, to its right.
    """

    image: Pixels
    title: str
    note: str = ""
    beside: Pixels | None = None

    def shown(self) -> dict[str, Any]:
        """Return what the page needs."""
        sources = [data_uri(thumbnail(image)) for image in (self.image, self.beside) if image is not None]
        height, width = thumbnail(self.image).shape[:2]
        return {"sources": sources, "title": self.title, "note": self.note, "width": width, "height": height}


class Gallery(NamedTuple):
    """Pictures under a heading.

    Attributes
    ----------
    title : str
        The heading.
    pictures : sequence of Picture
        What is shown.
    caption : str
        What to make of it.
    """

    title: str
    pictures: Sequence[Picture]
    caption: str = ""

    def shown(self) -> dict[str, Any]:
        """Return what the page needs."""
        return {"title": self.title, "caption": self.caption, "pictures": [one.shown() for one in self.pictures]}


@dataclass
class ImagePage:
    """A page of figures, galleries and tables about images.

    Attributes
    ----------
    title, over : str
        Heading, and the line above it.
    lead : sequence of str
        What was found, in sentences.
    tiles : mapping of str to object
        Numbers at the top.
    charts : mapping of str to str
        Caption -> SVG.
    galleries : sequence of Gallery
        Pictures.
    tables : mapping of str to sequence of mappings
        Heading -> rows.
    run : mapping
        The command and what it was given.
    """

    title: str
    over: str
    lead: Sequence[str]
    tiles: Mapping[str, Any]
    charts: Mapping[str, str] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """Return the page."""
        return render(
            "images.html.j2",
            charts=[(caption, Markup(chart)) for caption, chart in self.charts.items()],  # svg escapes what it gets
            galleries=[gallery.shown() for gallery in self.galleries],
            tables={
                name: (list(dict.fromkeys(key for row in rows for key in row)), rows)
                for name, rows in self.tables.items()
                if rows
            },
            run_facts={key: value for key, value in self.run.items() if key != "command"},
            page=self,
        )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path` and return it; an older file stays until the new one is complete."""
        with new_file(path, overwrite=True, name="report") as aside:
            aside.write_bytes(self.html().encode())
        return Path(path)


def score_chart(scores: Any, threshold: float) -> str:
    """Draw how the scores of a folder are spread, and where the threshold lies."""
    return svg.histograms(
        [Series("images", np.asarray(scores, dtype=np.float64), css="c-3")],
        title="Scores of the images",
        x_label="anomaly score",
        rules=[Rule(threshold, "threshold")],
    )
