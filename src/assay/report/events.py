"""Event sequences as pictures: a row of labelled boxes, the ones that matter filled."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.report import svg
from assay.report.svg import CHARACTER, LINE, WIDTH, _Chart

#: Rows of boxes that are drawn; what does not fit is counted.
ROWS = 8


def strip_of_events(events: Any, title: str, marked: Any = None) -> str:
    """Draw a sequence as boxes in reading order.

    Parameters
    ----------
    events : array of shape (length,)
        Ids or names.
    title : str
        Above them.
    marked : array of bool of shape (length,), optional
        Which events to fill.

    Returns
    -------
    str
        The SVG.
    """
    chart = _Chart(title)
    marked = np.zeros(len(events), dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
    x, y, row, drawn = 0.0, chart.y, 0, 0
    for event, mark in zip(events, marked):
        text = svg.shorten(event, 14)
        width = max(20.0, 8 + CHARACTER * len(text))
        if x + width > WIDTH:
            x, y, row = 0.0, y + LINE + 6, row + 1
            if row == ROWS:
                break
        css = "box marked" if mark else "box"
        chart.add(f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width - 3:.1f}" height="{LINE + 2:g}" rx="3"/>')
        chart.text(x + (width - 3) / 2, y + LINE - 4, text, "strong" if mark else "", "middle")
        x, drawn = x + width, drawn + 1
    chart.y = y + LINE + 6
    if drawn < len(events):
        chart.note(f"and {len(events) - drawn:,} more")
    named = [str(event) + (" (marked)" if mark else "") for event, mark in zip(events[:40], marked)]
    return chart.svg([svg.shorten(one, 40) for one in named])
