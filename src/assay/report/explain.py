"""A page that says why rows were flagged, and what would make each ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from assay.core.validation import Floats
from assay.explain.counterfactuals import Counterfactual
from assay.report import svg
from assay.report.findings import FindingsPage

#: Columns of a row that are drawn, and that are listed.
DRAWN, LISTED = 8, 30
#: What a counterfactual's status means.
SAID = {
    "found": "together the values in the last column would be ordinary",
    "not robust": "the values in the last column would be ordinary now, but the detector is unsure around them",
    "not found": "nothing was found within the range of the normal rows that would make it ordinary",
}


class Explained(NamedTuple):
    """One row, explained.

    Attributes
    ----------
    name : str
        What the row is called.
    score : float
        Its anomaly score.
    usual, spread : array of shape (d,)
        What it is compared with, e.g. the normals' median, and the range of each column.
    added : array of shape (d,)
        How much each column adds to the score.
    remedy : Counterfactual
        What would make it ordinary; its `survival` counts detectors trained again.
    """

    name: str
    score: float
    usual: Floats
    spread: Floats
    added: Floats
    remedy: Counterfactual


def explanation_page(
    rows: Sequence[Explained], *, title: str, lead: Sequence[str], tiles: Mapping[str, Any], run: Mapping[str, Any]
) -> FindingsPage:
    """Return the page; the rows in the order given."""
    numbered = list(enumerate(rows, 1))
    return FindingsPage(
        title=title,
        over="Why rows were flagged",
        lead=lead,
        tiles=tiles,
        drawings={"What raises each score": [(f"{place}. Row {row.name}", _chart(row)) for place, row in numbered]},
        # Numbered, for names need not be unique.
        tables={f"{place}. Row {row.name}: {_sentence(row)}": _table(row) for place, row in numbered},
        run=run,
    )


def _sentence(row: Explained) -> str:
    told = row.remedy
    words = SAID[told.status]
    if told.status == "not found":
        return words
    agreed = "" if told.survival is None else f"; {svg.percent(told.survival, 1)} of detectors trained again agree"
    more = int((told.delta != 0).sum()) - int((told.delta[_listed(row)] != 0).sum())
    rest = f"; {more} more columns change, by less" if more else ""
    return f"{words}{agreed}{rest}" + ("" if told.realism > 0 else "; no normal row lies close to them")


def _listed(row: Explained) -> Any:
    """Return the columns that are listed: those that change most, in the column's range, then those that add most."""
    change = np.abs(row.remedy.delta) / np.where(row.spread > 0, row.spread, 1.0)
    return np.lexsort((-np.abs(row.added), -change))[:LISTED]


def _chart(row: Explained) -> str:
    order = np.argsort(-np.abs(row.added), kind="stable")[:DRAWN]
    return svg.bars(
        [row.remedy.names[j] for j in order],
        [float(row.added[j]) for j in order],
        title=f"What each column adds to a score of {svg.number(row.score)}",
        css=["c-1" if row.added[j] > 0 else "c-3" for j in order],
    )


def _table(row: Explained) -> list[dict[str, Any]]:
    told = row.remedy
    return [
        {
            "column": told.names[j],
            "value": float(told.x[j]),
            "usual": float(row.usual[j]),
            "adds to the score": float(row.added[j]),
            "ordinary": None if told.status == "not found" else float(told.x_new[j]),
        }
        for j in _listed(row)
    ]
