"""Small charts as SVG strings: readable on a phone, in light and dark, by eye and by screen reader.

Every chart is one ``<svg role="img">`` with a ``<title>`` and an ``aria-label``, drawn 400 units wide; it
scales with its box. Colours are CSS classes (``c-realistic``, ``c-1`` …) that the style sheet of the page
defines for both themes. Classes differ in shape too: nothing rests on colour alone. Whatever text comes in is
escaped here.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Floats

WIDTH = 400.0
LINE = 18.0  #: height of one line of text
CHARACTER = 7.4  #: width of an average character, for margins and wrapping
PLOT = 250.0  #: height of a plotting area

#: Shape of a mark, as a path relative to its place; those that end in z are filled.
MARKERS = {
    "dot": "h.01",
    "triangle": "m0-3.4l3.2 5.6h-6.4z",
    "square": "m-2.4-2.4h4.8v4.8h-4.8z",
    "diamond": "m0-3.3l3.3 3.3-3.3 3.3-3.3-3.3 3.3-3.3",
    "ring": "m-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0",
    "cross": "m-3.2-3.2l6.4 6.4m0-6.4l-6.4 6.4",
}

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


@dataclass(frozen=True)
class Series:
    """One class of points of a chart.

    Attributes
    ----------
    label : str
        Its name in the legend.
    x, y : array of shape (n,)
        Where its points lie; a histogram uses `x` alone.
    css : str
        The class that colours it, e.g. ``"c-realistic"``.
    marker : str
        A key of `MARKERS`.
    error : array of shape (n,), optional
        Half the length of each whisker.
    """

    label: str
    x: Floats
    y: Floats = field(default_factory=lambda: np.empty(0))
    css: str = "c-1"
    marker: str = "dot"
    error: Floats | None = None


@dataclass(frozen=True)
class Rule:
    """A labelled reference line: level in `scatter` and `lines`, upright in `histograms` and `bars`."""

    value: float
    label: str


def clean(text: Any) -> str:
    """Return `text` without what no HTML page may hold: control characters, broken surrogates."""
    return _FORBIDDEN.sub("\ufffd", str(text).encode("utf-8", "replace").decode("utf-8"))


def escape(text: Any) -> str:
    """Return `text` cleaned and safe inside an element or an attribute.

    Examples
    --------
    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return html.escape(clean(text), quote=True)


