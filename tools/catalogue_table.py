"""The table of systems, from the catalogue: written between the markers of README.md, and used by the docs.

python tools/catalogue_table.py           write it
python tools/catalogue_table.py --check   exit 1 if README.md is not current
"""

import re
import sys
from pathlib import Path

from assay.catalogue import SYSTEMS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- catalogue -->", "<!-- /catalogue -->"
ROLES = {
    "quality": "Quality scores: what is an auxiliary anomaly worth?",
    "generator": "Generators: make auxiliary anomalies",
    "detector": "Detectors: score rows",
    "calibrator": "Calibrators: from scores to decisions",
    "embedder": "Embedders: items become rows of numbers",
}


def of_role(role):
    return [entry for entry in SYSTEMS if entry.role == role]


def table(role, link=None):
    """Return the Markdown table of one role; `link` turns an entry into the address of its page."""
    lines = ["| name | what | learns from | published |", "|---|---|---|---|"]
    for entry in of_role(role):
        name = f"`{entry.name}`" if link is None else f"[`{entry.name}`]({link(entry)})"
        notes = entry.summary + (f" (extra `{entry.extra}`)" if entry.extra else "")
        lines.append(f"| {name} | {notes} | {entry.labels.replace('+', ' and ')} | {entry.paper or '–'} |")
    return "\n".join(lines)


def block():
    """Return the names of all systems by role and kind of data; what each is, is a page of the docs."""
    lines = ["| what | for | systems |", "|---|---|---|"]
    for role, title in ROLES.items():
        kinds = list(dict.fromkeys(entry.data for entry in of_role(role)))
        for kind in kinds:
            names = ", ".join(f"`{entry.name}`" for entry in of_role(role) if entry.data == kind)
            lines.append(f"| {title} | {kind} | {names} |")
    return "\n".join(lines)


def inserted(text):
    """Return `text` with the table between the markers replaced."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"README.md must hold {BEGIN} and {END} once")
    return pattern.sub(lambda _: f"{BEGIN}\n\n{block()}\n\n{END}", text)


if __name__ == "__main__":
    current = README.read_text(encoding="utf-8")
    wanted = inserted(current)
    if "--check" in sys.argv[1:]:
        sys.exit(f"{README.name} is not current: python tools/catalogue_table.py" if wanted != current else 0)
    README.write_text(wanted, encoding="utf-8")
