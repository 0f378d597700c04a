"""Speed of the confidences against PyOD's, and of γGMM's draws against a plain loop: CPU seconds of one thread."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

from assay.calibration.confidence import confidence
from assay.calibration.contamination import (
    ContaminationPosterior,
    beta_tails,
    draw_positive,
    fit_components,
    representation,
    solve_constraints,
)
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.neighbours import KNN, LOF
from tables import write
from test_contamination import Given, naive_positive, simulated


def cpu(function, *arguments, repeats=5):
    """Return the median CPU seconds of a call, and its result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = function(*arguments)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds)), result


def line(what, ours, theirs, other, agreement):
    return [what, f"{1000 * ours:.1f}", other, f"{1000 * theirs:.0f}", f"{theirs / ours:.0f} ×", agreement]


def confidences():
    rng = np.random.default_rng(0)
    train, new = rng.gamma(2.0, size=20_000), rng.gamma(2.0, size=5_000)
    for gamma in (0.02, 0.1):
        peer = Given(gamma).fit(train[:, None])
        ours, here = cpu(confidence, train, new, gamma, repeats=21)
        theirs, there = cpu(peer.predict_confidence, new[:, None])
        agreement = f"largest difference {np.abs(here - there).max():.0e}"
        yield line(f"confidence, 20,000 / 5,000 scores, γ = {gamma:g}", ours, theirs, "PyOD", agreement)


def draws():
    X, _ = simulated(0.05)
    S = np.column_stack([one.fit_score(X) for one in (KNN(), IsolationForest(random_state=0), LOF())])
    Z, model = representation(S), ContaminationPosterior()
    mixture, (components, _) = cpu(fit_components, Z, np.random.default_rng(0), repeats=3)
    delta, tau = solve_constraints(components.rank, beta_tails(components.concentration, model.gamma_high), 0.01, 0.01)
    size = 9_900
    ours, here = cpu(lambda: draw_positive(components, delta, tau, size, np.random.default_rng(0)))
    theirs, there = cpu(lambda: naive_positive(components, delta, tau, size, np.random.default_rng(0)), repeats=3)
    agreement = f"means {here.mean():.4f}, {there.mean():.4f}"
    yield line(f"{size:,} draws of γ, {len(components.rank)} components", ours, theirs, "naive twin", agreement)
    yield ["the mixture before them, 600 rows, 3 detectors", f"{1000 * mixture:.0f}", "", "", "", "scikit-learn's"]


if __name__ == "__main__":
    rows = [*confidences(), *draws()]
    columns = ["what", "Assay (ms)", "against", "its time (ms)", "ratio", "agreement"]
    notes = "CPU milliseconds of one thread, medians; scoring is not part of them."
    write("benchmark_contamination", "Speed of the contamination posterior", columns, rows, notes, "simulated")