def shorten(text: Any, length: int) -> str:
    """Return `text` on one line of at most `length` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def number(value: float) -> str:
    """Return `value` with about three telling digits, thousands separated; an en dash where there is none.

    Examples
    --------
    >>> [number(value) for value in (0.01653, 1.5, 12345.6, 3e-7, 0, float("nan"))]
    ['0.017', '1.50', '12,346', '3e-07', '0', '–']
    """
    value = float(value)
    if math.isnan(value):
        return "–"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1e7 or size < 5e-4:
        return minus(f"{value:.2g}")
    places = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    return minus(f"{value:,.{places}f}")


def minus(text: str) -> str:
    """Return a formatted number with a minus sign for its leading hyphen."""
    return text.replace("-", "−", 1) if text.startswith("-") else text


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers of [low, high].

    Examples
    --------
    >>> nice_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def widen(low: float, high: float) -> tuple[float, float]:
    """Return limits that are never the same number, so that an axis can be drawn."""
    if high - low > 1e-9 * max(abs(low), abs(high), 1e-6):
        return float(low), float(high)
    pad = 0.5 * abs(low) or 0.5
    return low - pad, high + pad


def robust_limits(values: npt.ArrayLike, reach: float = 0.5) -> tuple[float, float]:
    """Return limits that few far values cannot move: the 1–99 % range widened by `reach`, within the data."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = np.quantile(finite, [0.01, 0.99])
    pad = reach * (high - low)
    low, high = widen(max(low - pad, finite.min()), min(high + pad, finite.max()))
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def scatter(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    rules: Sequence[Rule] = (),
    cap: int = 600,
) -> str:
    """Draw points by class; later classes lie on top.

    Parameters
    ----------
    series : sequence of Series
        Classes without a point are left out.
    title, x_label, y_label : str
        What is shown.
    x_limits, y_limits : (float, float), optional
        Limits of the axes (default: those of the data). Points beyond lie on the border, counted in a note.
    rules : sequence of Rule
        Reference lines.
    cap : int
        A class with more points is thinned to this many at random (always the same ones); the legend says so.

    Returns
    -------
    str
        The SVG.
    """
    finite = [_finite(one) for one in series]
    missing = sum(len(one.x) for one in series) - sum(len(one.x) for one in finite)
    series = [one for one in finite if len(one.x)]
    x_limits = x_limits or robust_limits(np.concatenate([one.x for one in series] or [np.zeros(1)]), reach=1e9)
    y_limits = y_limits or robust_limits(np.concatenate([one.y for one in series] or [np.zeros(1)]), reach=1e9)
    far = sum(int((_outside(one.x, x_limits) | _outside(one.y, y_limits)).sum()) for one in series)
    drawn = [_thinned(one, cap) for one in series]

    chart = _Chart(title)
    axes = _Axes(chart, x_limits, y_limits, x_label=x_label, y_label=y_label)
    for one in drawn:
        chart.mark(one, axes.x(one.x), axes.y(one.y))
    chart.legend(drawn, axes.levels(rules))
    if far:
        chart.note(f"{_points(far)} beyond the frame, drawn at its border.")
    if any(new is not old for new, old in zip(drawn, series)):
        chart.note("Large classes are thinned at random for drawing only.")
    if missing:
        chart.note(f"{_points(missing)} without a finite place, not drawn.")
    return chart.svg([f"{one.label} {len(one.x):,}" for one in series])


def histograms(
    series: Sequence[Series], *, title: str, x_label: str, rules: Sequence[Rule] = (), bins: int = 40
) -> str:
    """Draw one small histogram a class above a common axis, each to its own height.

    Classes often differ a hundredfold in size: so every shape stays visible, where a stack would show only
    the largest.

    Parameters
    ----------
    series : sequence of Series
        Values in `x`. Classes without a value are left out.
    title, x_label : str
        What is shown.
    rules : sequence of Rule
        Reference lines.
    bins : int
        How many bars span the axis.

    Returns
    -------
    str
        The SVG.
    """
    series = [replace(one, x=one.x[np.isfinite(one.x)]) for one in series]
    series = [one for one in series if len(one.x)]
    values = np.concatenate([one.x for one in series] + [np.array([rule.value for rule in rules] + [0.0])])
    limits = widen(values.min(), values.max() * 1.02)
    edges = np.linspace(*limits, bins + 1)
    panel, label = 46.0, LINE + 2
    height = max(len(series), 1) * (panel + label)

    chart = _Chart(title)
    chart.y += LINE - 4  # for the names of the rules
    axes = _Axes(chart, limits, None, x_label=x_label, height=height, left=8.0)
    for row, one in enumerate(series):
        counts = np.histogram(one.x, edges)[0]
        base = axes.top + (row + 1) * (panel + label)
        chart.swatch(axes.left + 4, base - panel - 9, one)
        chart.text(axes.left + 14, base - panel - 5, f"{shorten(one.label, 24)}: {len(one.x):,}")
        chart.text(axes.right, base - panel - 5, f"tallest bar {counts.max():,}", "faint", "end")
        chart.add(f'<path class="fill {escape(one.css)}" d="{_bars_path(axes.x(edges), base, counts, panel)}"/>')
        chart.line(axes.left, base, axes.right, base, "axis")
        axes.uprights(rules, base - panel, base, named=row == 0)
    return chart.svg([f"{one.label} {len(one.x):,}" for one in series])


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    errors: Sequence[float] | None = None,
    css: Sequence[str] | str = "c-1",
    limits: tuple[float, float] | None = None,
    rules: Sequence[Rule] = (),
) -> str:
    """Draw horizontal bars from 0, each below its label and number, with the spread as a whisker.

    Parameters
    ----------
    labels : sequence of str
        One a bar.
    values : sequence of float
        NaN draws no bar.
    title : str
        What is shown.
    errors : sequence of float, optional
        Half the length of each whisker.
    css : str or sequence of str
        The class that colours the bars.
    limits : (float, float), optional
        Limits of the axis (default: from 0 to the longest whisker).
    rules : sequence of Rule
        Reference lines.

    Returns
    -------
    str
        The SVG.
    """
    length = np.asarray(values, dtype=np.float64)
    spread = np.zeros(len(length)) if errors is None else np.nan_to_num(np.asarray(errors, dtype=np.float64))
    classes = [css] * len(length) if isinstance(css, str) else css
    reach = np.concatenate([[0.0], np.nan_to_num(length - spread), np.nan_to_num(length + spread)])
    step, thick = 40.0, 14.0

    chart = _Chart(title)
    chart.y += LINE - 4 if rules else 0
    axes = _Axes(
        chart,
        limits or widen(reach.min(), reach.max()),
        None,
        height=step * len(length) + 4,
        left=8.0,
        right=14.0,
    )
    zero = float(axes.x(np.zeros(1))[0])
    said = []
    for row, (label, value, error, color) in enumerate(zip(labels, length, spread, classes)):
        top = axes.top + step * row + LINE + 4
        figures = number(value) + (f" ± {number(error)}" if error else "")
        said.append(f"{label} {figures}")
        chart.text(axes.left, top - 6, shorten(label, 46 - len(figures)))
        chart.text(axes.right, top - 6, figures, "strong", "end")
        if not math.isnan(value):
            left, right = sorted((zero, float(axes.x(np.array([value]))[0])))
            chart.add(
                f'<rect class="fill {escape(color)}" x="{left:.1f}" y="{top:.1f}" '
                f'width="{max(right - left, 0.5):.1f}" height="{thick:g}" rx="1.5"/>'
            )
        if error:
            _whisker(chart, axes.x(np.array([value - error, value + error])), top + thick / 2)
        axes.uprights(rules, top - 2, top + thick + 2, named=row == 0)
    return chart.svg(said)


