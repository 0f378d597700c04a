"""Speed of the rivals of EAP: ours, the naive twin, and peers, on the same input in the same run.

    python benchmarks/rivals.py                 ours and the naive twin
    python benchmarks/rivals.py CHECKOUT PYTHON also the peers: a checkout of the reference implementation of
                                                EAP, and a Python with its libraries

CPU seconds of one thread, medians of 3. What is long runs on a share of the input and is scaled, and says so.
A row of the table is a function below that returns one `Row`; `ROWS` names them.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

from assay import AverageMarginalEffect, DataBanzhaf, DataOOB, KNNShapley
from assay.kernels.shapley import knn_shapley_values
from tables import write
from test_rivals_without_models import newcomers_one_by_one, recursion

REPEATS, SEED, K = 3, 0, 10


class Row(NamedTuple):
    """One line: seconds (of the twin and the peer: scaled up from a share), bar on peer / ours, agreement."""

    workload: str
    ours: float
    twin: float | None
    twin_share: str
    peer: float | None
    peer_share: str
    bar: float | None
    agreement: str


def cpu(function, *arguments, repeats=REPEATS):
    """Return the median CPU seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function(*arguments)
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def peer(kind, command, **arrays):
    """Return a peer's CPU seconds and values; None without peers. `command` is (checkout, python)."""
    if command is None:
        return None, None
    checkout, python = command
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        script = Path(__file__).with_name("rivals_peer.py")
        subprocess.run([python, "-W", "ignore", script, kind, checkout, given, out], check=True, capture_output=True)
        with np.load(out) as found:
            return float(found["seconds"]), found["values"]


def labelled(n, d, anomalies, rng):
    X = rng.normal(size=(n, d))
    X[:anomalies] += 1.5
    return X, np.repeat([1, 0], [anomalies, n - anomalies])


def newcomers(command, n=1000, d=20, l=300, twin_rows=3, peer_rows=3):
    """KNN-Shapley of auxiliary rows, each joining alone."""
    rng = np.random.default_rng(SEED)
    X, y = labelled(n, d, 20, rng)
    aux = rng.normal(1.0, 1.5, size=(l, d))
    KNNShapley(K).fit(X[::9], y[::9]).quality(aux[:3])  # compile
    seconds, values = cpu(lambda: KNNShapley(K).fit(X, y).quality(aux))
    twin_seconds, twin = cpu(newcomers_one_by_one, X, y, aux[:twin_rows], K, recursion, repeats=1)
    peer_seconds, _ = peer("newcomers", command, X=X, y=y, aux=aux[:peer_rows], k=K)
    return Row(
        f"KNN-Shapley, each of l = {l} rows joins n = {n} alone, d = {d}",
        seconds,
        twin_seconds * l / twin_rows,
        f"{twin_rows} of {l}",
        None if peer_seconds is None else peer_seconds * l / peer_rows,
        f"{peer_rows} of {l}",
        1000,
        f"twin {np.abs(values[:twin_rows] - twin).max():.0e}; the peer computes something else, see below",
    )


