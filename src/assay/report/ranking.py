"""The report of a ranking: which auxiliary anomalies are worth training on, why, and what that gains.

In: the table of `ExpectedAnomalyPosterior.evaluate`, the rows it was made from, and whatever else was
measured. Out: one HTML page that needs nothing but a browser: no script, no network, light and dark, phone,
desk and paper. A part whose data is missing is left out. The same data give the same page, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from assay.core.files import new_file
from assay.core.validation import Bools, Floats, InputError
from assay.report import svg
from assay.report.page import VERDICTS, Verdict, render
from assay.report.svg import Rule, Series

COLUMNS = (
    "row", "verdict", "selected", "quality", "quality_std", "quality_p05", "quality_p95", "density",
    "pseudo_count", "zero_density_share", "probability", "epistemic", "aleatoric", "nearest_normal",
    "nearest_normal_distance", "nearest_anomaly", "nearest_anomaly_distance", "reason",
)  # fmt: skip
_TEXTS = ("row", "verdict", "reason", "nearest_normal", "nearest_anomaly")


_LAYERS = [VERDICTS[place] for place in (2, 3, 1, 0)]  #: what is drawn first lies below


@dataclass
class RankingReport:
    """One page about one ranking of auxiliary anomalies.

    Attributes
    ----------
    title : str
        Heading of the page.
    table : dict of str to sequence
        One element per auxiliary row in each of the columns `COLUMNS`; further columns are ignored. `verdict`
        is one of the names in `VERDICTS`; the `nearest_…` columns may hold NaN or None.
    prior : float
        The quality of a row about which nothing is known.
    X_normal, X_anomaly, X_aux : arrays of shape (n, d), (m, d), (l, d)
        Standardised rows; `m` may be 0.
    feature_names : list of str
        One a column of these.
    gain : dict, optional
        ``{"metric": str, "rows": [{"training": str, "mean": float, "std": float, "n": int}, …]}``, and a
        ``"note"`` if wanted. The metric grows with merit; the others are compared with the first row.
    probe : dict, optional
        ``{"auroc": float, "p_value": float, "verdict": str}`` of the artefact probe, both numbers NaN or None
        where nothing could be measured; what else it holds is listed.
    suggestions : list of dict, optional
        One generator setting each, any columns. With ``generator``, ``strength`` and ``quality`` (a mean;
        ``quality_std`` its spread) they are drawn too.
    run : dict
        ``command``, ``seed``, ``versions``, … in the order to print; values may be dicts.
    shown : int
        How many rows the lists of best and worst hold.

    Raises
    ------
    InputError
        If a column is missing or has another length, a verdict is unknown, or the shapes do not fit.
    """

    title: str
    table: Mapping[str, Sequence[Any]]
    prior: float
    X_normal: Floats
    X_anomaly: Floats
    X_aux: Floats
    feature_names: Sequence[str]
    gain: Mapping[str, Any] | None = None
    probe: Mapping[str, Any] | None = None
    suggestions: Sequence[Mapping[str, Any]] | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    shown: int = 12

    def __post_init__(self) -> None:
        self._columns = _read_table(self.table)
        self.X_normal, self.X_anomaly, self.X_aux = (
            np.asarray(X, dtype=np.float64) for X in (self.X_normal, self.X_anomaly, self.X_aux)
        )
        width = len(self.feature_names)
        for name in ("X_normal", "X_anomaly", "X_aux"):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[1] != width:
                raise InputError(f"{name} has shape {shape}, expected (rows, {width}): one column a feature name")
        if len(self.X_aux) != len(self._columns["row"]):
            raise InputError(f"X_aux has {len(self.X_aux)} rows, the table {len(self._columns['row'])}")

    def html(self) -> str:
        """Return the page."""
        directions = _main_directions(np.vstack([self.X_normal, self.X_anomaly]))
        charts = self._charts(directions)
        order, quality, kept = self._order(), self._columns["quality"], self._columns["selected"]
        return render(
            "ranking.html.j2",
            charts={name: Markup(chart) for name, chart in charts.items()},  # svg escapes what it is given
            directions=[{"leaders": direction.leaders(self.feature_names)} for direction in directions],
            verdicts=self._verdict_rows(),
            columns=self._columns,
            kept_quality=_median(quality[kept]),
            rest_quality=_median(quality[~kept]),
            best=order[: self.shown],
            worst=order[self.shown :][::-1][: self.shown],
            gain=self._gain(),
            suggestion_columns=_keys(self.suggestions or []),
            probe_facts=_without(self.probe or {}, "auroc", "p_value", "verdict"),
            run_facts=_without(self.run, "command"),
            report=self,
        )

    def write(self, path: str | Path) -> Path:
        """Write the page to `path` and return it; an older file stays until the new one is complete."""
        with new_file(path, overwrite=True, name="report") as aside:
            aside.write_bytes(self.html().encode())
        return Path(path)

    def _order(self) -> list[int]:
        """Return the row numbers, best quality first, ties in the order of the input."""
        order: list[int] = np.argsort(-self._columns["quality"], kind="stable").tolist()
        return order

    def _of(self, verdict: Verdict) -> Bools:
        mine: Bools = self._columns["verdict"] == verdict.name
        return mine

    def _verdict_rows(self) -> list[dict[str, Any]]:
        """Return what the table of verdicts says about each kind."""
        rows = []
        for verdict in VERDICTS:
            mine = self._of(verdict)
            middle = {
                name: _median(self._columns[name][mine])
                for name in ("quality", "probability", "pseudo_count", "epistemic", "aleatoric")
            }
            kept = int(self._columns["selected"][mine].sum())
            rows.append({"verdict": verdict, "count": int(mine.sum()), "kept": kept, **middle})
        return rows

    def _gain(self) -> dict[str, Any] | None:
        """Return the gain table with each row's difference to the first and whether it exceeds the spread."""
        if not self.gain or not self.gain.get("rows"):
            return None
        first, rows = self.gain["rows"][0], []
        for row in self.gain["rows"]:
            difference = row["mean"] - first["mean"]
            spread = math.hypot(row.get("std") or 0.0, first.get("std") or 0.0)
            rows.append({**row, "difference": difference, "spread": spread, "beyond": abs(difference) > spread})
        return {**self.gain, "rows": rows}

    def _charts(self, directions: Sequence[Direction]) -> dict[str, str]:
        quality = self._columns["quality"]
        charts = {
            "shares": self._shares_chart(),
            "quality": svg.histograms(
                [self._series(verdict, quality, quality) for verdict in VERDICTS],
                title="Quality by verdict",
                x_label="quality",
                rules=[Rule(self.prior, f"prior {svg.number(self.prior)}")],
            ),
            "map": self._map_chart(directions),
            "evidence": self._quality_against("pseudo_count", "evidence", "evidence (pseudo-count)"),
            "probability": self._quality_against("probability", "probability", "the detector's probability"),
        }
        if self.gain and self.gain.get("rows"):
            rows = self.gain["rows"]
            charts["gain"] = svg.bars(
                [row["training"] for row in rows],
                [row["mean"] for row in rows],
                errors=[row.get("std") or 0.0 for row in rows],
                limits=(0.0, 1.0) if all(0 <= row["mean"] <= 1 for row in rows) else None,
                title=f"{self.gain['metric']} by training data: mean and spread",
                css=["c-normal"] + ["c-realistic"] * (len(rows) - 1),
            )
        if self.probe and math.isfinite(_float(self.probe["auroc"])):
            charts["probe"] = svg.bars(
                ["real normals against unchanged parts"],
                [self.probe["auroc"]],
                title="Can “synthetic” be told without the anomaly?",
                css="c-unrealistic",
                limits=(0.0, 1.0),
                rules=[Rule(0.5, "chance")],
            )
        if self.suggestions and (chart := suggestion_chart(self.suggestions, self.prior)):
            charts["suggestions"] = chart
        return charts

    def _series(self, verdict: Verdict, x: Floats, y: Floats) -> Series:
        """Return the auxiliary rows of one verdict at the places `x`, `y`."""
        mine = self._of(verdict)
        return Series(verdict.name, x[mine], y[mine], css=verdict.css, marker=verdict.marker)

    def _shares_chart(self) -> str:
        return svg.shares(
            [verdict.name for verdict in VERDICTS],
            [int(self._of(verdict).sum()) for verdict in VERDICTS],
            [verdict.css for verdict in VERDICTS],
            title=f"Verdicts on {len(self.X_aux):,} auxiliary row{'s' if len(self.X_aux) != 1 else ''}",
        )

    def _quality_against(self, column: str, name: str, label: str) -> str:
        x, quality = self._columns[column], self._columns["quality"]
        low, high = svg.robust_limits(x)
        return svg.scatter(
            [self._series(verdict, x, quality) for verdict in _LAYERS],
            title=f"Quality against {name}",
            x_label=label,
            y_label="quality",
            x_limits=(min(low, 0.0), high),
            y_limits=svg.robust_limits(np.append(quality, [self.prior, 0.0]), reach=1e9),
            rules=[Rule(self.prior, f"prior {svg.number(self.prior)}")],
        )

    def _map_chart(self, directions: Sequence[Direction]) -> str:
        centre = directions[0].centre
        axes = np.column_stack([direction.weights for direction in directions])
        normal, anomaly, aux = ((X - centre) @ axes for X in (self.X_normal, self.X_anomaly, self.X_aux))
        lowest, *others = [self._series(verdict, aux[:, 0], aux[:, 1]) for verdict in _LAYERS]
        real = np.vstack([normal, anomaly])
        labels = [
            f"direction {place} ({100 * direction.explained:.0f} % of the variance)"
            for place, direction in enumerate(directions, start=1)
        ]
        return svg.scatter(
            [
                lowest,
                Series("normal", normal[:, 0], normal[:, 1], css="c-normal"),
                *others,
                Series("real anomaly", anomaly[:, 0], anomaly[:, 1], css="c-anomaly", marker="cross"),
            ],
            title="The two main directions of the real rows",
            x_label=labels[0],
            y_label=labels[1],
            x_limits=_map_limits(real[:, 0], aux[:, 0]),
            y_limits=_map_limits(real[:, 1], aux[:, 1]),
        )


