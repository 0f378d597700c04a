"""What MkDocs calls while it builds: the pages that follow from the catalogue and from results/; nothing made is kept.

- ``systems/<role>_<name>.md``, one page a system: the docstring of its module, then its class;
- ``systems/index.md``: all of them in tables;
- ``results/<name>.md``: what the commands of `make proofs` and `make bench` wrote;
- ``guide/strength.svg``: what every generator does at three strengths.

A line ``<!-- table: NAME -->`` of a page becomes the table of results/NAME.md, so that no page repeats a number.
"""

import html
import inspect
import re
from pathlib import Path

import numpy as np
from mkdocs.structure.files import File
from sklearn.datasets import make_moons

from assay.catalogue import SYSTEMS, load_class
from catalogue_table import ROLES, of_role, table

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "quality": "Quality scores",
    "generator": "Generators",
    "detector": "Detectors",
    "calibrator": "Calibrators",
    "embedder": "Embedders",
}
STRENGTHS = (0.5, 1.0, 2.0)


def page_of(entry):
    return f"systems/{entry.role}_{entry.name}.md"


def results():
    return sorted((ROOT / "results").glob("*.md"))


def title_of(path):
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def on_config(config):
    """Fill the sections of the navigation that follow from the catalogue and from results/."""
    systems = ["systems/index.md"]
    systems += [{title: [{e.name: page_of(e)} for e in of_role(role)]} for role, title in SECTIONS.items()]
    measured = ["results/index.md", *({title_of(path): f"results/{path.name}"} for path in results())]
    for section in config.nav:
        if "Systems" in section:
            section["Systems"] = systems
        if "Results" in section:
            section["Results"] = measured
    return config


def on_files(files, config):
    """Add the pages that are made here."""
    made = {page_of(entry): system_page(entry) for entry in SYSTEMS}
    made |= {"systems/index.md": systems_index(), "results/index.md": results_index(), "guide/strength.svg": picture()}
    made |= {f"results/{path.name}": path.read_text(encoding="utf-8") for path in results()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Put the tables of results/ where a page asks for them."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda asked: table_of(asked[1]), markdown, flags=re.MULTILINE)


def table_of(name):
    path = ROOT / "results" / f"{name}.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return "\n".join([*rows, "", f"[How it was measured](../results/{name}.md)"])


def system_page(entry):
    """Return the page of one system: what it is, its module's docstring, its class."""
    module, name = entry.path.split(":")
    cls = load_class(entry)
    others = [e for e in SYSTEMS if e.path.startswith(f"{module}:") and e != entry]
    facts = {
        "role": entry.role,
        "takes": entry.data,
        "learns from": entry.labels.replace("+", " and "),
        "published": entry.paper or "a baseline",
        "in Python": f"`from assay import {name}`",
        "in a shell": f"`assay info {entry.name}`",
    }
    if entry.extra:
        facts["needs"] = f"the extra `{entry.extra}`"
    shared = ""
    if others:
        names = ", ".join(f"[`{other.name}`]({Path(page_of(other)).name})" for other in others)
        shared = f"*Shared with {names}.*"
    lines = [
        f"# {entry.name}",
        entry.summary + ".",
        "\n".join(f"- *{key}:* {value}" for key, value in facts.items()),
        "## The method",
        inspect.getdoc(inspect.getmodule(cls)) or "",
        shared,
        f"::: {module}.{name}",
    ]
    return "\n\n".join(lines) + "\n"


def systems_index():
    """Return the page with all systems."""
    parts = ["# Systems", f"The {len(SYSTEMS)} systems of the catalogue, one page each. `assay list` prints the same."]
    for role, title in ROLES.items():
        parts += [f"## {title}", table(role, link=lambda entry: Path(page_of(entry)).name)]
    return "\n\n".join(parts) + "\n"


def results_index():
    """Return the page that lists the results."""
    intro = (
        "Tables that a command wrote, with the command, the versions and the data in the head of each; "
        "nobody types a number. `make proofs` and `make bench` write them anew. Losses stand beside wins."
    )
    listed = "\n".join(f"- [{title_of(path)}]({path.name})" for path in results())
    return f"# Results\n\n{intro}\n\n{listed}\n"


def picture():
    """Return an SVG: every generator at three strengths, on two moons with the known anomalies between them."""
    normals = make_moons(150, noise=0.07, random_state=0)[0]
    anomalies = np.random.default_rng(0).normal([0.5, 0.25], [0.25, 0.08], size=(8, 2))
    cell, label, top = 150, 118, 26
    entries = [entry for entry in of_role("generator") if entry.data == "tables"]
    width, height = label + cell * len(STRENGTHS), top + cell * len(entries)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>Every generator at three strengths</title>",
        "<style>text{fill:#6b7280;font-size:13px}.n{fill:#8b93a1}.a{fill:#d9480f}.f{fill:none;stroke:#8b93a1;stroke-opacity:.4}</style>",
    ]
    for column, strength in enumerate(STRENGTHS):
        out.append(
            f'<text x="{label + cell * (column + 0.5)}" y="17" text-anchor="middle">strength {strength:g}</text>'
        )
    for row, entry in enumerate(entries):
        y = top + cell * row
        out.append(f'<text x="0" y="{y + cell / 2}">{html.escape(entry.name)}</text>')
        generator = load_class(entry)(random_state=0).fit(normals, anomalies)
        for column, strength in enumerate(STRENGTHS):
            x = label + cell * column
            out.append(f'<rect class="f" x="{x + 3}" y="{y + 3}" width="{cell - 6}" height="{cell - 6}" rx="4"/>')
            out.append(
                dots(normals, x, y, cell, "n", 1.4) + dots(generator.sample(60, strength).X, x, y, cell, "a", 1.9)
            )
    return "\n".join([*out, "</svg>"])


def dots(rows, left, top, cell, css, radius):
    """Return the rows inside the frame [-2, 3] × [-2.25, 2.75] as circles."""
    x, y = (rows[:, 0] + 2) / 5, (2.75 - rows[:, 1]) / 5
    inside = (x > 0.04) & (x < 0.96) & (y > 0.04) & (y < 0.96)
    places = zip(left + cell * x[inside], top + cell * y[inside])
    return "".join(f'<circle class="{css}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"/>' for px, py in places)
