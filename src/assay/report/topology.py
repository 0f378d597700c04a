"""The page of a topological audit: a verdict in words, the seams on a picture of the data, and what the seeds changed.

In: a `TopologyAudit`. Out: one HTML page that needs nothing but a browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.validation import Floats
from assay.report import svg
from assay.report.findings import FindingsPage
from assay.report.svg import Rule, Series

#: Degrees of persistence: what a class of each is called, its colour and its mark.
CLASSES = (("pieces", "c-normal", "dot"), ("loops", "c-5", "triangle"), ("hollows", "c-3", "square"))
#: Seams, twins and regions listed.
LISTED = 12


def topology_report(
    audit: Any,
    path: str | Path,
    *,
    title: str = "What this autoencoder cannot hold",
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of an audit.

    Parameters
    ----------
    audit : TopologyAudit
        Of `assay.explain.topology`.
    path : path
        Where the page goes; an older file stays until the new one is complete.
    title : str
        Heading.
    run : mapping, optional
        The command and what it was given.

    Returns
    -------
    Path
        The page's.
    """
    page = FindingsPage(
        title=title,
        over="topological audit",
        lead=[audit.verdict, *audit.advice],
        tiles=_tiles(audit),
        charts={
            _caption(audit): _places(audit),
            "Classes of persistent homology: how long each loop and hollow lives as the points of the data are "
            "joined at ever larger distances. What lies far above the line is shape, what lies near it is chance. "
            "Scales end at 8 spacings.": _diagram("Shape of the data", audit.bars),
        },
        drawings=_drawings(audit),
        tables=_tables(audit),
        run=run or {},
    )
    return page.write(path)


def _tiles(audit: Any) -> dict[str, Any]:
    tiles = {
        "rows": f"{len(audit.X):,}",
        "dimension of the data": audit.whole_dimension,
        "latent numbers": audit.latent,
        "loops, hollows": f"{audit.betti[1]}, {audit.betti[2]}",
        "seams": len(audit.seams),
        "false alarms at seams": svg.percent(audit.alarm_share, 1.0),
    }
    if len(audit.seed_scores):
        tiles["alarms that flip with the seed"] = svg.percent(audit.flip_rate, 1.0)
    if audit.regions:
        tiles["blind regions"] = f"{len(audit.blind_regions)} of {len(audit.regions)}"
    return tiles


def _caption(audit: Any) -> str:
    flat = "The data" if audit.X.shape[1] == 2 else "The data, seen along their two main directions"
    return (
        f"{flat}. Crosses: seams, the worst points between neighbours. Diamonds: two normal points with one code"
        f"{', found by the Borsuk–Ulam theorem' if audit.certificate is not None else ''}; one of them must be off."
    )


def _places(audit: Any) -> str:
    """Draw the rows, those whose alarm flips, the seams and the proven pairs."""
    center = audit.X.mean(axis=0)
    if audit.X.shape[1] == 1:
        axes = np.array([[1.0], [0.0]])
    elif audit.X.shape[1] == 2:
        axes, center = np.eye(2), np.zeros(2)
    else:
        axes = np.linalg.svd(audit.X - center, full_matrices=False)[2][:2]
        axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]

    def at(points: Floats) -> tuple[Floats, Floats]:
        flat = (np.reshape(points, (-1, audit.X.shape[1])) - center) @ axes.T
        return flat[:, 0], flat[:, 1]

    alarms = (audit.scores > audit.threshold) & ~audit.flipped
    pairs = [point for twins in audit.twins for point in (twins.x, twins.twin)]
    if audit.certificate is not None:
        pairs = [audit.certificate.x, audit.certificate.opposite]
    series = [
        Series("rows", *at(audit.X[~alarms & ~audit.flipped]), css="c-normal"),
        Series("alarms of this model alone", *at(audit.X[alarms]), css="c-4"),
        Series("flip with the seed", *at(audit.X[audit.flipped]), css="c-2"),
        Series("one code", *at(np.array(pairs)), css="c-3", marker="diamond"),
        Series("seams", *at(np.array([seam.x for seam in audit.seams])), css="c-5", marker="cross"),
    ]
    names = ("first column", "second column") if audit.X.shape[1] == 2 else ("first direction", "second direction")
    return svg.scatter(series, title="Where it fails on normal rows", x_label=names[0], y_label=names[1])


