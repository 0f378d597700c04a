"""The analyst's page about telemetry: the largest events of each parameter, what they look like, and what drove them.

In: a fitted `TelemetryMonitor` and the series. Out: one HTML page that needs nothing but a browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from assay.core.files import new_file
from assay.core.series import as_series
from assay.core.validation import Floats, InputError
from assay.report import svg
from assay.report.page import render
from assay.report.svg import Rule, Series

#: Steps shown beside an event: at least this many, and at least its own length.
BESIDE = 24
#: Drivers drawn and listed an event, and covariates in the overview.
DRIVERS, OVERVIEW = 6, 10


def telemetry_report(monitor: Any, X: Any, path: str | Path, *, fresh: bool = False) -> Path:
    """Write the report of a fitted monitor.

    Parameters
    ----------
    monitor : TelemetryMonitor
        Fitted.
    X : array or dataframe
        The series that it was fitted on, or, if `fresh`, another one.
    path : path
        Where the page goes; an older file stays until the new one is complete.
    fresh : bool, default False
        Find and explain the events of `X` instead of those of training.

    Returns
    -------
    Path
        The page's.

    Raises
    ------
    InputError
        If `X` is not as long as the series of training although it should be that one.
    """
    series = as_series(X)
    if not fresh and len(series) != len(monitor.residuals_):
        raise InputError(
            f"X has {len(series)} steps, the fitted series had {len(monitor.residuals_)}: or say fresh=True"
        )
    residuals = monitor.residuals(series)
    events = monitor.events(series) if fresh else monitor.events_
    explained = bool(monitor.covariates_)
    explanations = [
        (monitor.explain(event, series) if fresh else monitor.explain(number)) if explained else None
        for number, event in enumerate(events)
    ]
    minutes = monitor.step_ / 60
    shown = [
        _shown(number, event, explanation, monitor, series.values, residuals, minutes)
        for number, (event, explanation) in enumerate(zip(events, explanations), 1)
    ]
    targets = [monitor.names_[column] for column in monitor.targets_]
    page = render(
        "telemetry.html.j2",
        targets=[_target(name, p, shown, monitor) for p, name in enumerate(targets)],
        together=_together(shown),
        matrix=_matrix(monitor, targets) if explained and not fresh else None,
        tiles=_tiles(monitor, series, shown, explained),
        doubtful=[one for one in shown if one["doubtful"]],
        count=len(shown),
        stuck=[] if fresh else monitor.stuck_,
        fresh=fresh,
        explained=explained,
    )
    with new_file(path, overwrite=True, name="report") as aside:
        aside.write_bytes(page.encode())
    return Path(path)


def _shown(
    number: int,
    event: dict[str, Any],
    explanation: Any,
    monitor: Any,
    values: Floats,
    residuals: Floats,
    minutes: float,
) -> dict[str, Any]:
    """Return what the page needs of an event."""
    first, last, target = event["onset"], event["end"], event["target"]
    p = [monitor.names_[column] for column in monitor.targets_].index(target)
    beside = max(BESIDE, last - first + 1)
    rows = np.arange(max(0, first - beside), min(len(values), last + beside + 1))
    hours = (rows - first) * minutes / 60
    observed, residual = values[rows, monitor.targets_[p]], residuals[rows, p]
    inside = (rows >= first) & (rows <= last)
    forecast = svg.lines(
        [
            Series("forecast", hours, observed - residual, css="c-3"),
            Series("observed", hours, observed, css="c-normal"),
            Series("observed, in the event", hours[inside], observed[inside], css="c-5"),
        ],
        title=f"Event {number}: {target}",
        x_label="hours from the onset",
        y_label="observed and forecast",
    )
    limit = float(monitor.threshold_[p] * monitor.spread_[p])
    difference = svg.lines(
        [
            Series("residual", hours, residual, css="c-normal"),
            Series("in the event", hours[inside], residual[inside], css="c-5"),
        ],
        title=f"Event {number}: observed less forecast",
        x_label="hours from the onset",
        y_label="residual",
        rules=[
            Rule(float(monitor.center_[p]) + limit, "threshold"),
            Rule(float(monitor.center_[p]) - limit, "threshold below"),
        ],
    )
    drivers = _drivers(explanation, minutes) if explanation else []
    return event | {
        "number": number,
        "charts": [Markup(forecast), Markup(difference)],
        "when": event.get("onset_time", f"step {first}").replace("T", " "),
        "hours": (last - first + 1) * minutes / 60,
        "gaps": bool(np.isnan(residual).any()),
        "drivers": drivers,
        "bars": Markup(_bars(number, drivers)) if drivers else None,
        "verdict": explanation.verdict if explanation else "",
        "recovered": explanation.recovered if explanation else None,
        "r2": explanation.r2 if explanation else None,
        "doubtful": explanation is not None and not explanation.trustworthy,
        "driver": drivers[0]["name"] if drivers else None,
    }


def _drivers(explanation: Any, minutes: float) -> list[dict[str, Any]]:
    """Return the strongest drivers with their names and times in words."""
    return [
        row | {"name": _joined(row["covariates"]), "timing": _timing(row["moved"], minutes)}
        for row in explanation.drivers[:DRIVERS]
    ]


def _joined(names: Sequence[str]) -> str:
    """Return the name of a cause: that of the covariate, or those of all that move together."""
    return names[0] if len(names) == 1 else f"{' = '.join(names[:3])}{' = …' if len(names) > 3 else ''}"


def _timing(slot: int | None, minutes: float) -> str:
    if slot is None:
        return "did not move"
    if slot == 0:
        return "at the onset"
    return f"{abs(slot) * minutes:.3g} min {'before' if slot < 0 else 'after'}"


def _bars(number: int, drivers: list[dict[str, Any]]) -> str:
    values = [row["mean_phi"] for row in drivers]
    low, high = min(0.0, *values), max(0.0, *values)
    return svg.bars(
        [row["name"] for row in drivers],
        values,
        title=f"Event {number}: mean contribution to the anomaly signal",
        css=["c-5" if value >= 0 else "c-3" for value in values],
        limits=svg.widen(low, high),
    )


def _target(name: str, p: int, shown: list[dict[str, Any]], monitor: Any) -> dict[str, Any]:
    important = monitor.global_importance(name)[:OVERVIEW] if monitor.covariates_ else []
    chart = None
    if important:
        chart = Markup(
            svg.bars(
                [_joined(row["covariates"]) for row in important],
                [row["mean_abs_phi"] for row in important],
                title=f"{name}: mean |contribution| over the whole time",
            )
        )
    return {
        "name": name,
        "events": [one for one in shown if one["target"] == name],
        "chart": chart,
        "r2": float(monitor.r2_[p]),
        "typical": float(monitor.spread_[p]),
    }


def _together(shown: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the groups of events that more than one parameter takes part in."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for one in sorted(shown, key=lambda one: (one["onset"], one["number"])):
        groups.setdefault(one["group"], []).append(one)
    return [group for group in groups.values() if len({one["target"] for one in group}) > 1]


def _matrix(monitor: Any, targets: list[str]) -> dict[str, Any] | None:
    values = monitor.event_matrix()
    if len(targets) < 2:
        return None
    order = np.argsort(-values.max(axis=0), kind="stable")[:OVERVIEW]
    names = [_joined([monitor.names_[monitor.covariates_[c]] for c in monitor.groups_[g]]) for g in order]
    return {"columns": names, "rows": [(name, row[order].tolist()) for name, row in zip(targets, values)]}


def _tiles(monitor: Any, series: Any, shown: list[dict[str, Any]], explained: bool) -> dict[str, Any]:
    tiles = {
        "parameters": len(monitor.targets_),
        "covariates": len(monitor.covariates_),
        "steps": f"{len(series):,}",
        "minutes a step": f"{monitor.step_ / 60:g}",
        "events": len(shown),
    }
    if explained:
        tiles["trustworthy explanations"] = sum(not one["doubtful"] for one in shown)
    return tiles
