"""What the tests share: small tables with a known truth, and fresh processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if _DATA.is_dir():
    os.environ.setdefault("ASSAY_DATA", str(_DATA))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keep the many small fits from waiting for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def gap() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y to train on and X, y to test on: two clusters of normals, anomalies between them.

    The anomalies are nearer to the mean of the normals than any normal row, off the line through the clusters,
    and beyond the bulk of each column.
    """

    def draw(n: int, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        normals = rng.normal(scale=0.6, size=(n, 4))
        normals[:, :2] += rng.choice([-3.0, 3.0], size=n)[:, None]
        anomalies = rng.normal(scale=0.3, size=(m, 4))
        anomalies[:, :2] += [-1.5, 1.5]
        return np.vstack([normals, anomalies]), np.repeat([0, 1], [n, m])

    rng = np.random.default_rng(0)
    return *draw(300, 15, rng), *draw(300, 60, rng)


@pytest.fixture(scope="session")
def whole_numbers() -> tuple[np.ndarray, np.ndarray]:
    """Return a table of whole numbers, which every number type holds exactly, and its labels; rows differ."""
    rng = np.random.default_rng(1)
    X = np.rint(1000 * np.vstack([rng.normal(size=(120, 4)), rng.normal(3.0, 0.5, size=(10, 4))]))
    return X, np.repeat([0, 1], [120, 10])


@pytest.fixture(scope="session")
def run_python():
    """Return a function that runs code in a fresh process, from this folder, and returns what it printed."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def browser():
    candidates = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("ASSAY_CHROMIUM") or next(filter(None, map(shutil.which, candidates)), None)
    if path is None:
        pytest.skip(f"no Chromium: set ASSAY_CHROMIUM or install one of {', '.join(candidates)}")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
