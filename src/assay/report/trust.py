"""The page of a trust audit: one sentence, scores against overlaps, how the rate falls, and the pictures behind it.

In: a `TrustAudit`. Out: one HTML page that needs nothing but a browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.images import resized_mask
from assay.core.validation import Floats
from assay.explain.trust import FALSE, LEVELS, MISSED, QUIET, RIGHT, VERDICTS, WRONG
from assay.report import svg
from assay.report.findings import FindingsPage
from assay.report.images import Gallery, Picture
from assay.report.pictures import heated, outlined
from assay.report.svg import PLOT, Rule, Series, _Axes, _Chart

#: Pictures of each kind, and rows of the list of images.
SHOWN, LISTED = 8, 60
#: Pixels up to which the longer side of small images is enlarged: an outline must be thinner than what it is around.
ENLARGED = 192
#: Where images without an overlap are drawn, and the axis of overlaps.
NOWHERE, OVERLAPS = -0.07, (-0.12, 1.03)
#: How a verdict looks, and what it says.
LOOKS = {
    RIGHT: ("c-1", "triangle", "defective, found, and the heat lies on the defect"),
    WRONG: ("c-5", "diamond", "defective, found, and the heat lies elsewhere"),
    MISSED: ("c-2", "ring", "defective and below the threshold"),
    FALSE: ("c-4", "cross", "normal and above the threshold; there is no mask to overlap with"),
    QUIET: ("c-normal", "dot", "normal and below the threshold"),
}
COLOURS = ("c-1", "c-3", "c-4", "c-2")


def trust_report(
    audit: Any,
    path: str | Path,
    *,
    title: str = "Right for the right reason?",
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of an audit.

    Parameters
    ----------
    audit : TrustAudit
        Of `assay.explain.trust`.
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
        over="trust audit" + (", oracle superpixels" if audit.oracle else ""),
        lead=[audit.verdict, *audit.advice],
        tiles=_tiles(audit),
        charts={
            "Each defective image by its score and by how well the heat map of the score overlaps with the mask. Right "
            "of the upright line it is found; above the level line for the right reason. Normal images have no overlap "
            "and lie at the bottom.": _quadrants(audit),
            f"Share of the found defects whose overlap is at least what the axis says, with its 95 % interval "
            f"({audit.heats[0]}). The verdicts are those at the upright line.": _curve(audit),
        },
        galleries=_galleries(audit),
        tables=_tables(audit),
        run=run or {},
    )
    return page.write(path)


def _tiles(audit: Any) -> dict[str, Any]:
    found, defects = int(audit.found.sum()), int((audit.labels == 1).sum())
    return {
        "right for the right reason": _told(audit.rate, percent=True),
        "defects found": f"{found} of {defects}",
        "false alarms": f"{audit.counts[FALSE]} of {len(audit.labels) - defects}",
        "AUROC": _told(audit.auroc),
        "AUROC, right reasons only": _told(audit.right_auroc),
        "median max J": _told(_median(audit.overlap)),
    }


def _quadrants(audit: Any) -> str:
    """Draw scores against overlaps, with both thresholds."""
    said = np.array(audit.verdicts)
    places = np.where(np.isnan(audit.overlap), NOWHERE, audit.overlap)
    # Few far scores would push all others together: they lie on the border.
    low, high = svg.robust_limits(np.append(audit.scores, audit.threshold))
    series = [
        Series(f"{verdict} {int((said == verdict).sum()):,}", audit.scores[said == verdict], places[said == verdict],
               css=LOOKS[verdict][0], marker=LOOKS[verdict][1])
        for verdict in reversed(VERDICTS)
        if (said == verdict).any()
    ]  # fmt: skip
    chart = _Chart("Found, and why")
    axes = _Axes(chart, (low, high), OVERLAPS, x_label="anomaly score", y_label="max J: best overlap with the mask")
    for one in series:
        chart.mark(one, axes.x(one.x), axes.y(one.y))
    upright, level = Rule(audit.threshold, "threshold (upright)"), Rule(audit.least, f"least overlap {audit.least:g}")
    axes.uprights([upright], axes.top, axes.bottom, named=False)
    chart.legend(series, [upright, *axes.levels([level])])
    beyond = int(((audit.scores < low) | (audit.scores > high)).sum())
    if beyond:
        chart.note(f"{beyond:,} {'image lies' if beyond == 1 else 'images lie'} beyond the frame, drawn at its border.")
    return chart.svg([one.label for one in series])


def _curve(audit: Any) -> str:
    """Draw the rate over the least overlap: the judging heat map with its interval, the others as lines."""
    chart = _Chart("How the rate depends on the least overlap")
    axes = _Axes(
        chart, (0.0, 1.0), (0.0, 1.0), x_label="least overlap", y_label="share of found defects", height=PLOT
    )  # fmt: skip
    series = []
    for heat, css in zip(audit.heats, COLOURS):
        curve = audit.curve(heat)
        if np.isnan(curve).any():
            continue
        if heat == audit.heats[0]:
            upper, lower = _route(axes, LEVELS, curve[:, 2]), _route(axes, LEVELS[::-1], curve[::-1, 1])
            chart.add(f'<path class="line band {css}" d="M{upper}L{lower}z"/>')
        chart.add(f'<path class="line {css}" d="M{_route(axes, LEVELS, curve[:, 0])}"/>')
        series.append(Series(heat, LEVELS, curve[:, 0], css=css, marker="square"))
    upright = Rule(audit.least, f"least overlap {audit.least:g}")
    axes.uprights([upright], axes.top, axes.bottom, named=False)
    chart.legend(series, [upright])
    if not series:
        chart.note("No defect was found: there is no rate.")
    return chart.svg([one.label for one in series])


def _route(axes: _Axes, x: Floats, y: Floats) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(axes.x(x), axes.y(y)))


def _galleries(audit: Any) -> list[Gallery]:
    said, ranking = np.array(audit.verdicts), audit.ranking()
    wrong = np.flatnonzero(said == WRONG)
    wrong = wrong[np.argsort(-audit.scores[wrong], kind="stable")]
    right = ranking[said[ranking] == RIGHT]
    caption = (
        f"Left the image, right its heat map ({audit.heats[0]}), each on its own scale; the mask is outlined in both."
    )
    both = (
        ("Found for the wrong reason", wrong, f"Highest scores first. {caption}"),
        ("Found for the right reason", right, f"Those that exceed the threshold most by their defect first. {caption}"),
    )
    return [
        Gallery(title, [_picture(audit, int(row)) for row in rows[:SHOWN]], note)
        for title, rows, note in both
        if len(rows)
    ]


def _picture(audit: Any, row: int) -> Picture:
    image, heat = audit.images[row], audit.maps[audit.heats[0]][row]
    factor = max(1, ENLARGED // max(image.shape[:2]))
    image = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    mask = resized_mask(audit.masks[row], image.shape[:2])
    return Picture(
        outlined(image, mask),
        audit.images.names[row],
        f"score {svg.number(audit.scores[row])}, max J {audit.overlap[row]:.2f}",
        outlined(heated(image, heat, float(heat.min()), float(heat.max())), mask),
    )


def _tables(audit: Any) -> dict[str, Sequence[Mapping[str, Any]]]:
    counts = audit.counts
    defects = (audit.labels == 1) & ~np.isnan(audit.overlap)
    found = audit.found
    order = np.concatenate([audit.ranking(), np.flatnonzero(~found)])[:LISTED]
    rows = audit.rows()
    rest = f", {LISTED} of {len(rows)}" if len(rows) > LISTED else ""
    return {
        "Verdicts": [
            {
                "verdict": verdict,
                "images": counts[verdict],
                "share": svg.percent(counts[verdict], len(audit.labels)),
                "meaning": LOOKS[verdict][2],
            }
            for verdict in VERDICTS
        ],
        "Heat maps against the masks": [
            {
                "heat_map": heat,
                "mean_max_J": _told(_mean(audit.overlaps[heat][defects])),
                "median_max_J": _told(_median(audit.overlaps[heat][defects])),
                "pixel_AUROC": _told(_mean(audit.aucs[heat][defects])),
                "right_reasons": _told(rate[0], percent=True),
                "95_%_interval": f"{_told(rate[1], percent=True)} to {_told(rate[2], percent=True)}",
            }
            for heat in audit.heats
            for rate in [audit.rate_at(audit.least, heat)]
        ]
        + [{"heat_map": "the same everywhere (chance)", "mean_max_J": _told(_mean(audit.chance[defects])),
            "median_max_J": _told(_median(audit.chance[defects])), "pixel_AUROC": "0.500"}],
        f"Images, found defects first{rest}": [
            {
                "image": rows[row]["image"],
                "verdict": rows[row]["verdict"],
                "score": float(audit.scores[row]),
                "max_J": _told(audit.overlap[row]),
                "pixel_AUROC": _told(audit.aucs[audit.heats[0]][row]),
            }
            for row in order
        ],
    }  # fmt: skip


def _told(value: float, *, percent: bool = False) -> str:
    """Return a share as text, or "n/a" where there is none."""
    return "n/a" if np.isnan(value) else f"{100 * value:.0f} %" if percent else f"{value:.3f}"


def _median(values: Floats) -> float:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
