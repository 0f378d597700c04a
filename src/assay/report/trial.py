"""The report of a benchmark: K methods over D data sets and S seeds, what differs, what failed, what it costs.

In: one row a cell (data set, seed, method) with its status and its measures, higher = better; a second table
with what each cell cost. Out: one HTML page that needs nothing but a browser: no script, no network, light
and dark, phone, desk and paper; or the numbers alone (`summary`), or one figure alone
(`critical_difference_svg`, `heat_map_svg`), an SVG file with its own colours for both themes.

What is compared: on each data set only the seeds at which every method has a result; a data set without such
a seed is left out for all methods, and the page says so. A method without a single result is left out of the
comparison and named. Means, intervals, ranks and tests all rest on these cells, one number a method and data
set: the mean over the seeds. Because leaving out the data sets on which a method fails flatters it, the
average rank with every failure counted as last place stands beside, where anything failed.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from assay.core.validation import Bools, Floats, InputError, Ints, as_vector, check_number
from assay.metrics.comparison import (
    average_ranks,
    bootstrap_interval,
    cliques,
    critical_difference,
    friedman,
    holm,
    paired_tests,
    wins_draws_losses,
)
from assay.report import svg
from assay.report.page import environment, render

COLUMNS = ("dataset", "seed", "method", "status", "reason")
STATUSES = ("done", "failed", "skipped")
ALPHA = 0.05

_PAIRWISE = ("indistinguishable", "unrealistic")  #: ends of the measures that stand beside the main one
_STEPS = 8  #: colours of the heat map
_LETTER = 7.4  #: width of an average character at 13 units, for margins
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'


def trial_report(
    table: pa.Table,
    costs: pa.Table | None = None,
    measure: str = "auc",
    title: str = "Methods compared",
    notes: Sequence[str] = (),
) -> str:
    """Return the page about one benchmark.

    Parameters
    ----------
    table : pyarrow.Table
        One row a cell: `dataset` and `method` (text), `seed` (integer), `status` (``"done"``, ``"failed"`` or
        ``"skipped"``), `reason` (text or null), and numbers: `measure`, and if wanted
        ``<measure>_indistinguishable`` and ``<measure>_unrealistic``, which get summaries of their own. Null
        is no result. The first method is the one that the others are compared with.
    costs : pyarrow.Table, optional
        `dataset`, `seed`, `method`, `seconds`, and `fits` if counted.
    measure : str
        The column that decides; higher = better.
    title : str
        Heading of the page.
    notes : sequence of str
        Paragraphs to print among the caveats.

    Returns
    -------
    str
        HTML. The same tables give the same page.

    Raises
    ------
    InputError
        If a column is missing or of the wrong kind, a status is unknown, or a cell occurs twice.
    """
    if isinstance(notes, str):
        raise InputError("notes is one text: give a list of texts, one a paragraph")
    trial = _Trial.read(table)
    compared = _Compared.of(trial, trial.cube(measure))
    rows = _summary(trial, compared)
    cost, last = _mean_costs(trial, compared, costs), dict(zip(trial.methods, compared.failures_last()))
    for row in rows:
        row |= {"seconds": None, "fits": None, **cost.get(row["method"], {})}
        row["failures_last"] = _number(last[row["method"]])
    more = [f"{measure}_{name}" for name in _PAIRWISE if f"{measure}_{name}" in table.column_names]
    parts = {name: _Compared.of(trial, trial.cube(name)) for name in more}
    return render(
        "trial.html.j2",
        ("page.css.j2", "figure.css.j2"),
        title=title,
        measure=measure,
        notes=list(notes),
        trial=trial,
        compared=compared,
        rows=rows,
        headline=_headline(trial, compared),
        test=friedman(compared.ranked) if min(compared.ranked.shape) >= 2 else None,
        charts={name: Markup(chart.inline()) for name, chart in _charts(trial, compared, rows).items()},
        more=[(name, len(part.sets), _summary(trial, part)) for name, part in parts.items()],
        failures=_failures(trial, compared),
        coverage=_coverage(trial, compared),
        excluded=_excluded(trial, compared),
        partial=int((compared.shared.sum(axis=1) < trial.run_at().sum(axis=1))[compared.sets].sum()),
        statuses=Counter(trial.status),
        alpha=ALPHA,
    )


def summary(table: pa.Table, measure: str = "auc") -> list[dict[str, Any]]:
    """Return what the summary table of the page says, best average rank first.

    Parameters
    ----------
    table : pyarrow.Table
        As for `trial_report`.
    measure : str
        The column that decides; higher = better.

    Returns
    -------
    list of dict
        One a method: ``method``; ``mean`` over the data sets; ``seed_spread``, the standard deviation over
        the seeds of a data set, averaged over the data sets; ``low`` and ``high``, the ends of the 95 %
        bootstrap interval of the mean over data sets; ``rank``, the average; ``wins``, ``draws``, ``losses``
        against the first method of the table and ``p`` of the signed-rank test against it, Holm-adjusted.
        None where there is no such number.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from assay.report.trial import summary
    >>> names = {"dataset": ["x", "x", "y", "y"], "method": ["a", "b", "a", "b"], "seed": [0] * 4}
    >>> rest = {"status": ["done"] * 4, "reason": [None] * 4, "auc": [0.5, 0.75, 0.25, 0.5]}
    >>> [(row["method"], row["mean"], row["rank"], row["wins"]) for row in summary(pa.table(names | rest))]
    [('b', 0.625, 1.0, 2), ('a', 0.375, 2.0, None)]
    """
    trial = _Trial.read(table)
    return _summary(trial, _Compared.of(trial, trial.cube(measure)))


def critical_difference_svg(methods: Sequence[str], ranks: Any, difference: float) -> str:
    """Draw average ranks with bars that join the methods which cannot be told apart, as an SVG file.

    Parameters
    ----------
    methods : sequence of str
        Their names.
    ranks : array of shape (K,)
        Average ranks, K at least 2.
    difference : float
        The critical difference.
    """
    return _critical_difference(methods, ranks, difference).standalone()


def heat_map_svg(datasets: Sequence[str], methods: Sequence[str], values: Any) -> str:
    """Draw a table of numbers as an SVG file, darker (in the dark: lighter) = higher, the best of each row underlined.

    Parameters
    ----------
    datasets, methods : sequences of str
        Names of the rows and of the columns.
    values : array of shape (D, K)
        NaN is drawn as a dash.
    """
    return _heat_map(datasets, methods, values).standalone()


# --- the numbers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """The table, its names in order, and the place of each row in the cube (data set, seed, method)."""

    table: pa.Table
    datasets: list[str]
    seeds: list[int]
    methods: list[str]
    place: tuple[Ints, Ints, Ints]
    status: list[str]
    reason: list[str | None]

    @classmethod
    def read(cls, table: pa.Table) -> _Trial:
        _check_table(table, "table", COLUMNS)
        if len(table) == 0:
            raise InputError("table has no rows: there is nothing to report")
        dataset, seed, method, status = (table[name].to_pylist() for name in COLUMNS[:4])
        for name, values in zip(COLUMNS, (dataset, seed, method, status)):
            if None in values:
                raise InputError(f"table: column {name!r} holds nulls; name every cell")
        if unknown := set(status) - set(STATUSES):
            raise InputError(f"table: unknown statuses {sorted(map(str, unknown))[:5]}; choose from {STATUSES}")
        cells = list(zip(dataset, seed, method))
        if twice := [cell for cell, count in Counter(cells).items() if count > 1]:
            raise InputError(f"table holds the cell (data set, seed, method) {twice[0]} twice; keep one row of each")
        datasets, seeds, methods = sorted(set(dataset)), sorted(set(seed)), list(dict.fromkeys(method))
        place = _places(dataset, datasets), _places(seed, seeds), _places(method, methods)
        return cls(table, datasets, seeds, methods, place, status, table["reason"].to_pylist())

    def cube(self, measure: str) -> Floats:
        """Return the results of what is done, shape (D, S, K); NaN where there is none."""
        values = _numbers(self.table, measure, "table")
        values = np.where(np.array(self.status) == "done", values, np.nan)
        cube = np.full(tuple(map(len, (self.datasets, self.seeds, self.methods))), np.nan)
        cube[self.place] = values
        return cube

    def run_at(self) -> Bools:
        """Tell at which seeds a data set was run at all, shape (D, S)."""
        run = np.zeros((len(self.datasets), len(self.seeds)), dtype=bool)
        run[self.place[:2]] = True
        return run


@dataclass(frozen=True)
class _Compared:
    """One measure of a trial, and the part of it on which all methods can be compared.

    Attributes
    ----------
    cube : array of shape (D, S, K)
        All results.
    own : array of shape (D, K)
        Mean over the seeds that the method itself has; NaN without one.
    taking_part : array of bool, shape (K,)
        Whether the method has any result.
    shared : array of bool, shape (D, S)
        Seeds at which all methods taking part have a result.
    sets : array of int, shape (n,)
        Data sets with such a seed.
    scores : array of shape (n, K)
        Mean over these seeds; a column of NaN for a method that does not take part.
    """

    cube: Floats
    own: Floats
    taking_part: Bools
    shared: Bools
    sets: Ints
    scores: Floats

    @classmethod
    def of(cls, trial: _Trial, cube: Floats) -> _Compared:
        has = ~np.isnan(cube)
        taking_part = has.any(axis=(0, 1))
        shared = has[:, :, taking_part].all(axis=2) & bool(taking_part.any())
        sets = np.flatnonzero(shared.any(axis=1))
        scores = _mean_where(cube, shared[:, :, None] & has)[sets]
        return cls(cube, _mean_where(cube, has), taking_part, shared, sets, scores)

    @property
    def ranked(self) -> Floats:
        """The scores of the methods taking part."""
        return self.scores[:, self.taking_part]

    def spread(self) -> Floats:
        """Return each method's standard deviation over the seeds of a data set, averaged; NaN without two seeds."""
        several = self.shared.sum(axis=1) > 1
        deviations = [np.std(self.cube[d, self.shared[d]], axis=0, ddof=1) for d in np.flatnonzero(several)]
        return np.mean(deviations, axis=0) if deviations else np.full(len(self.taking_part), np.nan)

    def average_ranks(self) -> Floats:
        """Return the average ranks, NaN for a method that does not take part."""
        return self._ranked_by(self.ranked)

    def failures_last(self) -> Floats:
        """Return the average ranks over all data sets, no result being the last place."""
        return self._ranked_by(self.own[:, self.taking_part])

    def _ranked_by(self, scores: Floats) -> Floats:
        full = np.full(len(self.taking_part), np.nan)
        if scores.size:
            full[self.taking_part] = average_ranks(scores)
        return full