def _read_table(table: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the table's columns as arrays: texts as they are, numbers as float64, `selected` as bool."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(f"table lacks the columns {', '.join(missing)}")
    n = len(table["row"])
    if n == 0:
        raise InputError("table has no rows: there is nothing to report")
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        if len(table[name]) != n:
            raise InputError(f"table: column {name!r} has {len(table[name])} elements, expected {n}")
        kind = object if name in _TEXTS else bool if name == "selected" else np.float64
        columns[name] = np.array(list(table[name]), dtype=kind)
    if not np.isfinite(columns["quality"]).all():
        raise InputError("table: column 'quality' holds NaN or infinity")
    unknown = set(columns["verdict"]) - {verdict.name for verdict in VERDICTS}
    if unknown:
        raise InputError(f"table: unknown verdicts {sorted(map(str, unknown))[:5]}")
    return columns


class Direction(NamedTuple):
    """One direction of the map: its start, its weight a feature, the share of the variance it explains."""

    centre: Floats
    weights: Floats
    explained: float

    def leaders(self, names: Sequence[str], count: int = 3) -> list[tuple[str, float]]:
        """Return the features that weigh most, with their weights."""
        places = np.argsort(-np.abs(self.weights), kind="stable")[:count]
        return [(svg.shorten(names[place], 60), self.weights[place]) for place in places if self.weights[place]]


def _main_directions(X: Floats) -> list[Direction]:
    """Return the two directions in which the rows of `X` vary most (20,000 of them, where there are more)."""
    X = X[np.isfinite(X).all(axis=1)]
    if len(X) > 20_000:
        X = X[np.sort(np.random.default_rng(0).choice(len(X), size=20_000, replace=False))]
    centre = X.mean(axis=0) if len(X) else np.zeros(X.shape[1])
    _, sizes, axes = np.linalg.svd(X - centre, full_matrices=False)
    variance = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    directions = []
    for place in range(2):
        if place >= len(variance) or variance[place] < 1e-12:
            directions.append(Direction(centre, np.zeros(X.shape[1]), 0.0))
            continue
        weights = axes[place]
        sign = -1.0 if weights[np.abs(weights).argmax()] < 0 else 1.0  # the sign of a direction is arbitrary
        directions.append(Direction(centre, sign * weights, float(variance[place])))
    return directions


def _map_limits(real: Floats, aux: Floats) -> tuple[float, float]:
    """Return limits that show the real rows and their surroundings, however far single auxiliary rows lie."""
    low, high = svg.robust_limits(real, reach=0.25)
    reach = 0.2 * (high - low)
    near = aux[(aux >= low - reach) & (aux <= high + reach)]
    return svg.robust_limits(np.concatenate([[low, high], near]), reach=1e9)


def suggestion_chart(suggestions: Sequence[Mapping[str, Any]], prior: float) -> str | None:
    """Draw quality against strength, a line a generator; nothing where these columns are missing."""
    if any(not {"generator", "strength", "quality"} <= set(one) for one in suggestions):
        return None
    series = []
    for place, name in enumerate(dict.fromkeys(str(one["generator"]) for one in suggestions)):
        mine = [one for one in suggestions if str(one["generator"]) == name]
        strength, quality, spread = (
            np.array([_float(one.get(key)) for one in mine]) for key in ("strength", "quality", "quality_std")
        )
        marker = list(svg.MARKERS)[1 + place % 5]
        series.append(Series(name, strength, quality, css=f"c-{1 + place % 6}", marker=marker, error=spread))
    return svg.lines(
        series,
        title="Mean quality by generator and strength",
        x_label="strength",
        y_label="mean quality",
        rules=[Rule(prior, f"prior {svg.number(prior)}")],
    )


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all rows in the order they first appear."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _float(value: Any) -> float:
    """Return a value of any kind as a number, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