def shares(labels: Sequence[str], counts: Sequence[int], css: Sequence[str], *, title: str) -> str:
    """Draw one bar cut into shares; the page names them beside it, a screen reader reads them.

    Parameters
    ----------
    labels, counts, css : sequences of the same length
        Name, size and colour class of every part.
    title : str
        What is shown.

    Returns
    -------
    str
        The SVG.
    """
    total = sum(counts)
    chart = _Chart(title)
    left = 0.0
    for count, color in zip(counts, css):
        width = WIDTH * count / max(total, 1)
        gap = 1.0 if 3 < width < WIDTH else 0.0
        if count:
            chart.add(
                f'<rect class="fill {escape(color)}" x="{left:.1f}" y="{chart.y:.1f}" '
                f'width="{max(width - gap, 0.5):.1f}" height="26"/>'
            )
        left += width
    chart.y += 26
    return chart.svg([f"{label} {percent(count, total)}" for label, count in zip(labels, counts)])


def lines(series: Sequence[Series], *, title: str, x_label: str, y_label: str, rules: Sequence[Rule] = ()) -> str:
    """Draw one line a class through its points, with whiskers where `error` is given.

    Parameters
    ----------
    series : sequence of Series
        Points in any order.
    title, x_label, y_label : str
        What is shown.
    rules : sequence of Rule
        Reference lines.

    Returns
    -------
    str
        The SVG.
    """
    series = [one for one in map(_finite, series) if len(one.x)]
    errors = [np.zeros(len(one.x)) if one.error is None else np.nan_to_num(one.error) for one in series]
    marks = [rule.value for rule in rules]
    y = np.concatenate([one.y + side * error for one, error in zip(series, errors) for side in (-1, 1)] + [marks])
    x_limits = robust_limits(np.concatenate([one.x for one in series] or [np.zeros(1)]), reach=1e9)

    chart = _Chart(title)
    axes = _Axes(chart, x_limits, robust_limits(y, reach=1e9), x_label=x_label, y_label=y_label)
    for one, error in zip(series, errors):
        order = np.argsort(one.x, kind="stable")
        across, down = axes.x(one.x), axes.y(one.y)
        route = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across[order], down[order]))
        chart.add(f'<path class="line {escape(one.css)}" d="M{route}"/>')
        for column, low, high in zip(across, axes.y(one.y - error), axes.y(one.y + error)):
            if low != high:
                chart.line(column, low, column, high, f"line {escape(one.css)}")
        chart.mark(one, across, down)
    chart.legend(series, axes.levels(rules))
    return chart.svg([one.label for one in series])