def _places(values: Sequence[Any], names: Sequence[Any]) -> Ints:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[value] for value in values], dtype=np.int64)


def _mean_where(cube: Floats, keep: Bools) -> Floats:
    """Return the mean over the seeds to `keep`, NaN where there is none."""
    count = keep.sum(axis=1)
    total = np.where(keep, cube, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _summary(trial: _Trial, compared: _Compared) -> list[dict[str, Any]]:
    nothing = np.full(len(trial.methods), np.nan)
    columns = dict.fromkeys(("mean", "seed_spread", "low", "high", "rank", "p"), nothing)
    against = None
    if len(compared.sets):
        low, high = bootstrap_interval(compared.scores)
        columns |= {"mean": compared.scores.mean(axis=0), "seed_spread": compared.spread(), "low": low, "high": high}
        columns["rank"] = compared.average_ranks()
        if compared.taking_part[0]:
            against = wins_draws_losses(compared.scores)[:, 0]
            columns["p"] = holm(np.where(compared.taking_part, paired_tests(compared.scores, 0), np.nan))
    rows = []
    for place, method in enumerate(trial.methods):
        row = {"method": method} | {name: _number(columns[name][place]) for name in columns if name != "p"}
        counts: list[int | None] = [None] * 3
        if against is not None and place > 0 and compared.taking_part[place]:
            counts = against[place].tolist()
        row |= dict(zip(("wins", "draws", "losses"), counts)) | {"p": _number(columns["p"][place])}
        rows.append(row)
    return sorted(rows, key=lambda row: math.inf if row["rank"] is None else row["rank"])


def _mean_costs(trial: _Trial, compared: _Compared, costs: pa.Table | None) -> dict[str, dict[str, float | None]]:
    """Return the mean seconds and fits of each method over the cells that are compared."""
    if costs is None:
        return {}
    _check_table(costs, "costs", ("dataset", "seed", "method", "seconds"))
    counted = {
        (trial.datasets[d], trial.seeds[s], method) for d, s in np.argwhere(compared.shared) for method in trial.methods
    }
    cells = list(zip(*(costs[name].to_pylist() for name in ("dataset", "seed", "method"))))
    keep = np.array([cell in counted for cell in cells], dtype=bool)
    method_of = np.array([cell[2] for cell in cells], dtype=object)
    columns = [name for name in ("seconds", "fits") if name in costs.column_names]
    values = {name: _numbers(costs, name, "costs") for name in columns}
    means: dict[str, dict[str, float | None]] = {}
    for method in trial.methods:
        mine = keep & (method_of == method)
        found = {name: values[name][mine & ~np.isnan(values[name])] for name in columns}
        means[method] = {"fits": None} | {name: float(one.mean()) if len(one) else None for name, one in found.items()}
    return means


def _headline(trial: _Trial, compared: _Compared) -> dict[str, Any] | None:
    """Return what the first sentence says: who is best, where, and against whom that is shown."""
    if not len(compared.sets):
        return None
    scores = compared.ranked
    methods = [method for method, present in zip(trial.methods, compared.taking_part) if present]
    average = average_ranks(scores)
    leaders = np.flatnonzero(average == average.min())
    best = int(leaders[0])
    on_top = scores == scores.max(axis=1, keepdims=True)
    p = holm(paired_tests(scores, best))
    duels = wins_draws_losses(scores)[best]
    beaten = (p < ALPHA) & (duels[:, 0] > duels[:, 2])
    return {
        "best": [methods[leader] for leader in leaders],
        "rank": float(average[best]),
        "among": len(methods),
        "on_top": int(on_top[:, best].sum()),
        "shared": int((on_top[:, best] & (on_top.sum(axis=1) > 1)).sum()),
        "beaten": int(beaten.sum()),
        "unbeaten": [method for place, method in enumerate(methods) if place != best and not beaten[place]],
    }


def _failures(trial: _Trial, compared: _Compared) -> list[dict[str, Any]]:
    """Return every cell without a result: one entry a method, status and reason, with its data sets and seeds."""
    found = np.full(compared.cube.shape, "absent", dtype=object)
    why = np.full(compared.cube.shape, "", dtype=object)
    found[trial.place] = ["no value" if status == "done" else status for status in trial.status]
    why[trial.place] = [reason or "" for reason in trial.reason]
    empty = np.isnan(compared.cube) & trial.run_at()[:, :, None]
    groups: dict[tuple[int, str, str], dict[str, list[int]]] = {}
    for d, s, k in np.argwhere(empty):
        group = groups.setdefault((int(k), found[d, s, k], why[d, s, k]), {})
        group.setdefault(trial.datasets[d], []).append(trial.seeds[s])
    return [
        {"method": trial.methods[k], "status": status, "reason": reason, "cells": groups[k, status, reason]}
        for k, status, reason in sorted(groups)
    ]


def _coverage(trial: _Trial, compared: _Compared) -> list[dict[str, Any]]:
    """Return on how many data sets and at how many seeds each method has a result."""
    seeds = (~np.isnan(compared.cube)).sum(axis=1)
    rows = []
    for place, method in enumerate(trial.methods):
        some = seeds[:, place][seeds[:, place] > 0]
        low, high = (int(some.min()), int(some.max())) if len(some) else (0, 0)
        cells = {"cells": int(some.sum()), "run": int(trial.run_at().sum())}
        rows.append(
            {"method": method, "sets": len(some), "seeds": str(low) if low == high else f"{low}–{high}"} | cells
        )
    return rows


def _excluded(trial: _Trial, compared: _Compared) -> list[dict[str, Any]]:
    """Return the data sets that are left out of the comparison, with the methods that lack a result there."""
    lacking = np.isnan(compared.own) & compared.taking_part
    return [
        {"dataset": name, "lacking": [trial.methods[k] for k in np.flatnonzero(lacking[d])]}
        for d, name in enumerate(trial.datasets)
        if d not in compared.sets
    ]


def _check_table(table: Any, name: str, columns: Sequence[str]) -> None:
    if not isinstance(table, pa.Table):
        raise InputError(f"{name} is {type(table).__name__}: give a pyarrow.Table")
    if missing := [column for column in columns if column not in table.column_names]:
        raise InputError(f"{name} lacks the columns {', '.join(missing)}")


def _numbers(table: pa.Table, column: str, name: str) -> Floats:
    """Return a column as float64, NaN for null."""
    if column not in table.column_names:
        raise InputError(f"{name} lacks the column {column}")
    kind = table.schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise InputError(f"{name}: column {column!r} holds {kind}, not numbers")
    values = np.array(table[column].cast(pa.float64()).to_numpy(), dtype=np.float64)
    if np.isinf(values).any():
        raise InputError(f"{name}: column {column!r} holds infinity; write null where there is no result")
    return values


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


# --- the figures --------------------------------------------------------------------------------------------


class _Figure:
    """An SVG that grows downwards; `y` is where the next element goes, `said` what a screen reader says."""

    def __init__(self, title: str, width: float = 400.0, *, fluid: bool = True) -> None:
        self.title, self.width, self.fluid = svg.shorten(title, 150), width, fluid
        self.parts: list[str] = []
        self.said: Sequence[str] = ()
        self.y = 0.0
        for line in textwrap.wrap(self.title, int(width / _LETTER)):
            self.y += 18
            self.text(0, self.y - 3, line, "strong")

    def add(self, element: str) -> None:
        self.parts.append(element)

    def text(
        self, x: float, y: float, text: str, css: str = "", anchor: str = "start", *, after: str = "", turn: float = 0
    ) -> None:
        look = f' class="{css}"' if css else ""
        side = f' text-anchor="{anchor}"' if anchor != "start" else ""
        turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        more = f'<tspan class="soft" dx="5">{svg.escape(after)}</tspan>' if after else ""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}"{look}{side}{turned}>{svg.escape(text)}{more}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.add(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def dot(self, x: float, y: float, css: str = "dot") -> None:
        self.add(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>')

    def inline(self) -> str:
        """Return the figure for a page that has the style sheet."""
        return self._svg("trial" + " fluid" * self.fluid, "", f"0 0 {self.width:.0f} {self.y + 4:.0f}", 1.0)

    def standalone(self) -> str:
        """Return the figure as a file of its own, on its own ground."""
        css = environment().get_template("figure.css.j2").render(alone=True)
        width, height = self.width + 24, self.y + 28
        ground = f'<rect class="back" x="-12" y="-12" width="{width:.0f}" height="{height:.0f}"/>'
        box = f"-12 -12 {width:.0f} {height:.0f}"
        return self._svg("trial", f"<style>{css}</style>{ground}", box, 1.2 if self.fluid else 1.0, _NAMESPACE)

    def _svg(self, css: str, head: str, box: str, scale: float, attributes: str = "") -> str:
        width, height = (float(side) * scale for side in box.split()[2:])
        name = ": ".join([self.title, *([", ".join(self.said)] if self.said else [])])
        return (
            f'<svg{attributes} class="{css}" viewBox="{box}" width="{width:.0f}" height="{height:.0f}" role="img" '
            f'aria-label="{svg.escape(name)}"><title>{svg.escape(self.title)}</title>'
            f"{head}{''.join(self.parts)}</svg>"
        )


def _critical_difference(methods: Sequence[str], ranks: Any, difference: float) -> _Figure:
    """Draw the ranks on an axis, bars below it over what is not told apart, and one row a method below these.

    A method's stem ends in its own row with its name to the left, where no other stem comes: those further
    left end higher up. So names never cross lines, and twenty of them fit on a phone.
    """
    values = as_vector(ranks, "ranks")
    if len(values) < 2 or len(methods) != len(values):
        raise InputError(f"ranks has {len(values)} elements and methods {len(methods)}: give one each, of at least two")
    check_number(difference, "difference", low=0.0)
    n, order, right = len(values), np.argsort(values, kind="stable"), 386.0
    share = (values - 1) / (n - 1)
    names = [svg.shorten(method, 26) for method in methods]
    room = np.array([_LETTER * (len(name) + 5) + 10 for name in names])
    needed = [(wide - at * right) / (1 - at) for wide, at in zip(room, share) if at < 0.99]
    left = min(max(12.0, *needed), 260.0)
    place = left + share * (right - left)

    figure = _Figure("Average ranks and what they cannot tell apart")
    figure.said = [f"{names[i]} {values[i]:.2f}" for i in order]
    figure.y += 20
    figure.text(left, figure.y, f"critical difference {difference:.2f}", "soft")
    figure.y += 10
    end = left + min(difference / (n - 1), 1.0) * (right - left)  # a longer one joins all methods anyway
    figure.add(f'<path class="axis" d="M{left:.1f} {figure.y - 4:.1f}v8m0-4H{end:.1f}m0-4v8"/>')
    figure.y += 28
    axis = figure.y
    ticks = range(1, n + 1) if n <= 12 else [1, *range(5, n + 1, 5)]
    for tick in ticks:
        x = left + (tick - 1) / (n - 1) * (right - left)
        figure.line(x, axis - 4, x, axis, "axis")
        figure.text(x, axis - 8, str(tick), "soft", "middle")
    figure.line(left, axis, right, axis, "axis")

    levels: list[float] = []  # where the last bar of each level ends
    bars = []
    for clique in cliques(values, difference):
        first, last = place[clique[0]] - 3, place[clique[-1]] + 3
        level = next((number for number, reach in enumerate(levels) if reach < first - 6), len(levels))
        levels[level : level + 1] = [last]
        bars.append((first, last, axis + 9 + 7 * level))
    top = axis + 9 + 7 * len(levels) + 10
    for row, i in enumerate(order):
        y = top + 18 * row
        figure.line(place[i], axis, place[i], y, "stem")
        figure.dot(place[i], y)
        figure.text(place[i] - 8, y + 4, names[i], "", "end", after=f"{values[i]:.2f}")
    for first, last, y in bars:  # above the stems
        figure.line(first, y, last, y, "bar")
    figure.y = top + 18 * (n - 1) + 8
    return figure


def _heat_map(datasets: Sequence[str], methods: Sequence[str], values: Any) -> _Figure:
    try:
        table = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"values cannot be read as a table of numbers: {error}") from error
    if table.shape != (len(datasets), len(methods)) or 0 in table.shape:
        raise InputError(f"values has shape {table.shape}, expected ({len(datasets)}, {len(methods)}), none of them 0")
    finite = table[np.isfinite(table)]
    # A few far values must not leave one colour for all others.
    low, high = svg.widen(*np.quantile(finite, [0.02, 0.98])) if len(finite) else (0.0, 1.0)
    steps = np.clip((np.nan_to_num(table) - low) / (high - low) * _STEPS, 0, _STEPS - 1).astype(int)
    best = table == np.nanmax(np.where(np.isfinite(table), table, -np.inf), axis=1, keepdims=True)
    is_share = bool(len(finite)) and bool((np.abs(finite) <= 1).all())
    rows, columns = ([svg.shorten(name, 26) for name in names] for names in (datasets, methods))
    wide, tall, letter = 40.0, 21.0, 6.4
    left = letter * max(map(len, rows)) + 10
    slant = letter * max(map(len, columns)) * math.sqrt(0.5)

    figure = _Figure("Every data set by every method", max(left + wide * len(columns) + slant, 400.0), fluid=False)
    figure.said = [f"{len(rows)} data sets, {len(columns)} methods, from {svg.number(low)} to {svg.number(high)}"]
    figure.y += slant + 16
    for column, name in enumerate(columns):
        figure.text(left + wide * (column + 0.4), figure.y - 5, name, "small", turn=-45)
    for row, name in enumerate(rows):
        y = figure.y + tall * row
        figure.text(left - 6, y + 14.5, name, "small", "end")
        for column in range(len(columns)):
            value, x = table[row, column], left + wide * column
            css = "cell none" if math.isnan(value) else f"cell q{steps[row, column]}{' best' * bool(best[row, column])}"
            text = svg.minus(f"{value:.2f}") if is_share and not math.isnan(value) else svg.number(value)
            figure.add(
                f'<g class="{css}"><rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1:g}" '
                f'height="{tall - 1:g}"/><text x="{x + wide / 2:.1f}" y="{y + 14.5:.1f}" text-anchor="middle">'
                f"{text}</text></g>"
            )
    figure.y += tall * len(rows) + 14
    ends = ("≤ " * bool((finite < low).any()), "≥ " * bool((finite > high).any()))
    figure.text(left - 6, figure.y + 10, ends[0] + svg.number(low), "small", "end")
    for step in range(_STEPS):
        place = f'x="{left + 24 * step:.1f}" y="{figure.y:.1f}" width="24" height="13"'
        figure.add(f'<g class="cell q{step}"><rect {place}/></g>')
    figure.text(left + 24 * _STEPS + 6, figure.y + 10, ends[1] + svg.number(high), "small")
    figure.y += 34
    figure.text(left, figure.y - 4, "underlined: best on the data set; –: no result", "small soft")
    return figure


