"""How proofs and benchmarks write their tables: nobody types a number."""

import json
import os
import shlex
import sys
from datetime import date
from pathlib import Path

from assay.cli.common import versions

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("ASSAY_DATA") or ROOT.parent / "shared" / "data")


def need_data(*relative):
    """Return paths under the data folder, or stop with what is missing."""
    paths = [DATA / name for name in relative]
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path} is missing: let ASSAY_DATA name the folder that holds the data sets")
    os.environ.setdefault("ASSAY_DATA", str(DATA))
    return paths


def resumed(name, function, *arguments):
    """Return what `function` measures, from an earlier run if that got so far; JSON under runs/."""
    path = ROOT / "runs" / f"{name}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(function(*arguments), default=float)
        path.with_suffix(".part").write_text(text)
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())


def cell(value):
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else str(value)


def write(name, title, columns, rows, notes="", data=""):
    """Write results/NAME.md and print it."""
    # Where a checkout or an interpreter lies is nobody else's business.
    arguments = ["PATH" if os.path.isabs(argument) else argument for argument in sys.argv[1:]]
    command = shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *arguments])
    used = ", ".join(f"{library} {number}" for library, number in versions().items())
    lines = [
        f"# {title}",
        "",
        f"Written by `{command}` on {date.today()}; {used}.",
        *([f"Data: {data}."] if data else []),
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    lines += ["", notes.strip(), ""] if notes else [""]
    path = ROOT / "results" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    print("\n".join(lines))
