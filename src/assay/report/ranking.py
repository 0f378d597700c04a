"""The report of a ranking: which auxiliary anomalies are worth training on, why, and what that gains.

In: the table of `ExpectedAnomalyPosterior.evaluate`, the rows it was made from, and whatever else was measured. Out: one
HTML page that needs nothing but a browser: no script, no network, light and dark, phone, desk and paper. A part whose data
is missing is left out. The page is the same, byte for byte, for the same data.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.core.validation import Bools, Floats, InputError
from assay.report import svg
from assay.report.svg import Rule, Series

COLUMNS = (
    "row", "verdict", "selected", "quality", "quality_p05", "quality_p95", "probability", "density", "pseudo_count",
    "zero_density_share", "quality_std", "epistemic", "aleatoric", "nearest_normal", "nearest_normal_distance",
    "nearest_anomaly", "nearest_anomaly_distance", "reason",
)  # fmt: skip
_TEXTS = ("row", "verdict", "reason", "nearest_normal", "nearest_anomaly")


class Verdict(NamedTuple):
    """How a verdict is drawn and explained."""

    name: str
    css: str
    marker: str
    meaning: str


VERDICTS = (
    Verdict("realistic", "c-realistic", "triangle", "plausible here, and unlike the normals: worth training on"),
    Verdict("uncertain", "c-uncertain", "ring", "the evidence does not decide"),
    Verdict("unrealistic", "c-unrealistic", "diamond", "where no data lie: the detector can only guess there"),
    Verdict("indistinguishable", "c-indistinguishable", "square", "looks normal: would teach that normal is wrong"),
)


@dataclass
class RankingReport:
    """One page about one ranking of auxiliary anomalies.

    Attributes
    ----------
    title : str
        Heading of the page.
    table : dict of str to sequence
        One element per auxiliary row in each of the columns `COLUMNS`; further columns are ignored. `verdict` is one of
        the names in `VERDICTS`; the `nearest_…` columns may hold NaN or None.
    prior : float
        The quality of a row about which nothing is known.
    X_normal, X_anomaly, X_aux : arrays of shape (n, d), (m, d), (l, d)
        Standardised rows; `m` may be 0.
    feature_names : list of str
        One a column of these.
    gain : dict, optional
        ``{"metric": str, "rows": [{"training": str, "mean": float, "std": float, "n": int}, …], "note": str}``. The
        metric grows with merit; the first row is what the others are compared with.
    probe : dict, optional
        ``{"auroc": float, "p_value": float or None, "verdict": str}`` of the artefact probe.
    suggestions : list of dict, optional
        One generator setting each, any columns. With ``generator``, ``strength`` and ``mean_quality`` (and
        ``quality_std``) they are drawn too.
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
        environment = _environment()
        css = environment.get_template("page.css.j2").render()
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        charts = {name: Markup(chart) for name, chart in self._charts().items()}  # svg escapes what it is given
        return environment.get_template("ranking.html.j2").render(
            css=Markup(css),
            css_digest=digest,
            charts=charts,
            verdicts=self._verdict_rows(),
            columns=self._columns,
            best=self._order()[: self.shown],
            worst=self._order()[self.shown :][::-1][: self.shown],
            gain=self._gain(),
            suggestion_columns=_keys(self.suggestions or []),
            report=self,
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to `path` in one step (an older file stays until the new one is complete) and return it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            aside.write_text(self.html(), encoding="utf-8", newline="\n")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        return path

    def _order(self) -> list[int]:
        """Return the row numbers, best quality first, ties in the order of the input."""
        return np.argsort(-self._columns["quality"], kind="stable").tolist()

    def _of(self, verdict: Verdict) -> Bools:
        return self._columns["verdict"] == verdict.name

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
            rows.append({**row, "difference": difference, "spread": spread, "clear": abs(difference) > spread})
        return {**self.gain, "rows": rows}

    def _charts(self) -> dict[str, str]:
        charts = {
            "shares": self._shares_chart(),
            "quality": svg.histograms(
                [self._series(verdict, "quality") for verdict in VERDICTS],
                title="Quality by verdict",
                x_label="quality",
                rules=[Rule(self.prior, f"prior {svg.number(self.prior)}", "x")],
            ),
            "map": self._map_chart(),
            "evidence": self._quality_against("pseudo_count", "evidence (pseudo-count)"),
            "probability": self._quality_against("probability", "the detector's probability of an anomaly"),
        }
        if self.gain and self.gain.get("rows"):
            rows = self.gain["rows"]
            charts["gain"] = svg.bars(
                [row["training"] for row in rows],
                [row["mean"] for row in rows],
                errors=[row.get("std") or 0.0 for row in rows],
                title=f"{self.gain['metric']} by training data: mean and spread",
                css=["c-normal"] + ["c-realistic"] * (len(rows) - 1),
            )
        if self.probe:
            charts["probe"] = svg.bars(
                ["real normals against unchanged parts"],
                [self.probe["auroc"]],
                title="Can “synthetic” be told without the anomaly?",
                css="c-unrealistic",
                limits=(0.0, 1.0),
                rules=[Rule(0.5, "chance", "x")],
            )
        if self.suggestions and (chart := _suggestion_chart(self.suggestions, self.prior)):
            charts["suggestions"] = chart
        return charts

    def _series(self, verdict: Verdict, x: str, y: str | None = None) -> Series:
        mine = self._of(verdict)
        return Series(
            verdict.name,
            self._columns[x][mine],
            None if y is None else self._columns[y][mine],
            css=verdict.css,
            marker=verdict.marker,
        )

    def _shares_chart(self) -> str:
        return svg.shares(
            [verdict.name for verdict in VERDICTS],
            [int(self._of(verdict).sum()) for verdict in VERDICTS],
            [verdict.css for verdict in VERDICTS],
            title=f"Verdicts on {len(self.X_aux):,} auxiliary rows",
        )

    def _quality_against(self, column: str, label: str) -> str:
        x, quality = self._columns[column], self._columns["quality"]
        low, high = svg.robust_limits(x)
        return svg.scatter(
            [self._series(verdict, column, "quality") for verdict in reversed(VERDICTS)],
            title=f"Quality against {label}",
            x_label=label,
            y_label="quality",
            x_limits=(low, high),
            y_limits=svg.robust_limits(np.append(quality, self.prior), reach=1e9),
            rules=[Rule(self.prior, f"prior {svg.number(self.prior)}")],
        )

    def _map_chart(self) -> str:
        project, labels = _principal_axes(np.vstack([self.X_normal, self.X_anomaly]), list(self.feature_names))
        normal, anomaly, aux = project(self.X_normal), project(self.X_anomaly), project(self.X_aux)
        real = np.vstack([normal, anomaly])
        return svg.scatter(
            [
                Series("normal", *normal.T, css="c-normal"),
                *(
                    Series(verdict.name, *aux[self._of(verdict)].T, css=verdict.css, marker=verdict.marker)
                    for verdict in reversed(VERDICTS)
                ),
                Series("real anomaly", *anomaly.T, css="c-anomaly", marker="cross"),
            ],
            title="Where the rows lie: the two main directions of the real data",
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


def _principal_axes(X: Floats, names: list[str]) -> tuple[Any, tuple[str, str]]:
    """Fit the two main directions of `X`; return the projection and a label a direction."""
    X = X[np.isfinite(X).all(axis=1)]
    if len(X) > 20_000:
        X = X[np.sort(np.random.default_rng(0).choice(len(X), size=20_000, replace=False))]
    centre = X.mean(axis=0) if len(X) else np.zeros(len(names))
    _, sizes, directions = np.linalg.svd(X - centre, full_matrices=False)
    axes = np.zeros((2, len(names)))
    axes[: len(directions)] = directions[:2]
    # The sign of a direction is arbitrary: its largest entry is made positive.
    leaders = np.abs(axes).argmax(axis=1)
    axes *= np.where(axes[[0, 1], leaders] < 0, -1.0, 1.0)[:, None]
    total = max(float((sizes**2).sum()), 1e-300)
    explained = np.zeros(2)
    explained[: len(sizes)] = sizes[:2] ** 2 / total
    labels = tuple(
        f"direction {number + 1} ({100 * share:.0f} % of the variance; most: {svg.shorten(names[leader], 18)})"
        if share > 0
        else f"direction {number + 1} (no variance)"
        for number, (share, leader) in enumerate(zip(explained, leaders))
    )

    def project(rows: Floats) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            return (rows - centre) @ axes.T

    return project, labels


def _map_limits(real: Floats, aux: Floats) -> tuple[float, float]:
    """Return limits that show the real rows and their surroundings, however far single auxiliary rows lie."""
    low, high = svg.robust_limits(real)
    reach = 0.35 * (high - low)
    near = aux[(aux >= low - reach) & (aux <= high + reach)]
    return svg.robust_limits(np.concatenate([[low, high], near]), reach=1e9)


def _suggestion_chart(suggestions: Sequence[Mapping[str, Any]], prior: float) -> str | None:
    """Draw quality against strength, a line a generator; nothing where these columns are missing."""
    if any(not {"generator", "strength", "mean_quality"} <= set(one) for one in suggestions):
        return None
    series = []
    for place, name in enumerate(dict.fromkeys(str(one["generator"]) for one in suggestions)):
        mine = [one for one in suggestions if str(one["generator"]) == name]
        strength, quality, spread = (
            np.array([math.nan if one.get(key) is None else one[key] for one in mine], dtype=np.float64)
            for key in ("strength", "mean_quality", "quality_std")
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


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _cell(value: Any) -> str:
    """Return a value of any kind as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return svg.number(float(value))
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_cell(one) for one in value)
    return str(value)


def _plain(value: Any) -> Any:
    """Let no character into the page that HTML forbids; called by jinja2 on every expression, before escaping."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else svg.clean(value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("assay.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": svg.number,
        "percent": svg.percent,
        "cell": _cell,
        "icon": lambda verdict: Markup(svg.icon(verdict.css, verdict.marker)),
    }
    environment.tests["absent"] = lambda value: value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))
    environment.globals["verdict_named"] = {verdict.name: verdict for verdict in VERDICTS}
    return environment
