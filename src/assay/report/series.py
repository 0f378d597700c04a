"""The page about a series: its course, its scores, the alarms, and a closer look at the worst of them.

In: an overview summed up to a few hundred places (`Envelope` does that for a stream of any length), alarms, close-ups.
Out: one HTML page that needs nothing but a browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from assay.core.files import new_file
from assay.core.validation import Floats
from assay.report import svg
from assay.report.page import render
from assay.report.svg import Rule, Strip

#: Most places of an overview, and most channels that are drawn.
PLACES, CHANNELS = 600, 6


class Envelope:
    """Least and largest values of a stream of rows, at no more than `PLACES` places, in constant memory.

    Parameters
    ----------
    width : int
        Numbers in a row.
    """

    def __init__(self, width: int) -> None:
        #: Steps that are summed up at a place; doubled whenever the places run out.
        self.steps = 1
        self.count = 0
        self._low = np.full((PLACES, width), np.nan)
        self._high = np.full((PLACES, width), np.nan)

    def add(self, values: Floats) -> None:
        """Take further rows (n, width), NaN for missing."""
        for row in range(0, len(values), PLACES):
            self._add(values[row : row + PLACES])

    def _add(self, values: Floats) -> None:
        while self.count + len(values) > PLACES * self.steps:
            for kept, reduce in ((self._low, np.fmin), (self._high, np.fmax)):
                halved = reduce(kept[::2], kept[1::2])
                kept[:] = np.nan
                kept[: PLACES // 2] = halved
            self.steps *= 2
        places = (self.count + np.arange(len(values))) // self.steps
        np.fmin.at(self._low, places, values)
        np.fmax.at(self._high, places, values)
        self.count += len(values)

    def drawn(self) -> tuple[Floats, Floats, Floats]:
        """Return the places as step numbers (k,), and the least and largest values there (k, width)."""
        k = max(1, -(-self.count // self.steps))
        return np.arange(k) * float(self.steps), self._low[:k], self._high[:k]


@dataclass
class Closeup:
    """A stretch around an alarm, step by step.

    Attributes
    ----------
    title, note : str
        What it is.
    start : int
        Number of the first step.
    values : array of shape (n, C)
        The channels.
    scores : array of shape (n,)
        Their scores.
    span : (int, int)
        First and last step of the alarm.
    channels : sequence of int
        Which channels are drawn.
    """

    title: str
    note: str
    start: int
    values: Floats
    scores: Floats
    span: tuple[int, int]
    channels: Sequence[int]


@dataclass
class SeriesPage:
    """A page about a series.

    Attributes
    ----------
    title : str
        Heading.
    lead : sequence of str
        What was found, in sentences.
    tiles : mapping of str to object
        Numbers at the top.
    overview : Envelope
        Channels, then the score as the last column.
    names : sequence of str
        Of the channels.
    threshold : float
        Of the scores.
    spans, known : sequence of (int, int)
        Alarms, and true events where they are known: first and last step.
    closeups : sequence of Closeup
        The worst alarms.
    tables : mapping of str to sequence of mappings
        Heading -> rows.
    run : mapping
        The command and what it was given.
    """

    title: str
    lead: Sequence[str]
    tiles: Mapping[str, Any]
    overview: Envelope
    names: Sequence[str]
    threshold: float
    spans: Sequence[tuple[int, int]] = ()
    known: Sequence[tuple[int, int]] = ()
    closeups: Sequence[Closeup] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """Return the page."""
        x, low, high = self.overview.drawn()
        shown = list(range(min(len(self.names), CHANNELS)))
        rules = [Rule(self.threshold, "threshold")]
        overview = svg.strips(
            x,
            [
                *(Strip(self.names[c], low[:, c], high[:, c]) for c in shown),
                Strip("anomaly score", low[:, -1], high[:, -1], rules, "c-5"),
            ],
            title="The whole series",
            x_label="step",
            spans=self.spans,
            known=self.known,
        )
        closeups = [(one.title, one.note, Markup(self._closeup(one, rules))) for one in self.closeups]
        hidden = len(self.names) - len(shown)
        return render(
            "series.html.j2",
            overview=Markup(overview),  # svg escapes what it gets
            hidden=hidden,
            closeups=closeups,
            tables={
                name: (list(dict.fromkeys(key for row in rows for key in row)), rows)
                for name, rows in self.tables.items()
                if rows
            },
            run_facts={key: value for key, value in self.run.items() if key != "command"},
            page=self,
        )

    def _closeup(self, one: Closeup, rules: Sequence[Rule]) -> str:
        x = one.start + np.arange(len(one.values), dtype=np.float64)
        panels = [Strip(self.names[c], one.values[:, c], one.values[:, c]) for c in one.channels]
        return svg.strips(
            x,
            [*panels, Strip("anomaly score", one.scores, one.scores, rules, "c-5")],
            title=one.title,
            x_label="step",
            spans=[one.span],
            known=[span for span in self.known if span[1] >= x[0] and span[0] <= x[-1]],
        )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path` and return it; an older file stays until the new one is complete."""
        with new_file(path, overwrite=True, name="report") as aside:
            aside.write_bytes(self.html().encode())
        return Path(path)
