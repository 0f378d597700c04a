"""The package as a whole: light to import, light to install, complete in its catalogue, fast."""

import importlib.metadata
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from packaging.requirements import Requirement

import assay
from assay.catalogue import SYSTEMS, find, load_class, of_role


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light_and_pulls_in_nothing_heavy():
    code = (
        "import sys, time; start = time.process_time(); import assay; took = time.process_time() - start;"
        "heavy = [m for m in ('torch', 'pandas', 'sklearn', 'numba', 'scipy', 'pyarrow') if m in sys.modules];"
        "print(took, heavy)"
    )
    took, heavy = run(code).split(maxsplit=1)
    assert float(took) < 0.3
    assert heavy.strip() == "[]"


def test_the_main_job_pulls_in_nothing_optional():
    code = (
        "import sys, numpy as np; from assay import ExpectedAnomalyPosterior as E; rng = np.random.default_rng(0);"
        "X = rng.normal(size=(60, 2)); y = np.repeat([0, 1], [55, 5]);"
        "E(n_subsets=2, random_state=0).fit(X, y).evaluate(X);"
        "print([m for m in ('torch', 'polars', 'dask', 'matplotlib', 'skops') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_help_is_quick():
    code = (
        "import sys, time; start = time.process_time();\n"
        "from assay.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(); print(time.process_time() - start)"
    )
    assert float(run(code).split()[-1]) < 0.7


def closure(name, seen):
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if wanted and key not in seen:
            seen.add(key)
            closure(requirement.name, seen)
    return seen


def test_a_plain_install_is_small():
    assert len(closure("assay", set())) <= 25


def test_requirements_have_no_upper_pins():
    for line in importlib.metadata.requires("assay"):
        assert "<" not in line.split(";")[0], line
        assert "==" not in line.split(";")[0], line


def test_every_public_name_can_be_had():
    for name in assay.__all__:
        assert getattr(assay, name) is not None
    assert "ExpectedAnomalyPosterior" in dir(assay)
    with pytest.raises(AttributeError, match="no attribute"):
        assay.ExpectedPosterior  # noqa: B018


def test_the_catalogue_is_sound():
    names = [entry.name for entry in SYSTEMS]
    assert len(names) == len(set(names))
    for entry in SYSTEMS:
        assert load_class(entry).__name__ == entry.path.split(":")[1]
        assert entry.role in ("detector", "calibrator", "generator", "embedder", "quality")
    assert {entry.role for entry in of_role("generator")} == {"generator"}
    with pytest.raises(KeyError, match="isolation_forest"):
        find("isolation_forst", "detector")


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("HypAD", "torch", "deep"),
        ("OC4Seq", "torch", "deep"),
        ("RobustTSF", "torch", "deep"),
        ("PatchCore", "torch", "images"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(name, library, extra):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import assay\n"
        f"try: assay.{name}\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    told = run(code)
    assert told.startswith("MissingExtra") and library in told and f"extra {extra!r}" in told


def test_catalogue_imports_nothing_of_assay():
    code = "import sys, assay.catalogue; print(sorted(m for m in sys.modules if m.startswith('assay')))"
    assert run(code).strip() == "['assay', 'assay.catalogue']"


def test_eap_is_fast_enough_to_be_used():
    """100 subsets, 1,000 rows of 20 columns, 300 auxiliary rows: seconds, where a naive density alone takes minutes."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(1000, 20)), rng.normal(size=(20, 20)) * 1.5])
    y = np.repeat([0, 1], [1000, 20])
    aux = rng.normal(size=(300, 20)) * 1.6
    assay.ExpectedAnomalyPosterior(n_subsets=2, random_state=0).fit(X[::4], y[::4]).quality(aux[:5])
    start = time.process_time()
    assay.ExpectedAnomalyPosterior(random_state=0).fit(X, y).quality(aux)
    # About one second of one core; ten times that on a bad day.
    assert time.process_time() - start < 10
