"""Pictures on a page, and how the scores of a folder are spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.images import Pixels
from assay.report import svg
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


def score_chart(scores: Any, threshold: float) -> str:
    """Draw how the scores of a folder are spread, and where the threshold lies."""
    return svg.histograms(
        [Series("images", np.asarray(scores, dtype=np.float64), css="c-3")],
        title="Scores of the images",
        x_label="anomaly score",
        rules=[Rule(threshold, "threshold")],
    )