@dataclass(frozen=True)
class Strip:
    """One panel of `strips`: what a channel or a score did over time.

    Attributes
    ----------
    label : str
        Above the panel.
    low, high : array of shape (n,)
        Least and largest value at each place of the common axis, NaN where there is none; the same where nothing was
        summed up.
    rules : sequence of Rule
        Level lines.
    css : str
        The class that colours it.
    """

    label: str
    low: Floats
    high: Floats
    rules: Sequence[Rule] = ()
    css: str = "c-3"


def strips(
    x: Floats,
    panels: Sequence[Strip],
    *,
    title: str,
    x_label: str,
    spans: Sequence[tuple[float, float]] = (),
    known: Sequence[tuple[float, float]] = (),
    height: float = 70.0,
) -> str:
    """Draw panels one below the other on a common axis of time, with stretches marked through all of them.

    Parameters
    ----------
    x : array of shape (n,)
        Places, rising.
    panels : sequence of Strip
        What is drawn.
    title, x_label : str
        What is shown.
    spans, known : sequence of (float, float)
        Stretches that were found (shaded), and true ones (a bar above the first panel).
    height : float, default 70
        Of a panel.

    Returns
    -------
    str
        The SVG.
    """
    x = np.asarray(x, dtype=np.float64)
    limits = widen(float(x[0]), float(x[-1]))
    least = 0.004 * (limits[1] - limits[0])
    chart = _Chart(title)
    for number, panel in enumerate(panels):
        values = np.concatenate([panel.low, panel.high, [rule.value for rule in panel.rules]])
        inner = number < len(panels) - 1
        axes = _Axes(
            chart,
            limits,
            robust_limits(values, reach=1e9),
            x_label="" if inner else x_label,
            y_label=panel.label,
            height=height,
            left=52.0,
        )
        for kind, stretches in (("span", spans), ("known", known if number == 0 else ())):
            for begin, end in stretches:
                left, right = axes.x(np.array([begin, max(end, begin + least)]))
                top, tall = (axes.top, height) if kind == "span" else (axes.top - 4, 4)
                chart.add(
                    f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{tall:g}"/>'
                )
        for run in _runs(np.isfinite(panel.low) & np.isfinite(panel.high)):
            across = axes.x(x[run])
            upper = [f"{a:.1f} {b:.1f}" for a, b in zip(across, axes.y(panel.high[run]))]
            lower = [f"{a:.1f} {b:.1f}" for a, b in zip(across[::-1], axes.y(panel.low[run][::-1]))]
            chart.add(f'<path class="line band {escape(panel.css)}" d="M{"L".join(upper + lower)}z"/>')
        axes.levels(panel.rules)
    return chart.svg([panel.label for panel in panels])


