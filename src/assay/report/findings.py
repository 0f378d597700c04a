"""A page of findings: what a detector found, or which synthetic anomalies are worth training on.

In: sentences, numbers, charts, pictures, tables. Out: one HTML page that needs nothing but a browser; the pictures are
inside it, small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from assay.core.files import new_file
from assay.report.page import render


@dataclass
class FindingsPage:
    """A page of figures, galleries and tables.

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
        Pictures (`assay.report.images`).
    drawings : mapping of str to sequence of (str, str)
        Heading -> (caption, SVG).
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
    galleries: Sequence[Any] = ()
    drawings: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """Return the page."""
        return render(
            "findings.html.j2",
            charts=[(caption, Markup(chart)) for caption, chart in self.charts.items()],  # svg escapes what it gets
            drawings={
                name: [(caption, Markup(drawing)) for caption, drawing in drawn]
                for name, drawn in self.drawings.items()
                if drawn
            },
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