def _diagram(title: str, bars: list[Floats]) -> str:
    """Draw how many times its birth each class lives, over its birth; pieces are born at 0 and left out."""
    series = [
        Series(name, part[:, 0], part[:, 1] / np.maximum(part[:, 0], 1e-300), css=css, marker=marker)
        for (name, css, marker), part in zip(CLASSES[1:], bars[1:])
    ]
    births, ratios = (np.concatenate([getattr(one, axis) for one in series]) for axis in "xy")
    return svg.scatter(
        series,
        title=title,
        x_label="distance at birth",
        y_label="death / birth",
        x_limits=(0.0, 1.05 * float(births.max(initial=0.0)) or 1.0),
        y_limits=(0.9, max(3.0, 1.05 * float(ratios.max(initial=0.0)))),
        rules=[Rule(1.0, "chance")],
    )


def _drawings(audit: Any) -> dict[str, list[tuple[str, str]]]:
    drawn: dict[str, list[tuple[str, str]]] = {}
    if audit.latent is not None:
        lost = [
            f"{had - has} of {had} {name if had > 1 else name[:-1]}"
            for (name, _, _), had, has in zip(CLASSES[1:], audit.betti[1:], audit.latent_betti[1:])
            if had > has
        ]
        said = f"The codes lost {' and '.join(lost)}." if lost else "The codes kept every loop and hollow of the data."
        drawn["What became of the shape"] = [(said, _diagram("Shape of the codes", audit.latent_bars))]
    if len(audit.seed_scores):
        seeds = len(audit.seed_scores)
        limits = np.quantile(audit.seed_scores, 1 - (audit.scores > audit.threshold).mean(), axis=1)
        counts = (audit.seed_scores > limits[:, None]).sum(axis=0)
        labels = [f"{count} of {seeds} seeds" for count in range(1, seeds + 1)]
        values = [float((counts == count).sum()) for count in range(1, seeds + 1)]
        least = audit.seed_scores.min(axis=0)
        drawn["What the seed decides"] = [
            (
                "Rows by the number of seeds under which they are an alarm. Only those in the last bar are alarms "
                "because of the data.",
                svg.bars(labels, values, title="Rows that are an alarm under …", css="c-2"),
            ),
            (
                "Scores of all seeds, and of each row the least of them: seams that move are gone from the latter.",
                svg.histograms(
                    [
                        Series("one seed", audit.seed_scores.ravel(), css="c-2"),
                        Series("least of all seeds", least, css="c-3"),
                    ],
                    title="Scores of normal rows",
                    x_label="score",
                ),
            ),
        ]
    return drawn


def _tables(audit: Any) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    proof = audit.certificate
    if proof is not None:
        tables["Proof: two opposite points with one code"] = [
            {
                "point": proof.x,
                "opposite": proof.opposite,
                "difference of codes": proof.gap,
                "error at least": proof.error,
                "error of this decoder": proof.measured,
            }
        ]
    tables["Seams, worst first"] = [
        {"between_rows": f"{i} and {j}", "error": seam.error, "times_faster": seam.stretch, "point": seam.x[:6]}
        for seam in audit.seams[:LISTED]
        for i, j in (seam.rows,)
    ]
    tables["Normal points far apart with nearly one code"] = [
        {
            "row": str(one.row),
            "point": one.x[:6],
            "other": one.twin[:6],
            "distance": one.distance,
            "of_codes": one.gap,
            "error_at_least": one.proved,
        }
        for one in audit.twins[:LISTED]
    ]
    tables["Regions left out of training"] = [
        {
            "region": str(number),
            "rows": int(region.mask.sum()),
            "AUC": region.auc,
            "verdict": "not missed: blind" if region.blind else "noticed",
        }
        for number, region in enumerate(audit.regions[:LISTED], 1)
    ]
    return tables
