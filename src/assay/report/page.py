"""What all pages share: one template engine, one style, no script, nothing loaded from anywhere.

Whatever comes from outside is escaped; the page's own policy forbids scripts and everything that is not inside it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from assay.report import svg


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


def render(template: str, styles: Sequence[str] = ("page.css.j2",), **values: Any) -> str:
    """Return the page that a template makes of `values`, with its style sheets inside it."""
    known = environment()
    css = "".join(known.get_template(name).render(alone=False) for name in styles)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return known.get_template(template).render(css=Markup(css), css_digest=digest, **values)


def _plain(value: Any) -> Any:
    """Let no character into the page that HTML forbids; jinja2 calls it on every value before escaping."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else svg.clean(value)


@cache
def environment() -> Environment:
    """Return the template engine with the filters that the pages use."""
    known = Environment(
        loader=PackageLoader("assay.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known.filters |= {
        "number": lambda value: "–" if value is None else svg.number(value),
        "rank": lambda value: "–" if value is None else f"{value:.2f}",
        "percent": svg.percent,
        "count": lambda value: "–" if value is None else f"{value:,.0f}",
        "name": _name,
        "shorten": svg.shorten,
        "signed": lambda value, places: svg.minus(f"{value:+.{places}f}"),
        "cell": _cell,
        "icon": lambda verdict: Markup(svg.icon(verdict.css, verdict.marker)),
    }
    known.tests["absent"] = lambda value: (
        value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))
    )
    known.globals["verdict_named"] = {verdict.name: verdict for verdict in VERDICTS}
    return known


def _cell(value: Any) -> str:
    """Return a value of any kind as the text of a table cell."""
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        plain = float(value)
        return svg.minus(f"{plain:.3g}") if abs(plain) < 1000 else svg.number(plain)
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_cell(one) for one in value)
    return str(value)


def _name(value: Any) -> str:
    """Return a row's number or name; a whole number that a column with gaps made a float is whole again."""
    return f"{value:.0f}" if isinstance(value, (float, np.floating)) else str(value)