def _runs(flags: npt.NDArray[np.bool_]) -> list[slice]:
    """Return the stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2])]


def icon(css: str, marker: str) -> str:
    """Draw one mark, to stand before a word in running text; hidden from screen readers."""
    shape = _marks(Series("", np.zeros(1), css=css, marker=marker), np.array([5.0]), np.array([5.0]))
    return f'<svg class="icon" viewBox="0 0 10 10" aria-hidden="true">{shape}</svg>'


def percent(count: float, total: float) -> str:
    """Return `count` as a share of `total`; never "0 %" or "100 %" unless that is exact.

    Examples
    --------
    >>> percent(1, 3), percent(1, 1000), percent(999, 1000), percent(0, 0)
    ('33 %', '<1 %', '>99 %', '0 %')
    """
    share = 100 * count / total if total else 0.0
    if 0 < share < 1:
        return "<1 %"
    if 99 < share < 100:
        return ">99 %"
    return f"{share:.0f} %"


class _Chart:
    """An SVG that grows downwards; `y` is where the next element goes."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = []
        self.y = 0.0
        for line in textwrap.wrap(shorten(title, 150), 50):
            self.y += LINE
            self.text(0, self.y - 3, line, "strong")
        self.y += 8

    def add(self, element: str) -> None:
        self.parts.append(element)

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        look = f' class="{css}"' if css else ""
        side = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}"{look}{side}>{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.add(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def mark(self, series: Series, x: Floats, y: Floats) -> None:
        self.add(_marks(series, x, y))

    def swatch(self, x: float, y: float, series: Series) -> None:
        self.mark(series, np.array([x]), np.array([y]))

    def legend(self, series: Sequence[Series], rules: Sequence[Rule] = ()) -> None:
        x, self.y = 0.0, self.y + LINE
        entries: list[Series | Rule] = [*series, *rules]
        for one in entries:
            label = shorten(one.label, 50)
            width = 26 + CHARACTER * len(label)
            if x and x + width > WIDTH:
                x, self.y = 0.0, self.y + LINE
            if isinstance(one, Rule):
                self.line(x, self.y - 4, x + 11, self.y - 4, "rule")
            else:
                self.swatch(x + 5, self.y - 4, one)
            self.text(x + 14, self.y, label)
            x += width
        self.y += 6

    def note(self, text: str) -> None:
        for line in textwrap.wrap(text, 60):
            self.y += LINE - 2
            self.text(0, self.y, line, "faint")

    def svg(self, contents: Sequence[str] = ()) -> str:
        """Return the SVG; `contents` is what a screen reader says after the title."""
        title = shorten(self.title, 150)
        name = f"{title}: {', '.join(shorten(one, 80) for one in contents)}" if contents else title
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH:g} {self.y + 4:.0f}" role="img" '
            f'aria-label="{escape(name)}"><title>{escape(title)}</title>{"".join(self.parts)}</svg>'
        )