def _cost_plot(methods: Sequence[str], seconds: Floats, ranks: Floats) -> _Figure:
    """Draw what a method costs against how it ranks: up and to the left is better. Numbered from best to worst."""
    figure = _Figure("Cost and rank")
    order = np.argsort(ranks, kind="stable")
    figure.said = [f"{svg.shorten(methods[i], 60)} {svg.number(seconds[i])} s, rank {ranks[i]:.2f}" for i in order]
    x, y = np.log10(seconds), ranks
    low, high = svg.widen(x.min(), x.max())
    pad = max(0.06 * (high - low), 0.08)
    low, high = low - pad, high + pad
    best, worst = svg.widen(y.min(), y.max())
    best, worst = best - 0.06 * (worst - best), worst + 0.06 * (worst - best)
    figure.y += 18
    figure.text(0, figure.y - 2, "average rank (best on top)", "soft")
    top, bottom, left, right = figure.y + 6, figure.y + 286, 34.0, 392.0
    across = left + (x - low) / (high - low) * (right - left)
    down = top + (y - best) / (worst - best) * (bottom - top)
    for tick in svg.nice_ticks(best, worst):
        at = top + (tick - best) / (worst - best) * (bottom - top)
        figure.line(left, at, right, at, "grid")
        figure.text(left - 6, at + 4, f"{tick:g}", "soft", "end")
    for value in _log_ticks(low, high):
        at = left + (math.log10(value) - low) / (high - low) * (right - left)
        figure.line(at, top, at, bottom, "grid")
        figure.text(at, bottom + 16, f"{value:,g}", "soft", "middle")
    figure.line(left, bottom, right, bottom, "axis")
    figure.text((left + right) / 2, bottom + 34, "mean seconds a cell, logarithmic", "soft", "middle")

    on_front = [not np.any((ranks < ranks[i]) & (seconds < seconds[i])) for i in range(len(ranks))]
    taken = [(a - 4, a + 4, b - 4, b + 4) for a, b in zip(across, down)]
    for number, i in enumerate(order, start=1):
        figure.dot(across[i], down[i], "dot" if on_front[i] else "ring")
        box = _free_place(across[i], down[i], 4 + _LETTER * len(str(number)), taken, (left, right, top, bottom))
        taken.append(box)
        figure.text((box[0] + box[1]) / 2, box[3] - 2, str(number), "", "middle")
    figure.y = bottom + 44
    half = math.ceil(len(order) / 2)
    for place, i in enumerate(order):
        text = f"{place + 1} {svg.shorten(methods[i], 24)}"
        figure.text(200.0 * (place // half), figure.y + 17 * (place % half + 1), text, "" if on_front[i] else "soft")
    figure.y += 17 * half + 24
    figure.text(0, figure.y - 4, "Filled: no other method is both faster and better ranked.", "soft")
    return figure


def _free_place(
    x: float, y: float, wide: float, taken: Sequence[tuple[float, ...]], frame: tuple[float, ...]
) -> tuple[float, float, float, float]:
    """Return the box (left, right, top, bottom) around a point that overlaps least with what is `taken`."""
    tall, boxes = 12.0, []
    for a, b in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
        middle, level = x + a * (5 + wide / 2), y + b * (5 + tall / 2)
        boxes.append((middle - wide / 2, middle + wide / 2, level - tall / 2, level + tall / 2))

    def overlap(box: tuple[float, ...]) -> float:
        outside = box[0] < frame[0] or box[1] > frame[1] or box[2] < frame[2] or box[3] > frame[3]
        shared = (
            max(0.0, min(box[1], one[1]) - max(box[0], one[0])) * max(0.0, min(box[3], one[3]) - max(box[2], one[2]))
            for one in taken
        )
        return sum(shared) + 1000.0 * outside

    return min(boxes, key=overlap)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between the powers `low` and `high` of ten: few decades get 2 and 5 too."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2 else (1,)
    step = 2 if high - low > 6 else 1
    values = [factor * 10.0**power for power in decades if power % step == 0 for factor in factors]
    return [value for value in values if low <= math.log10(value) <= high]


def _charts(trial: _Trial, compared: _Compared, rows: Sequence[dict[str, Any]]) -> dict[str, _Figure]:
    """Return the figures there are data for; methods in the order of `rows`."""
    charts = {}
    ranked = [row for row in rows if row["rank"] is not None]
    if len(ranked) >= 2:
        methods, average = [row["method"] for row in ranked], [row["rank"] for row in ranked]
        difference = critical_difference(len(ranked), len(compared.sets))
        charts["ranks"] = _critical_difference(methods, average, difference)
    columns = [trial.methods.index(row["method"]) for row in rows]
    marked = [name if d in compared.sets else f"{svg.shorten(name, 24)} *" for d, name in enumerate(trial.datasets)]
    charts["heat"] = _heat_map(marked, [row["method"] for row in rows], compared.own[:, columns])
    priced = [row for row in ranked if row["seconds"]]
    if priced:
        seconds, average = (np.array([row[name] for row in priced]) for name in ("seconds", "rank"))
        charts["cost"] = _cost_plot([row["method"] for row in priced], seconds, average)
    return charts


# --- the page -----------------------------------------------------------------------------------------------