def validation(command, kind="validation", bar=10, n=4000, d=20, v=500, twin_rows=50):
    """KNN-Shapley of training rows on validation rows."""
    rng = np.random.default_rng(SEED)
    (X, y), (valid, label) = labelled(n, d, n // 2, rng), labelled(v, d, v // 2, rng)
    knn_shapley_values(X[::99], y[::99], valid[:3], label[:3], K)  # compile
    seconds, values = cpu(knn_shapley_values, X, y, valid, label, K)
    twin_seconds, twin = cpu(_validation_twin, X, y, valid[:twin_rows], label[:twin_rows], repeats=1)
    few = knn_shapley_values(X, y, valid[:twin_rows], label[:twin_rows], K)
    peer_seconds, peer_values = peer(kind, command, X=X, y=y, valid=valid, label=label, k=K)
    agreement = f"twin {np.abs(few - twin).max():.0e}"
    if peer_values is not None:
        agreement += f", peer {np.abs(values - peer_values).max():.0e}"
    return Row(
        f"KNN-Shapley, n = {n} training rows on {v} validation rows, d = {d}",
        seconds,
        twin_seconds * v / twin_rows,
        f"{twin_rows} of {v}",
        peer_seconds,
        "all",
        bar,
        agreement,
    )


def tidied(command):
    """The same against a tidied peer."""
    row = validation(command, "validation_tidied", bar=None)
    return row._replace(workload="the same, against the tidied peer")


def _validation_twin(X, y, valid, label):
    return np.mean([recursion(X, y, e, c, K) for e, c in zip(valid, label)], axis=0)


def _with_detectors(command, kind, judge, fits, models, n=500, d=20, l=40):
    """A rival that fits detectors: seconds for as many fits as the peer makes, which `fits` counts."""
    rng = np.random.default_rng(SEED)
    X, y = labelled(n, d, 10, rng)
    aux = rng.normal(1.0, 1.5, size=(l, d))
    judge.fit(X, y).quality(aux)  # compile
    seconds, _ = cpu(lambda: judge.fit(X, y).quality(aux))
    peer_seconds, _ = peer(kind, command, X=X, y=y, aux=aux, models=models)
    return Row(
        f"{kind.replace('_', ' ')}, {fits} detector fits, n = {n}, l = {l}, d = {d}",
        seconds * fits / judge.n_fits(l),
        None,
        "",
        peer_seconds,
        "all",
        5,
        "other draws",
    )


def data_oob(command):
    """Data-OOB: one detector a model."""
    return _with_detectors(command, "data_oob", DataOOB(budget=40, random_state=0), 40, 40)


def average_marginal_effect(command):
    """AME: one detector a model, eight rates."""
    judge = AverageMarginalEffect(budget=40, random_state=0)
    return _with_detectors(command, "average_marginal_effect", judge, 40, 5)


def data_banzhaf(command):
    """Data Banzhaf: four subsets, each with half of the auxiliary rows in turn."""
    return _with_detectors(command, "data_banzhaf", DataBanzhaf(budget=4, random_state=0), 4 * (1 + 20), 4)


def data_banzhaf_short_cut(command):
    """The same, the auxiliary rows joining as labels."""
    judge = DataBanzhaf(budget=4, refit=False, random_state=0)
    row = _with_detectors(command, "data_banzhaf", judge, 4 * (1 + 20), 4)
    return row._replace(workload=f"the same by the short cut `refit=False` ({row.workload.split(', ')[1]})", bar=None)


ROWS = (newcomers, validation, tidied, data_oob, average_marginal_effect, data_banzhaf, data_banzhaf_short_cut)

NOTES = f"""
CPU seconds of one thread, median of {REPEATS} (the twin and the peer's scaled run: of 1). Agreement: the largest
difference between values. The twin (`tests/test_rivals_without_models.py`) is the recursion for one row and one
evaluation row at a time.

The peer of the first line is the reference implementation of EAP. Its comparison of labels, as published, is of
one neighbour with all evaluation rows at once, so its values are nearly all 0; its time does not depend on that.
The peer of the second line is OpenDataVal's algorithm with its costs (distances in batches of 32 by 32, one-hot
labels compared at each rank, a Python loop over ranks), written for this benchmark; that of the third line is the
same algorithm with the avoidable costs left out: most of the factor of the second is made of these, and what is
left is bounded by the sort, which both need. Both peers compute in single precision.

The peers of the lines with detectors are the reference implementation's estimators, over its detector, at the same
number of fits. What counts there is the detector's fit and the scores of the training rows.
"""


def main(*command):
    command = command or None
    rows = []
    for measure in ROWS:
        row = measure(command)
        twin = ["", "", ""]
        if row.twin is not None:
            twin = [f"{row.twin:.1f}", row.twin_share, f"{row.twin / row.ours:.0f} ×"]
        line = [row.workload, f"{row.ours:.3f}", *twin]
        if command:
            line += [
                f"{row.peer:.2f}",
                row.peer_share,
                f"{row.peer / row.ours:.1f} ×",
                f">= {row.bar} ×" if row.bar else "none",
            ]
        rows.append([*line, row.agreement])
    columns = ["workload", "Assay (s)", "naive twin (s)", "of which run", "twin / Assay"]
    if command:
        columns += ["peer (s)", "of which run", "peer / Assay", "bar"]
    columns.append("agreement")
    write("benchmark_rivals", "Speed of the rivals of EAP", columns, rows, NOTES, f"Gaussian rows, seed {SEED}")


if __name__ == "__main__":
    main(*sys.argv[1:])