class _Axes:
    """A plotting area with ticks, grid and labels, added to `chart`; `x` and `y` give places in it."""

    def __init__(
        self,
        chart: _Chart,
        x_limits: tuple[float, float],
        y_limits: tuple[float, float] | None,
        *,
        x_label: str = "",
        y_label: str = "",
        height: float = PLOT,
        left: float | None = None,
        right: float = 10.0,
    ) -> None:
        self.chart, self.x_limits, self.y_limits = chart, x_limits, y_limits or (0.0, 1.0)
        x_ticks = nice_ticks(*x_limits)
        y_ticks = nice_ticks(*y_limits) if y_limits else []
        y_texts = _tick_texts(y_ticks)
        if y_label:
            chart.y += LINE
            chart.text(0, chart.y - 6, shorten(y_label, 56), "faint")
        self.top, self.bottom = chart.y + 2, chart.y + 2 + height
        self.left = left if left is not None else 10 + CHARACTER * max(map(len, y_texts), default=0)
        self.right = WIDTH - right
        for value, text in zip(y_ticks, y_texts):
            place = float(self.y(np.array([value]))[0])
            chart.line(self.left, place, self.right, place, "grid")
            chart.text(self.left - 6, place + 4, text, "faint", "end")
        for value, text in zip(x_ticks, _tick_texts(x_ticks)):
            place = float(self.x(np.array([value]))[0])
            chart.line(place, self.top, place, self.bottom, "grid")
            chart.text(place, self.bottom + LINE - 2, text, "faint", "middle")
        chart.line(self.left, self.bottom, self.right, self.bottom, "axis")
        chart.y = self.bottom + LINE + 4
        if x_label:
            chart.y += LINE - 3
            chart.text((self.left + self.right) / 2, chart.y - 3, shorten(x_label, 56), "faint", "middle")
            chart.y += 5

    def x(self, values: Floats) -> Floats:
        low, high = self.x_limits
        return self.left + (np.clip(values, low, high) - low) / (high - low) * (self.right - self.left)

    def y(self, values: Floats) -> Floats:
        low, high = self.y_limits
        return self.bottom - (np.clip(values, low, high) - low) / (high - low) * (self.bottom - self.top)

    def levels(self, rules: Sequence[Rule]) -> list[Rule]:
        """Draw level lines and return those that lie within the limits, for the legend."""
        rules = [rule for rule in rules if self.y_limits[0] <= rule.value <= self.y_limits[1]]
        for place in self.y(np.array([rule.value for rule in rules])):
            self.chart.line(self.left, place, self.right, place, "rule")
        return rules

    def uprights(self, rules: Sequence[Rule], top: float, bottom: float, *, named: bool) -> None:
        """Draw upright lines from `top` to `bottom`, `named` above the area."""
        rules = [rule for rule in rules if self.x_limits[0] <= rule.value <= self.x_limits[1]]
        for rule, place in zip(rules, self.x(np.array([rule.value for rule in rules]))):
            self.chart.line(place, top, place, bottom, "rule")
            if named:
                anchor = "end" if place > WIDTH / 2 else "start"
                self.chart.text(place, self.top - 4, rule.label, "faint", anchor)


def _tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return the ticks with as many decimals as their step needs."""
    if len(ticks) < 2:
        return [number(tick) for tick in ticks]
    step = ticks[1] - ticks[0]
    if max(map(abs, ticks)) >= 1e6 or step < 1e-5:
        return [minus(f"{tick:.3g}") for tick in ticks]
    decimals = next(places for places in range(7) if abs(round(step, places) - step) < 1e-3 * step)
    return [minus(f"{tick:,.{decimals}f}") for tick in ticks]


def _marks(series: Series, x: Floats, y: Floats) -> str:
    shape = MARKERS[series.marker]
    look = "fill" if shape.endswith("z") else "dot" if series.marker == "dot" else "open"
    path = "".join(f"M{a:.1f} {b:.1f}{shape}" for a, b in zip(x, y))
    return f'<path class="mark {look} {escape(series.css)}" d="{path}"/>'


def _bars_path(edges: Floats, base: float, counts: npt.NDArray[np.int64], height: float) -> str:
    """Return the bars of a histogram as one path; a bar that is not empty is at least one unit high."""
    tallest = max(int(counts.max()), 1)
    return "".join(
        f"M{left + 0.4:.1f} {base:.1f}v{-max(height * count / tallest, 1):.1f}H{right - 0.4:.1f}V{base:.1f}z"
        for left, right, count in zip(edges, edges[1:], counts)
        if count
    )


def _whisker(chart: _Chart, ends: Floats, y: float) -> None:
    chart.line(ends[0], y, ends[1], y, "whisker")
    for end in ends:
        chart.line(end, y - 4, end, y + 4, "whisker")


def _finite(series: Series) -> Series:
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    keep = np.isfinite(x) & np.isfinite(y)
    error = None if series.error is None else np.asarray(series.error, dtype=np.float64)[keep]
    return replace(series, x=x[keep], y=y[keep], error=error)


def _thinned(series: Series, cap: int) -> Series:
    n = len(series.x)
    if n <= cap:
        return series
    keep = np.sort(np.random.default_rng(0).choice(n, size=cap, replace=False))
    return replace(series, label=f"{series.label} ({cap:,} of {n:,})", x=series.x[keep], y=series.y[keep])


def _outside(values: Floats, limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return (values < limits[0]) | (values > limits[1])


def _points(count: int) -> str:
    return "1 point lies" if count == 1 else f"{count:,} points lie"
