"""The documentation is true: every block runs, every page exists, every table is current, the site builds cleanly."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.catalogue import SYSTEMS
from assay.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return FENCE.findall(page.read_text(encoding="utf-8"))


def assay_commands(block):
    """Return the lines of a shell block that call assay, as lists of words, continued lines joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("assay ")]


def needs_running(page):
    return any(language == "python" or assay_commands(block) for language, block in blocks(page))


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if needs_running(page)], ids=name_of)
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__docs__"}
    if page.name == "README.md":  # there the files are the reader's own
        (tmp_path / "runs").mkdir()
        [write_files] = [block for language, block in blocks(ROOT / "docs/guide/cli.md") if language == "python"]
        exec(compile(write_files, "docs/guide/cli.md", "exec"), {})
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, name_of(page), "exec"), namespace)
        for words in assay_commands(block) if language == "bash" else ():
            monkeypatch.setattr(sys, "argv", words)
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, (words, result.output, result.exception)


def test_every_fence_names_its_language():
    for page in PAGES:
        opening = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        assert all(opening), name_of(page)


def test_the_readme_fits_its_promise():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") < 250
    [python] = [block for language, block in blocks(ROOT / "README.md") if language == "python"]
    assert len([line for line in python.splitlines() if line]) <= 12
    assert 10_000 < (ROOT / "docs/images/report.png").stat().st_size < 300_000


def test_links_between_files_lead_somewhere():
    made_while_building = ("../systems/", "../results/", "systems/", "results/", "strength.svg")
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            is_made = "docs" in page.parts and target.startswith(made_while_building)
            if not target.startswith("http") and not is_made:
                assert (page.parent / target).exists(), (name_of(page), target)


def test_the_catalogue_table_is_current():
    done = subprocess.run(
        [sys.executable, ROOT / "tools/catalogue_table.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_site_builds_and_every_system_has_a_page(tmp_path):
    missing = [
        name for name in ("mkdocs", "material", "mkdocstrings_handlers") if importlib.util.find_spec(name) is None
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: the extra docs brings it")
    # Never with --quiet: it silences the warnings that --strict counts, and a broken link would pass.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    for entry in SYSTEMS:
        page = (tmp_path / f"systems/{entry.role}_{entry.name}.html").read_text(encoding="utf-8")
        assert f"from assay import {entry.path.split(':')[1]}" in page
        assert f"assay info {entry.name}" in page
        assert 'id="the-method"' in page
        assert "Parameters:" in page or "Attributes:" in page, entry.name
    for path in sorted((ROOT / "results").glob("*.md")):
        assert (tmp_path / "results" / f"{path.stem}.html").exists()
    stylesheets = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    loaded = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(?:https?:)?//""")
    assert not [match.group() for text in stylesheets for match in loaded.finditer(text)], "the site must work offline"
